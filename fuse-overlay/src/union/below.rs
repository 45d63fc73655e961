//! The image below: its inodes as they are without changes, and its files' bytes, each 64 KiB of a tar checked against
//! its CRC32C when first touched.

use std::cell::RefCell;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use zerocopy::FromZeros;

use super::{Lower, LowerLayer, OpenError};
use crate::attr::{Attr, Ino, Kind};
use crate::error::{Error, Result};
use crate::index::format::BLOCK;
use crate::index::{NodeId, View};
use crate::upper::content::Content;
use crate::upper::directory::Directory;
use crate::upper::inode::{Body, Inode, State};
use crate::upper::journal::format::Meta;

/// The image.
#[derive(Debug)]
pub(super) struct Below {
    view: View,
    layers: Vec<Tar>,
}

/// A layer's tar.
#[derive(Debug)]
struct Tar {
    layer: LowerLayer,
    /// A bit for each block that was found good.
    good: Box<[AtomicU64]>,
}

impl Below {
    pub(super) fn new(lower: Lower) -> std::result::Result<Below, OpenError> {
        let Lower { view, layers } = lower;
        let named = view
            .layers()
            .map_err(|error| OpenError::Lower(error.to_string()))?;
        if named.len() != layers.len() || named.iter().zip(&layers).any(|(id, l)| l.index.source() != id.0) {
            return Err(OpenError::Lower(
                "it names other layers than were given".to_owned(),
            ));
        }
        let layers = layers.into_iter().map(Tar::new).collect::<std::io::Result<_>>();
        let layers = layers.map_err(|error| OpenError::Lower(format!("layer: {error}")))?;
        Ok(Below { view, layers })
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The image's node of an inode; ESTALE if it has none.
    pub(super) fn node(&self, ino: Ino) -> Result<NodeId> {
        let node = ino.0.checked_sub(1).and_then(|node| u32::try_from(node).ok());
        node.filter(|node| *node < self.view.node_count())
            .map(NodeId)
            .ok_or(Error(Errno::ESTALE))
    }

    /// The directory that holds a directory of the image.
    pub(super) fn parent(&self, node: NodeId) -> Result<Ino> {
        Ok(ino(self.view.parent(node)?))
    }

    /// An inode of the image as the upper takes it in, unchanged.
    pub(super) fn copy_up(&self, ino: Ino) -> Result<Inode> {
        let node = self.node(ino)?;
        let Attr {
            kind,
            perm,
            uid,
            gid,
            nlink,
            rdev,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            ..
        } = self.view.attr(node)?;
        let body = match kind {
            Kind::Directory => {
                let count = self.view.entries(node)?.len();
                Body::Directory(Directory::new(self.parent(node)?, Some(node), count.into()))
            }
            Kind::Regular => Body::Regular(Content::over(node, size)),
            Kind::Symlink => Body::Symlink(self.view.target(node)?.into()),
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Body::Special,
        };
        let xattrs = self.view.xattrs(node)?;
        let state = State {
            meta: Meta {
                perm,
                uid,
                gid,
                nlink,
                rdev,
                atime,
                mtime,
                ctime,
            },
            size,
            blocks_below: blocks,
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            body,
        };
        Ok(Inode::new(ino, kind, state))
    }

    /// Reads all of `out` from an image's file at a byte offset; bytes that no extent holds are zeros.
    pub(super) fn read(&self, node: NodeId, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64).ok_or(Error(Errno::EINVAL))?;
        let (mut at, mut rest) = (offset, out);
        let mut i = self.first_extent(node, offset)?;
        let count = self.view.extent_count(node)?;
        while !rest.is_empty() {
            let extent = if i < count {
                Some(self.view.extent(node, i)?)
            } else {
                None
            };
            let starts = extent.map_or(end, |extent| extent.file_offset.min(end));
            if at < starts {
                let (gap, after) = split(rest, starts - at);
                gap.fill(0);
                (at, rest) = (starts, after);
                continue;
            }
            let Some(extent) = extent else { break };
            let skip = at - extent.file_offset;
            let (piece, after) = split(rest, extent.length.saturating_sub(skip));
            let tar = self.layers.get(extent.layer as usize).ok_or(Error(Errno::EIO))?;
            let from = extent.tar_offset.checked_add(skip).ok_or(Error(Errno::EIO))?;
            tar.read(from, piece)?;
            at += piece.len() as u64;
            rest = after;
            i += 1;
        }
        Ok(())
    }

