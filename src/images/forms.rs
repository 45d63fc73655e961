//! In which compressed forms was a layer seen? `layers/<hex>.forms.json`: a push sends one of them again where a registry
//! has it, instead of compressing anew.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use fuse_overlay::index::DiffId;
use serde::{Deserialize, Serialize};

use super::manifest::Descriptor;
use crate::store::write::replace;
use crate::store::{self, Digest, Durability, Store};

/// A compressed form in which a layer was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Form {
    /// As the manifest spelled it.
    pub media_type: String,
    /// Size in bytes.
    pub size: u64,
    /// The repositories and files that hold it.
    pub sources: Vec<String>,
}

impl Form {
    /// Adds a source, and says whether it is new.
    fn add(&mut self, source: &str) -> bool {
        let is_new = self.sources.iter().all(|known| known != source);
        if is_new {
            self.sources.push(source.into());
        }
        is_new
    }
}

/// All known forms of a layer, by digest.
pub type Forms = BTreeMap<Digest, Form>;

/// What is known of a layer. Notes that are lost or damaged cost a compression, no more.
///
/// # Errors
/// The file cannot be read.
pub fn read(store: &Store, layer: &DiffId) -> Result<Forms, store::Error> {
    let path = store.layer_forms(layer);
    match fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "notes on a layer are damaged: begun anew");
            Forms::new()
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Forms::new()),
        Err(error) => Err(store::Error::io("read", &path)(error)),
    }
}

/// Notes that `source` holds a layer as `blob`. Somebody has seen that this blob is the layer: a push believes it.
///
/// # Errors
/// The file cannot be read or written.
pub fn note(store: &Store, layer: &DiffId, blob: &Descriptor, source: &str) -> Result<(), store::Error> {
    let mut forms = read(store, layer)?;
    let form = forms.entry(blob.digest).or_insert_with(|| Form {
        media_type: blob.media_type.clone(),
        size: blob.size,
        sources: Vec::new(),
    });
    if !form.add(source) {
        return Ok(());
    }
    write(store, layer, &forms)
}

/// Notes that `source` names `blob` for a layer, if that is known to be a form of it. Of any other blob nothing is noted:
/// a manifest may name what it likes for a layer that is stored, and is not fetched.
///
/// # Errors
/// The file cannot be read or written.
pub fn note_source(store: &Store, layer: &DiffId, blob: &Digest, source: &str) -> Result<(), store::Error> {
    let mut forms = read(store, layer)?;
    let is_new = forms.get_mut(blob).is_some_and(|form| form.add(source));
    if is_new {
        write(store, layer, &forms)
    } else {
        Ok(())
    }
}

fn write(store: &Store, layer: &DiffId, forms: &Forms) -> Result<(), store::Error> {
    let path = store.layer_forms(layer);
    let text = serde_json::to_vec_pretty(forms).map_err(io::Error::from);
    let text = text.map_err(store::Error::io("write", &path))?;
    replace(&store.tmp(), &path, &text, Durability::Volatile)
}
