//! What is a file? Its kind, owner, mode, times and numbers, as the index and the journal keep them.

use std::fmt;

/// An inode number as the kernel sees it. 1 is the root; node `n` of the merged index is `n + 1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory, fixed by the FUSE protocol (`FUSE_ROOT_ID`).
    pub const ROOT: Ino = Ino(1);
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The largest file in bytes: what `off_t` can say, in whole pages of 4096.
pub(crate) const MAX_FILE: u64 = i64::MAX as u64 & !4095;

/// The size that `stat` tells of a directory: one block, as on ext4. Nothing depends on it.
pub(crate) const DIRECTORY_SIZE: u64 = 4096;

/// Most room of a file's extended attributes, by [`xattr_room`]: a value of the largest size that Linux has still fits. They lie
/// in the server's memory, which no container may use as a disk. ext4 has 4 KiB for them.
pub(crate) const MAX_XATTRS: usize = 64 * 1024 + 255 + XATTR_EACH;

/// What keeping an extended attribute takes beside its bytes.
const XATTR_EACH: usize = 128;

/// What an extended attribute counts against [`MAX_XATTRS`].
pub(crate) fn xattr_room(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + XATTR_EACH
}

/// The type of a file, with the values of `d_type` in `dirent(3)`, which are `st_mode >> 12`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A named pipe.
    Fifo = 1,
    /// A character device.
    CharDevice = 2,
    /// A directory.
    Directory = 4,
    /// A block device.
    BlockDevice = 6,
    /// A regular file.
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A UNIX socket.
    Socket = 12,
}

impl Kind {
    /// Reads a `d_type` value.
    pub fn from_dtype(value: u8) -> Option<Kind> {
        Some(match value {
            1 => Kind::Fifo,
            2 => Kind::CharDevice,
            4 => Kind::Directory,
            6 => Kind::BlockDevice,
            8 => Kind::Regular,
            10 => Kind::Symlink,
            12 => Kind::Socket,
            _ => return None,
        })
    }

    /// The kind in the upper bits of a `st_mode`.
    pub fn from_mode(mode: u32) -> Option<Kind> {
        Kind::from_dtype(((mode & 0o170000) >> 12) as u8)
    }

    /// The bits of `st_mode` that say this kind (`S_IFMT`).
    pub fn mode_bits(self) -> u32 {
        u32::from(self as u8) << 12
    }
}

/// A point in time: seconds since 1970 (negative before) and 0 ≤ nanoseconds < 10⁹ after that second.
///
/// Packed: an inode has three, of which a writable layer may have millions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
#[repr(Rust, packed(4))]
pub struct Time {
    /// Seconds since the epoch.
    pub sec: i64,
    /// Nanoseconds within the second.
    pub nsec: u32,
}

/// What `stat` tells of a file. Ids are those of the image, hence of the container's user namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its inode number.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// Permission, set-id and sticky bits: `st_mode & 07777`.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names; for a directory 2 + its subdirectories.
    pub nlink: u32,
    /// Device number of a device node as `st_rdev` encodes it in 32 bits (`new_encode_dev`), else 0.
    pub rdev: u32,
    /// Size in bytes; of a symlink the length of its target.
    pub size: u64,
    /// Space that the file occupies, in 512-byte units.
    pub blocks: u64,
    /// Last access. Never moved by reads (documented: noatime), only by `utimensat`.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of content or attributes.
    pub ctime: Time,
}

impl Attr {
    /// The whole `st_mode`: kind and permissions.
    pub fn mode(&self) -> u32 {
        self.kind.mode_bits() | u32::from(self.perm)
    }
}
