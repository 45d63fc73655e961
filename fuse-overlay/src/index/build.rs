//! Writing an index file: the tree is collected in memory by whoever knows it, then laid out in one go.
//!
//! The order of [`Builder::add`] is the order of the node table. Adding a directory's nodes one after the other keeps
//! what one listing needs in few blocks.

use std::io::{self, Write};

use thiserror::Error;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::format::{self, ALIGN, BLOCK, HEADER_SIZE, Header, NO_NODE, Section};
use super::view::Extent;
use super::{DiffId, NodeId};
use crate::attr::{Kind, Time};
use crate::name::Name;

/// Marks of a directory that only a layer index has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// It hides everything below it.
    pub opaque: bool,
    /// No tar entry named it; it is there because something lies in it.
    pub implied: bool,
}

/// What a node is and holds.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A directory; [`Builder::enter`] fills it.
    Directory(Marks),
    /// A regular file of `size` bytes; `extents` are sorted and do not overlap, gaps read as zeros.
    Regular {
        /// Bytes.
        size: u64,
        /// Where they lie.
        extents: &'a [Extent],
    },
    /// A symlink and its target.
    Symlink(&'a [u8]),
    /// A device, fifo or socket, with its device number.
    Special(Kind, u32),
    /// A hard link to a path of the layers below (layer index only).
    LinkBelow(&'a [u8]),
}

/// A node to add.
#[derive(Clone, Copy, Debug)]
pub struct NewNode<'a> {
    /// Permission, set-id and sticky bits.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes as (name, value).
    pub xattrs: &'a [(&'a [u8], &'a [u8])],
    /// The rest.
    pub content: Content<'a>,
}

/// What the index describes.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// One tar.
    Layer {
        /// Its sha256.
        diff_id: DiffId,
        /// Its bytes.
        tar_size: u64,
        /// CRC32C of each 64 KiB of it.
        tar_sums: &'a [u32],
    },
    /// One plain directory.
    Directory {
        /// What names it: see [`crate::layer::Directory`].
        id: DiffId,
        /// Bytes of all its files.
        size: u64,
    },
    /// A stack of layers.
    Merged {
        /// The stack's name.
        chain_id: [u8; 32],
        /// Its layers, lowest first.
        layers: &'a [DiffId],
    },
}

/// Why an index cannot be written.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A count outgrew its field.
    #[error("an index cannot hold so many {0}")]
    TooMany(&'static str),
    /// Calls that describe no tree.
    #[error("not a tree: {0}")]
    NotATree(&'static str),
}

/// Collects nodes and entries of a tree and writes them as an index file.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<format::Node>,
    entries: Vec<Pending>,
    extents: Vec<format::Extent>,
    blob: Vec<u8>,
    content_size: u64,
}

/// An entry whose directory is known, but not yet its place.
#[derive(Debug)]
struct Pending {
    dir: NodeId,
    entry: format::Entry,
}

impl Builder {
    /// An empty tree. The first node added is the root and must be a directory.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Number of nodes so far.
    pub(crate) fn len(&self) -> u32 {
        // `add` has seen that it fits.
        self.nodes.len() as u32
    }

    /// Bytes of memory that it takes, and will take to be laid out.
    pub(crate) fn memory(&self) -> usize {
        let entry = size_of::<Pending>() + size_of::<format::Entry>();
        size_of_val(self.nodes.as_slice())
            + self.entries.len() * entry
            + size_of_val(self.extents.as_slice())
            + self.blob.len()
    }

