//! The bytes of an index file, version 1; `ARCHITECTURE.md` draws them.
//!
//! Every struct is plain little-endian bytes without padding, so a mapped file can be viewed as them. Nothing read
//! through them is believed before [`super::view`] has checked it.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of every index file.
pub const MAGIC: [u8; 8] = *b"BRYOIDX1";
/// Raised with every change of meaning; another version is rebuilt, never guessed at.
pub const VERSION: u32 = 1;
/// Bytes covered by one checksum, in the index itself and in the tar.
pub const BLOCK: u64 = 64 * 1024;
/// Sections start on multiples of this.
pub const ALIGN: u64 = 64;

/// [`Header::kind`]: the tree of one tar, whiteouts kept.
pub const KIND_LAYER: u32 = 1;
/// [`Header::kind`]: the tree of a stack, whiteouts resolved.
pub const KIND_MERGED: u32 = 2;
/// [`Header::kind`]: the tree of a plain directory, whiteouts kept; its extents lie in the directory's files.
pub const KIND_DIRECTORY: u32 = 3;

/// Where a section lies: offset in bytes from the file's start, and its length in bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Section {
    /// Offset in the file.
    pub offset: U64,
    /// Length in bytes.
    pub length: U64,
}

/// The first 4096 bytes; what follows this struct is zero.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// [`KIND_LAYER`], [`KIND_MERGED`] or [`KIND_DIRECTORY`].
    pub kind: U32,
    /// Diff id of the layer, or chain id of the stack.
    pub source: [u8; 32],
    /// Size of the layer's tar in bytes, of a directory that of all its files; 0 in a merged index.
    pub tar_size: U64,
    /// Number of [`Node`]s.
    pub nodes: Section,
    /// [`Entry`] runs.
    pub entries: Section,
    /// [`Extent`] runs.
    pub extents: Section,
    /// Names, targets, xattrs.
    pub blob: Section,
    /// Diff ids, 32 bytes each, lowest first.
    pub layers: Section,
    /// CRC32C per [`BLOCK`] of the tar.
    pub tar_sums: Section,
    /// CRC32C per [`BLOCK`] of the file from offset 4096 to here.
    pub block_sums: Section,
    /// Sum of the sizes of all regular files, each node once.
    pub content_size: U64,
    /// CRC32C of the block sums section: with the header's own sum it pins the whole file.
    pub sums_crc: U32,
    /// CRC32C of the header up to here.
    pub header_crc: U32,
}

impl Header {
    /// The checksum that [`Header::header_crc`] should hold.
    pub fn own_crc(&self) -> u32 {
        let covered = &self.as_bytes()[..offset_of!(Header, header_crc)];
        crc32c::crc32c(covered)
    }
}

/// Bytes that the header takes in the file.
pub const HEADER_SIZE: u64 = 4096;

/// [`Node::flags`]: an opaque directory (layer index only).
pub const FLAG_OPAQUE: u16 = 1;
/// [`Node::flags`]: a directory that no tar entry named, made because something lies in it (layer index only).
pub const FLAG_IMPLIED: u16 = 2;
/// [`Node::flags`]: a hard link to a path of a layer below; the blob holds the path (layer index only).
pub const FLAG_LINK_BELOW: u16 = 4;

/// One inode.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Node {
    /// `st_mode`: kind and permissions.
    pub mode: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Number of entries that point here; of a directory 2 + its subdirectories.
    pub nlink: U32,
    /// Device number, as in [`crate::attr::Attr::rdev`].
    pub rdev: U32,
    /// The directory that holds a directory; of other nodes the directory of their first entry.
    pub parent: U32,
    /// Size in bytes.
    pub size: U64,
    /// Seconds of the modification time.
    pub mtime_sec: I64,
    /// Nanoseconds of the modification time.
    pub mtime_nsec: U32,
    /// `FLAG_*`.
    pub flags: U16,
    /// Number of extended attributes.
    pub xattr_count: U16,
    /// Directory: first [`Entry`]. Regular file: first [`Extent`]. Symlink, link below: offset of the target in the blob.
    pub first: U64,
    /// Directory: entries. Regular file: extents. Symlink, link below: length of the target in bytes.
    pub count: U32,
    /// Reserved, zero.
    pub reserved: U32,
    /// Offset in the blob of the extended attributes: `{name length u16, value length u32, name, value}` each.
    pub xattrs: U64,
}

/// [`Entry::kind`] of a whiteout, whose node is [`NO_NODE`] (layer index only).
pub const ENTRY_WHITEOUT: u8 = 0;
/// [`Entry::node`] of a whiteout.
pub const NO_NODE: u32 = u32::MAX;

/// A name in a directory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Entry {
    /// Offset of the name in the blob.
    pub name: U64,
    /// The node it points to.
    pub node: U32,
    /// Length of the name in bytes.
    pub name_len: U16,
    /// Kind of the node as in `d_type`, or [`ENTRY_WHITEOUT`].
    pub kind: u8,
    /// [`ENTRY_HIDES_BELOW`] or 0.
    pub flags: u8,
}

/// [`Entry::flags`]: the tar also whites this name out, so a directory does not show what lies below it.
pub const ENTRY_HIDES_BELOW: u8 = 1;

/// A run of a file's bytes in a tar.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extent {
    /// Offset in the file, in bytes.
    pub file_offset: U64,
    /// Length in bytes, above 0.
    pub length: U64,
    /// Offset in the tar, in bytes.
    pub tar_offset: U64,
    /// Which of the index's layers, 0 the lowest.
    pub layer: U32,
    /// Reserved, zero.
    pub reserved: U32,
}

impl From<&super::view::Extent> for Extent {
    fn from(extent: &super::view::Extent) -> Extent {
        Extent {
            file_offset: extent.file_offset.into(),
            length: extent.length.into(),
            tar_offset: extent.tar_offset.into(),
            layer: extent.layer.into(),
            reserved: 0.into(),
        }
    }
}

const _: () = assert!(size_of::<Section>() == 16);
const _: () = assert!(size_of::<Header>() == 8 + 4 + 4 + 32 + 8 + 7 * 16 + 8 + 4 + 4);
const _: () = assert!(offset_of!(Header, header_crc) == size_of::<Header>() - 4);
const _: () = assert!(size_of::<Node>() == 72);
const _: () = assert!(size_of::<Entry>() == 16);
const _: () = assert!(size_of::<Extent>() == 32);
