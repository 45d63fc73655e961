//! How much room do images take? A layer that several have is there once.

use std::collections::HashMap;

use super::layers;
use super::names::{Record, References};
use super::remove::Use;
use crate::store::{Digest, Store};

/// All images.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all their layers.
    pub all: u64,
    /// Bytes of those that no image has that a container was made from.
    pub reclaimable: u64,
    /// Each image.
    pub images: Vec<Of>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Of {
    /// The image.
    pub image: Record,
    /// Bytes of its layers that others have, too.
    pub shared: u64,
    /// Bytes of the others.
    pub unique: u64,
    /// How many containers were made from it.
    pub containers: usize,
}

/// Looks at all images. A layer that is not there, though it should be, takes no room.
pub fn usage(store: &Store, references: &References, uses: &[Use]) -> Usage {
    let sizes = |image: &Record| -> Vec<(Digest, u64)> {
        let of = |layer: &fuse_overlay::index::DiffId| {
            (Digest(layer.0), layers::size(store, layer).unwrap_or_default())
        };
        // A stack may have a layer twice.
        let mut layers: Vec<_> = image.layers().iter().map(of).collect();
        layers.sort();
        layers.dedup();
        layers
    };
    // How many images have it, and one of them is used.
    let mut owners: HashMap<Digest, (usize, bool, u64)> = HashMap::new();
    let containers = |image: &Record| uses.iter().filter(|used| used.image == image.id).count();
    for image in references.images() {
        let used = containers(image) > 0;
        for (layer, size) in sizes(image) {
            let owner = owners.entry(layer).or_insert((0, false, size));
            owner.0 += 1;
            owner.1 |= used;
        }
    }
    let total = |wanted: &dyn Fn(&(usize, bool, u64)) -> bool| {
        let chosen = owners.values().filter(|owner| wanted(owner));
        chosen.map(|owner| owner.2).sum()
    };
    let of = |image: &Record| {
        let is_shared = |(layer, _): &(Digest, u64)| owners.get(layer).is_some_and(|owner| owner.0 > 1);
        let (shared, unique): (Vec<_>, Vec<_>) = sizes(image).into_iter().partition(is_shared);
        let sum = |layers: Vec<(Digest, u64)>| layers.into_iter().map(|(_, size)| size).sum();
        Of {
            image: image.clone(),
            shared: sum(shared),
            unique: sum(unique),
            containers: containers(image),
        }
    };
    Usage {
        all: total(&|_| true),
        reclaimable: total(&|owner| !owner.1),
        images: references.images().map(of).collect(),
    }
}
