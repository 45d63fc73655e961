//! The index of a layer or of a merged stack: which files are there, and where do their bytes lie?
//!
//! [`mod@format`] is the bytes on disk, [`build`] writes them, [`view`] reads them safely, [`merge`] resolves a stack.

pub mod build;
mod check;
pub mod format;
pub mod merge;
pub mod view;

pub use build::Builder;
pub use view::View;

/// A node's place in an index's node table. Node 0 is the root directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: NodeId = NodeId(0);
}

/// sha256 of an uncompressed layer tar, which names the layer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiffId(pub [u8; 32]);

impl std::fmt::Display for DiffId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for DiffId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{self}")
    }
}
