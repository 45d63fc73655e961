//! How is a file written that the user names? Without a name, which it gets when it is whole: so nobody finds half of it
//! there, and a killed process leaves nothing. Where a filesystem has no files without names (NFS), or where the new file
//! takes the place of another, it has a name beside its place for a while. That is noted in the state first, so that the
//! next prune finds what a killed process left. What is no regular file (a device, a pipe) is written to as it is.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};
use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile};

use super::failpoint::Stepped;
use super::{Aside, Error, Store, failpoint, write};

/// A file on its way to a place of the user's. Dropped without [`Given::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Given {
    how: How,
    /// The directory of notes.
    notes: PathBuf,
}

#[derive(Debug)]
enum How {
    /// It has no name yet.
    Nameless(File, PathBuf),
    /// It lies beside its place.
    Beside(Box<Beside<File>>, PathBuf),
    /// It is written in place.
    There(File),
}

/// A name beside a place, and what is noted of it until it is given up.
#[derive(Debug)]
struct Beside<F> {
    named: NamedTempFile<F>,
    _note: Option<Aside>,
}

/// Those of any new file: the user's umask takes some away.
const MODE: u32 = 0o666;

impl Given {
    /// Begins to write what will be at `path`.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn create(store: &Store, path: &Path) -> io::Result<Given> {
        // Through a symlink, the file that it leads to is replaced.
        let place = match fs::metadata(path) {
            Ok(found) if found.is_file() => path.canonicalize()?,
            Ok(_) => {
                return Ok(Given {
                    how: How::There(File::options().write(true).open(path)?),
                    notes: notes(store),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        Given::at(store, place)
    }

    /// The same at this very place: what is there is replaced, a symlink, too, whatever it leads to.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn at(store: &Store, place: PathBuf) -> io::Result<Given> {
        failpoint::step()?;
        let notes = notes(store);
        let nameless = File::options()
            .write(true)
            .mode(MODE)
            .custom_flags(libc::O_TMPFILE)
            .open(parent(&place)?);
        let how = match nameless {
            Ok(file) => How::Nameless(file, place),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                let made = Beside::new(&notes, &place, |path| {
                    let mut new = File::options();
                    new.write(true).create_new(true).mode(MODE).open(path)
                });
                How::Beside(Box::new(made?), place)
            }
            Err(error) => return Err(error),
        };
        Ok(Given { how, notes })
    }

    /// The file, open for writing.
    pub fn file(&self) -> &File {
        match &self.how {
            How::Beside(beside, _) => beside.named.as_file(),
            How::Nameless(file, _) | How::There(file) => file,
        }
    }

    /// What writes to it.
    pub fn writer(&self) -> impl io::Write + '_ {
        Stepped(self.file())
    }

    /// Brings it to its place.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn commit(self) -> io::Result<()> {
        match self.how {
            How::Nameless(file, place) => {
                failpoint::step()?;
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |path: &Path| linkat(CWD, &own, CWD, path, AtFlags::SYMLINK_FOLLOW);
                match link(&place) {
                    // A link replaces nothing, a rename does.
                    Err(Errno::EXIST) => {
                        Beside::new(&self.notes, &place, |path| Ok(link(path)?))?.rename(&place)
                    }
                    linked => Ok(linked?),
                }
            }
            How::Beside(beside, place) => beside.rename(&place),
            How::There(_) => Ok(()),
        }
    }
}

impl<F> Beside<F> {
    /// What `make` makes at a name that nobody has.
    fn new(notes: &Path, place: &Path, make: impl Fn(&Path) -> io::Result<F>) -> io::Result<Beside<F>> {
        let note = note(notes);
        let (prefix, directory) = (prefix(place), parent(place)?.canonicalize()?);
        let named = Builder::new().prefix(&prefix).make_in(directory, |path| {
            if let Some(note) = &note {
                // Of a store that may only be read there are no notes, and as little if the disk is full.
                let _ = note
                    .file()
                    .write_all_at(&[path.as_os_str().as_bytes(), END].concat(), 0);
            }
            failpoint::step()?;
            make(path)
        });
        Ok(Beside {
            named: named?,
            _note: note,
        })
    }

    fn rename(self, place: &Path) -> io::Result<()> {
        failpoint::step()?;
        let renamed = self.named.into_temp_path().persist(place);
        renamed.map_err(|error| error.error)
    }
}

