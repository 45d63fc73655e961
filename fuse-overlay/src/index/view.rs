//! Safe reading of an index file: nothing is parsed at open but the header, and every byte is checked by its block's
//! CRC32C at first touch and by bounds at every access.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::build::Marks;
use super::format::{self, BLOCK, HEADER_SIZE, Header, Section};
use super::{DiffId, NodeId, check};
use crate::attr::{Attr, DIRECTORY_SIZE, Ino, Kind, Time};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::sys::Mapping;

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
///
/// Every method that finds bytes which no builder writes, a block with a wrong checksum, or a page that was lost since the
/// file was mapped, fails with EIO and logs the file's name. What lies elsewhere in the file can still be read.
#[derive(Debug)]
pub struct View {
    bytes: Bytes,
    header: Header,
    /// One bit per block: its checksum was right when it was first touched.
    checked: Box<[AtomicU64]>,
    /// For messages.
    path: PathBuf,
    file: Option<File>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mapping),
    Owned(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(mapping) => mapping.bytes(),
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// Was any of these bytes, which lie in the file, lost since it was mapped?
    fn is_lost(&self, bytes: &[u8]) -> bool {
        match self {
            Bytes::Mapped(mapping) => {
                let start = bytes.as_ptr().addr().checked_sub(mapping.bytes().as_ptr().addr());
                start.is_some_and(|start| mapping.is_lost(start..start + bytes.len()))
            }
            Bytes::Owned(_) => false,
        }
    }
}

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

impl View {
    /// Opens an index file and verifies its header. `path` is for messages.
    pub fn open(file: File, path: &Path, access: Access) -> std::result::Result<View, LoadError> {
        let mapped = match access {
            // Too many mappings, or a filesystem that cannot map: reading does as well.
            Access::Map => Mapping::new(&file).ok(),
            Access::Read => None,
        };
        let bytes = match mapped {
            Some(mapping) => Bytes::Mapped(mapping),
            None => {
                // From the start, wherever another owner of the same open file has left off.
                let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(length).map_err(io::Error::other)?;
                bytes.resize(length, 0);
                file.read_exact_at(&mut bytes, 0)?;
                Bytes::Owned(bytes)
            }
        };
        let mut view = View::new(bytes, path)?;
        view.file = Some(file);
        Ok(view)
    }

    /// The file, if it was opened from one, and how it is held.
    pub fn file(&self) -> Option<(&File, Access)> {
        let access = match self.bytes {
            Bytes::Mapped(_) => Access::Map,
            Bytes::Owned(_) => Access::Read,
        };
        self.file.as_ref().map(|file| (file, access))
    }

