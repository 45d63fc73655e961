//! Where do whiteouts end? Resolves a stack of layer indexes into one merged index.

use std::io;

use super::view::{LoadError, View};

/// Merges the trees of `layers`, lowest first, into a new merged index written to `out`. `chain_id` names the stack.
///
/// # Errors
/// Fails when a layer index is damaged or `out` cannot be written.
pub fn merge(layers: &[View], chain_id: [u8; 32], out: &mut dyn io::Write) -> Result<(), LoadError> {
    let _ = (layers, chain_id, out);
    todo!("merge of layer indexes")
}
