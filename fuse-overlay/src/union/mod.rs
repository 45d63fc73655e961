//! What does each operation mean? The union filesystem as plain calls, without FUSE: the adapter decodes a request,
//! calls here, and encodes the answer; tests call here without a mount.
//!
//! Ids are the container's. Permissions are not checked here: the kernel does (`default_permissions`); what POSIX
//! wants as a *consequence* of an operation (set-id bits cleared, times moved, group inherited) happens here.

pub(crate) mod acl;
mod attr;
mod below;
mod data;
mod device;
mod diff;
mod dir;
mod layer;
mod lookup;
mod rename;
mod tar;
mod xattr;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;

use self::below::Below;
pub use self::diff::{Difference, Differing};
pub use self::layer::Elsewhere;
use crate::attr::{Ino, Kind, Time};
use crate::error::{Error, Result};
use crate::index::View;
use crate::index::view::{Access, LoadError};
use crate::layer::Directory as PlainDirectory;
use crate::ledger::Ledger;
use crate::upper::Upper;
use crate::upper::content::Content;
use crate::upper::directory::Directory;
use crate::upper::inode::{Body, Inode, State};
use crate::upper::journal::format::Image;

pub use crate::upper::{Durable, Limits, OpenError, Released, Storage};

/// How often a journal is looked at that does not make sense, in a row without a change.
const LOOKS: u32 = 10;
/// How often at all: one that somebody writes to without a pause may be met in the middle of a change each time.
const MOST_LOOKS: u32 = 1000;

/// Who asks: ids in the container's user namespace, as FUSE requests carry them.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Filesystem user id.
    pub uid: u32,
    /// Filesystem group id.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: u16,
    /// The request's unique id, kept in the journal; 0 outside FUSE.
    pub unique: u64,
}

/// The image below: its merged index, and its layers, lowest first.
#[derive(Debug)]
pub struct Lower {
    /// The merged index.
    pub view: View,
    /// One per [`View::layers`], in that order.
    pub layers: Vec<LowerLayer>,
}

impl Lower {
    /// Descriptors by which another process can open the same image, whatever became of its files' names; and how their
    /// indexes are held: the merged index, then of each layer tar and index, or directory, index and list of files.
    ///
    /// # Errors
    /// The system call's; EBADF if an index, or the list of a directory's files, was not opened from a file.
    pub fn descriptors(&self) -> io::Result<(Vec<OwnedFd>, Access)> {
        let none = || io::Error::from(Errno::EBADF);
        let index = |view: &View| {
            let (file, access) = view.file().ok_or_else(none)?;
            Ok::<_, io::Error>((OwnedFd::from(file.try_clone()?), access))
        };
        let (merged, access) = index(&self.view)?;
        let mut all = vec![merged];
        for layer in &self.layers {
            let (index, _) = index(&layer.index)?;
            match &layer.bytes {
                LayerBytes::Tar(tar) => all.extend([tar.try_clone()?.into(), index]),
                LayerBytes::Directory(directory) => {
                    let list = directory.list().ok_or_else(none)?.try_clone()?.into();
                    all.extend([directory.root().try_clone()?, index, list]);
                }
            }
        }
        Ok((all, access))
    }

    /// The directories among the layers, beneath which files are opened when they are read.
    pub fn directories(&self) -> impl Iterator<Item = &PlainDirectory> {
        self.layers.iter().filter_map(|layer| match &layer.bytes {
            LayerBytes::Tar(_) => None,
            LayerBytes::Directory(directory) => Some(directory),
        })
    }

    /// Opens an image by what [`Lower::descriptors`] gave.
    ///
    /// # Errors
    /// An index or a list cannot be used, or descriptors are missing.
    pub fn from_descriptors(
        descriptors: Vec<OwnedFd>,
        access: Access,
    ) -> std::result::Result<Lower, LoadError> {
        let mut files = descriptors.into_iter().map(File::from);
        let there = |file: Option<File>| file.ok_or_else(|| io::Error::from(Errno::EBADF));
        let open = |file| View::open(there(file)?, Path::new("(an inherited index)"), access);
        let view = open(files.next())?;
        let mut layers = Vec::new();
        while let Some(bytes) = files.next() {
            let index = open(files.next())?;
            layers.push(match index.is_directory() {
                false => LowerLayer::tar(bytes, index),
                true => {
                    let directory = PlainDirectory::listed(bytes.into(), there(files.next())?)?;
                    LowerLayer::directory(directory, index)
                }
            });
        }
        Ok(Lower { view, layers })
    }
}

/// A layer: where its bytes lie, and its own index, which holds the checksums of a tar.
#[derive(Debug)]
pub struct LowerLayer {
    /// Where its files' bytes lie.
    pub bytes: LayerBytes,
    /// The layer's index.
    pub index: View,
}

/// Where the bytes of a layer's files lie.
#[derive(Debug)]
pub enum LayerBytes {
    /// In its tar, opened for reading.
    Tar(File),
    /// In the files of a plain directory.
    Directory(PlainDirectory),
}

