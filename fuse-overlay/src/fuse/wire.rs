//! The bytes of the FUSE protocol as `linux/fuse.h` draws them: host byte order, fixed sizes, no meaning yet.
//!
//! Only what we read or send is here. The kernel's names are kept, less their `fuse_` and `FUSE_`.

use std::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The protocol's major version; there has only been this one since 2006.
pub(super) const MAJOR: u32 = 7;
/// The minor version we speak. Features are agreed on by flags, so a newer kernel changes nothing.
pub(super) const MINOR: u32 = 40;

/// What a request asks for (`enum fuse_opcode`); those that we never answer are not listed.
pub(super) mod opcode {
    pub(in super::super) const LOOKUP: u32 = 1;
    pub(in super::super) const FORGET: u32 = 2;
    pub(in super::super) const GETATTR: u32 = 3;
    pub(in super::super) const SETATTR: u32 = 4;
    pub(in super::super) const READLINK: u32 = 5;
    pub(in super::super) const SYMLINK: u32 = 6;
    pub(in super::super) const MKNOD: u32 = 8;
    pub(in super::super) const MKDIR: u32 = 9;
    pub(in super::super) const UNLINK: u32 = 10;
    pub(in super::super) const RMDIR: u32 = 11;
    pub(in super::super) const RENAME: u32 = 12;
    pub(in super::super) const LINK: u32 = 13;
    pub(in super::super) const READ: u32 = 15;
    pub(in super::super) const WRITE: u32 = 16;
    pub(in super::super) const STATFS: u32 = 17;
    pub(in super::super) const RELEASE: u32 = 18;
    pub(in super::super) const FSYNC: u32 = 20;
    pub(in super::super) const SETXATTR: u32 = 21;
    pub(in super::super) const GETXATTR: u32 = 22;
    pub(in super::super) const LISTXATTR: u32 = 23;
    pub(in super::super) const REMOVEXATTR: u32 = 24;
    pub(in super::super) const INIT: u32 = 26;
    pub(in super::super) const READDIR: u32 = 28;
    pub(in super::super) const FSYNCDIR: u32 = 30;
    pub(in super::super) const DESTROY: u32 = 38;
    pub(in super::super) const NOTIFY_REPLY: u32 = 41;
    pub(in super::super) const BATCH_FORGET: u32 = 42;
    pub(in super::super) const FALLOCATE: u32 = 43;
    pub(in super::super) const READDIRPLUS: u32 = 44;
    pub(in super::super) const RENAME2: u32 = 45;
    pub(in super::super) const TMPFILE: u32 = 51;
}

/// `fuse_setattr_in.valid`: which fields of it hold.
pub(super) mod fattr {
    pub(in super::super) const MODE: u32 = 1 << 0;
    pub(in super::super) const UID: u32 = 1 << 1;
    pub(in super::super) const GID: u32 = 1 << 2;
    pub(in super::super) const SIZE: u32 = 1 << 3;
    pub(in super::super) const ATIME: u32 = 1 << 4;
    pub(in super::super) const MTIME: u32 = 1 << 5;
    pub(in super::super) const FH: u32 = 1 << 6;
    pub(in super::super) const ATIME_NOW: u32 = 1 << 7;
    pub(in super::super) const MTIME_NOW: u32 = 1 << 8;
    pub(in super::super) const LOCKOWNER: u32 = 1 << 9;
    pub(in super::super) const CTIME: u32 = 1 << 10;
    pub(in super::super) const KILL_SUIDGID: u32 = 1 << 11;
}

/// `fuse_write_in.write_flags`: the writer may not keep set-id bits.
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `fuse_write_in.write_flags`: pages of the kernel's, whose writer has had its answer.
pub(super) const WRITE_CACHE: u32 = 1 << 0;
/// `fuse_getattr_in.getattr_flags`: asked on behalf of an open file.
pub(super) const GETATTR_FH: u32 = 1 << 0;
/// `fuse_setxattr_in.setxattr_flags`: setting this access ACL clears the set-group-id bit.
pub(super) const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
/// `fuse_out_header.error` of a message that answers no request: forget an inode's attributes.
pub(super) const NOTIFY_INVAL_INODE: i32 = 2;
/// `fuse_open_out.open_flags`: keep the page cache of earlier opens.
pub(super) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// `fuse_open_out.open_flags`: no FLUSH at close.
pub(super) const FOPEN_NOFLUSH: u32 = 1 << 5;

/// Declares wire structs, and asserts at compile time that each has the size that the kernel gives it.
macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident = $size:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(super) struct $name { $(pub(super) $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

wire! {
    /// Opens every request.
    InHeader = 40 {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16,
    }
    /// Opens every reply. `error` is 0 or a negated errno, and then nothing follows.
    OutHeader = 16 { len: u32, error: i32, unique: u64 }
    InitIn = 64 { major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11] }
    InitOut = 64 {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16,
        congestion_threshold: u16, max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16,
        flags2: u32, max_stack_depth: u32, unused: [u32; 6],
    }
    Attr = 88 {
        ino: u64, size: u64, blocks: u64, atime: i64, mtime: i64, ctime: i64, atimensec: u32, mtimensec: u32,
        ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    /// A name's inode. `nodeid` 0 says that there is none, which is cached as well.
    EntryOut = 128 {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32,
        attr_valid_nsec: u32, attr: Attr,
    }
    AttrOut = 104 { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    InvalInodeOut = 24 { ino: u64, off: i64, len: i64 }
    OpenOut = 16 { fh: u64, open_flags: u32, backing_id: u32 }
    GetAttrIn = 16 { getattr_flags: u32, dummy: u32, fh: u64 }
    ForgetIn = 8 { nlookup: u64 }
    BatchForgetIn = 8 { count: u32, dummy: u32 }
    ForgetOne = 16 { nodeid: u64, nlookup: u64 }
    SetAttrIn = 88 {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: i64, mtime: i64, ctime: i64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    MknodIn = 16 { mode: u32, rdev: u32, umask: u32, padding: u32 }
    MkdirIn = 8 { mode: u32, umask: u32 }
    CreateIn = 16 { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    RenameIn = 8 { newdir: u64 }
    Rename2In = 16 { newdir: u64, flags: u32, padding: u32 }
    LinkIn = 8 { oldnodeid: u64 }
    /// READ, READDIR and READDIRPLUS.
    ReadIn = 40 {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    WriteIn = 40 {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    WriteOut = 8 { size: u32, padding: u32 }
    FallocateIn = 32 { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    /// As long as this only under SETXATTR_EXT.
    SetXattrIn = 16 { size: u32, flags: u32, setxattr_flags: u32, padding: u32 }
    GetXattrIn = 8 { size: u32, padding: u32 }
    GetXattrOut = 8 { size: u32, padding: u32 }
    StatfsOut = 80 {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32, frsize: u32,
        padding: u32, spare: [u32; 6],
    }
    /// Followed by the name, padded with zeros to 8 bytes.
    Dirent = 24 { ino: u64, off: u64, namelen: u32, kind: u32 }
}
