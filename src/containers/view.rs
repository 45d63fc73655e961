//! What does a container see of other trees than its own? A view: the tree of a stack of layers, served and mounted as the
//! container's root is, beside it. It costs what is written to it, and that goes with it.

use std::path::PathBuf;

use fuse_overlay::union::Lower;

/// A tree to be mounted, in the container's mount namespace alone, over a directory of the host. Mounts of that
/// directory in the container's Spec show it.
#[derive(Debug)]
pub struct View {
    /// The tree.
    pub lower: Lower,
    /// The directory, which keeps what is written to the tree.
    pub place: PathBuf,
}