impl LayerBytes {
    /// Reads all of `out` from an extent, at an offset as extents have it. The checksums of a tar are not asked.
    ///
    /// # Errors
    /// Reading fails; a directory's file is not as it was scanned.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match self {
            LayerBytes::Tar(tar) => Ok(tar.read_exact_at(out, offset)?),
            LayerBytes::Directory(directory) => directory.read(offset, out),
        }
    }
}

impl LowerLayer {
    /// A stored tar and its index.
    pub fn tar(tar: File, index: View) -> LowerLayer {
        let bytes = LayerBytes::Tar(tar);
        LowerLayer { bytes, index }
    }

    /// A scanned directory and its index.
    pub fn directory(directory: PlainDirectory, index: View) -> LowerLayer {
        let bytes = LayerBytes::Directory(directory);
        LowerLayer { bytes, index }
    }
}

/// A change of attributes; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission, set-id and sticky bits.
    pub perm: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes: cut, or extended by zeros.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Change time, which the kernel sends under writeback caching.
    pub ctime: Option<Time>,
    /// Clear set-uid, set-gid and `security.capability`, as truncation and chown by the unprivileged must.
    pub kill_priv: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The present, by the coarse clock.
    Now,
    /// This one.
    At(Time),
}

/// How `rename` treats an existing target (renameat2(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// Replace it.
    Replace,
    /// EEXIST.
    NoReplace,
    /// Swap the two.
    Exchange,
    /// Replace it, and leave a whiteout (a 0/0 character device) at the source.
    Whiteout,
    /// EEXIST; else leave a whiteout at the source.
    WhiteoutNoReplace,
}

impl Rename {
    /// Whether an existing target is an error.
    pub fn spares_target(self) -> bool {
        matches!(self, Rename::NoReplace | Rename::WhiteoutNoReplace)
    }

    /// Whether a whiteout takes the source's place.
    pub fn leaves_whiteout(self) -> bool {
        matches!(self, Rename::Whiteout | Rename::WhiteoutNoReplace)
    }
}

/// How `setxattr` treats an existing value (setxattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetXattr {
    /// Create or replace.
    Any,
    /// EEXIST if it is there.
    Create,
    /// ENODATA if it is not.
    Replace,
    /// EEXIST if it is there, ENODATA if it is not: both flags at once, as ext4 takes them.
    Never,
}

/// What happens to the set-group-id bit of a file that gets an access list: who is not in its group, and has no
/// CAP_FSETID, must not keep it. The kernel knows which (`SETXATTR_ACL_KILL_SGID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetGroupId {
    /// It stays.
    Keep,
    /// It is cleared.
    Clear,
}

/// What `fallocate` does (fallocate(2)); all else is EOPNOTSUPP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve space, growing the file.
    Grow,
    /// Reserve space, size kept.
    KeepSize,
    /// Free the range; it reads as zeros. Size kept.
    PunchHole,
    /// Make the range read as zeros, growing the file.
    ZeroGrow,
    /// Make the range read as zeros, size kept.
    ZeroKeepSize,
}

/// An entry as `readdir` gives it.
#[derive(Debug)]
pub struct Listed<'a> {
    /// Where to go on after this entry; stable while names come and go.
    pub cookie: u64,
    /// `.` and `..` included, hence plain bytes.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
}

/// `statfs(2)` numbers; blocks of 4096 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// All blocks, free blocks, blocks for ordinary users.
    pub blocks: [u64; 3],
    /// All inodes, free inodes.
    pub inodes: [u64; 2],
}

/// The union of an image and a writable layer.
///
/// Safe to call from many threads. Lookup counts: every successful `lookup`, `mknod`, `mkdir`, `symlink`, `link` and
/// `tmpfile`, and each [`Tree::looked_up`], adds one to the inode's count; [`Tree::forget`] takes them back. An
/// inode without names lives while its count is above zero.
#[derive(Debug)]
pub struct Tree {
    below: Below,
    upper: Upper,
    /// Held while a name moves between directories, so that no two moves can make a loop.
    moving: Mutex<()>,
}

impl Tree {
    /// Opens the writable layer in directory `upper` (made anew if it is empty) over `lower`.
    ///
    /// # Errors
    /// Fails if the journal belongs to another image, is damaged in its middle, or cannot be read.
    pub fn open(lower: Lower, upper: &Path, limits: Limits) -> std::result::Result<Tree, OpenError> {
        Tree::open_on(lower, Storage::open(upper)?, limits)
    }

    /// Opens the writable layer in directory `upper` as it is now, to be looked at: another process may be writing to it.
    /// Then its journal is looked at again when its end does not make sense, over a fresh `lower` each time.
    ///
    /// # Errors
    /// As [`Tree::open`], and what `lower` fails with.
    pub fn snapshot<E: From<OpenError>>(
        upper: &Path,
        lower: impl FnMut() -> std::result::Result<Lower, E>,
    ) -> std::result::Result<Tree, E> {
        Tree::look(upper, lower, Storage::snapshot)
    }

