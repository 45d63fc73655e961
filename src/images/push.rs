//! How is an image sent? Each layer in a compressed form that the registry has already, if one is known; else compressed,
//! which gives the same bytes each time. Then config and manifest.

use std::fs::File;
use std::io::{self, Read};

use fuse_overlay::index::DiffId;

use super::manifest::Descriptor;
use super::packed::{self, Family};
use super::packing::Packing;
use super::reference::Reference;
use super::registry::{Held, Registries, RegistryError, Repository};
use super::{Error, Image, events, forms};
use crate::store::{self, Digest, Store};

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The registry had it.
    Exists,
    /// It took it from this other repository.
    Mounted(String),
    /// It was sent.
    Pushed,
}

/// Hears how a push goes.
pub trait Progress {
    /// A layer is there.
    fn layer(&self, layer: &DiffId, how: &Sent);
}

/// What a push made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's media type.
    pub media_type: &'static str,
    /// The manifest's digest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

/// Why an image was not sent.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// 401 or 403.
    #[error("push access denied for {name}: {reason}")]
    Denied {
        /// The repository.
        name: String,
        /// What the registry said.
        reason: String,
    },
    /// It was to be sent by a digest that it does not have.
    #[error("cannot push to {repository}@{wanted}: the image's manifest is {found} there")]
    OtherDigest {
        /// Where to.
        repository: String,
        /// What was named.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// The registry.
    #[error(transparent)]
    Registry(RegistryError),
    /// The image.
    #[error(transparent)]
    Image(#[from] Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<RegistryError> for PushError {
    fn from(error: RegistryError) -> PushError {
        match error {
            RegistryError::Denied { name, reason } => PushError::Denied { name, reason },
            error => PushError::Registry(error),
        }
    }
}

impl PushError {
    /// What would help, where something is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PushError::Denied { .. } => Some("logins are read from auth.json and ~/.docker/config.json"),
            PushError::OtherDigest { .. } => {
                Some("a digest is that of a manifest: without it, or with a tag, the image is sent as it is")
            }
            PushError::Registry(error) => error.hint(),
            PushError::Image(error) => error.hint(),
            PushError::Store(error) => error.hint(),
        }
    }
}

/// What is wanted of how an image is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Form {
    /// Whose names its parts have; `None`: as it came, or was made.
    pub family: Option<Family>,
    /// How its layers are compressed.
    pub packing: Packing,
}

/// Sends an image to the registry that `name` means, under its tag; or by its digest alone, if that is named.
///
/// # Errors
/// See [`PushError`]. What was sent stays there, and the next push finds it.
pub fn push(
    store: &Store,
    image: &Image,
    name: &Reference,
    form: Form,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Pushed, PushError> {
    let repository = Repository::open(name, registries)?;
    let own = packed::own_manifest(store, image)?;
    let came_as = own.as_ref().map(|(own, _)| Family::of(own)).unwrap_or_default();
    let push = Push {
        store,
        repository: &repository,
        name,
        progress,
        family: form.family.unwrap_or(came_as).with(form.packing),
        packing: form.packing,
    };
    let sent = push.parts(image)?;
    let (own, bytes) = own.unzip();
    // The same layers in the same forms: then it is the same image, byte for byte.
    let same = push.family == came_as
        && own.as_ref().is_some_and(|own| {
            let layers = own.layers.iter().map(|layer| layer.digest);
            layers.eq(sent.iter().map(|layer| layer.digest))
        });
    let bytes = match bytes.filter(|_| same) {
        Some(bytes) => bytes,
        None => {
            let annotations = own.map(|own| own.annotations).unwrap_or_default();
            push.family.describe(image, sent, annotations)?
        }
    };
    let pushed = match name.digest() {
        None => push.manifest(name.tag().unwrap_or("latest"), &bytes)?,
        Some(wanted) if *wanted == Digest::of(&bytes) => push.manifest(&wanted.to_string(), &bytes)?,
        Some(wanted) => {
            return Err(PushError::OtherDigest {
                repository: name.repository(),
                wanted: *wanted,
                found: Digest::of(&bytes),
            });
        }
    };
    events::happened(store, "push", &image.id, &name.to_string());
    Ok(pushed)
}

/// A push under way.
pub(super) struct Push<'a> {
    pub(super) store: &'a Store,
    pub(super) repository: &'a Repository,
    pub(super) name: &'a Reference,
    pub(super) progress: &'a dyn Progress,
    pub(super) family: Family,
    pub(super) packing: Packing,
}

impl Push<'_> {
    /// Sees to it that the registry has an image's layers and config; gives the forms of the layers.
    pub(super) fn parts(&self, image: &Image) -> Result<Vec<Descriptor>, PushError> {
        let layers = image.layers.iter().map(|layer| self.layer(layer));
        let layers = layers.collect::<Result<_, _>>()?;
        self.blob(&image.id, &image.raw_config)?;
        Ok(layers)
    }

    /// Sees to it that the registry has a layer; gives the form in which.
    pub(super) fn layer(&self, layer: &DiffId) -> Result<Descriptor, PushError> {
        let known = forms::read(self.store, layer)?;
        for (known, form) in packed::serving(known, self.family, self.packing) {
            let digest = known.digest;
            if self.repository.has_blob(&digest)? == Held::Yes {
                return self.done(layer, known, &Sent::Exists);
            }
            let host = format!("{}/", self.name.domain());
            for source in form
                .sources
                .iter()
                .filter_map(|source| source.strip_prefix(&host))
            {
                if self.repository.mount_blob(&digest, source)? == Held::Mounted {
                    return self.done(layer, known, &Sent::Mounted(source.into()));
                }
            }
        }
        let (file, made) = packed::pack(self.store, layer, self.family, self.packing)?;
        if self.repository.has_blob(&made.digest)? == Held::Yes {
            return self.done(layer, made, &Sent::Exists);
        }
        let open = || Ok(Box::new(File::open(file.path())?) as Box<dyn Read>);
        self.repository.send_blob(&made.digest, made.size, &open)?;
        self.done(layer, made, &Sent::Pushed)
    }

    fn done(&self, layer: &DiffId, form: Descriptor, how: &Sent) -> Result<Descriptor, PushError> {
        forms::note(self.store, layer, &form, &self.name.repository())?;
        self.progress.layer(layer, how);
        Ok(form)
    }

    /// Sees to it that the registry has a small blob.
    pub(super) fn blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), PushError> {
        if self.repository.has_blob(digest)? == Held::Yes {
            return Ok(());
        }
        let open = || Ok(Box::new(io::Cursor::new(bytes.to_vec())) as Box<dyn Read>);
        Ok(self.repository.send_blob(digest, bytes.len() as u64, &open)?)
    }

    pub(super) fn manifest(&self, tag: &str, bytes: &[u8]) -> Result<Pushed, PushError> {
        self.document(tag, self.family.manifest(), bytes)
    }

    /// Puts a manifest, or a list of them, under a tag or its digest.
    pub(super) fn document(
        &self,
        selector: &str,
        media_type: &'static str,
        bytes: &[u8],
    ) -> Result<Pushed, PushError> {
        self.repository.send_manifest(selector, media_type, bytes)?;
        Ok(Pushed {
            media_type,
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        })
    }
}
