//! How is a path found, of the host or within a container's namespaces? By openat2: in a container every symlink, whoever swaps
//! it meanwhile, leads no further than its root, and magic links (/proc/PID/root) nowhere (CVE-2018-15664).

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::names::There;
use crate::rooted;

/// As many symlinks as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// Where paths begin.
#[derive(Debug)]
pub(super) struct Root {
    top: OwnedFd,
    resolve: ResolveFlags,
}

/// Where a path led.
#[derive(Debug)]
pub(super) struct Spot {
    /// The directory that holds, or would hold, it; itself, if it has no name.
    pub(super) parent: OwnedFd,
    /// The path of that directory.
    pub(super) above: Vec<u8>,
    /// Its name there.
    pub(super) name: Option<Vec<u8>>,
    /// What is there; no symlink.
    pub(super) there: There,
}

impl Root {
    /// The user's own paths, from the working directory.
    pub(super) fn host() -> io::Result<Root> {
        Root::of(Path::new("."), ResolveFlags::empty())
    }

    /// Those of the container that this process is in.
    pub(super) fn container() -> io::Result<Root> {
        Root::beneath(Path::new("/"))
    }

    /// Those below a directory, which is their root.
    pub(super) fn beneath(top: &Path) -> io::Result<Root> {
        Root::of(top, rooted::INSIDE)
    }

    fn of(top: &Path, resolve: ResolveFlags) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(CWD, top, flags, Mode::empty())?;
        Ok(Root { top, resolve })
    }

    /// Opens what is at a path.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        Ok(rooted::open(
            &self.top,
            OsStr::from_bytes(path),
            flags,
            self.resolve,
        )?)
    }

    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Walks a path, following its last name too, to where something is or could be made.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Spot> {
        let mut path = path.to_vec();
        for _ in 0..MOST_LINKS {
            let cut = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            let (above, name) = path.split_at(cut);
            if matches!(name, b"" | b"." | b"..") {
                return Ok(Spot {
                    parent: self.directory(&path)?,
                    above: path,
                    name: None,
                    there: There::Directory,
                });
            }
            let parent = self.directory(above)?;
            let there = match kind(&parent, name)? {
                None => There::Nothing,
                Some(FileType::Symlink) => {
                    let target = readlinkat(&parent, OsStr::from_bytes(name), Vec::new())?.into_bytes();
                    let target = trimmed(&target);
                    path = match target.first() {
                        Some(b'/') => target.to_vec(),
                        _ => [above, target].concat(),
                    };
                    continue;
                }
                Some(FileType::Directory) => There::Directory,
                Some(_) => There::Other,
            };
            return Ok(Spot {
                parent,
                above: above.to_vec(),
                name: Some(name.to_vec()),
                there,
            });
        }
        Err(Errno::LOOP.into())
    }
}

fn trimmed(path: &[u8]) -> &[u8] {
    let last = path.iter().rposition(|byte| *byte != b'/');
    last.and_then(|last| path.get(..=last)).unwrap_or(b"/")
}

/// Of what kind is the file at a name of a directory, which is not followed?
pub(super) fn kind(directory: &OwnedFd, name: &[u8]) -> io::Result<Option<FileType>> {
    Ok(stat(directory, name)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

/// What is at a name of a directory, which is not followed.
pub(super) fn stat(directory: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match statat(directory, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens what is at a name of a directory, which is not followed.
pub(super) fn open_at(directory: &OwnedFd, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Without CREATE a mode is refused.
    let mode = match flags.contains(OFlags::CREATE) {
        true => Mode::from_raw_mode(0o600),
        false => Mode::empty(),
    };
    Ok(openat2(directory, OsStr::from_bytes(name), flags, mode, within)?)
}
