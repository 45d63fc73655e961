//! What does a cache from elsewhere know? Its document is read when a build begins; a layer is fetched when it is wanted,
//! and checked as that of a pull. A cache that says something wrong of its own layers fetches nothing.

use std::cell::Cell;
use std::collections::HashMap;

use fuse_overlay::index::DiffId;
use fuse_overlay::layer::LayerError;

use super::{CONFIG, Document, INLINE, Place};
use crate::images::archive;
use crate::images::manifest::{Descriptor, Manifest};
use crate::images::pull::{self, PullError, Source};
use crate::images::registry::{Registries, RegistryError, Repository};
use crate::images::steps::Step;
use crate::store::{Digest, Store};

/// A cache's document.
#[derive(Debug)]
pub struct Import {
    /// Where it is.
    pub place: Place,
    steps: HashMap<Digest, Step>,
    blobs: HashMap<Digest, Descriptor>,
    registries: Registries,
    /// The registry was out of reach: each further step would wait for it in vain.
    lost: Cell<bool>,
}

/// Why a cache is not used.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// It is none.
    #[error("{0}")]
    Format(String),
}

impl Import {
    /// Reads a cache's document.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn load(place: &Place, registries: Registries) -> Result<Import, ImportError> {
        let source = open(place, &registries)?;
        let top = pull::top(&source)?;
        let (document, diff_ids, layers) = match serde_json::from_slice::<Manifest>(&top) {
            Ok(manifest) if manifest.config.media_type == CONFIG => {
                let bytes = pull::config(&source, &manifest.config)?;
                let document = understood(&bytes)?;
                let diff_ids = document.diff_ids.clone().unwrap_or_default();
                (document, diff_ids, manifest.layers)
            }
            _ => of_image(&source)?,
        };
        if document.version != super::VERSION {
            return Err(ImportError::Format(format!(
                "its version is {}, and {} is known",
                document.version,
                super::VERSION
            )));
        }
        if diff_ids.len() != layers.len() {
            return Err(ImportError::Format("its layers have not as many diff ids".into()));
        }
        Ok(Import {
            place: place.clone(),
            steps: document.steps(&diff_ids),
            blobs: diff_ids.into_iter().zip(layers).collect(),
            registries,
            lost: Cell::new(false),
        })
    }

    /// The step of a key above a stack.
    pub fn find(&self, key: &Digest, below: &[DiffId]) -> Option<Step> {
        let step = self.steps.get(key)?.above(below)?;
        (!self.lost.get() && self.blobs.contains_key(step.layers.last()?)).then_some(step)
    }

    /// Fetches a step's own layer into the store. Its stack is claimed.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what the cache says.
    pub fn fetch(
        &self,
        store: &Store,
        step: &Step,
        progress: &dyn pull::Progress,
    ) -> Result<(), ImportError> {
        let own = step
            .layers
            .last()
            .and_then(|own| Some((own, self.blobs.get(own)?)));
        let (own, blob) = own.ok_or_else(|| ImportError::Format("it lacks a layer".into()))?;
        // Anew: this process may be forked from the one that read the document.
        let source = open(&self.place, &self.registries)?;
        let fetched = pull::layer(store, &source, DiffId::from(*own), blob, progress);
        Ok(fetched.inspect_err(|error| self.lost.set(is_unreachable(error)))?)
    }
}

fn is_unreachable(error: &PullError) -> bool {
    let registry = match error {
        PullError::Registry(error) => Some(error),
        PullError::Layer {
            source: LayerError::Read(error),
            ..
        } => error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<RegistryError>()),
        _ => None,
    };
    registry.is_some_and(|error| !matches!(error, RegistryError::BlobUnknown { .. }))
}

fn open(place: &Place, registries: &Registries) -> Result<Source, PullError> {
    match place {
        Place::Registry(name) => Ok(Source::Registry {
            repository: Box::new(Repository::open(name, registries)?),
            name: name.clone(),
        }),
        Place::Directory { path, tag } => Ok(Source::Archive(Box::new(archive::open_layout(path, tag)?))),
    }
}

type Parts = (Document, Vec<Digest>, Vec<Descriptor>);

/// What an image holds inline.
fn of_image(source: &Source) -> Result<Parts, ImportError> {
    let (manifest, config, layers) = pull::documents(source)?;
    let mut config: serde_json::Value =
        serde_json::from_slice(&config).map_err(|error| ImportError::Format(error.to_string()))?;
    let document = config
        .get_mut(INLINE)
        .map(serde_json::Value::take)
        .ok_or_else(|| ImportError::Format("the image holds no build cache of bryo's".into()))?;
    let document = serde_json::from_value(document)
        .map_err(|error| ImportError::Format(format!("its build cache is not valid: {error}")))?;
    let diff_ids = layers.iter().map(|layer| Digest(layer.0)).collect();
    Ok((document, diff_ids, manifest.layers))
}

fn understood(bytes: &[u8]) -> Result<Document, ImportError> {
    serde_json::from_slice(bytes).map_err(|error| ImportError::Format(format!("it is not valid: {error}")))
}
