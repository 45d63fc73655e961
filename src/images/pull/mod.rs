//! How is an image fetched? Documents first, then the missing layers, several at once, then its name. What is there
//! already is not fetched; what fails leaves nothing but whole layers.

mod content;
mod layer;
mod source;

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use fuse_overlay::index::DiffId;
use fuse_overlay::layer::LayerError;
use parking_lot::Mutex;
use thiserror::Error;

pub(crate) use content::{decompressed, is_compressed};
pub use source::Source;

use super::archive::ArchiveError;
use super::manifest::{self, Descriptor, Document, MAX_CONFIG, Manifest, ManifestError, Platform};
use super::names::References;
use super::reference::{Reference, ReferenceError};
use super::registry::RegistryError;
use super::{Claim, Image, New, events};
use crate::store::{self, Digest, Store};
use content::{ContentError, Verified};
use layer::Incoming;

/// Layers that are fetched at once, as many as Docker does.
const AT_ONCE: usize = 3;
/// How many indexes may lie within one another.
const MAX_NESTING: usize = 2;

/// Why an image was not fetched.
#[derive(Debug, Error)]
pub enum PullError {
    /// A text that names no image.
    #[error("{source}: \"{text}\"")]
    Name {
        /// As typed.
        text: String,
        /// The rule it breaks.
        source: ReferenceError,
    },
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A document.
    #[error("{name}: {source}")]
    Document {
        /// The image.
        name: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The config cannot be read.
    #[error("config {digest}: {source}")]
    Config {
        /// The blob.
        digest: Digest,
        /// Why not.
        source: std::io::Error,
    },
    /// A layer cannot be fetched or stored.
    #[error("layer {blob}: {source}")]
    Layer {
        /// The blob.
        blob: Digest,
        /// Why not.
        source: LayerError,
    },
    /// A layer's tar is not the one that the config names.
    #[error("layer {blob}: its content has the diff id {found:?}, the config says {expected:?}")]
    DiffId {
        /// The blob.
        blob: Digest,
        /// By the config.
        expected: DiffId,
        /// By its bytes.
        found: DiffId,
    },
    /// The image is for another machine than was asked for.
    #[error(
        "image {name} was found but does not match the specified platform: wanted {wanted}, actual: {found}"
    )]
    Platform {
        /// The image.
        name: String,
        /// By the user.
        wanted: String,
        /// By the config.
        found: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The list of images.
    #[error(transparent)]
    Image(#[from] super::Error),
}

impl PullError {
    /// What would help, where something is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PullError::Registry(error) => error.hint(),
            PullError::Store(error) => error.hint(),
            PullError::Image(error) => error.hint(),
            PullError::Layer {
                source: LayerError::Write(error),
                ..
            } => store::more_space(error),
            PullError::Layer {
                source: LayerError::Read(error),
                ..
            } => {
                let inner = error.get_ref()?;
                let of_content = inner.downcast_ref::<ContentError>().and_then(ContentError::hint);
                of_content.or_else(|| inner.downcast_ref::<RegistryError>()?.hint())
            }
            PullError::Layer {
                source: LayerError::Entry { .. },
                ..
            }
            | PullError::DiffId { .. } => Some("the image is at fault: whoever made it must build it again"),
            _ => None,
        }
    }
}

/// What happens to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerEvent {
    /// It will be looked at.
    Known,
    /// It was in the store.
    AlreadyExists,
    /// Its bytes begin to arrive.
    Downloading {
        /// How many.
        size: u64,
    },
    /// Bytes came.
    Advanced {
        /// How many more.
        bytes: u64,
    },
    /// It is in the store.
    Complete,
}

/// Hears how a pull goes, from several threads.
pub trait Progress: Sync {
    /// The documents are there.
    fn begins(&self, heading: &str);
    /// Something happened to the layer of this blob.
    fn layer(&self, blob: &Digest, event: LayerEvent);
}

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// The image, now in the store.
    pub image: Image,
    /// The digest of the document that the name stands for.
    pub digest: Digest,
    /// The names it was given.
    pub names: Vec<Reference>,
    /// Whether anything is new.
    pub news: News,
    /// The platform that it is for.
    pub platform: Platform,
}

/// Did a pull change anything?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The name led to another image before, or to none.
    Newer,
    /// The name led to this image already.
    UpToDate,
}

/// An image's documents, verified.
struct Documents {
    digest: Digest,
    raw_manifest: Vec<u8>,
    raw_config: Vec<u8>,
    manifest: Manifest,
    layers: Vec<DiffId>,
    platform: Platform,
}

/// What is an image called that has come?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// By its name, which means it from now on, and its digest.
    All,
    /// By its digest alone: the name goes on to mean what it did.
    ByDigest,
}

