//! How is a file written that the user names? Without a name, which it gets when it is whole: so nobody finds half of it
//! there, and a killed process leaves nothing. Where a filesystem has no files without names (NFS), beside its place. What
//! is no regular file (a device, a pipe) is written to as it is.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};
use tempfile::{Builder, NamedTempFile};

/// A file on its way to a place of the user's. Dropped without [`Given::commit`], it leaves nothing.
#[derive(Debug)]
pub enum Given {
    /// It has no name yet.
    Nameless(File, PathBuf),
    /// It lies beside its place.
    Beside(NamedTempFile, PathBuf),
    /// It is written in place.
    There(File),
}

/// Those of any new file: the user's umask takes some away.
const MODE: u32 = 0o666;

impl Given {
    /// Begins to write what will be at `path`.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn create(path: &Path) -> io::Result<Given> {
        // Through a symlink, the file that it leads to is replaced.
        let place = match fs::metadata(path) {
            Ok(found) if found.is_file() => path.canonicalize()?,
            Ok(_) => return Ok(Given::There(File::options().write(true).open(path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let directory = parent(&place)?;
        let nameless = File::options()
            .write(true)
            .mode(MODE)
            .custom_flags(libc::O_TMPFILE)
            .open(directory);
        match nameless {
            Ok(file) => Ok(Given::Nameless(file, place)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                let mut beside = Builder::new();
                let prefix = prefix(&place);
                beside.prefix(&prefix).permissions(Permissions::from_mode(MODE));
                Ok(Given::Beside(beside.tempfile_in(directory)?, place))
            }
            Err(error) => Err(error),
        }
    }

    /// The file, open for writing.
    pub fn file(&self) -> &File {
        match self {
            Given::Beside(file, _) => file.as_file(),
            Given::Nameless(file, _) | Given::There(file) => file,
        }
    }

    /// Brings it to its place.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn commit(self) -> io::Result<()> {
        let (named, place) = match self {
            Given::Nameless(file, place) => {
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |path: &Path| Ok(linkat(CWD, &own, CWD, path, AtFlags::SYMLINK_FOLLOW)?);
                // A link replaces nothing, a rename does.
                let named = Builder::new()
                    .prefix(&prefix(&place))
                    .make_in(parent(&place)?, link)?;
                (named.into_temp_path(), place)
            }
            Given::Beside(file, place) => (file.into_temp_path(), place),
            Given::There(_) => return Ok(()),
        };
        named.persist(place).map_err(|error| error.error)
    }
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
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let given = Given::create(path)?;
    io::Write::write_all(&mut given.file(), bytes)?;
    given.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("file");
        let names = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let begun = Given::create(&place).unwrap();
        io::Write::write_all(&mut begun.file(), b"half").unwrap();
        assert!(!place.exists());
        assert!(matches!(begun, Given::Beside(..)) || names().is_empty());
        drop(begun);
        assert!(names().is_empty());
        write(&place, b"one").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"two").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"two");
        assert!(link.is_symlink());
        assert_eq!(names(), ["file", "link"]);
        let beside = Builder::new()
            .prefix(&prefix(&place))
            .tempfile_in(dir.path())
            .unwrap();
        Given::Beside(beside, place.clone()).commit().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"");
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
    }
}
