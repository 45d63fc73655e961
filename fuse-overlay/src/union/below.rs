//! The image below: its inodes as they are without changes, and its files' bytes.

use nix::errno::Errno;

use super::tar::Tar;
use super::{LayerBytes, Lower, LowerLayer, OpenError};
use crate::attr::{Attr, Ino, Kind};
use crate::error::{Error, Result};
use crate::index::{NodeId, View};
use crate::layer;
use crate::upper::content::Content;
use crate::upper::directory::Directory;
use crate::upper::inode::{Body, Inode, State};
use crate::upper::journal::format::Meta;

/// The image.
#[derive(Debug)]
pub(super) struct Below {
    view: View,
    layers: Vec<Bytes>,
}

/// A layer's bytes.
#[derive(Debug)]
enum Bytes {
    Tar(Box<Tar>),
    Directory(layer::Directory),
}

impl Bytes {
    fn new(layer: LowerLayer) -> std::io::Result<Bytes> {
        Ok(match layer.bytes {
            LayerBytes::Tar(tar) => Bytes::Tar(Box::new(Tar::new(tar, layer.index)?)),
            LayerBytes::Directory(directory) => Bytes::Directory(directory),
        })
    }

    /// Reads all of `out` from an extent, at an offset as extents have it.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Bytes::Tar(tar) => tar.read(offset, out),
            Bytes::Directory(directory) => directory.read(offset, out),
        }
    }
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
        let layers = layers.into_iter().map(Bytes::new).collect::<std::io::Result<_>>();
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
                Body::Directory(Box::new(Directory::new(
                    self.parent(node)?,
                    Some(node),
                    count.into(),
                )))
            }
            Kind::Regular => Body::Regular(Content::over(node, size, blocks)),
            Kind::Symlink => Body::Symlink(Box::new(self.view.copied(self.view.target(node)?)?)),
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Body::Special(kind),
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
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| Ok((self.view.copied(name)?, self.view.copied(value)?)))
                .collect::<Result<_>>()?,
            body,
        };
        Ok(Inode::new(ino, state))
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
            let bytes = self.layers.get(extent.layer as usize).ok_or(Error(Errno::EIO))?;
            let from = extent.tar_offset.checked_add(skip).ok_or(Error(Errno::EIO))?;
            bytes.read(from, piece)?;
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
pub(super) fn split(bytes: &mut [u8], length: u64) -> (&mut [u8], &mut [u8]) {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_at_mut(length)
}