/// Fetches an image. `platform` is what the user asked for; without it, this machine's is preferred.
pub fn pull(
    store: &Store,
    source: &Source,
    platform: Option<&Platform>,
    naming: Naming,
    progress: &dyn Progress,
) -> Result<Pulled, PullError> {
    let documents = fetch_documents(source, platform)?;
    let mut names = source.names(&documents.digest);
    names.retain(|name| naming == Naming::All || name.digest().is_some());
    progress.begins(&source.heading());
    // From the list alone: an image whose config is lost or damaged is repaired by its next pull.
    let listed = References::load(store)?;
    let before = names
        .first()
        .and_then(|name| listed.by_name(name))
        .map(|record| (record.id, record.manifest));
    let claim = Claim::new(store, &documents.layers)?;
    fetch_layers(store, source, &documents, progress)?;
    let new = New {
        manifest: &documents.raw_manifest,
        config: &documents.raw_config,
        names: &names,
    };
    let image = super::add(store, claim, &new)?;
    let name = names.first().map_or(image.id.to_string(), ToString::to_string);
    events::happened(store, source.verb(), &image.id, &name);
    let known = before == Some((image.id, image.manifest));
    let news = if known { News::UpToDate } else { News::Newer };
    Ok(Pulled {
        image,
        digest: documents.digest,
        names,
        news,
        platform: documents.platform,
    })
}

/// The document that a source's name stands for, whatever it is.
pub(super) fn top(source: &Source) -> Result<Vec<u8>, PullError> {
    Ok(source.top()?.bytes)
}

/// An image's manifest, config and layers, verified, for this machine.
pub(super) fn documents(source: &Source) -> Result<(Manifest, Vec<u8>, Vec<DiffId>), PullError> {
    let documents = fetch_documents(source, None)?;
    Ok((documents.manifest, documents.raw_config, documents.layers))
}

/// A config, verified.
pub(super) fn config(source: &Source, config: &Descriptor) -> Result<Vec<u8>, PullError> {
    fetch_config(source, config)
}

/// Fetches one layer into the store, unless it is there. It is claimed.
pub(super) fn layer(
    store: &Store,
    source: &Source,
    diff_id: DiffId,
    blob: &Descriptor,
    progress: &dyn Progress,
) -> Result<(), PullError> {
    let incoming = Incoming {
        store,
        progress,
        diff_id,
        blob,
        source: &source.describe(),
        stopped: &AtomicBool::new(false),
    };
    incoming.store(|| source.blob(blob))
}

fn fetch_documents(source: &Source, wanted: Option<&Platform>) -> Result<Documents, PullError> {
    let name = source.describe();
    let wrong = |source| PullError::Document {
        name: name.clone(),
        source,
    };
    let host = Platform::host();
    let mut document = source.top()?;
    let digest = document.digest;
    let mut nesting = 0;
    let manifest = loop {
        match Document::parse(&document.bytes).map_err(wrong)? {
            Document::Manifest(manifest) => break *manifest,
            Document::Index(_) if nesting == MAX_NESTING => return Err(wrong(ManifestError::Nested)),
            Document::Index(entries) => {
                let chosen = manifest::choose(&entries, wanted.unwrap_or(&host)).map_err(wrong)?;
                document = source.manifest(chosen)?;
                nesting += 1;
            }
        }
    };
    let raw_config = fetch_config(source, &manifest.config)?;
    let (config, layers) = manifest.read_config(&raw_config).map_err(wrong)?;
    let found = Platform {
        architecture: config.architecture().to_string(),
        os: config.os().to_string(),
        variant: config.variant().clone(),
    };
    match wanted {
        Some(wanted) if !wanted.accepts(&found) => Err(PullError::Platform {
            name,
            wanted: wanted.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(Documents {
            digest,
            raw_manifest: document.bytes,
            raw_config,
            manifest,
            layers,
            platform: found,
        }),
    }
}

fn fetch_config(source: &Source, config: &Descriptor) -> Result<Vec<u8>, PullError> {
    let mut bytes = Vec::new();
    let stream = source.blob(config)?.take(MAX_CONFIG);
    let read = Verified::new(stream, config).read_to_end(&mut bytes);
    read.map_err(|source| PullError::Config {
        digest: config.digest,
        source,
    })?;
    Ok(bytes)
}

/// Fetches the missing layers, a few at once. The first failure stops the others.
fn fetch_layers(
    store: &Store,
    source: &Source,
    documents: &Documents,
    progress: &dyn Progress,
) -> Result<(), PullError> {
    let mut wanted: Vec<(DiffId, &Descriptor)> = Vec::new();
    for (layer, blob) in documents.layers.iter().zip(&documents.manifest.layers) {
        progress.layer(&blob.digest, LayerEvent::Known);
        // An image may have one layer many times; two threads would wait for each other's lock.
        if !wanted.iter().any(|(known, _)| known == layer) {
            wanted.push((*layer, blob));
        }
    }
    let described = source.describe();
    let queue = Mutex::new(wanted.into_iter());
    let first_failure = Mutex::new(None);
    let stopped = AtomicBool::new(false);
    let work = || {
        while !stopped.load(Ordering::Relaxed) {
            let Some((diff_id, blob)) = queue.lock().next() else {
                break;
            };
            let incoming = Incoming {
                store,
                progress,
                diff_id,
                blob,
                source: &described,
                stopped: &stopped,
            };
            if let Err(failure) = incoming.store(|| source.blob(blob)) {
                // The failures of those that are stopped by it say nothing.
                first_failure.lock().get_or_insert(failure);
                stopped.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE.min(queue.lock().len()) {
            threads.spawn(work);
        }
    });
    first_failure.into_inner().map_or(Ok(()), Err)
}