    /// The first extent that ends behind `offset`.
    fn first_extent(&self, node: NodeId, offset: u64) -> Result<u32> {
        let (mut low, mut high) = (0, self.view.extent_count(node)?);
        while low < high {
            let middle = low + (high - low) / 2;
            let extent = self.view.extent(node, middle)?;
            if extent.file_offset.saturating_add(extent.length) <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// The inode number of an image's node.
pub(super) fn ino(node: NodeId) -> Ino {
    Ino(u64::from(node.0) + 1)
}

/// `bytes` cut after `length`, or after its end.
fn split(bytes: &mut [u8], length: u64) -> (&mut [u8], &mut [u8]) {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_at_mut(length)
}

thread_local! {
    /// Room for one block of a tar.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Tar {
    fn new(layer: LowerLayer) -> std::io::Result<Tar> {
        let blocks = layer.tar.metadata()?.len().div_ceil(BLOCK);
        let words = usize::try_from(blocks.div_ceil(64)).unwrap_or(0);
        let good = <[AtomicU64]>::new_box_zeroed_with_elems(words)
            .unwrap_or_else(|_| (0..words).map(|_| AtomicU64::new(0)).collect());
        Ok(Tar { layer, good })
    }

    fn is_good(&self, block: u64) -> bool {
        self.good
            .get((block / 64) as usize)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (block % 64)) != 0)
    }

    /// Reads all of `out`. Blocks seen before are read straight; another is read whole, and checked.
    fn read(&self, mut offset: u64, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            let mut block = offset / BLOCK;
            let end = offset + out.len() as u64;
            if self.is_good(block) {
                while block * BLOCK < end && self.is_good(block) {
                    block += 1;
                }
                let (piece, rest) = split(out, block * BLOCK - offset);
                self.read_exactly(offset, piece)?;
                offset += piece.len() as u64;
                out = rest;
                continue;
            }
            let inside = offset % BLOCK;
            let (piece, rest) = split(out, BLOCK - inside);
            if inside == 0 && piece.len() as u64 == BLOCK {
                let n = self.read_some(offset, piece)?;
                self.check(block, piece.get(..n).unwrap_or_default())?;
            } else {
                SCRATCH.with_borrow_mut(|scratch| -> Result<()> {
                    scratch.resize(BLOCK as usize, 0);
                    let n = self.read_some(block * BLOCK, scratch)?;
                    let bytes = scratch.get(..n).unwrap_or_default();
                    self.check(block, bytes)?;
                    let wanted = bytes.get(inside as usize..inside as usize + piece.len());
                    piece.copy_from_slice(wanted.ok_or(Error(Errno::EIO))?);
                    Ok(())
                })?;
            }
            offset += piece.len() as u64;
            out = rest;
        }
        Ok(())
    }

    /// Compares a block with its checksum.
    fn check(&self, block: u64, bytes: &[u8]) -> Result<()> {
        if crc32c::crc32c(bytes) != self.layer.index.tar_sum(block)? {
            let layer = crate::index::DiffId(self.layer.index.source());
            tracing::error!(%layer, offset = block * BLOCK, "the stored layer is damaged here: pull the image again");
            return Err(Error(Errno::EIO));
        }
        if let Some(word) = self.good.get((block / 64) as usize) {
            word.fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_exactly(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if self.read_some(offset, out)? == out.len() {
            Ok(())
        } else {
            Err(Error(Errno::EIO))
        }
    }

    /// Reads until `out` is full or the tar ends.
    fn read_some(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.layer.tar.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}
