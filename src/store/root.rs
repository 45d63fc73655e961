//! What lies where: the store's directories and the paths of its objects (`ARCHITECTURE.md`, "Files on disk").

use std::path::{Path, PathBuf};

use fuse_overlay::index::DiffId;

use super::{ChainId, Digest};

/// The three places where Bryo keeps files. Opening one creates what is missing, 0700.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    state: PathBuf,
    run: PathBuf,
}

impl Store {
    /// Paths below the given directories; nothing is touched.
    pub fn at(root: PathBuf, state: PathBuf, run: PathBuf) -> Store {
        Store { root, state, run }
    }

    /// Images: written once, only read by `run`.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Containers and their writable layers.
    pub fn state(&self) -> &Path {
        &self.state
    }
    /// Sockets and the holder's record; gone after a reboot.
    pub fn run(&self) -> &Path {
        &self.run
    }
    /// A layer's uncompressed tar.
    pub fn layer_tar(&self, layer: &DiffId) -> PathBuf {
        self.root.join("layers").join(format!("{layer}.tar"))
    }
    /// A layer's index.
    pub fn layer_index(&self, layer: &DiffId) -> PathBuf {
        self.root.join("layers").join(format!("{layer}.index"))
    }
    /// The compressed forms in which a layer was seen.
    pub fn layer_forms(&self, layer: &DiffId) -> PathBuf {
        self.root.join("layers").join(format!("{layer}.forms.json"))
    }
    /// A stack's merged index.
    pub fn merged_index(&self, chain: &ChainId) -> PathBuf {
        self.root.join("merged").join(format!("{}.index", chain.hex()))
    }
    /// A manifest or config, byte for byte.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }
    /// Names of images.
    pub fn references(&self) -> PathBuf {
        self.root.join("references.json")
    }
    /// A container's directory.
    pub fn container(&self, id: &str) -> PathBuf {
        self.state.join("containers").join(id)
    }
}
