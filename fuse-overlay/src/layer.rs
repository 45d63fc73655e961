//! One pass over a layer's tar stream: bytes → stored tar, index, diff id, checksums.

use std::fs::File;
use std::io::Read;

use thiserror::Error;

use crate::index::DiffId;

/// What storing a layer gives.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// sha256 of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Number of files of all kinds in it.
    pub nodes: u32,
}

/// Why a layer was refused or could not be stored.
#[derive(Debug, Error)]
pub enum LayerError {
    /// Reading the stream failed (network, inflate, digest).
    #[error("reading the layer: {0}")]
    Read(#[source] std::io::Error),
    /// Writing the tar or the index failed.
    #[error("writing the layer: {0}")]
    Write(#[source] std::io::Error),
    /// The tar breaks a rule; the entry's path says where.
    #[error("tar entry {path:?}: {reason}")]
    Entry {
        /// The entry's path as the tar spells it.
        path: String,
        /// The rule it breaks.
        reason: &'static str,
    },
}

/// Reads a whole uncompressed tar from `stream`, writes its bytes to `tar` as they are and its layer index to `index`.
///
/// Memory stays within what the entries' metadata needs. Bytes after the end-of-archive marker belong to the diff id
/// and are stored too. Nothing is synced: the caller decides about durability.
pub fn store(stream: &mut dyn Read, tar: &File, index: &File) -> Result<Stored, LayerError> {
    let _ = (stream, tar, index);
    todo!()
}

/// Builds the index of a tar that is already stored, and its diff id: how lost or old indexes come back.
pub fn reindex(tar: &File, index: &File) -> Result<Stored, LayerError> {
    let _ = (tar, index);
    todo!()
}
