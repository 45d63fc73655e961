//! How is a file replaced? Written aside, synced when it must last, renamed into place.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::failpoint::Stepped;
use super::lock::{self, Attempt, Lock, Mode};
use super::{Error, failpoint};
use crate::sys;

/// What must be left of a file after the machine stops at the worst moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// All of it: images, named containers. File and directory are flushed to the disk.
    Durable,
    /// All of it, or not even its name: what is derived, and can be made again. The file is flushed.
    Whole,
    /// Nothing: what is read with its own checksum, and what `--rm` will delete. A killed process leaves it whole, a power
    /// cut may not.
    Volatile,
}

/// A file being written beside the place where it will lie. Dropped without [`Aside::commit`], it is removed; after a
/// kill it stays until [`remove_orphans`] finds that nobody holds its lock.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
    lock: Lock,
    committed: bool,
}

impl Aside {
    /// A new empty file, 0600, in `directory`, which lies on the filesystem of the file's final place.
    pub fn create(directory: &Path) -> Result<Aside, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        failpoint::step().map_err(Error::io("create a file in", directory))?;
        loop {
            // Unique among the living of this host; processes of other hosts are told apart by the exclusive creation.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{}-{number}", std::process::id()));
            match lock::create_new(&path)? {
                Some(lock) => {
                    return Ok(Aside {
                        path,
                        lock,
                        committed: false,
                    });
                }
                None => continue,
            }
        }
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        self.lock.file()
    }

    /// Where it lies until then.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings it to its place, replacing what is there.
    pub fn commit(mut self, to: &Path, durability: Durability) -> Result<(), Error> {
        if durability != Durability::Volatile {
            flush(self.file(), &self.path)?;
        }
        failpoint::step().map_err(Error::io("move a new file to", to))?;
        // What is left aside then, the old file, goes with this value.
        let exchanged = durability == Durability::Volatile && exchange(&self.path, to);
        if !exchanged {
            fs::rename(&self.path, to).map_err(Error::io("move a new file to", to))?;
            self.committed = true;
        }
        match durability {
            Durability::Durable => sync_parent(to),
            Durability::Whole | Durability::Volatile => Ok(()),
        }
    }
}

/// Brings what a file holds to the disk.
pub fn flush(file: &File, path: &Path) -> Result<(), Error> {
    failpoint::step()
        .and_then(|()| file.sync_all())
        .map_err(Error::io("flush to the disk", path))
}

/// Gives two files each other's name, and says whether it could: one may be missing, the filesystem may not do it. ext4
/// writes a file to the disk at once when it replaces another (mount option `auto_da_alloc`), but not when it is exchanged.
fn exchange(one: &Path, other: &Path) -> bool {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).is_ok()
}

/// A large file that will be flushed to the disk: its bytes are on the way there while more come, so that the flush at
/// the end waits for the last of them alone.
#[derive(Debug)]
pub struct Steady<'a> {
    file: &'a File,
    /// Bytes written, and those of them that were sent to the disk.
    written: u64,
    sent: u64,
}

impl Steady<'_> {
    /// Bytes sent to the disk at once.
    const PIECE: u64 = 16 << 20;

    /// For a file that is empty.
    pub fn new(file: &File) -> Steady<'_> {
        Steady {
            file,
            written: 0,
            sent: 0,
        }
    }
}

impl Write for Steady<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = Stepped(self.file).write(bytes)?;
        self.written += count as u64;
        if self.written - self.sent >= Self::PIECE {
            // Only a beginning: what fails, the flush will say.
            sys::start_writeback(self.file.as_fd(), self.sent, self.written - self.sent);
            self.sent = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: what stays is an orphan, which prune removes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a whole small file at `path`, by way of the directory `aside` on the same filesystem.
pub fn replace(aside: &Path, path: &Path, bytes: &[u8], durability: Durability) -> Result<(), Error> {
    let new = Aside::create(aside)?;
    Stepped(new.file())
        .write_all(bytes)
        .map_err(Error::io("write", new.path()))?;
    new.commit(path, durability)
}

/// Removes a file; one that is not there is as good. Gives the bytes of disk that this frees.
pub fn remove(path: &Path) -> Result<u64, Error> {
    let size = match fs::symlink_metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::io("look at", path)(error)),
    };
    match failpoint::step().and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(size),
    }
}

/// When a file was written, in seconds since 1970; 0 if that cannot be told.
pub fn modified(path: &Path) -> i64 {
    fs::symlink_metadata(path).map_or(0, |found| found.mtime())
}

/// Flushes the directory of `path`: its name is then on the disk, or off it.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    failpoint::step()
        .and_then(|()| File::open(directory))
        .and_then(|open| open.sync_all())
        .map_err(Error::io("flush to the disk", directory))
}

/// Removes what killed processes left in a directory of files aside. Gives the bytes that this frees.
pub fn remove_orphans(directory: &Path) -> Result<u64, Error> {
    remove_orphans_after(directory, |_| Ok(0))
}

/// The same. What an orphan tells of is removed `first`, which says how many bytes that frees.
pub fn remove_orphans_after(
    directory: &Path,
    first: impl Fn(&Path) -> Result<u64, Error>,
) -> Result<u64, Error> {
    let mut freed = 0;
    for entry in super::root::list(directory)? {
        let path = entry.path();
        if lock::is_lease(&path) {
            // Of a file that was moved to its place, one killed right then leaves the lease alone.
            lock::remove_dead_lease(&path)?;
            continue;
        }
        match Lock::attempt_existing(&path, Mode::Exclusive)? {
            Attempt::Held => {}
            Attempt::Gone => {}
            Attempt::Taken(lock) => {
                freed += first(&path)? + remove(&path)?;
                drop(lock);
            }
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_aside() {
        let (_dir, store) = super::super::scratch();
        let path = store.references();
        for (text, durability) in [
            ("one", Durability::Durable),
            ("two", Durability::Durable),
            ("three", Durability::Whole),
            ("four", Durability::Volatile),
        ] {
            replace(&store.tmp(), &path, text.as_bytes(), durability).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        replace(&store.tmp(), &path, b"five", Durability::Volatile).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "five");
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_given_up_is_removed() {
        let (_dir, store) = super::super::scratch();
        let aside = store.aside().unwrap();
        aside.file().write_all(b"half").unwrap();
        drop(aside);
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn orphans_go_and_files_of_the_living_stay() {
        let (_dir, store) = super::super::scratch();
        fs::write(store.tmp().join("1-0"), "left by the dead").unwrap();
        let living = store.aside().unwrap();
        assert_eq!(remove_orphans(&store.tmp()).unwrap(), 16);
        assert!(living.path().exists());
        living.commit(&store.references(), Durability::Volatile).unwrap();
    }
}