    /// Verifies an index that lies in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> std::result::Result<View, LoadError> {
        View::new(Bytes::Owned(bytes), Path::new("(memory)"))
    }

    fn new(bytes: Bytes, path: &Path) -> std::result::Result<View, LoadError> {
        let header = check::header(bytes.all())?;
        if bytes.is_lost(bytes.all().get(..HEADER_SIZE as usize).unwrap_or_default()) {
            return Err(LoadError::Io(Errno::EIO.into()));
        }
        let blocks = header.block_sums.length.get() / size_of::<u32>() as u64;
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(View {
            bytes,
            header,
            checked,
            path: path.to_owned(),
            file: None,
        })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Diff id (layer) or chain id (merged).
    pub fn source(&self) -> [u8; 32] {
        self.header.source
    }

    /// The header's checksum, which pins the whole file: another numbering of nodes has another.
    pub fn checksum(&self) -> u32 {
        self.header.header_crc.get()
    }

    /// Is this the index of one tar, with its whiteouts?
    pub fn is_layer(&self) -> bool {
        self.header.kind.get() != format::KIND_MERGED
    }

    /// Is this the index of a plain directory?
    pub fn is_directory(&self) -> bool {
        self.header.kind.get() == format::KIND_DIRECTORY
    }

    /// Size in bytes of the layer's tar; 0 for a merged index.
    pub fn tar_size(&self) -> u64 {
        self.header.tar_size.get()
    }

    /// The layers that extents refer to, lowest first.
    pub fn layers(&self) -> Result<Vec<DiffId>> {
        Ok(self
            .records::<[u8; 32]>(self.header.layers)?
            .iter()
            .map(|&id| DiffId(id))
            .collect())
    }

    /// Number of nodes.
    pub fn node_count(&self) -> u32 {
        // `check::header` has seen that it fits.
        (self.header.nodes.length.get() / size_of::<format::Node>() as u64) as u32
    }

    /// Sum of the sizes of all regular files, in bytes.
    pub fn content_size(&self) -> u64 {
        self.header.content_size.get()
    }

    /// A node's attributes; `ino` is node + 1, atime and ctime are its mtime.
    pub fn attr(&self, node: NodeId) -> Result<Attr> {
        let record = self.node(node)?;
        let kind = self.kind_of(&record)?;
        let mtime = Time {
            sec: record.mtime_sec.get(),
            nsec: record.mtime_nsec.get(),
        };
        if mtime.nsec >= 1_000_000_000 {
            return Err(self.damaged("nanoseconds"));
        }
        let (size, blocks) = match kind {
            Kind::Directory => (DIRECTORY_SIZE, DIRECTORY_SIZE / 512),
            Kind::Regular => (record.size.get(), self.occupied(&record)?),
            _ => (record.size.get(), 0),
        };
        let attr = Attr {
            ino: Ino(u64::from(node.0) + 1),
            kind,
            perm: (record.mode.get() & 0o7777) as u16,
            uid: record.uid.get(),
            gid: record.gid.get(),
            nlink: record.nlink.get(),
            rdev: record.rdev.get(),
            size,
            blocks,
            atime: mtime,
            mtime,
            ctime: mtime,
        };
        Ok(attr)
    }

    /// The space of a file in 512-byte units, whole pages per extent.
    fn occupied(&self, record: &format::Node) -> Result<u64> {
        let pages = |extent: &format::Extent| extent.length.get().div_ceil(4096);
        let extents = self.extents_of(record)?;
        let pages = extents
            .iter()
            .fold(0u64, |sum, extent| sum.saturating_add(pages(extent)));
        self.intact(extents.as_bytes())?;
        Ok(pages.saturating_mul(8))
    }

    /// A node's kind.
    pub fn kind(&self, node: NodeId) -> Result<Kind> {
        self.kind_of(&self.node(node)?)
    }

    /// The directory that holds this directory (the root's is itself); of another node the directory of its first name.
    pub fn parent(&self, node: NodeId) -> Result<NodeId> {
        let parent = NodeId(self.node(node)?.parent.get());
        self.node(parent)?;
        Ok(parent)
    }

    /// Marks of a directory that only a layer index has.
    pub fn marks(&self, node: NodeId) -> Result<Marks> {
        let flags = self.node(node)?.flags.get();
        Ok(Marks {
            opaque: flags & format::FLAG_OPAQUE != 0,
            implied: flags & format::FLAG_IMPLIED != 0,
        })
    }

    /// If the node of a layer index is a hard link to a path of the layers below: that path.
    pub fn link_below(&self, node: NodeId) -> Result<Option<&[u8]>> {
        let record = self.node(node)?;
        if record.flags.get() & format::FLAG_LINK_BELOW == 0 {
            return Ok(None);
        }
        self.blob(record.first.get(), u64::from(record.count.get()))
            .map(Some)
    }

    /// Finds a name in a directory; ENOTDIR if `dir` is none.
    pub fn lookup(&self, dir: NodeId, name: &Name) -> Result<Option<Entry<'_>>> {
        let entries = self.entries(dir)?;
        let place = entries.lower_bound(name)?;
        if place == entries.len() {
            return Ok(None);
        }
        let entry = entries.get(place)?;
        Ok((entry.name == name).then_some(entry))
    }

    /// A directory's entries, sorted by name bytes; ENOTDIR if `dir` is none.
    pub fn entries(&self, dir: NodeId) -> Result<Entries<'_>> {
        let record = self.node(dir)?;
        if self.kind_of(&record)? != Kind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        let (first, count) = (record.first.get(), record.count.get());
        let run = self.run::<format::Entry>(self.header.entries, first, count)?;
        Ok(Entries { view: self, run })
    }

    /// A symlink's target; EINVAL if it is none.
    pub fn target(&self, node: NodeId) -> Result<&[u8]> {
        let record = self.node(node)?;
        if self.kind_of(&record)? != Kind::Symlink {
            return Err(Errno::EINVAL.into());
        }
        self.blob(record.first.get(), u64::from(record.count.get()))
    }

    /// Extended attributes as (name, value), sorted by name.
    pub fn xattrs(&self, node: NodeId) -> Result<Vec<(&[u8], &[u8])>> {
        let record = self.node(node)?;
        let mut at = record.xattrs.get();
        let mut xattrs = Vec::new();
        for _ in 0..record.xattr_count.get() {
            let &[n0, n1, v0, v1, v2, v3] = self.blob(at, 6)? else {
                return Err(self.damaged("xattrs"));
            };
            let name_len = u64::from(u16::from_le_bytes([n0, n1]));
            let value_len = u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
            // No sum of three lengths inside the blob overflows.
            let name = self.blob(at + 6, name_len)?;
            let value = self.blob(at + 6 + name_len, value_len)?;
            xattrs.push((name, value));
            at += 6 + name_len + value_len;
        }
        Ok(xattrs)
    }

    /// Number of extents of a regular file (0 for others).
    pub fn extent_count(&self, node: NodeId) -> Result<u32> {
        let record = self.node(node)?;
        Ok(self.extents_of(&record)?.len() as u32)
    }

    /// The `i`-th extent of a regular file, by file offset.
    pub fn extent(&self, node: NodeId, i: u32) -> Result<Extent> {
        let record = self.node(node)?;
        let raw = self
            .extents_of(&record)?
            .get(i as usize)
            .ok_or_else(|| self.damaged("extent"))?;
        let extent = Extent {
            file_offset: raw.file_offset.get(),
            length: raw.length.get(),
            layer: raw.layer.get(),
            tar_offset: raw.tar_offset.get(),
        };
        let end = extent.file_offset.checked_add(extent.length);
        let known_layer = u64::from(extent.layer) < self.header.layers.length.get() / 32;
        let sound = end.is_some_and(|end| end <= record.size.get())
            && extent.tar_offset.checked_add(extent.length).is_some()
            && extent.length > 0
            && known_layer;
        self.intact(raw.as_bytes())?;
        if sound {
            Ok(extent)
        } else {
            Err(self.damaged("extent"))
        }
    }

    /// CRC32C of the given 64 KiB block of the layer's tar (layer index only).
    pub fn tar_sum(&self, block: u64) -> Result<u32> {
        let sums = self.header.tar_sums;
        let record = self.run::<zerocopy::little_endian::U32>(sums, block, 1)?;
        let sum = record.first().map(|sum| sum.get());
        self.intact(record.as_bytes())?;
        sum.ok_or_else(|| self.damaged("tar sums"))
    }

    /// Verifies every block and the whole structure: what `store check` and the fuzzers call.
    pub fn check(&self) -> std::result::Result<(), LoadError> {
        check::whole(self)
    }

    /// A copy of a name, target or value that lies in the file; EIO if it was lost meanwhile.
    pub fn copied(&self, bytes: &[u8]) -> Result<Box<[u8]>> {
        let copy = bytes.into();
        self.intact(bytes)?;
        Ok(copy)
    }

    /// EIO if any of these bytes, which lie in the file, was lost: asked after they were read, since zeros take their place.
    fn intact(&self, bytes: &[u8]) -> Result<()> {
        match self.bytes.is_lost(bytes) {
            true => {
                let offset = bytes.as_ptr().addr() - self.bytes.all().as_ptr().addr();
                tracing::error!(index = %self.path.display(), offset, "damaged: the file was cut, or its disk fails");
                Err(Errno::EIO.into())
            }
            false => Ok(()),
        }
    }

    pub(super) fn damaged(&self, what: &'static str) -> Error {
        tracing::error!(index = %self.path.display(), "damaged: {what}");
        Errno::EIO.into()
    }

    /// A copy, so that it stays what it was found to be.
    pub(super) fn node(&self, node: NodeId) -> Result<format::Node> {
        let run = self.run::<format::Node>(self.header.nodes, u64::from(node.0), 1)?;
        let record = *run.first().ok_or_else(|| self.damaged("node number"))?;
        self.intact(run.as_bytes())?;
        Ok(record)
    }

    fn kind_of(&self, record: &format::Node) -> Result<Kind> {
        Kind::from_mode(record.mode.get()).ok_or_else(|| self.damaged("kind of a node"))
    }

    fn extents_of(&self, record: &format::Node) -> Result<&[format::Extent]> {
        let regular = self.kind_of(record)? == Kind::Regular;
        if !regular || record.flags.get() & format::FLAG_LINK_BELOW != 0 {
            return Ok(&[]);
        }
        self.run(self.header.extents, record.first.get(), record.count.get())
    }

    /// All records of a section.
    fn records<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, section: Section) -> Result<&[T]> {
        let bytes = self.section(section, 0, section.length.get())?;
        <[T]>::ref_from_bytes(bytes).map_err(|_| self.damaged("length of a section"))
    }

    /// `count` records of a section from number `first` on.
    fn run<T>(&self, section: Section, first: u64, count: u32) -> Result<&[T]>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        let size = size_of::<T>() as u64;
        let offset = first
            .checked_mul(size)
            .ok_or_else(|| self.damaged("record number"))?;
        let bytes = self.section(section, offset, u64::from(count) * size)?;
        <[T]>::ref_from_bytes(bytes).map_err(|_| self.damaged("length of a run"))
    }

    fn blob(&self, offset: u64, length: u64) -> Result<&[u8]> {
        self.section(self.header.blob, offset, length)
    }

    /// Bytes inside a section, their blocks verified.
    fn section(&self, section: Section, offset: u64, length: u64) -> Result<&[u8]> {
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= section.length.get());
        if !inside {
            return Err(self.damaged("reference beyond its section"));
        }
        // The header's check has seen that sections lie inside the file.
        let start = section.offset.get() + offset;
        if length > 0 {
            self.verify(start, start + length)?;
        }
        let bytes = self.bytes.all().get(start as usize..(start + length) as usize);
        let bytes = bytes.ok_or_else(|| self.damaged("section beyond the file"))?;
        self.intact(bytes)?;
        Ok(bytes)
    }

    /// Verifies the blocks that hold the file's bytes `start..end` unless that was done before.
    fn verify(&self, start: u64, end: u64) -> Result<()> {
        for block in (start - HEADER_SIZE) / BLOCK..=(end - 1 - HEADER_SIZE) / BLOCK {
            let bit = 1 << (block % 64);
            let word = self
                .checked
                .get((block / 64) as usize)
                .ok_or_else(|| self.damaged("block number"))?;
            if word.load(Ordering::Acquire) & bit == 0 {
                self.verify_block(block)?;
                word.fetch_or(bit, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    #[cold]
    fn verify_block(&self, block: u64) -> Result<()> {
        let sums_at = self.header.block_sums.offset.get();
        let start = HEADER_SIZE + block * BLOCK;
        let end = sums_at.min(start + BLOCK);
        let sum_at = (sums_at + block * size_of::<u32>() as u64) as usize;
        let all = self.bytes.all();
        let bytes = all.get(start as usize..end as usize);
        let sum = all.get(sum_at..sum_at + size_of::<u32>());
        match (bytes, sum) {
            (Some(bytes), Some(sum)) if crc32c::crc32c(bytes).to_le_bytes() == sum => self.intact(bytes),
            _ => {
                tracing::error!(index = %self.path.display(), offset = start, "damaged: checksum of a block");
                Err(Errno::EIO.into())
            }
        }
    }

    /// Verifies all blocks.
    pub(super) fn verify_all(&self) -> Result<()> {
        self.verify(HEADER_SIZE, self.header.block_sums.offset.get())
    }
}

/// The sorted entries of one directory. `len` is cheap; `get` checks the entry.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    view: &'a View,
    run: &'a [format::Entry],
}

impl<'a> Entries<'a> {
    /// How many.
    pub fn len(&self) -> u32 {
        self.run.len() as u32
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// The `i`-th in name order.
    pub fn get(&self, i: u32) -> Result<Entry<'a>> {
        let raw = self.raw(i)?;
        let name = Name::new(self.name_bytes(raw)?).map_err(|_| self.view.damaged("name of an entry"))?;
        let target = match raw.kind {
            format::ENTRY_WHITEOUT if self.view.is_layer() => None,
            kind => {
                let kind = Kind::from_dtype(kind).ok_or_else(|| self.view.damaged("kind of an entry"))?;
                let node = raw.node.get();
                if node >= self.view.node_count() {
                    return Err(self.view.damaged("node of an entry"));
                }
                Some((NodeId(node), kind))
            }
        };
        let hides_below = raw.flags & format::ENTRY_HIDES_BELOW != 0;
        self.view.intact(raw.as_bytes())?;
        self.view.intact(name.as_bytes())?;
        Ok(Entry {
            name,
            target,
            hides_below,
        })
    }

    /// The place of the first entry whose name is not below `name`.
    pub fn lower_bound(&self, name: &Name) -> Result<u32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let raw = self.raw(middle)?;
            let found = self.name_bytes(raw)?;
            let is_below = found < name.as_bytes();
            self.view.intact(raw.as_bytes())?;
            self.view.intact(found)?;
            if is_below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn raw(&self, i: u32) -> Result<&'a format::Entry> {
        self.run
            .get(i as usize)
            .ok_or_else(|| self.view.damaged("entry number"))
    }

    fn name_bytes(&self, raw: &format::Entry) -> Result<&'a [u8]> {
        self.view.blob(raw.name.get(), u64::from(raw.name_len.get()))
    }
}
