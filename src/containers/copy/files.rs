//! How are files made by descriptors, on the host or within a container's namespaces?

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;

use fuse_overlay::attr::{Kind, Time};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::root::{Root, kind, open_at};
use super::unpack::{Dress, Onto, Put};

/// Where the files are.
#[derive(Debug)]
pub(super) enum Place {
    /// On the host, where the user's rights are the bounds: no symlink in the way is followed, devices mean nothing, and no
    /// file of a container's choice gets set-id bits, which would be the user's own.
    Host,
    /// In the container that this process is in; symlinks in the way of an archive's members are followed, within the root.
    Container {
        root: Root,
        /// The path of the destination.
        base: Vec<u8>,
    },
}

impl Place {
    fn perm(&self, dress: &Dress) -> Mode {
        let kept = match self {
            Place::Host => 0o1777,
            Place::Container { .. } => 0o7777,
        };
        Mode::from_raw_mode(u32::from(dress.perm) & kept)
    }

    /// Owner first: a change of owner takes set-id bits away.
    fn dress_open(&self, file: &OwnedFd, dress: &Dress) -> io::Result<()> {
        if let Some((uid, gid)) = dress.owner {
            let given = fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            owned(given, (uid, gid))?;
        }
        fchmod(file, self.perm(dress))?;
        if let Place::Container { .. } = self {
            for (name, value) in &dress.xattrs {
                fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty())?;
            }
        }
        if let Some(times) = times(dress) {
            futimens(file, &times)?;
        }
        Ok(())
    }

    /// The same for what cannot be opened.
    fn dress_at(&self, (dir, name): (&OwnedFd, &[u8]), dress: &Dress) -> io::Result<()> {
        let name = OsStr::from_bytes(name);
        if let Some((uid, gid)) = dress.owner {
            let given = chownat(
                dir,
                name,
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            );
            owned(given, (uid, gid))?;
        }
        if let Some(times) = times(dress) {
            utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

/// Where there is no root (`--userns keep-id` without an id range), what would be root's is the one user's.
fn owned(given: rustix::io::Result<()>, (uid, gid): (u32, u32)) -> io::Result<()> {
    match given {
        Err(Errno::INVAL) if (uid, gid) == (0, 0) => Ok(()),
        Err(Errno::INVAL) => Err(io::Error::other(format!(
            "its owner {uid}:{gid} does not exist in the container (without -a it becomes root's)"
        ))),
        given => Ok(given?),
    }
}

fn times(dress: &Dress) -> Option<Timestamps> {
    let Time { sec, nsec } = dress.mtime?;
    Some(Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: sec,
            tv_nsec: nsec.into(),
        },
    })
}

/// Takes what is no directory away.
fn clear(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(dir, OsStr::from_bytes(name), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Onto for Place {
    type Dir = OwnedFd;

    fn look(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<Option<Kind>> {
        Ok(kind(dir, name)?.map(|found| match found {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::RegularFile | FileType::Unknown => Kind::Regular,
        }))
    }

    fn enter(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        open_at(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn through(&self, below: &OwnedFd, names: &[&[u8]]) -> io::Result<OwnedFd> {
        match self {
            Place::Host if names.is_empty() => Ok(below.try_clone()?),
            Place::Host => {
                // Whoever made a symlink there would choose where files go.
                open_at(below, &names.join(&b'/'), OFlags::RDONLY | OFlags::DIRECTORY)
            }
            Place::Container { root, base } => {
                let path = [base.as_slice(), &names.join(&b'/')].join(&b'/');
                root.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)
            }
        }
    }

    fn make(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        mkdirat(dir, OsStr::from_bytes(name), Mode::RWXU)?;
        self.enter(dir, name)
    }

    fn dress(&self, dir: &OwnedFd, dress: &Dress) -> io::Result<()> {
        self.dress_open(dir, dress)
    }

    fn file(
        &self,
        (dir, name): (&OwnedFd, &[u8]),
        size: u64,
        dress: &Dress,
        fill: &mut dyn FnMut(&mut Put<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let made = match clear(dir, name) {
            // Something is mounted there: its content is what can change.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = File::from(open_at(dir, name, flags)?);
                return fill(&mut |at, bytes| file.write_all_at(bytes, at));
            }
            cleared => {
                cleared?;
                open_at(dir, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?
            }
        };
        let file = File::from(made);
        fill(&mut |at, bytes| file.write_all_at(bytes, at))?;
        // What ends with a hole.
        if file.metadata()?.len() != size {
            file.set_len(size)?;
        }
        self.dress_open(&file.into(), dress)
    }

    fn symlink(&self, (dir, name): (&OwnedFd, &[u8]), target: &[u8], dress: &Dress) -> io::Result<()> {
        clear(dir, name)?;
        symlinkat(OsStr::from_bytes(target), dir, OsStr::from_bytes(name))?;
        self.dress_at((dir, name), dress)
    }

    fn link(&self, (from, file): (&OwnedFd, &[u8]), (dir, name): (&OwnedFd, &[u8])) -> io::Result<()> {
        clear(dir, name)?;
        let (file, name) = (OsStr::from_bytes(file), OsStr::from_bytes(name));
        Ok(linkat(from, file, dir, name, AtFlags::empty())?)
    }

    fn special(
        &self,
        (dir, name): (&OwnedFd, &[u8]),
        (kind, _number): (Kind, u32),
        dress: &Dress,
    ) -> io::Result<bool> {
        if kind != Kind::Fifo {
            // Only the host's root could make one.
            return Ok(false);
        }
        clear(dir, name)?;
        mknodat(
            dir,
            OsStr::from_bytes(name),
            FileType::Fifo,
            self.perm(dress) & Mode::from_raw_mode(0o1777),
            0,
        )?;
        self.dress_at((dir, name), dress)?;
        Ok(true)
    }
}