    /// Adds a node without a name.
    pub fn add(&mut self, new: &NewNode<'_>) -> Result<NodeId, BuildError> {
        let id = u32::try_from(self.nodes.len()).ok().filter(|&id| id != NO_NODE);
        let id = id.ok_or(BuildError::TooMany("files"))?;
        let mut node = format::Node {
            uid: new.uid.into(),
            gid: new.gid.into(),
            mtime_sec: new.mtime.sec.into(),
            mtime_nsec: new.mtime.nsec.into(),
            xattr_count: u16::try_from(new.xattrs.len())
                .map_err(|_| BuildError::TooMany("extended attributes"))?
                .into(),
            xattrs: self.put_xattrs(new.xattrs)?.into(),
            ..Default::default()
        };
        let kind = self.put_content(&mut node, new.content)?;
        node.mode = (kind.mode_bits() | u32::from(new.perm & 0o7777)).into();
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    /// Gives `node` a name in `dir`.
    pub fn enter(&mut self, dir: NodeId, name: &Name, node: NodeId, hides: Hides) -> Result<(), BuildError> {
        let mode = self.nodes.get(node.0 as usize).map(|node| node.mode.get());
        let kind = mode
            .and_then(Kind::from_mode)
            .ok_or(BuildError::NotATree("entry without a node"))?;
        let flags = match hides {
            Hides::Nothing => 0,
            Hides::Below => format::ENTRY_HIDES_BELOW,
        };
        self.put_entry(dir, name, node.0, kind as u8, flags);
        Ok(())
    }

    /// Makes `name` in `dir` hide the same name in the layers below.
    pub fn whiteout(&mut self, dir: NodeId, name: &Name) {
        self.put_entry(dir, name, NO_NODE, format::ENTRY_WHITEOUT, 0);
    }

    fn put_entry(&mut self, dir: NodeId, name: &Name, node: u32, kind: u8, flags: u8) {
        let offset = self.put_blob(name.as_bytes());
        // A name has at most 255 bytes.
        let name_len = (name.as_bytes().len() as u16).into();
        let entry = format::Entry {
            name: offset.into(),
            node: node.into(),
            name_len,
            kind,
            flags,
        };
        self.entries.push(Pending { dir, entry });
    }

    fn put_blob(&mut self, bytes: &[u8]) -> u64 {
        let offset = self.blob.len() as u64;
        self.blob.extend_from_slice(bytes);
        offset
    }

    fn put_xattrs(&mut self, xattrs: &[(&[u8], &[u8])]) -> Result<u64, BuildError> {
        if xattrs.is_empty() {
            return Ok(0);
        }
        let offset = self.blob.len() as u64;
        let mut sorted = xattrs.to_vec();
        sorted.sort_unstable();
        for (name, value) in sorted {
            let long = |_| BuildError::TooMany("bytes in an extended attribute");
            let name_len = u16::try_from(name.len()).map_err(long)?;
            let value_len = u32::try_from(value.len()).map_err(long)?;
            self.blob.extend_from_slice(&name_len.to_le_bytes());
            self.blob.extend_from_slice(&value_len.to_le_bytes());
            self.blob.extend_from_slice(name);
            self.blob.extend_from_slice(value);
        }
        Ok(offset)
    }

    fn put_content(&mut self, node: &mut format::Node, content: Content<'_>) -> Result<Kind, BuildError> {
        let mut target = |bytes: &[u8]| -> Result<(), BuildError> {
            node.count = u32::try_from(bytes.len())
                .map_err(|_| BuildError::TooMany("bytes in a link"))?
                .into();
            node.first = self.put_blob(bytes).into();
            Ok(())
        };
        Ok(match content {
            Content::Directory(marks) => {
                let opaque = if marks.opaque { format::FLAG_OPAQUE } else { 0 };
                let implied = if marks.implied { format::FLAG_IMPLIED } else { 0 };
                node.flags = (opaque | implied).into();
                node.nlink = 2.into();
                Kind::Directory
            }
            Content::Regular { size, extents } => {
                node.size = size.into();
                node.first = (self.extents.len() as u64).into();
                node.count = u32::try_from(extents.len())
                    .map_err(|_| BuildError::TooMany("extents"))?
                    .into();
                self.extents.extend(extents.iter().map(format::Extent::from));
                self.content_size = self.content_size.saturating_add(size);
                Kind::Regular
            }
            Content::Symlink(to) => {
                target(to)?;
                node.size = (to.len() as u64).into();
                Kind::Symlink
            }
            Content::LinkBelow(to) => {
                target(to)?;
                node.flags = format::FLAG_LINK_BELOW.into();
                Kind::Regular
            }
            Content::Special(kind, rdev) => {
                node.rdev = rdev.into();
                kind
            }
        })
    }

    /// Writes the index to `out`.
    ///
    /// # Errors
    /// Besides failures of `out`: a name that stands twice in a directory, an entry in something that is no directory.
    pub fn finish(mut self, source: Source<'_>, out: &mut dyn Write) -> Result<(), BuildError> {
        let entries = self.place_entries()?;
        let (kind, id, tar_size, layers, tar_sums) = match source {
            Source::Layer {
                diff_id,
                tar_size,
                tar_sums,
            } => (
                format::KIND_LAYER,
                diff_id.0,
                tar_size,
                std::slice::from_ref(&diff_id.0).to_vec(),
                tar_sums,
            ),
            Source::Directory { id, size } => (format::KIND_DIRECTORY, id.0, size, vec![id.0], &[][..]),
            Source::Merged { chain_id, layers } => (
                format::KIND_MERGED,
                chain_id,
                0,
                layers.iter().map(|layer| layer.0).collect(),
                &[][..],
            ),
        };
        let tar_sums = little_endian(tar_sums);
        let sections = [
            self.nodes.as_bytes(),
            entries.as_bytes(),
            self.extents.as_bytes(),
            &self.blob,
            layers.as_bytes(),
            tar_sums.as_bytes(),
        ];
        let mut header = Header {
            magic: format::MAGIC,
            version: format::VERSION.into(),
            kind: kind.into(),
            source: id,
            tar_size: tar_size.into(),
            content_size: self.content_size.into(),
            ..Default::default()
        };
        write_file(&mut header, sections, out)
    }

    /// Sorts the entries into one run per directory and tells the nodes what follows from them: runs, parents, links.
    fn place_entries(&mut self) -> Result<Vec<format::Entry>, BuildError> {
        let is_dir = |node: &format::Node| Kind::from_mode(node.mode.get()) == Some(Kind::Directory);
        if !self.nodes.first().is_some_and(is_dir) {
            return Err(BuildError::NotATree("no root directory"));
        }
        let blob = &self.blob;
        let key = |pending: &Pending| (pending.dir, name_of(blob, &pending.entry));
        // Callers mostly add in order, for which this sort is linear.
        self.entries.sort_by(|a, b| key(a).cmp(&key(b)));
        if self
            .entries
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if key(a) == key(b)))
        {
            return Err(BuildError::NotATree("a name stands twice in a directory"));
        }
        let mut named = vec![false; self.nodes.len()];
        for (place, Pending { dir, entry }) in self.entries.iter().enumerate() {
            let holder = self.nodes.get_mut(dir.0 as usize).filter(|node| is_dir(node));
            let holder = holder.ok_or(BuildError::NotATree("an entry in something that is no directory"))?;
            if holder.count.get() == 0 {
                holder.first = (place as u64).into();
            }
            holder.count += 1;
            if entry.kind == Kind::Directory as u8 {
                holder.nlink += 1;
            }
            let target = entry.node.get() as usize;
            let (Some(node), Some(named)) = (self.nodes.get_mut(target), named.get_mut(target)) else {
                continue;
            };
            if is_dir(node) {
                if *named || target == 0 {
                    return Err(BuildError::NotATree("a directory with two names"));
                }
            } else {
                node.nlink += 1;
            }
            if !*named {
                *named = true;
                node.parent = dir.0.into();
            }
        }
        Ok(self.entries.iter().map(|pending| pending.entry).collect())
    }
}

