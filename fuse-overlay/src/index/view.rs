//! Safe reading of an index file: nothing is parsed at open but the header, and every byte is checked by its block's
//! CRC32C at first touch and by bounds at every access.

use std::fs::File;
use std::path::Path;

use thiserror::Error;

use super::{DiffId, NodeId};
use crate::attr::{Attr, Kind};
use crate::error::Result;
use crate::name::Name;

/// Why an index cannot be used. All but [`LoadError::Io`] mean: build it again from the tars.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Written by another version.
    #[error("index of version {0}, this program writes version {version}", version = super::format::VERSION)]
    Version(u32),
    /// Bytes that no builder writes.
    #[error("damaged index: {0}")]
    Damaged(&'static str),
}

/// How a [`View`] holds the file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Map the file: only for our own files on a local filesystem.
    Map,
    /// Read it into memory: network filesystems, files of other users.
    Read,
}

/// An open index whose header was verified.
#[derive(Debug)]
pub struct View {}

/// A directory's entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a Name,
    /// What it points to; `None` is a whiteout, which only a layer index has.
    pub target: Option<(NodeId, Kind)>,
    /// A layer index's entry that also hides what lies below (a whiteout of the same name stood in the tar).
    pub hides_below: bool,
}

/// A run of a file's bytes in a layer's tar. Offsets and length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Offset in the file.
    pub file_offset: u64,
    /// Length, above 0.
    pub length: u64,
    /// Which of [`View::layers`].
    pub layer: u32,
    /// Offset in that layer's tar.
    pub tar_offset: u64,
}

/// The sorted entries of one directory. `len` is cheap; `get` checks the entry.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    _view: &'a View,
}

// The signatures below are the contract for `union`; errors there are EIO with a log line naming the file.
#[allow(unused_variables)]
impl View {
    /// Opens an index file and verifies its header. `path` is for messages.
    pub fn open(file: File, path: &Path, access: Access) -> std::result::Result<View, LoadError> {
        todo!()
    }
    /// Verifies an index that lies in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> std::result::Result<View, LoadError> {
        todo!()
    }
    /// Diff id (layer) or chain id (merged).
    pub fn source(&self) -> [u8; 32] {
        todo!()
    }
    /// The layers that extents refer to, lowest first.
    pub fn layers(&self) -> Result<Vec<DiffId>> {
        todo!()
    }
    /// Number of nodes.
    pub fn node_count(&self) -> u32 {
        todo!()
    }
    /// Sum of the sizes of all regular files, in bytes.
    pub fn content_size(&self) -> u64 {
        todo!()
    }
    /// A node's attributes; `ino` is node + 1, atime and ctime are its mtime.
    pub fn attr(&self, node: NodeId) -> Result<Attr> {
        todo!()
    }
    /// The directory that holds this directory (the root's is itself).
    pub fn parent(&self, node: NodeId) -> Result<NodeId> {
        todo!()
    }
    /// Finds a name in a directory; ENOTDIR if `dir` is none.
    pub fn lookup(&self, dir: NodeId, name: &Name) -> Result<Option<Entry<'_>>> {
        todo!()
    }
    /// A directory's entries, sorted by name bytes; ENOTDIR if `dir` is none.
    pub fn entries(&self, dir: NodeId) -> Result<Entries<'_>> {
        todo!()
    }
    /// A symlink's target; EINVAL if it is none.
    pub fn target(&self, node: NodeId) -> Result<&[u8]> {
        todo!()
    }
    /// Extended attributes as (name, value), sorted by name.
    pub fn xattrs(&self, node: NodeId) -> Result<Vec<(&[u8], &[u8])>> {
        todo!()
    }
    /// Number of extents of a regular file (0 for others).
    pub fn extent_count(&self, node: NodeId) -> Result<u32> {
        todo!()
    }
    /// The `i`-th extent of a regular file, by file offset.
    pub fn extent(&self, node: NodeId, i: u32) -> Result<Extent> {
        todo!()
    }
    /// CRC32C of the given 64 KiB block of the layer's tar (layer index only).
    pub fn tar_sum(&self, block: u64) -> Result<u32> {
        todo!()
    }
    /// Verifies every block and the whole structure: what `store check` and the fuzzers call.
    pub fn check(&self) -> std::result::Result<(), LoadError> {
        todo!()
    }
}

#[allow(unused_variables)]
impl<'a> Entries<'a> {
    /// How many.
    pub fn len(&self) -> u32 {
        todo!()
    }
    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The `i`-th in name order.
    pub fn get(&self, i: u32) -> Result<Entry<'a>> {
        todo!()
    }
    /// The place of the first entry whose name is not below `name`.
    pub fn lower_bound(&self, name: &Name) -> Result<u32> {
        todo!()
    }
}
