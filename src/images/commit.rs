//! How does what a build made become a layer of the store, and layers with a config an image?
//!
//! A new layer is claimed together with those below it before its tar has its name, so that no prune takes it between;
//! the claim is dropped when something that lasts keeps the layer: an image on the list, or a record of the build cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};

use fuse_overlay::index::DiffId;
use fuse_overlay::layer;

use super::arrive::{Claim, New, add};
use super::manifest::Descriptor;
use super::packed::Family;
use super::packing::{Packing, Small};
use super::pipe::{Pouring, pipe};
use super::reference::Reference;
use super::{Error, Image, events, layers};
use crate::store::failpoint::Stepped;
use crate::store::{Digest, Durability, Mode, Steady, Store};

/// Stores a layer above `below` (lowest first), as `write` writes its tar: in one pass through diff id and index. Gives
/// the stack with it, claimed.
///
/// # Errors
/// `write` fails, or the store does.
pub fn add_layer(
    store: &Store,
    below: &[DiffId],
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
) -> Result<Claim, Error> {
    let (tar, index) = (store.aside()?, store.aside()?);
    let diff_id = pass(write, tar.file(), index.file()).map_err(Error::NewLayer)?;
    let stack: Vec<DiffId> = below.iter().copied().chain([diff_id]).collect();
    let claim = Claim::new(store, &stack)?;
    let _lock = store.lock(&format!("layer-{diff_id}"), Mode::Exclusive)?;
    if !layers::is_stored(store, &diff_id) {
        // The tar last: a layer is there when its tar is.
        index.commit(&store.layer_index(&diff_id), Durability::Whole)?;
        tar.commit(&store.layer_tar(&diff_id), Durability::Durable)?;
    }
    Ok(claim)
}

/// One thread writes the tar, the other hashes it and makes its index.
fn pass(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    tar: &File,
    index: &File,
) -> io::Result<DiffId> {
    let (to, mut from) = pipe();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut to = Pouring::new(to, Steady::new(tar));
            write(&mut to).and_then(|()| to.end())
        });
        let stored = layer::index(&mut from, &mut Stepped(index));
        drop(from);
        // What the writer says is the cause; a layer that could not be stored cuts its pipe.
        match (writer.join(), stored) {
            (Ok(Ok(())), Ok(stored)) => Ok(stored.diff_id),
            (Ok(Err(error)), _) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            (_, Err(error)) => Err(io::Error::other(error)),
            (Ok(Err(error)), _) => Err(error),
            (Err(_), _) => Err(io::Error::other("a bug ended the writing of the layer")),
        }
    })
}

/// What the manifest of a new image says beside its config and layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// The names that its parts have.
    pub family: Family,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// The same, of the list that it is on, if it is for several platforms.
    pub index: BTreeMap<String, String>,
    /// The form that its layers have outside the store.
    pub packing: Packing,
}

/// Lists an image of claimed layers under `names`. Gives its manifest, too, which tells the layers as they are here, not
/// compressed.
///
/// # Errors
/// The config does not name these layers, or the store fails.
pub fn add_image(
    store: &Store,
    claim: Claim,
    config: &[u8],
    names: &[Reference],
    described: &Described,
) -> Result<(Image, Descriptor), Error> {
    let family = described.family;
    let mut of_layers = Vec::new();
    for layer in claim.layers() {
        let media_type = family.layer(Small::Plain);
        of_layers.push(Descriptor::new(
            media_type,
            Digest(layer.0),
            layers::size(store, layer)?,
        ));
    }
    let image = Image::unlisted(config.to_vec())?;
    let manifest = family.describe(&image, of_layers, described.annotations.clone())?;
    let new = New {
        manifest: &manifest,
        config,
        names,
    };
    let listed = add(store, claim, &new)?;
    for name in names {
        events::happened(store, "tag", &listed.id, &name.to_string());
    }
    let (digest, size) = (Digest::of(&manifest), manifest.len() as u64);
    Ok((listed, Descriptor::new(family.manifest(), digest, size)))
}
