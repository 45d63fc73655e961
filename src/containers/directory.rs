//! How does a container's directory come, and go, whoever else looks at it?

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::Error;
use crate::store::lock::{Lock, Mode};
use crate::store::{self, failpoint};

/// Makes a container's directory and takes its lock. A sweep may have taken the directory for an orphan before it was
/// locked, and removed it.
pub(super) fn make(directory: &Path) -> Result<Lock, Error> {
    for _ in 0..8 {
        match attempt(directory) {
            Err(Error::Io { source, .. } | Error::Store(store::Error::Io { source, .. }))
                if source.kind() == ErrorKind::NotFound => {}
            made => return made,
        }
    }
    Err(Error::io("create", directory)(ErrorKind::NotFound.into()))
}

fn attempt(directory: &Path) -> Result<Lock, Error> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700).recursive(true);
    for part in [directory, &directory.join("upper")] {
        failpoint::step()
            .and_then(|()| builder.create(part))
            .map_err(Error::io("create", directory))?;
    }
    Ok(Lock::acquire(&directory.join("lock"), Mode::Exclusive)?)
}

/// Removes a container's directory, the large files first: killed half-way, what is left is small, and the next sweep's.
pub(super) fn remove(directory: &Path, lock: Lock) -> std::io::Result<()> {
    for file in ["upper/data", "upper/journal", "upper"] {
        failpoint::step()?;
        let path = directory.join(file);
        let removed = match file {
            "upper" => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.or_else(ignore_missing)?;
    }
    failpoint::step()?;
    let mut lock = Some(lock);
    let mut tries = 1..100;
    loop {
        match fs::remove_dir_all(directory) {
            // NFS and many FUSE filesystems keep a removed file that is open, the lock, under another name, until a moment
            // after it is closed. Nobody takes the lock any more: there is nothing left but the directory.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && tries.next().is_some() => {
                if lock.take().is_none() {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
            removed => return removed.or_else(ignore_missing),
        }
    }
}

pub(super) fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}
