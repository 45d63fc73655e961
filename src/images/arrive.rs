//! How does an image enter the store, with a prune at work beside it? Its layers are claimed first, then stored, then
//! the image is put on the list; from then on the list keeps them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use fuse_overlay::index::DiffId;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::names::{Change, Record};
use super::reference::Reference;
use super::{Error, Image, layers};
use crate::store::failpoint::Stepped;
use crate::store::write::{Aside, Durability, replace, sync_parent};
use crate::store::{self, Digest, Store};

/// Layers that no prune removes while this lives: those of an image on its way in. It is a locked file in `claims/`;
/// that of a killed process is unlocked, and goes with the next prune.
#[derive(Debug)]
pub struct Claim {
    layers: Vec<DiffId>,
    _file: Aside,
}

/// What the file of a [`Claim`] holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claimed {
    /// Diff ids, lowest first.
    pub(super) layers: Vec<Digest>,
}

impl Claim {
    /// Claims the layers of one image, lowest first. Ask only then which of them are there: see [`layers::is_stored`].
    pub fn new(store: &Store, layers: &[DiffId]) -> Result<Claim, Error> {
        // Under the lock, so that a prune sees the claim whole or not at all.
        let _change = Change::begin(store)?;
        let file = Aside::create(&store.claims())?;
        let claimed = Claimed {
            layers: layers.iter().map(|layer| Digest(layer.0)).collect(),
        };
        let text = serde_json::to_vec(&claimed).map_err(|error| error.into());
        text.and_then(|text| Stepped(file.file()).write_all(&text))
            .map_err(store::Error::io("write", file.path()))?;
        Ok(Claim {
            layers: layers.to_vec(),
            _file: file,
        })
    }

    /// The claimed layers, lowest first.
    pub fn layers(&self) -> &[DiffId] {
        &self.layers
    }
}

/// An image whose layers are stored.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// The manifest's bytes.
    pub manifest: &'a [u8],
    /// The config's bytes.
    pub config: &'a [u8],
    /// Names to point to it: with a tag, with a digest (what the registry called it), or none.
    pub names: &'a [Reference],
}

/// Puts an image on the list: documents stored, merged index made, names moved. An image that loses its last name
/// thereby stays, dangling.
pub fn add(store: &Store, claim: Claim, new: &New) -> Result<Image, Error> {
    let id = Digest::of(new.config);
    let config = super::parse_config(id, new.config)?;
    let expected = super::config_layers(id, &config)?;
    if expected != claim.layers {
        let reason = format!(
            "names {} layers, and {} others came",
            expected.len(),
            claim.layers.len()
        );
        return Err(Error::Layers { id, reason });
    }
    let record = record(store, id, &config, &claim.layers, new)?;
    layers::open(store, &claim.layers)?;
    layers::flush_merged(store, &claim.layers)?;
    if let Some(layer) = claim.layers.first() {
        // Who brought one before may have been killed, or failed, before its name was on the disk.
        sync_parent(&store.layer_tar(layer))?;
    }
    // From here on no prune looks: documents are not claimed.
    let mut change = Change::begin(store)?;
    for (digest, bytes) in [(record.manifest, new.manifest), (id, new.config)] {
        store_blob(store, &digest, bytes)?;
    }
    change.put(record);
    change.save()?;
    let record = change
        .references()
        .by_id(&id)
        .cloned()
        .ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
    drop(change);
    drop(claim);
    Image::from_parts(record, new.config.to_vec(), config)
}

fn record(
    store: &Store,
    id: Digest,
    config: &ImageConfiguration,
    layers: &[DiffId],
    new: &New,
) -> Result<Record, Error> {
    let (digests, names): (Vec<_>, Vec<_>) = new.names.iter().partition(|name| name.digest().is_some());
    let mut size = 0u64;
    for layer in layers {
        size = size.saturating_add(layers::size(store, layer)?);
    }
    Ok(Record {
        id,
        manifest: Digest::of(new.manifest),
        layers: layers.iter().map(|layer| Digest(layer.0)).collect(),
        size,
        created: config.created().as_ref().and_then(|text| seconds(text)),
        names: names
            .into_iter()
            .map(|name| name.clone().or_latest().to_string())
            .collect(),
        digests: digests
            .into_iter()
            .filter_map(|name| Some(name.at_digest(*name.digest()?).to_string()))
            .collect::<BTreeSet<_>>(),
    })
}

/// RFC 3339, as the OCI image spec has it, in seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_second())
}

/// Stores a document, unless it is there already, whole; its name is on the disk then, whoever gave it.
fn store_blob(store: &Store, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
    let path = store.blob(digest);
    if fs::read(&path).is_ok_and(|found| found == bytes) {
        return Ok(sync_parent(&path)?);
    }
    Ok(replace(&store.tmp(), &path, bytes, Durability::Durable)?)
}
