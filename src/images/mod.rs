//! What does a name mean, who serves it, and how is an image fetched, listed and removed?

pub mod reference;

use fuse_overlay::index::DiffId;
use fuse_overlay::union::Lower;
use oci_spec::image::ImageConfiguration;

use crate::store::{ChainId, Digest, Store};

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
}

/// Why work on images failed. One line each: what failed, on what, why, what would help.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

impl Image {
    /// Opens what a filesystem server needs; indexes that are lost, old or damaged are rebuilt first.
    pub fn lower(&self, store: &Store) -> Result<Lower, Error> {
        let _ = store;
        todo!()
    }
}

/// Finds an image by name, id or id prefix.
pub fn find(store: &Store, name: &str) -> Result<Option<Image>, Error> {
    let _ = (store, name);
    todo!()
}
