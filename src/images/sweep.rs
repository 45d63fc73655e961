//! Which files of the store does an image on the list, or one on its way in, need? All others may go.
//!
//! Whoever asks holds the references' lock ([`Change`]): no image arrives meanwhile. Files that a process has open stay
//! readable for it after they are unlinked. A tar goes before what is derived from it, so that one killed in between
//! leaves no index that claims a layer.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use fuse_overlay::index::DiffId;

use super::Error;
use super::arrive::Claimed;
use super::names::{Change, Record};
use super::steps;
use crate::store::lock::Attempt;
use crate::store::{self, ChainId, Digest, Lock, Mode, Store, given, write};

/// What must stay, by the hex digits that file names begin with.
#[derive(Debug, Default)]
pub(super) struct Needed {
    layers: HashSet<String>,
    chains: HashSet<String>,
    blobs: HashSet<String>,
}

impl Needed {
    /// Of the images that the list holds now, of the living claims, and of the steps of builds.
    pub(super) fn now(store: &Store, change: &Change) -> Result<Needed, Error> {
        let mut needed = Needed::default();
        for image in change.references().images() {
            needed.stack(&image.layers());
            needed.blobs.extend(blobs(image).map(|digest| digest.hex()));
        }
        for layers in claims(store)? {
            needed.stack(&layers);
        }
        // After the claims: a build's step is remembered before its claim is let go.
        for layers in steps::stacks(store)? {
            needed.stack(&layers);
        }
        Ok(needed)
    }

    fn stack(&mut self, layers: &[DiffId]) {
        self.layers.extend(layers.iter().map(DiffId::to_string));
        self.chains.insert(ChainId::of(layers).hex());
    }
}

/// The documents of an image: config, manifest, and what its digests name (an image index, for instance).
fn blobs(image: &Record) -> impl Iterator<Item = Digest> {
    let named = image
        .digests
        .iter()
        .filter_map(|name| name.rsplit_once('@')?.1.parse().ok());
    [image.id, image.manifest].into_iter().chain(named)
}

/// The stacks of images on their way in. Claims of the dead are removed.
pub(super) fn claims(store: &Store) -> Result<Vec<Vec<DiffId>>, Error> {
    write::remove_orphans(&store.claims())?;
    let mut claims = Vec::new();
    for entry in store::root::list(&store.claims())? {
        let path = entry.path();
        if path.extension().is_some() {
            continue; // The lease of a claim.
        }
        let text = match fs::read(&path) {
            Ok(text) => text,
            // Just let go: its image has arrived, or never will.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(store::Error::io("read", &path)(error).into()),
        };
        let claimed: Claimed = serde_json::from_slice(&text)
            .map_err(|error| store::Error::io("understand", &path)(error.into()))?;
        claims.push(claimed.layers.into_iter().map(DiffId::from).collect());
    }
    Ok(claims)
}

/// What a removal freed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Freed {
    /// Layers that are gone.
    pub(super) layers: Vec<DiffId>,
    /// Bytes of disk.
    pub(super) bytes: u64,
}

/// Removes the files of images that were taken off the list, but for those that others need.
pub(super) fn remove(store: &Store, needed: &Needed, gone: &[Record]) -> Result<Freed, Error> {
    let mut freed = Freed::default();
    for image in gone {
        for layer in image.layers().into_iter().rev() {
            if needed.layers.contains(&layer.to_string()) || freed.layers.contains(&layer) {
                continue;
            }
            for path in [
                store.layer_tar(&layer),
                store.layer_index(&layer),
                store.layer_forms(&layer),
            ] {
                freed.bytes += write::remove(&path)?;
            }
            freed.layers.push(layer);
        }
        let chain = image.chain();
        if !needed.chains.contains(&chain.hex()) {
            freed.bytes += write::remove(&store.merged_index(&chain))?;
        }
        for digest in blobs(image) {
            if !needed.blobs.contains(&digest.hex()) {
                freed.bytes += write::remove(&store.blob(&digest))?;
            }
        }
    }
    Ok(freed)
}

/// Removes every file that nothing needs: what a killed process left, a lost name's image, a damaged layer set aside.
/// Gives the bytes that this frees.
pub(super) fn all(store: &Store, needed: &Needed) -> Result<u64, Error> {
    let mut bytes = write::remove_orphans(&store.tmp())?;
    bytes += given::remove_orphans(store)?;
    // Tars sort after indexes; a tar must go first.
    bytes += unneeded(&store.layers(), &needed.layers, |name| name.ends_with(".tar"))?;
    bytes += unneeded(&store.layers(), &needed.layers, |_| true)?;
    bytes += unneeded(&store.merged(), &needed.chains, |_| true)?;
    bytes += unneeded(&store.blobs(), &needed.blobs, |_| true)?;
    remove_free_locks(store)?;
    Ok(bytes)
}

fn unneeded(directory: &Path, needed: &HashSet<String>, chosen: impl Fn(&str) -> bool) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in store::root::list(directory)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_needed = name.get(..64).is_some_and(|hex| needed.contains(hex)) && !name.ends_with(DAMAGED);
        if !is_needed && chosen(&name) {
            bytes += write::remove(&entry.path())?;
        }
    }
    Ok(bytes)
}

/// The ending of a tar that `store check` set aside.
pub(super) const DAMAGED: &str = ".damaged";

/// Locks are files that are made again when wanted. One that is held stays.
fn remove_free_locks(store: &Store) -> Result<(), Error> {
    for entry in store::root::list(&store.locks())? {
        let path = entry.path();
        if path.extension().is_some() {
            continue;
        }
        if let Attempt::Taken(lock) = Lock::attempt_existing(&path, Mode::Exclusive)? {
            write::remove(&path)?;
            drop(lock);
        }
    }
    Ok(())
}
