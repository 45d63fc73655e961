//! Who may change an object now? One lock per object: `flock` where it works, else a lease.
//!
//! Whether `flock` works is asked by using it: Lustre and some NFS mounts answer ENOSYS, EOPNOTSUPP or ENOLCK. A lock is
//! let go when its last descriptor closes, so one that a forked child inherits lives on in it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lease::Lease;
use super::{Error, failpoint};

/// How much a lock keeps others out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Others may share it; only [`Mode::Exclusive`] is kept out. (A lease knows no sharing and keeps out both.)
    Shared,
    /// Nobody else.
    Exclusive,
}

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    file: File,
    lease: Option<Lease>,
}

/// What became of an attempt that does not wait.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Taken(Lock),
    /// Someone else has it.
    Held,
    /// The file is not there any more.
    Gone,
}

/// How often a lease is looked at again while another holds it; `flock` waits in the kernel.
const LEASE_POLL: Duration = Duration::from_millis(20);

impl Lock {
    /// Waits for the lock on the file at `path`, which is created if need be.
    pub fn acquire(path: &Path, mode: Mode) -> Result<Lock, Error> {
        loop {
            let file = open(path, true).map_err(Error::io("open the lock", path))?;
            let waited = match mode {
                Mode::Shared => file.lock_shared(),
                Mode::Exclusive => file.lock(),
            };
            let lease = match waited {
                Ok(()) => None,
                Err(error) if is_missing(&error) => loop {
                    match Lease::attempt(&lease_path(path))? {
                        Some(lease) => break Some(lease),
                        None => std::thread::sleep(LEASE_POLL),
                    }
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("lock", path)(error)),
            };
            if is_at(&file, path)? {
                return Ok(Lock { file, lease });
            }
        }
    }

    /// The lock on the file at `path`, created if need be, or `None` if someone else has it.
    pub fn try_acquire(path: &Path, mode: Mode) -> Result<Option<Lock>, Error> {
        loop {
            match attempt(path, mode, true)? {
                Attempt::Taken(lock) => return Ok(Some(lock)),
                Attempt::Held => return Ok(None),
                // Removed between opening and locking by the one who held it.
                Attempt::Gone => continue,
            }
        }
    }

    /// The lock on a file that must be there already.
    pub fn attempt_existing(path: &Path, mode: Mode) -> Result<Attempt, Error> {
        attempt(path, mode, false)
    }

    /// Goes on holding a lock that this process held before it executed this program: `file` is the locked one.
    pub fn adopt(file: File, path: &Path) -> Result<Lock, Error> {
        let lease = Lease::adopt(&lease_path(path))?;
        Ok(Lock { file, lease })
    }

    /// The locked file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Called before a fork, which only a process with one thread may do. Only a lease needs it.
    pub fn still(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.still();
        }
    }

    /// Called after the last fork of a process that goes on holding the lock. Only a lease needs it.
    pub fn beat(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.beat();
        }
    }

    /// Called by a forked child that goes on holding the lock after its parent. Only a lease needs it.
    pub fn take_over(&mut self) -> Result<(), Error> {
        self.lease.as_mut().map_or(Ok(()), Lease::take_over)
    }

    /// Called by a parent whose forked child goes on holding the lock.
    pub fn leave(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.leave();
        }
    }
}

/// Creates a file that is locked from the first moment that others can see its lock; `None` if the path is taken.
pub(super) fn create_new(path: &Path) -> Result<Option<Lock>, Error> {
    let new = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = match new {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(Error::io("create", path)(error)),
    };
    let lease = match file.try_lock() {
        Ok(()) => None,
        // A prune looked in between creation and lock; it will remove the file.
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) if is_missing(&error) => match Lease::attempt(&lease_path(path))? {
            Some(lease) => Some(lease),
            None => return Ok(None),
        },
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
    };
    Ok(is_at(&file, path)?.then_some(Lock { file, lease }))
}

/// Is this the lease of a lock file beside it?
pub(super) fn is_lease(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("lease"))
}

/// Removes a lease unless its holder lives.
pub(super) fn remove_dead_lease(path: &Path) -> Result<(), Error> {
    // Whoever takes it drops it.
    Lease::attempt(path).map(drop)
}

fn attempt(path: &Path, mode: Mode, create: bool) -> Result<Attempt, Error> {
    let file = match open(path, create) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && !create => return Ok(Attempt::Gone),
        Err(error) => return Err(Error::io("open the lock", path)(error)),
    };
    let tried = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    let lease = match tried {
        Ok(()) => None,
        Err(TryLockError::WouldBlock) => return Ok(Attempt::Held),
        Err(TryLockError::Error(error)) if is_missing(&error) => match Lease::attempt(&lease_path(path))? {
            Some(lease) => Some(lease),
            None => return Ok(Attempt::Held),
        },
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
    };
    Ok(if is_at(&file, path)? {
        Attempt::Taken(Lock { file, lease })
    } else {
        Attempt::Gone
    })
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    failpoint::step()?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Is it this file that the path names? A lock file may be removed by whoever holds it; one who waited then holds a lock
/// on nothing.
pub fn is_at(file: &File, path: &Path) -> Result<bool, Error> {
    let held = file.metadata().map_err(Error::io("look at", path))?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOLCK)
    )
}

fn lease_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lease");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_and_shared_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let first = Lock::acquire(&path, Mode::Shared).unwrap();
        let second = Lock::try_acquire(&path, Mode::Shared).unwrap();
        assert!(second.is_some());
        assert!(Lock::try_acquire(&path, Mode::Exclusive).unwrap().is_none());
        drop((first, second));
        assert!(Lock::try_acquire(&path, Mode::Exclusive).unwrap().is_some());
    }

    #[test]
    fn one_who_waited_for_a_removed_file_locks_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let first = Lock::acquire(&path, Mode::Exclusive).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::acquire(&path, Mode::Exclusive).unwrap()
        });
        fs::remove_file(&path).unwrap();
        drop(first);
        let second = waiting.join().unwrap();
        assert!(path.exists());
        assert!(Lock::try_acquire(&path, Mode::Exclusive).unwrap().is_none());
        drop(second);
    }

    #[test]
    fn a_link_in_place_of_a_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Lock::acquire(&path, Mode::Exclusive).is_err());
    }
}
