//! What do builds leave for later builds, and how does it go? Steps, caches of RUN, hashes of contexts, files by URL.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::workspace::{io_error, remove_orphans, remove_tree};
use super::{Error, kept};
use crate::images::{prune, steps};
use crate::store::lock::Attempt;
use crate::store::{Lock, Mode, Store};

/// What a prune did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// Caches that are another user's in part: a RUN wrote to them under another id.
    pub kept: Vec<std::path::PathBuf>,
}

/// Removes all that builds keep for later ones, but for caches that a step uses now.
///
/// # Errors
/// Something cannot be looked at or removed.
pub fn prune(store: &Store) -> Result<Pruned, Error> {
    remove_orphans(store)?;
    steps::forget(store)?;
    let mut pruned = Pruned {
        bytes: prune::unneeded(store)?,
        kept: Vec::new(),
    };
    for directory in [store.state().join("hashes"), kept::directory(store)] {
        for entry in crate::store::root::list(&directory)? {
            // What a killed build has put aside.
            if entry.path().is_dir() {
                match remove_tree(&entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(io_error("remove", &entry.path())(error));
                    }
                    _ => continue,
                }
            }
            pruned.bytes += crate::store::write::remove(&entry.path())?;
        }
    }
    for entry in crate::store::root::list(&store.state().join("caches"))? {
        let directory = entry.path();
        if !directory.is_dir() {
            continue;
        }
        // Every step that uses it holds this, however it shares the cache.
        let lock = match Lock::attempt_existing(&directory.with_extension("use"), Mode::Exclusive)? {
            Attempt::Held => continue,
            Attempt::Gone => None,
            Attempt::Taken(lock) => Some(lock),
        };
        let bytes = size(&directory);
        match remove_tree(&directory) {
            Ok(()) => pruned.bytes += bytes,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => pruned.kept.push(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("remove", &directory)(error)),
        }
        drop(lock);
    }
    Ok(pruned)
}

/// Bytes of disk of all in a directory, as far as it can be looked at.
fn size(directory: &Path) -> u64 {
    let mut bytes = 0;
    let mut ahead = vec![directory.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => ahead.push(entry.path()),
                Ok(meta) => bytes += meta.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}
