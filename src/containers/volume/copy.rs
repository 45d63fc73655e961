//! How does a directory of an image come onto the disk? By its index, so no link leads anywhere, into a directory that
//! nobody else sees yet. Runs as root of the container's users: owners that these ids have are kept.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fuse_overlay::attr::{Attr, Kind, Time};
use fuse_overlay::error::Error;
use fuse_overlay::index::NodeId;
use fuse_overlay::union::Lower;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, ftruncate, futimens, linkat, mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::host::{IdMaps, ids};
use crate::store::failpoint;

/// Directories within directories: each costs a descriptor and some stack.
const DEEPEST: usize = 400;

/// Bytes copied at once; as many zeros become a hole.
const CHUNK: usize = 1 << 16;

/// The attribute that has a list of who may what.
const ACCESS: &[u8] = b"system.posix_acl_access";

/// What a copy could not keep.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    /// Files whose owner or group does not exist here: they are root's.
    pub(super) owners: u64,
    /// Extended attributes.
    pub(super) attributes: u64,
    /// Device nodes, which only root can make.
    pub(super) devices: u64,
}

/// Why a copy failed: on what, and why.
pub(super) type Result<T> = std::result::Result<T, String>;

pub(super) fn at<E: Display>(path: &Path) -> impl Fn(E) -> String {
    move |why| format!("{}: {why}", path.display())
}

fn damaged(path: &Path) -> impl Fn(Error) -> String {
    move |error| at(path)(std::io::Error::from(error.0))
}

/// Copies what is in the directory `from` of an image, and its attributes, to `to`, a new empty directory.
pub(super) fn directory(lower: &Lower, from: NodeId, to: &OwnedFd, maps: &IdMaps) -> Result<Lost> {
    let mut copy = Copy {
        lower,
        maps,
        top: to,
        links: HashMap::new(),
        buffer: vec![0; CHUNK],
        lost: Lost::default(),
    };
    copy.entries(from, to.as_fd(), &mut PathBuf::new())?;
    let attr = lower.view.attr(from).map_err(damaged(Path::new(".")))?;
    copy.dress(to.as_fd(), from, &attr, Path::new("."))?;
    Ok(copy.lost)
}

struct Copy<'a> {
    lower: &'a Lower,
    maps: &'a IdMaps,
    top: &'a OwnedFd,
    /// Files of several names, by the first of them.
    links: HashMap<NodeId, PathBuf>,
    buffer: Vec<u8>,
    lost: Lost,
}

