//! What does each operation mean? The union filesystem as plain calls, without FUSE: the adapter decodes a request,
//! calls here, and encodes the answer; tests call here without a mount.
//!
//! Ids are the container's. Permissions are not checked here: the kernel does (`default_permissions`); what POSIX
//! wants as a *consequence* of an operation (set-id bits cleared, times moved, group inherited) happens here.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use crate::attr::{Attr, Ino, Kind, Time};
use crate::error::Result;
use crate::index::View;
use crate::name::Name;

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

/// The image below: its merged index, and for each of its layers, lowest first, the tar and its layer index.
#[derive(Debug)]
pub struct Lower {
    /// The merged index.
    pub view: View,
    /// One per [`View::layers`], in that order.
    pub layers: Vec<LowerLayer>,
}

/// A stored layer: its tar, and its own index, which holds the tar's checksums.
#[derive(Debug)]
pub struct LowerLayer {
    /// The tar, opened for reading.
    pub tar: File,
    /// The layer's index.
    pub index: View,
}

/// Limits on what a container may keep, so that a hostile one cannot fill the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Most bytes of data in the upper; `None` is unlimited.
    pub bytes: Option<u64>,
    /// Most inodes in the upper.
    pub inodes: Option<u64>,
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

/// Proof that everything acknowledged before is on the disk. Only the journal makes one.
#[derive(Debug)]
#[must_use = "an fsync is answered with this"]
pub struct Durable(());

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
pub struct Tree {}

#[allow(unused_variables)]
impl Tree {
    /// Opens the writable layer in directory `upper` (made anew if it is empty) over `lower`.
    ///
    /// # Errors
    /// Fails if the journal belongs to another image, is damaged in its middle, or cannot be read.
    pub fn open(lower: Lower, upper: &Path, limits: Limits) -> std::result::Result<Tree, OpenError> {
        todo!()
    }
    /// Finds a name. ENOENT if it is not there.
    pub fn lookup(&self, parent: Ino, name: &Name) -> Result<Attr> {
        todo!()
    }
    /// Counts a lookup that `readdirplus` answered.
    pub fn looked_up(&self, ino: Ino) {}
    /// Takes back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {}
    /// Attributes.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        todo!()
    }
    /// Changes attributes; the new ones come back.
    pub fn setattr(&self, caller: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        todo!()
    }
    /// A symlink's target.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        todo!()
    }
    /// Makes a file that is neither directory nor symlink. `mode` holds kind and permissions; the umask is applied here.
    pub fn mknod(&self, caller: &Caller, parent: Ino, name: &Name, mode: u32, rdev: u32) -> Result<Attr> {
        todo!()
    }
    /// Makes a directory.
    pub fn mkdir(&self, caller: &Caller, parent: Ino, name: &Name, perm: u16) -> Result<Attr> {
        todo!()
    }
    /// Makes a symlink.
    pub fn symlink(&self, caller: &Caller, parent: Ino, name: &Name, target: &[u8]) -> Result<Attr> {
        todo!()
    }
    /// Makes an unnamed regular file in `parent`'s filesystem (O_TMPFILE); `link` can name it.
    pub fn tmpfile(&self, caller: &Caller, parent: Ino, perm: u16) -> Result<Attr> {
        todo!()
    }
    /// Adds a name to a file.
    pub fn link(&self, caller: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        todo!()
    }
    /// Removes a name of anything but a directory.
    pub fn unlink(&self, caller: &Caller, parent: Ino, name: &Name) -> Result<()> {
        todo!()
    }
    /// Removes an empty directory.
    pub fn rmdir(&self, caller: &Caller, parent: Ino, name: &Name) -> Result<()> {
        todo!()
    }
    /// Moves a name.
    pub fn rename(&self, caller: &Caller, from: (Ino, &Name), to: (Ino, &Name), how: Rename) -> Result<()> {
        todo!()
    }
    /// Lists a directory from `cookie` on (0: the start), `.` and `..` first, until `each` breaks.
    pub fn readdir(
        &self,
        ino: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        todo!()
    }
    /// Reads at a byte offset into `out`; fewer bytes only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        todo!()
    }
    /// Writes all of `data` at a byte offset. `kill_priv` as in [`SetAttr::kill_priv`].
    pub fn write(&self, caller: &Caller, ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()> {
        todo!()
    }
    /// Reserves or frees space. Offsets and lengths in bytes.
    pub fn fallocate(
        &self,
        caller: &Caller,
        ino: Ino,
        how: Allocate,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        todo!()
    }
    /// Makes everything acknowledged so far durable: this file's data and all earlier metadata.
    pub fn fsync(&self, ino: Ino) -> Result<Durable> {
        todo!()
    }
    /// The same for all files: what the 5 s timer and unmounting call.
    pub fn sync(&self) -> Result<Durable> {
        todo!()
    }
    /// An extended attribute's value; ENODATA if there is none.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        todo!()
    }
    /// Names of the extended attributes.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        todo!()
    }
    /// Sets an extended attribute.
    pub fn setxattr(
        &self,
        caller: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
    ) -> Result<()> {
        todo!()
    }
    /// Removes an extended attribute; ENODATA if there is none.
    pub fn removexattr(&self, caller: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        todo!()
    }
    /// What `statfs` tells.
    pub fn statfs(&self) -> Result<Space> {
        todo!()
    }
}

/// Why a writable layer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The journal was written over another image.
    #[error("{path}: belongs to another image")]
    OtherImage {
        /// The journal.
        path: String,
    },
    /// Written by another version.
    #[error("{path}: journal of version {version}")]
    Version {
        /// The journal.
        path: String,
        /// What it says.
        version: u32,
    },
    /// A damaged record with good ones behind it.
    #[error("{path}: damaged at byte {offset}")]
    Damaged {
        /// The journal.
        path: String,
        /// Offset of the record in bytes.
        offset: u64,
    },
    /// The merged index is damaged or names other layers than were given.
    #[error("image index: {0}")]
    Lower(String),
}
