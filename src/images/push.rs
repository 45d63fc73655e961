//! How is an image sent? Each layer in a compressed form that the registry has already, if one is known; else compressed,
//! which gives the same bytes each time. Then config and manifest.

use std::fs::File;
use std::io::{self, Read};

use flate2::{Compression, GzBuilder};
use fuse_overlay::index::DiffId;

use super::manifest::{Descriptor, Document, Manifest};
use super::reference::Reference;
use super::registry::{Held, Registries, RegistryError, Repository};
use super::{Error, Image, forms, layers, read_blob};
use crate::store::{self, Aside, Digest, Digesting, Store};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

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
            PushError::Registry(error) => error.hint(),
            PushError::Image(error) => error.hint(),
            PushError::Store(error) => error.hint(),
        }
    }
}

/// Sends an image to the registry that `name` means, under its tag.
///
/// # Errors
/// See [`PushError`]. What was sent stays there, and the next push finds it.
pub fn push(
    store: &Store,
    image: &Image,
    name: &Reference,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Pushed, PushError> {
    let repository = Repository::open(name, registries)?;
    let push = Push {
        store,
        repository: &repository,
        name,
        progress,
    };
    let tag = name.tag().unwrap_or("latest");
    let own = read_blob(store, "manifest", &image.manifest)?;
    let own_manifest = match Document::parse(&own) {
        Ok(Document::Manifest(manifest)) => Some(manifest),
        _ => None,
    };
    let mut sent = Vec::new();
    for layer in &image.layers {
        sent.push(push.layer(layer)?);
    }
    push.blob(&image.id, &image.raw_config)?;
    // The same layers in the same forms: then it is the same image, byte for byte.
    if let Some(manifest) = own_manifest.filter(|manifest| {
        manifest
            .layers
            .iter()
            .map(|l| l.digest)
            .eq(sent.iter().map(|l| l.digest))
    }) {
        let media_type = manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST);
        return push.manifest(tag, media_type, &own);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.into()),
        config: Descriptor::new(OCI_CONFIG, image.id, image.raw_config.len() as u64),
        layers: sent,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|source| Error::Config { id: image.id, source })?;
    push.manifest(tag, OCI_MANIFEST, &bytes)
}

/// A push under way.
pub(super) struct Push<'a> {
    pub(super) store: &'a Store,
    pub(super) repository: &'a Repository,
    pub(super) name: &'a Reference,
    pub(super) progress: &'a dyn Progress,
}

impl Push<'_> {
    /// Sees to it that the registry has a layer; gives the form in which.
    pub(super) fn layer(&self, layer: &DiffId) -> Result<Descriptor, PushError> {
        for (digest, form) in forms::read(self.store, layer)? {
            let known = Descriptor::new(oci(&form.media_type), digest, form.size);
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
        let (file, made) = compressed(self.store, layer)?;
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

    pub(super) fn manifest(&self, tag: &str, media_type: &str, bytes: &[u8]) -> Result<Pushed, PushError> {
        self.repository.send_manifest(tag, media_type, bytes)?;
        Ok(Pushed {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        })
    }
}

/// Compresses a layer. Nothing but the tar counts: no time, no name, no machine.
pub(super) fn compressed(store: &Store, layer: &DiffId) -> Result<(Aside, Descriptor), Error> {
    let aside = store.aside()?;
    let mut tar = layers::open_tar(store, layer)?;
    let mut out = Digesting::new(aside.file());
    let mut gzip = GzBuilder::new().write(&mut out, Compression::default());
    let done = io::copy(&mut tar, &mut gzip).and_then(|_| gzip.finish().map(|_| ()));
    done.map_err(store::Error::io("compress a layer into", aside.path()))?;
    let (digest, size) = out.finish();
    Ok((aside, Descriptor::new(OCI_GZIP, digest, size)))
}

/// The media types of an OCI manifest's layers, for what a Docker manifest called otherwise.
pub(super) fn oci(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => OCI_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        other => other,
    }
}