impl Copy<'_> {
    fn entries(&mut self, from: NodeId, to: BorrowedFd<'_>, path: &mut PathBuf) -> Result<()> {
        if path.components().count() > DEEPEST {
            return Err(at(path)("directories lie too deep"));
        }
        let lower = self.lower;
        let entries = lower.view.entries(from).map_err(damaged(path))?;
        for i in 0..entries.len() {
            let entry = entries.get(i).map_err(damaged(path))?;
            let Some((node, kind)) = entry.target else {
                continue;
            };
            // A name has neither slashes nor is it `..`.
            path.push(OsStr::from_bytes(entry.name.as_bytes()));
            failpoint::step().map_err(at(path))?;
            self.one(node, kind, to, OsStr::from_bytes(entry.name.as_bytes()), path)?;
            path.pop();
        }
        Ok(())
    }

    fn one(
        &mut self,
        node: NodeId,
        kind: Kind,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &mut PathBuf,
    ) -> Result<()> {
        let attr = self.lower.view.attr(node).map_err(damaged(path))?;
        if kind != Kind::Directory && attr.nlink > 1 {
            let first = self.links.entry(node).or_insert_with(|| path.clone());
            // Some filesystems have no links: then it becomes a file of its own.
            if first != path && linkat(self.top, &*first, to, name, AtFlags::empty()).is_ok() {
                return Ok(());
            }
        }
        match kind {
            Kind::Directory => {
                mkdirat(to, name, Mode::RWXU).map_err(at(path))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(to, name, flags, Mode::empty()).map_err(at(path))?;
                self.entries(node, made.as_fd(), path)?;
                self.dress(made.as_fd(), node, &attr, path)
            }
            Kind::Regular => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(at(path))?;
                self.content(node, &attr, File::from(made), path)
            }
            Kind::Symlink => {
                let target = self.lower.view.target(node).map_err(damaged(path))?;
                symlinkat(OsStr::from_bytes(target), to, name).map_err(at(path))?;
                self.dress_name(to, name, &attr, path)
            }
            Kind::Fifo | Kind::Socket => {
                let kind = FileType::from_raw_mode(kind.mode_bits());
                mknodat(to, name, kind, Mode::from_raw_mode(u32::from(attr.perm)), 0).map_err(at(path))?;
                self.dress_name(to, name, &attr, path)
            }
            Kind::CharDevice | Kind::BlockDevice => {
                self.lost.devices += 1;
                Ok(())
            }
        }
    }

    fn content(&mut self, node: NodeId, attr: &Attr, to: File, path: &Path) -> Result<()> {
        let view = &self.lower.view;
        for i in 0..view.extent_count(node).map_err(damaged(path))? {
            let extent = view.extent(node, i).map_err(damaged(path))?;
            let layer = usize::try_from(extent.layer)
                .ok()
                .and_then(|at| self.lower.layers.get(at));
            let layer = layer.ok_or_else(|| at(path)("its layer is not there"))?;
            let mut done = 0;
            while done < extent.length {
                let rest = usize::try_from(extent.length - done).unwrap_or(usize::MAX);
                let part = self.buffer.get_mut(..rest.min(CHUNK)).unwrap_or_default();
                layer
                    .bytes
                    .read(extent.tar_offset + done, part)
                    .map_err(damaged(path))?;
                if part.iter().any(|byte| *byte != 0) {
                    to.write_all_at(part, extent.file_offset + done)
                        .map_err(at(path))?;
                }
                done += part.len() as u64;
            }
        }
        ftruncate(&to, attr.size).map_err(at(path))?;
        self.dress(to.as_fd(), node, attr, path)
    }

    /// The owner as far as it exists, and the mode: whoever does not exist has no programs that run as him.
    fn owned(&mut self, attr: &Attr) -> (Uid, Gid, Mode) {
        let (has_user, has_group) = (
            ids::maps(&self.maps.uids, attr.uid),
            ids::maps(&self.maps.gids, attr.gid),
        );
        let mut perm = attr.perm;
        if !(has_user && has_group) {
            self.lost.owners += 1;
            perm &= 0o1777;
        }
        let uid = if has_user { attr.uid } else { 0 };
        let gid = if has_group { attr.gid } else { 0 };
        (
            Uid::from_raw(uid),
            Gid::from_raw(gid),
            Mode::from_raw_mode(u32::from(perm)),
        )
    }

    /// The owner first, since a change of it takes set-id bits and capabilities away.
    fn dress(&mut self, to: BorrowedFd<'_>, node: NodeId, attr: &Attr, path: &Path) -> Result<()> {
        let (uid, gid, mode) = self.owned(attr);
        fchown(to, Some(uid), Some(gid)).map_err(at(path))?;
        fchmod(to, mode).map_err(at(path))?;
        for (name, value) in self.lower.view.xattrs(node).map_err(damaged(path))? {
            match fsetxattr(to, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOSPC | Errno::DQUOT) => return Err(at(path)(Errno::NOSPC)),
                // A filesystem without them, or a name that is the host's.
                Err(_) => {
                    self.lost.attributes += 1;
                    if name == ACCESS {
                        // The mode's bits for the group were what all those of the list may at most.
                        fchmod(to, mode.difference(Mode::RWXG)).map_err(at(path))?;
                    }
                }
            }
        }
        futimens(to, &times(attr)).map_err(at(path))
    }

    /// The same for what cannot be opened.
    fn dress_name(&mut self, to: BorrowedFd<'_>, name: &OsStr, attr: &Attr, path: &Path) -> Result<()> {
        let (uid, gid, _) = self.owned(attr);
        chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(at(path))?;
        utimensat(to, name, &times(attr), AtFlags::SYMLINK_NOFOLLOW).map_err(at(path))
    }
}

fn times(attr: &Attr) -> Timestamps {
    let spec = |time: Time| Timespec {
        tv_sec: time.sec,
        tv_nsec: time.nsec.into(),
    };
    Timestamps {
        last_access: spec(attr.atime),
        last_modification: spec(attr.mtime),
    }
}
