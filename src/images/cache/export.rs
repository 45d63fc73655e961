//! How are steps put where other stores find them? Their layers first, then the document, then the manifest, under its
//! name: who reads meanwhile finds the old cache or the new one.

use std::collections::{BTreeMap, BTreeSet};

use fuse_overlay::index::DiffId;

use super::layout::Layout;
use super::{CONFIG, Document, Place};
use crate::images::manifest::{Descriptor, MAX_CONFIG, Manifest};
use crate::images::packed::Family;
use crate::images::packing::Packing;
use crate::images::push::{Push, PushError};
use crate::images::registry::{Registries, Repository};
use crate::images::steps::Step;
use crate::images::{self, Claim, layers, push};
use crate::store::{self, Digest, Store};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Why a cache was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// To a registry.
    #[error(transparent)]
    Push(#[from] PushError),
    /// Into a directory.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// More steps than a config may tell.
    #[error("the document of {0} bytes is larger than the {MAX_CONFIG} that are accepted")]
    TooLarge(usize),
    /// The store.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// The cache's manifest.
    pub manifest: Digest,
    /// So many steps are not in it.
    pub left_out: usize,
}

/// Puts steps and their layers to a place. Those that the store has lost meanwhile are left out.
///
/// # Errors
/// See [`ExportError`]. What was there before stays as it was.
pub fn export(
    store: &Store,
    steps: &[Step],
    place: &Place,
    registries: &Registries,
    progress: &dyn push::Progress,
) -> Result<Exported, ExportError> {
    let own = |step: &Step| step.layers.last().copied().map(DiffId::from);
    let wanted: BTreeSet<DiffId> = steps.iter().filter_map(own).collect();
    let claim = Claim::new(store, &wanted.iter().copied().collect::<Vec<_>>())?;
    let there = |step: &&Step| own(step).is_some_and(|layer| layers::is_stored(store, &layer));
    let all = steps.len();
    let steps: Vec<Step> = steps.iter().filter(there).cloned().collect();
    let own: BTreeSet<DiffId> = steps.iter().filter_map(own).collect();
    let manifest = match place {
        Place::Registry(name) => {
            let repository = Repository::open(name, registries).map_err(PushError::from)?;
            let push = Push {
                store,
                repository: &repository,
                name,
                progress,
                family: Family::Oci,
                packing: Packing::default(),
            };
            let (document, manifest) = documents(&steps, &own, |layer| Ok(push.layer(layer)?))?;
            push.blob(&Digest::of(&document), &document)?;
            let tag = name.tag().unwrap_or("latest");
            push.manifest(tag, &manifest)?.digest
        }
        Place::Directory { path, tag } => {
            let layout = Layout::open(store, path)?;
            let (document, manifest) = documents(&steps, &own, |layer| layout.layer(layer, progress))?;
            layout.blob(&document)?;
            let digest = layout.blob(&manifest)?;
            layout.list(tag, &Descriptor::new(MANIFEST, digest, manifest.len() as u64))?;
            digest
        }
    };
    drop(claim);
    Ok(Exported {
        manifest,
        left_out: all - steps.len(),
    })
}

/// The cache's document and manifest; `put` sees to each layer.
fn documents(
    steps: &[Step],
    own: &BTreeSet<DiffId>,
    mut put: impl FnMut(&DiffId) -> Result<Descriptor, ExportError>,
) -> Result<(Vec<u8>, Vec<u8>), ExportError> {
    let sent = own.iter().map(&mut put).collect::<Result<Vec<_>, _>>()?;
    let document = Document {
        diff_ids: Some(own.iter().map(|layer| Digest(layer.0)).collect()),
        ..Document::of(steps)
    };
    let document = json(&document)?;
    if document.len() as u64 > MAX_CONFIG {
        return Err(ExportError::TooLarge(document.len()));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.into()),
        config: Descriptor::new(CONFIG, Digest::of(&document), document.len() as u64),
        layers: sent,
        annotations: BTreeMap::new(),
    };
    Ok((document, json(&manifest)?))
}

fn json<T: serde::Serialize>(document: &T) -> Result<Vec<u8>, ExportError> {
    serde_json::to_vec(document).map_err(|error| ExportError::Write {
        path: "the cache's document".into(),
        source: error.into(),
    })
}
