//! Why did work on images fail? The wording follows Docker's where scripts look for it.

use std::path::PathBuf;

use fuse_overlay::index::DiffId;
use fuse_overlay::index::merge::MergeError;
use fuse_overlay::index::view::LoadError;
use fuse_overlay::layer::LayerError;

use super::reference::ReferenceError;
use crate::store::{self, Digest};

/// Why work on images failed. The message leaves out the source, which the report appends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A text that is no name.
    #[error("{text:?} names no image")]
    Name {
        /// As the user typed it.
        text: String,
        /// The rule it breaks.
        source: ReferenceError,
    },
    /// A name where a tag is wanted, and only a digest stands.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// Nothing of that name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// An id prefix of more than one image.
    #[error("{0} is the beginning of more than one image id")]
    Ambiguous(String),
    /// A removal that would take away what is used.
    #[error("conflict: unable to {action} ({must}) - {reason}")]
    Conflict {
        /// What was to be done, on what.
        action: String,
        /// "must be forced", or "cannot be forced".
        must: &'static str,
        /// Who uses it.
        reason: String,
    },
    /// A document of the image whose bytes are not what its digest says, or that is gone.
    #[error("{what} {digest} of the image is {state}")]
    Blob {
        /// "config" or "manifest".
        what: &'static str,
        /// Its name.
        digest: Digest,
        /// "damaged" or "missing".
        state: &'static str,
    },
    /// A config that is not what the OCI image spec says.
    #[error("config {id} is not an image configuration")]
    Config {
        /// Its digest.
        id: Digest,
        /// Where it breaks the format.
        source: serde_json::Error,
    },
    /// A config whose `rootfs.diff_ids` are not digests, or not those of the layers that came.
    #[error("config {id} {reason}")]
    Layers {
        /// Its digest.
        id: Digest,
        /// What is wrong with its layers.
        reason: String,
    },
    /// A layer's tar is gone.
    #[error("layer {0:?} is missing from the store")]
    LayerMissing(DiffId),
    /// A layer's tar is not what its diff id says.
    #[error("layer {0:?} is damaged: its tar has another checksum")]
    LayerDamaged(DiffId),
    /// A layer's index cannot be made from its tar.
    #[error("layer {layer:?} cannot be indexed")]
    Layer {
        /// Its diff id.
        layer: DiffId,
        /// Why.
        source: LayerError,
    },
    /// A layer that a build made cannot be stored.
    #[error("storing a new layer")]
    NewLayer(#[source] std::io::Error),
    /// An index can be neither read nor made again.
    #[error("index {}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// A stack of layers could not be merged.
    #[error("merging layers into {}", path.display())]
    Merge {
        /// The merged index's file.
        path: PathBuf,
        /// Which layer is at fault, and how.
        source: MergeError,
    },
    /// `references.json` cannot be read.
    #[error("{} is damaged", path.display())]
    References {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// It cannot be known which images containers were made from.
    #[error("looking for the containers of images")]
    Uses(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A filter, or a filter's value, that means nothing.
    #[error("invalid filter '{0}'")]
    Filter(String),
}

impl Error {
    /// What would help, where something is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Store(error) => error.hint(),
            Error::Blob { .. } | Error::LayerMissing(_) => Some("pull the image again"),
            Error::LayerDamaged(_) => Some("`bryo store check` sets it aside; then pull the image again"),
            Error::Layer { .. } => Some("`bryo store check` looks at every layer"),
            Error::References { .. } => {
                Some("move the file away: names are lost then, and a pull finds the layers that are there")
            }
            Error::Ambiguous(_) => Some("give more digits of the id"),
            _ => None,
        }
    }
}