/// What a note ends with, so that one that was cut off names no other file.
const END: &[u8] = b"\0";

fn notes(store: &Store) -> PathBuf {
    store.state().join("given")
}

/// A note that says nothing yet. It goes with its writer, or after him.
fn note(notes: &Path) -> Option<Aside> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(notes);
    made.ok().and_then(|()| Aside::create(notes).ok())
}

/// Removes what killed processes left beside users' files. Gives the bytes that this frees.
///
/// # Errors
/// The notes of it cannot be read or removed.
pub fn remove_orphans(store: &Store) -> Result<u64, Error> {
    write::remove_orphans_after(&notes(store), |note| {
        let text = fs::read(note).map_err(Error::io("read", note))?;
        noted(&text).map_or(Ok(0), write::remove)
    })
}

/// The file that a note names: always a hidden one.
fn noted(text: &[u8]) -> Option<&Path> {
    let path = Path::new(OsStr::from_bytes(text.strip_suffix(END)?));
    let is_ours = path.is_absolute() && path.file_name()?.as_bytes().starts_with(b".");
    let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
    (is_ours && is_file).then_some(path)
}

fn parent(place: &Path) -> io::Result<&Path> {
    match place.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::ErrorKind::IsADirectory.into()),
    }
}

/// What the name begins with that it has beside its place.
fn prefix(place: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(place.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}

/// Writes a whole small file at a place of the user's.
///
/// # Errors
/// It cannot be written.
pub fn write(store: &Store, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let given = Given::create(store, path)?;
    io::Write::write_all(&mut given.writer(), bytes)?;
    given.commit()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::scratch;

    /// One whose name lies beside its place, as where all files have names.
    fn named(store: &Store, place: &Path) -> Given {
        let notes = notes(store);
        let beside = Beside::new(&notes, place, |path| File::create_new(path)).unwrap();
        Given {
            how: How::Beside(Box::new(beside), place.to_owned()),
            notes,
        }
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let (_store, store) = scratch();
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &Path, bytes: &[u8]| write(&store, path, bytes);
        let place = dir.path().join("file");
        let names = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let begun = Given::create(&store, &place).unwrap();
        io::Write::write_all(&mut begun.file(), b"half").unwrap();
        assert!(!place.exists());
        assert!(matches!(begun.how, How::Beside(..)) || names().is_empty());
        drop(begun);
        assert!(names().is_empty());
        write(&place, b"one").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"two").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"two");
        assert!(link.is_symlink());
        assert_eq!(names(), ["file", "link"]);
        named(&store, &place).commit().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"");
        drop(named(&store, &place));
        assert_eq!(names(), ["file", "link"]);
        // The same permissions as any new file has.
        let (new, other) = (dir.path().join("new"), dir.path().join("other"));
        write(&new, b"").unwrap();
        fs::write(&other, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&new), mode(&other));
        assert!(write(&dir.path().join("none/file"), b"").is_err());
        assert!(write(dir.path(), b"").is_err());
        write(Path::new("/dev/null"), b"gone").unwrap();
        // At its very place, a link is replaced.
        Given::at(&store, link.clone()).unwrap().commit().unwrap();
        assert!(!link.is_symlink());
        assert_eq!(fs::read_dir(notes(&store)).unwrap().count(), 0);
    }

    #[test]
    fn what_the_dead_left_beside_goes_and_nothing_else() {
        let (_store, store) = scratch();
        let dir = tempfile::tempdir().unwrap();
        let (place, left) = (dir.path().join("file"), dir.path().join(".file.x"));
        let living = named(&store, &place);
        fs::write(&left, "half").unwrap();
        let notes = notes(&store);
        let text = |path: &Path| path.as_os_str().as_bytes().to_vec();
        fs::write(&place, "mine").unwrap();
        for (number, noted) in [
            // Cut off; of no hidden file; of none; of a directory; of what is there no more; empty.
            text(&left),
            [&text(&place), END].concat(),
            END.to_vec(),
            [&text(&dir.path().join(".")), END].concat(),
            [&text(&dir.path().join(".gone")), END].concat(),
            Vec::new(),
            [&text(&left), END].concat(),
        ]
        .iter()
        .enumerate()
        {
            assert!(left.exists());
            fs::write(notes.join(format!("1-{number}")), noted).unwrap();
            remove_orphans(&store).unwrap();
        }
        assert!(!left.exists());
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 1, "the living one's");
        living.commit().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"");
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 0);
    }
}
