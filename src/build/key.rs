//! When is a step's result used again? When all that it depends on is the same: its kind, the stack of layers below it,
//! and what the instruction adds, field by field. Layers are named by content, so a step that made the same layer again
//! changes nothing for those after it (CVE-2024-24557: all that is below counts, not only the step before).

use fuse_overlay::index::DiffId;
use sha2::{Digest as _, Sha256};

use crate::store::{ChainId, Digest};

/// What a step depends on, field by field.
#[derive(Debug)]
pub(super) struct Key(Sha256);

impl Key {
    /// Of a step of this kind above a stack of layers.
    pub(super) fn new(kind: &str, below: &[DiffId]) -> Key {
        let mut key = Key(Sha256::new());
        key.field("bryo step 1")
            .field(kind)
            .field(&ChainId::of(below).hex());
        key
    }

    /// Adds something that it depends on.
    pub(super) fn field(&mut self, text: &str) -> &mut Key {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// Adds a list.
    pub(super) fn list(&mut self, texts: &[String]) -> &mut Key {
        self.field(&texts.len().to_string());
        for text in texts {
            self.field(text);
        }
        self
    }

    /// The key.
    pub(super) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
