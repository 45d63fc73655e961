//! What can go to free space? Images that nobody names, or nobody uses; and every file that no image needs.
//!
//! Safe beside a pull, a run and another prune: it holds the references' lock; layers on their way in are claimed
//! ([`super::Claim`]); files aside are locked by those who write them; a running container has its files open. The list
//! is written before a file goes, so that one killed in between leaves orphans and no image that lacks a layer.

use super::list::Filters;
use super::names::{Change, Record};
use super::remove::{Removed, Use};
use super::sweep::{self, Needed};
use super::{Error, events};
use crate::store::{Digest, Store};

/// Which images a prune takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those without a tag.
    Dangling,
    /// All that no container was made from.
    Unused,
}

/// What a prune did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Names and images, in order.
    pub removed: Vec<Removed>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
}

/// Removes images and all files that no image needs. `uses` is asked twice, as in [`super::remove::remove`].
pub fn prune(
    store: &Store,
    which: Which,
    filters: &Filters,
    uses: &dyn Fn() -> Result<Vec<Use>, Error>,
) -> Result<Pruned, Error> {
    let mut change = Change::begin(store)?;
    let known = uses()?;
    let mut gone: Vec<Record> = Vec::new();
    for image in change.references().images() {
        let is_used = known.iter().any(|used| used.image == image.id);
        let is_chosen = which == Which::Unused || image.is_dangling();
        if is_chosen && !is_used && filters.accept(store, image)? {
            gone.push(image.clone());
        }
    }
    let gone = change.take_off(gone, uses)?;
    let mut pruned = Pruned::default();
    for image in &gone {
        events::deleted(store, image);
        pruned.removed.extend(
            image
                .names
                .iter()
                .chain(&image.digests)
                .cloned()
                .map(Removed::Untagged),
        );
        pruned.removed.push(Removed::Deleted(image.id));
    }
    let needed = Needed::now(store, &change)?;
    let freed = sweep::remove(store, &needed, &gone)?;
    pruned
        .removed
        .extend(freed.layers.iter().map(|layer| Removed::Deleted(Digest(layer.0))));
    pruned.bytes = freed.bytes + sweep::all(store, &needed)?;
    Ok(pruned)
}

/// Removes all files that neither an image nor a step of a build needs. Gives the bytes of disk that are free again.
///
/// # Errors
/// A file cannot be removed.
pub fn unneeded(store: &Store) -> Result<u64, Error> {
    let change = Change::begin(store)?;
    let needed = Needed::now(store, &change)?;
    sweep::all(store, &needed)
}
