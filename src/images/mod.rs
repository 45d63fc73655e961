//! What does a name mean, who serves it, and how is an image fetched, listed and removed?

pub mod archive;
mod arrive;
pub mod attest;
pub mod cache;
pub mod check;
pub mod commit;
mod error;
pub(crate) mod events;
pub mod forms;
pub mod glob;
pub mod inspect;
pub mod layers;
pub mod list;
pub mod load;
pub mod manifest;
pub mod names;
mod oci_index;
pub mod packed;
pub mod packing;
mod pipe;
pub mod platforms;
pub mod prune;
pub mod pull;
pub mod purl;
pub mod push;
pub mod reference;
pub mod registry;
pub mod remove;
pub mod save;
pub mod steps;
mod sweep;
pub mod usage;

use std::fs;
use std::io::ErrorKind;

use fuse_overlay::index::DiffId;
use fuse_overlay::union::Lower;
use oci_spec::image::ImageConfiguration;

use crate::store::{self, ChainId, Digest, Store};
use manifest::Platform;

pub use arrive::{Claim, New, add};
pub use error::Error;
use names::{Record, References};

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its id: the config's digest.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The config's bytes as they came: some of Docker's fields (HEALTHCHECK, SHELL, ONBUILD) are not in the OCI type.
    pub raw_config: Vec<u8>,
    /// The config.
    pub config: ImageConfiguration,
    /// Its layers, lowest first.
    pub layers: Vec<DiffId>,
    /// The stack's name.
    pub chain: ChainId,
    /// The names that point to it (`docker.io/library/debian:12` in full).
    pub names: Vec<String>,
    /// The digests under which registries know it (`docker.io/library/debian@sha256:…` in full).
    pub digests: Vec<String>,
    /// Bytes of its layers' tars.
    pub size: u64,
}

impl Image {
    /// Opens what a filesystem server needs; indexes that are lost, old or damaged are rebuilt first.
    pub fn lower(&self, store: &Store) -> Result<Lower, Error> {
        layers::open_listed(store, &self.layers)
    }

    /// What it is for, as its config says; `None` if that is none.
    pub fn platform(&self) -> Option<Platform> {
        let config = &self.config;
        let mut found = format!("{}/{}", config.os(), config.architecture());
        if let Some(variant) = config.variant() {
            found.push_str(&format!("/{variant}"));
        }
        found.parse().ok()
    }

    /// Reads the config of a listed image.
    pub fn load(store: &Store, record: &Record) -> Result<Image, Error> {
        let raw_config = read_blob(store, "config", &record.id)?;
        let config = parse_config(record.id, &raw_config)?;
        Image::from_parts(record.clone(), raw_config, config)
    }

    /// An image that is on no list: a stage of a build, whose layers a claim keeps.
    ///
    /// # Errors
    /// The config names other things than layers.
    pub fn unlisted(raw_config: Vec<u8>) -> Result<Image, Error> {
        let id = Digest::of(&raw_config);
        let config = parse_config(id, &raw_config)?;
        let layers = config_layers(id, &config)?;
        Ok(Image {
            id,
            manifest: id,
            raw_config,
            config,
            chain: ChainId::of(&layers),
            layers,
            names: Vec::new(),
            digests: Vec::new(),
            size: 0,
        })
    }

    fn from_parts(record: Record, raw_config: Vec<u8>, config: ImageConfiguration) -> Result<Image, Error> {
        let layers = config_layers(record.id, &config)?;
        let chain = ChainId::of(&layers);
        Ok(Image {
            id: record.id,
            manifest: record.manifest,
            raw_config,
            config,
            layers,
            chain,
            names: record.names.into_iter().collect(),
            digests: record.digests.into_iter().collect(),
            size: record.size,
        })
    }
}

/// Finds an image by name, name@digest, id or id prefix; `None` if there is none.
pub fn find(store: &Store, name: &str) -> Result<Option<Image>, Error> {
    References::load(store)?
        .find(name)?
        .map(|record| Image::load(store, record))
        .transpose()
}

/// A document of an image, checked against its digest.
pub fn read_blob(store: &Store, what: &'static str, digest: &Digest) -> Result<Vec<u8>, Error> {
    let path = store.blob(digest);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::Blob {
                what,
                digest: *digest,
                state: "missing",
            });
        }
        Err(error) => return Err(store::Error::io("read", &path)(error).into()),
    };
    if Digest::of(&bytes) != *digest {
        return Err(Error::Blob {
            what,
            digest: *digest,
            state: "damaged",
        });
    }
    Ok(bytes)
}

/// Reads a config's bytes.
fn parse_config(id: Digest, bytes: &[u8]) -> Result<ImageConfiguration, Error> {
    manifest::parse_config(bytes).map_err(|source| Error::Config { id, source })
}

/// The layers that a config names, lowest first.
fn config_layers(id: Digest, config: &ImageConfiguration) -> Result<Vec<DiffId>, Error> {
    let parse = |text: &String| text.parse::<Digest>().map(DiffId::from);
    let layers = config
        .rootfs()
        .diff_ids()
        .iter()
        .map(parse)
        .collect::<Result<Vec<_>, _>>();
    layers.map_err(|bad| Error::Layers {
        id,
        reason: format!("names a layer that is none: {bad}"),
    })
}
