//! How does a directory go, whatever a container has put into it? Names are looked up in open directories and no link is
//! followed. However deep it is, few descriptors are open and nothing recurses: what lies deeper is moved up first.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::copy::{Result, at};
use crate::store::failpoint;

/// Directories within directories that are open at once, two descriptors each.
const OPEN: usize = 32;

/// How often a directory may be found filled again after all in it went.
const PATIENCE: usize = 16;

/// An open directory on the way down.
struct Level {
    directory: OwnedFd,
    entries: Dir,
    /// In the one above; of the first the path.
    name: CString,
    /// Times it was read to its end, since something was moved there.
    passes: usize,
}

impl Level {
    fn open(above: Option<&OwnedFd>, name: &CStr) -> rustix::io::Result<Level> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match above {
            Some(above) => openat(above, name, flags, Mode::empty())?,
            None => openat(CWD, name, flags, Mode::empty())?,
        };
        let entries = Dir::read_from(&directory)?;
        Ok(Level {
            directory,
            entries,
            name: name.into(),
            passes: 0,
        })
    }
}

/// Removes a directory with all in it, if it is there. Several may be at it at once.
pub(super) fn remove_all(path: &Path) -> Result<()> {
    failpoint::step().map_err(at(path))?;
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(at(path))?;
    match Level::open(None, &name) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(at(path)(error)),
        Ok(top) => descend(vec![top]).map_err(at(path)),
    }
}

fn descend(mut open: Vec<Level>) -> rustix::io::Result<()> {
    let mut moved = 0;
    while let Some(level) = open.last_mut() {
        let Some(entry) = level.entries.next() else {
            finish(&mut open)?;
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        failpoint::step().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if !is_directory(level, &entry) {
            gone(unlinkat(&level.directory, name, AtFlags::empty()))?;
        } else if gone(unlinkat(&level.directory, name, AtFlags::REMOVEDIR)).is_ok() {
            // It was empty.
        } else if open.len() < OPEN {
            match Level::open(open.last().map(|level| &level.directory), name) {
                Err(Errno::NOENT) => {}
                level => open.push(level?),
            }
        } else {
            raise(&open, name, &mut moved)?;
            open.iter_mut().take(1).for_each(|top| top.passes = 0);
        }
    }
    Ok(())
}

fn is_directory(level: &Level, entry: &rustix::fs::DirEntry) -> bool {
    match entry.file_type() {
        FileType::Unknown => statat(&level.directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        kind => kind == FileType::Directory,
    }
}

/// Removes the deepest, which was read to its end; if there is something in it still, it is read again.
fn finish(open: &mut Vec<Level>) -> rustix::io::Result<()> {
    let Some(mut level) = open.pop() else {
        return Ok(());
    };
    let removed = match open.last() {
        Some(above) => unlinkat(&above.directory, &level.name, AtFlags::REMOVEDIR),
        None => unlinkat(CWD, &level.name, AtFlags::REMOVEDIR),
    };
    match removed {
        Err(Errno::NOTEMPTY | Errno::EXIST) if level.passes < PATIENCE => {
            level.passes += 1;
            level.entries.rewind();
            open.push(level);
            Ok(())
        }
        removed => gone(removed),
    }
}

/// Moves a directory from the deepest to the first, which will be read once more.
fn raise(open: &[Level], name: &CStr, moved: &mut u64) -> rustix::io::Result<()> {
    let (Some(top), Some(deepest)) = (open.first(), open.last()) else {
        return Ok(());
    };
    loop {
        *moved += 1;
        let up = format!("up-{moved}");
        match renameat(&deepest.directory, name, &top.directory, &*up) {
            // The container has such a name, or somebody else moves.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            raised => return gone(raised),
        }
    }
}

/// What is not there any more, somebody else has removed.
fn gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;

    /// Directories within directories, each with a file beside.
    fn deep(top: &Path, levels: usize) {
        fs::create_dir(top).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut directory = openat(CWD, top, flags, Mode::empty()).unwrap();
        for level in 0..levels {
            for name in ["d", "e"] {
                mkdirat(&directory, name, Mode::RWXU).unwrap();
            }
            if level % 7 == 0 {
                mkdirat(&directory, "up-3", Mode::RWXU).unwrap();
            }
            openat(&directory, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            directory = openat(&directory, "d", flags, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn however_deep_it_is_few_descriptors_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        deep(&top, 5000);
        // The top's own name for what is moved may be taken, by a file too.
        fs::write(top.join("up-1"), "x").unwrap();
        fs::create_dir_all(top.join("up-2/full")).unwrap();
        remove_all(&top).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove_all(&top).unwrap();
    }

    #[test]
    fn links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (top, other) = (dir.path().join("top"), dir.path().join("other"));
        fs::create_dir(&top).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "x").unwrap();
        symlink(&other, top.join("link")).unwrap();
        symlink(&top, dir.path().join("way")).unwrap();
        assert!(remove_all(&dir.path().join("way")).is_err());
        remove_all(&top).unwrap();
        assert!(other.join("kept").exists() && !top.exists());
    }
}
