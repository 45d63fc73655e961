//! How does something of the user's come to be another's in a container, and how does that go again? By a process that is root
//! of the ids which the user may map. Who has one id can give nothing away, and need not: all in a container is that one.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::{fs, io};

use nix::unistd::geteuid;

use super::Error;
use super::workspace::{io_error, remove_tree};
use crate::containers::runtime;
use crate::host::ids::maps;
use crate::host::probe::Probe;
use crate::store::Store;

/// Gives a file or directory, whose mode stays, to an owner inside; one that is another's already is left alone.
pub(super) fn give(store: &Store, path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    let found = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    if (uid, gid) == (0, 0) || found.uid() != geteuid().as_raw() {
        return Ok(());
    }
    let missing = |name: &str, id: u32| format!("{name} {id} does not exist in containers here");
    let given = runtime::as_root(&Probe::now(), store.run(), |ids| {
        match (maps(&ids.uids, uid), maps(&ids.gids, gid)) {
            _ if is_one(ids) => Ok(()),
            (false, _) => Err(missing("the user id", uid)),
            (_, false) => Err(missing("the group id", gid)),
            _ => std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(|error| error.to_string()),
        }
    });
    let given = given.map_err(crate::containers::Error::from)?;
    given.map_err(|why| io_error("give away", path)(io::Error::other(why)))
}

fn is_one(ids: &crate::host::ids::IdMaps) -> bool {
    ids.uids.iter().map(|range| u64::from(range.count)).sum::<u64>() == 1
}

/// Removes a directory with all in it, whoever owns it.
pub(super) fn remove(store: &Store, directory: &Path) -> io::Result<()> {
    match remove_tree(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        done => return done,
    }
    let removed = runtime::as_root(&Probe::now(), store.run(), |_| {
        remove_tree(directory).map_err(|error| (error.raw_os_error(), error.to_string()))
    });
    outcome(removed, directory)
}

/// What the one who is root inside says. Where nobody can be that, it stays somebody else's.
fn outcome<E: std::fmt::Display>(removed: Result<Told, E>, directory: &Path) -> io::Result<()> {
    match removed {
        Ok(Ok(())) => Ok(()),
        Ok(Err((Some(number), _))) => Err(io::Error::from_raw_os_error(number)),
        Ok(Err((None, why))) => Err(io::Error::other(why)),
        Err(error) => {
            tracing::debug!(path = %directory.display(), %error, "nobody can be root of its files");
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

/// An error's number and text, by another process.
type Told = Result<(), (Option<i32>, String)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_can_be_root_it_stays_somebody_elses() {
        let kind = |removed: Result<Told, &str>| {
            let done = outcome(removed, Path::new("/x"));
            done.map_err(|error| error.kind())
        };
        assert_eq!(kind(Ok(Ok(()))), Ok(()));
        assert_eq!(kind(Err("no namespaces")), Err(io::ErrorKind::PermissionDenied));
        let busy = nix::errno::Errno::EBUSY as i32;
        assert_eq!(
            kind(Ok(Err((Some(busy), "busy".into())))),
            Err(io::ErrorKind::ResourceBusy)
        );
        assert_eq!(kind(Ok(Err((None, "odd".into())))), Err(io::ErrorKind::Other));
    }
}
