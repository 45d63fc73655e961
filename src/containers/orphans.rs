//! What is left of containers whose making or removal was killed? Directories without a record.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Error;
use super::record::{ids, remove_directory};
use crate::store::lock::{Lock, Mode};
use crate::store::{self, Store};

/// Removes what killed `create` and `rm` left: directories without a record that nobody holds. Gives the bytes of disk
/// that this frees.
///
/// # Errors
/// Something cannot be looked at or removed.
pub fn remove(store: &Store) -> Result<u64, Error> {
    let mut freed = 0;
    for id in ids(store)? {
        let directory = store.container(&id);
        if has_record(&directory) {
            continue;
        }
        let lock = match Lock::try_acquire(&directory.join("lock"), Mode::Exclusive) {
            Ok(Some(lock)) => lock,
            Ok(None) => continue,
            // Its owner was faster.
            Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        // Under the lock once more: it may have been made meanwhile.
        if has_record(&directory) {
            continue;
        }
        let io = |source| Error::Io {
            action: "remove",
            path: directory.clone(),
            source,
        };
        freed += ["upper/data", "upper/journal"]
            .iter()
            .filter_map(|file| fs::metadata(directory.join(file)).ok())
            .map(|found| found.blocks() * 512)
            .sum::<u64>();
        remove_directory(&directory, lock).map_err(io)?;
    }
    Ok(freed)
}

/// An empty one is none: so a loss of power leaves that of a container of `--rm`, which is not flushed.
fn has_record(directory: &Path) -> bool {
    fs::metadata(directory.join("record.json")).is_ok_and(|found| found.len() > 0)
}