    /// The same; as long as the tree lives, all of its files are as they are now, whatever the other process writes.
    ///
    /// # Errors
    /// As [`Tree::snapshot`].
    pub fn frozen<E: From<OpenError>>(
        upper: &Path,
        lower: impl FnMut() -> std::result::Result<Lower, E>,
    ) -> std::result::Result<Tree, E> {
        Tree::look(upper, lower, Storage::held)
    }

    fn look<E: From<OpenError>>(
        upper: &Path,
        mut lower: impl FnMut() -> std::result::Result<Lower, E>,
        storage: impl Fn(&Path) -> std::result::Result<Storage, OpenError>,
    ) -> std::result::Result<Tree, E> {
        let written = || std::fs::metadata(upper.join("journal")).and_then(|meta| meta.modified());
        let (mut all, mut unchanged, mut last) = (0, 0, None);
        loop {
            let lower = lower()?;
            let opened = storage(upper).and_then(|storage| Tree::open_on(lower, storage, Limits::default()));
            match opened {
                // A record that was half written when it was read, and others behind it that were written since.
                Err(OpenError::Damaged { .. }) if all < MOST_LOOKS && unchanged < LOOKS => {
                    std::thread::sleep(Duration::from_millis(5));
                    let now = written().ok();
                    unchanged = if now == last { unchanged + 1 } else { 0 };
                    (all, last) = (all + 1, now);
                }
                opened => return Ok(opened?),
            }
        }
    }

    /// Opens the writable layer in `storage` over `lower`.
    ///
    /// # Errors
    /// As [`Tree::open`].
    pub fn open_on(lower: Lower, storage: Storage, limits: Limits) -> std::result::Result<Tree, OpenError> {
        let alone = Ledger::alone().map_err(|source| OpenError::Io {
            path: "the lookup counts' memory".to_owned(),
            source,
        })?;
        Tree::open_under(lower, storage, limits, &alone)
    }

    /// The same under a ledger. If another server has used it, the tree goes on where that one was killed: inodes that the
    /// kernel holds are there, also those without names.
    ///
    /// # Errors
    /// As [`Tree::open`].
    pub fn open_under(
        lower: Lower,
        storage: Storage,
        limits: Limits,
        ledger: &Ledger,
    ) -> std::result::Result<Tree, OpenError> {
        let below = Below::new(lower)?;
        let image = Image {
            chain_id: below.view().source(),
            node_count: below.view().node_count(),
            index_sum: below.view().checksum(),
        };
        let upper = Upper::open(storage, image, limits, ledger, &|ino| below.copy_up(ino))?;
        Ok(Tree {
            below,
            upper,
            moving: Mutex::new(()),
        })
    }

    /// What it was opened under.
    pub(crate) fn ledger(&self) -> &Ledger {
        self.upper.ledger()
    }

    /// Had the FUSE request `unique`, which the ledger has in hand, changed something before this server took over from
    /// another? If so, the inode that it made, if it made one.
    pub fn happened(&self, unique: u64) -> Option<Option<Ino>> {
        self.upper.happened(unique)
    }

    /// The inode, if the upper knows it. EIO if it cannot be read.
    fn known(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        self.upper.find(ino, &|ino| self.below.copy_up(ino))
    }

    /// The inode for changing it: an image's one is taken into the upper, as it is.
    fn inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        self.upper.find_or(ino, &|ino| self.below.copy_up(ino))
    }

    /// Runs an operation; if there is no space, once more after freed space was given back.
    fn with_space<T>(&self, operation: impl FnMut() -> Result<T>) -> Result<T> {
        self.upper.with_space(operation)
    }
}

impl State {
    /// ENOTDIR if it is none; ENOENT if it was removed.
    fn directory(&self) -> Result<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Error(Errno::ENOTDIR)),
        }
    }

    /// EISDIR for a directory, EINVAL for all else that has no content.
    fn content(&self) -> Result<&Content> {
        match &self.body {
            Body::Regular(content) => Ok(content),
            Body::Directory(_) => Err(Error(Errno::EISDIR)),
            _ => Err(Error(Errno::EINVAL)),
        }
    }
}

/// What an operation finds locked must be there: it locked it. A miss is a bug here, and costs one request.
fn held<T>(found: Option<T>) -> Result<T> {
    found.ok_or(Error(Errno::EIO))
}

/// The present, by the coarse clock: as the kernel stamps files, so that times of both can be compared.
fn now() -> Time {
    let Ok(now) = nix::time::ClockId::CLOCK_REALTIME_COARSE.now() else {
        return Time::default();
    };
    Time {
        sec: now.tv_sec(),
        nsec: u32::try_from(now.tv_nsec()).unwrap_or(0),
    }
}
