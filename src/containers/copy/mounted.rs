//! How are the files reached that a container which does not run will show in a volume, or in a directory of the host's?
//! There, as root of the container's users: no mount is needed. No symlink in it leads out of it, as `root` says.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::names::Asked;
use super::root::Root;
use crate::containers::Error;
use crate::containers::record::Record;
use crate::containers::runtime::as_root_of;
use crate::containers::spec::Users;
use crate::host::Probe;
use crate::store::Store;

/// A directory that will be mounted.
#[derive(Debug)]
pub(super) struct Shown {
    directory: PathBuf,
    /// The path in the container, from its root, without a slash there.
    pub(super) place: Vec<u8>,
    /// The path in the directory.
    pub(super) asked: Asked,
    pub(super) is_writable: bool,
    /// Whose files they are.
    users: Users,
}

impl Shown {
    /// What a path of the container's means, if it lies where a directory will be mounted. The path is taken as it is written:
    /// symlinks on the way to the mount are not looked for.
    ///
    /// # Errors
    /// The record of a volume cannot be read.
    pub(super) fn of(store: &Store, record: &Record, asked: &Asked) -> Result<Option<Shown>, Error> {
        let Some(path) = parts(&asked.path) else {
            return Ok(None);
        };
        let mounts = record.settings.mounts.iter();
        let within = mounts.filter_map(|mounted| {
            let point = parts(mounted.target.as_bytes())?;
            Some((mounted, path.strip_prefix(point.as_slice())?))
        });
        let Some((mounted, rest)) = within.min_by_key(|(_, rest)| rest.len()) else {
            return Ok(None);
        };
        let Some((directory, is_writable)) = mounted.directory(store)? else {
            return Ok(None);
        };
        Ok(Some(Shown {
            directory,
            place: path.join(&b'/'),
            asked: Asked {
                path: [&b"/"[..], &rest.join(&b'/')].concat(),
                slash: asked.slash || rest.is_empty(),
                content: asked.content,
            },
            is_writable,
            users: record.settings.asked.users(),
        }))
    }

    /// Does something there. To be called by a process with one thread.
    pub(super) fn work<T: Serialize + DeserializeOwned>(
        &self,
        store: &Store,
        work: impl FnOnce(Root, &Asked) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut work = Some(work);
        let host = Probe::now();
        let done = as_root_of(&host, &self.users.maps(&host), store.run(), |_| {
            let root = Root::beneath(&self.directory).map_err(|error| error.to_string())?;
            let work = work.take().ok_or("done twice")?;
            work(root, &self.asked)
        });
        done.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// A path's names. None if it goes up.
fn parts(path: &[u8]) -> Option<Vec<&[u8]>> {
    let names = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = names.filter(|name| !name.is_empty() && *name != b".").collect();
    (!names.contains(&&b".."[..])).then_some(names)
}