/// What an entry of a layer index does to the layers below, beside covering its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hides {
    /// A directory shows what lies below it.
    Nothing,
    /// The same tar whites the name out, so nothing below shows.
    Below,
}

fn name_of<'a>(blob: &'a [u8], entry: &format::Entry) -> &'a [u8] {
    let start = entry.name.get() as usize;
    blob.get(start..start + usize::from(entry.name_len.get()))
        .unwrap_or_default()
}

/// Lays the sections out behind `header`, whose places and checksums it fills in.
fn write_file(header: &mut Header, sections: [&[u8]; 6], out: &mut dyn Write) -> Result<(), BuildError> {
    let mut end = HEADER_SIZE;
    let mut sums = BlockSums::default();
    let places = sections.map(|bytes| {
        let place = Section {
            offset: end.into(),
            length: (bytes.len() as u64).into(),
        };
        sums.update(bytes);
        sums.update(padding(bytes));
        end += (bytes.len() + padding(bytes).len()) as u64;
        place
    });
    [
        header.nodes,
        header.entries,
        header.extents,
        header.blob,
        header.layers,
        header.tar_sums,
    ] = places;
    let sums = little_endian(&sums.finish());
    let sums = sums.as_bytes();
    header.block_sums = Section {
        offset: end.into(),
        length: (sums.len() as u64).into(),
    };
    header.sums_crc = crc32c::crc32c(sums).into();
    header.header_crc = header.own_crc().into();

    let mut first = [0; HEADER_SIZE as usize];
    if let Some(start) = first.get_mut(..size_of::<Header>()) {
        start.copy_from_slice(header.as_bytes());
    }
    out.write_all(&first)?;
    for bytes in sections {
        out.write_all(bytes)?;
        out.write_all(padding(bytes))?;
    }
    out.write_all(sums)?;
    out.flush()?;
    Ok(())
}

fn little_endian(sums: &[u32]) -> Vec<U32> {
    sums.iter().map(|&sum| sum.into()).collect()
}

/// The zeros between a section and the next one.
fn padding(bytes: &[u8]) -> &'static [u8] {
    static ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];
    ZEROS
        .get(..bytes.len().next_multiple_of(ALIGN as usize) - bytes.len())
        .unwrap_or_default()
}

/// CRC32C per [`BLOCK`] over bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct BlockSums {
    sums: Vec<u32>,
    current: u32,
    filled: usize,
}

impl BlockSums {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let take = bytes.len().min(BLOCK as usize - self.filled);
            let (now, later) = bytes.split_at(take);
            self.current = crc32c::crc32c_append(self.current, now);
            self.filled += take;
            bytes = later;
            if self.filled == BLOCK as usize {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.sums.push(self.current);
        (self.current, self.filled) = (0, 0);
    }

    /// The checksums; the last block may be short.
    pub(crate) fn finish(mut self) -> Vec<u32> {
        if self.filled > 0 {
            self.close();
        }
        self.sums
    }
}
