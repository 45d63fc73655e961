//! How is a file written that the user names? Beside its place and renamed, so that nobody finds half of it there; what is
//! no regular file (a device, a pipe) is written to as it is.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file on its way to a place of the user's. Dropped without [`Given::commit`], it leaves nothing.
#[derive(Debug)]
pub enum Given {
    /// It will replace what is there.
    Beside(NamedTempFile, PathBuf),
    /// It is written in place.
    There(File),
}

impl Given {
    /// Begins to write what will be at `path`. Its permissions are those of any new file.
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
        let beside = match place.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(io::ErrorKind::IsADirectory.into()),
        };
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(place.file_name().unwrap_or_default());
        prefix.push(".");
        let made = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(beside)?;
        Ok(Given::Beside(made, place))
    }

    /// The file, open for writing.
    pub fn file(&self) -> &File {
        match self {
            Given::Beside(file, _) => file.as_file(),
            Given::There(file) => file,
        }
    }

    /// Brings it to its place.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn commit(self) -> io::Result<()> {
        match self {
            Given::Beside(file, place) => file.persist(place).map(|_file| ()).map_err(|error| error.error),
            Given::There(_) => Ok(()),
        }
    }
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
        drop(begun);
        assert!(names().is_empty());
        write(&place, b"one").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"two").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"two");
        assert!(link.is_symlink());
        assert_eq!(names(), ["file", "link"]);
        // Only the user's own umask takes permissions away.
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o600, 0o600);
        assert!(write(&dir.path().join("none/file"), b"").is_err());
        assert!(write(dir.path(), b"").is_err());
        write(Path::new("/dev/null"), b"gone").unwrap();
    }
}
