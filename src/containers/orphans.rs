//! What is left of containers whose making or removal was killed? Directories without a record.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::directory;
use super::end::{self, Force};
use super::process::{self, Process};
use super::record::{self, Afterwards, ids};
use super::{Error, attach, joining, volume};
use crate::store::lock::{Lock, Mode};
use crate::store::{self, Store, failpoint};

/// Removes what killed `create` and `rm` left: directories without a record that nobody holds. Gives the bytes of disk
/// that this frees.
///
/// # Errors
/// Something cannot be looked at or removed.
pub fn remove(store: &Store) -> Result<u64, Error> {
    let mut freed = 0;
    for id in ids(store)? {
        let directory = store.container(&id);
        if remove_step(store, &id)? || has_record(&directory) {
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
        freed += bytes(&directory);
        // It may be about to be made: whoever does that must find all of it, or nothing.
        let gone = directory.with_file_name(format!("{GONE}{id}"));
        failpoint::step()
            .and_then(|()| fs::rename(&directory, &gone))
            .and_then(|()| directory::remove(&gone, lock))
            // Its owner, or who removes orphans beside us, was faster.
            .or_else(directory::ignore_missing)
            .map_err(Error::io("remove", &directory))?;
    }
    remove_gone(store)?;
    // Copies for these containers go, too.
    volume::sweep(store.state());
    // A directory that cannot be read keeps nothing from being removed.
    if let Err(error) = attach::sweep(store.run()) {
        tracing::warn!("the sockets of containers that are gone cannot be removed: {error}");
    }
    joining::sweep(store);
    Ok(freed)
}

/// Under such a name an orphan is removed.
const GONE: &str = ".gone-";

/// Removes what is left of orphans whose removal was killed.
fn remove_gone(store: &Store) -> Result<(), Error> {
    for entry in store::root::list(&store.state().join("containers"))? {
        if entry.file_name().to_string_lossy().starts_with(GONE) {
            let removed = fs::remove_dir_all(entry.path());
            removed
                .or_else(directory::ignore_missing)
                .map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Bytes of disk of what a container, which lies in `directory`, has written.
pub fn bytes(directory: &Path) -> u64 {
    let files = ["upper/data", "upper/journal"].iter();
    files
        .filter_map(|file| fs::metadata(directory.join(file)).ok())
        .map(|found| found.blocks() * 512)
        .sum()
}

/// Removes the container of a build's step whose builder is gone: nobody takes what it changed.
fn remove_step(store: &Store, id: &str) -> Result<bool, Error> {
    let record = match record::read(store, id) {
        Ok(Some(record)) if record.afterwards == Afterwards::Commit => record,
        // A record that cannot be read is told of elsewhere.
        _ => return Ok(false),
    };
    let gone = |builder: Process| match builder.open()? {
        // One that nobody has waited for yet is there, but ended.
        Some(pidfd) => process::ends(&pidfd, Some(Duration::ZERO)),
        None => Ok(true),
    };
    let abandoned = record
        .builder
        .map_or(Ok(true), gone)
        .map_err(|source| Error::Io {
            action: "look for the builder of",
            path: store.container(id),
            source,
        })?;
    if abandoned {
        match end::remove(store, id, Force::Yes) {
            // Its processes are dying at this moment: whoever comes next takes it.
            Ok(()) | Err(Error::Running(_) | Error::Busy(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(abandoned)
}

/// An empty one is none: so a loss of power leaves that of a container of `--rm`, which is not flushed.
fn has_record(directory: &Path) -> bool {
    fs::metadata(directory.join("record.json")).is_ok_and(|found| found.len() > 0)
}
