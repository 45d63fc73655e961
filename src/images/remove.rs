//! How does an image leave the store? Docker's rules for `rmi`: a name goes first; the image itself with its last name.

use super::Error;
use super::names::{Change, Record};
use super::reference::Reference;
use super::sweep::{self, Needed};
use crate::store::{Digest, Store};

/// A container that was made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its id.
    pub container: String,
    /// The image's id.
    pub image: Digest,
    /// It runs now.
    pub is_running: bool,
}

/// How much a removal may take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Nothing that a container or another name needs.
    No,
    /// All names of the image; the image itself only if no container was made from it.
    Yes,
}

/// What a removal did, in Docker's order: a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This name, in full.
    Untagged(String),
    /// The image of this id, or a layer's diff id.
    Deleted(Digest),
}

/// Removes one name, or an image by id, and the image with its last name. `uses` is asked under the references' lock,
/// under which a container's record is written too: what it does not name, no container is made from.
pub fn remove(
    store: &Store,
    name: &str,
    force: Force,
    uses: &dyn Fn() -> Result<Vec<Use>, Error>,
) -> Result<Vec<Removed>, Error> {
    let mut change = Change::begin(store)?;
    let uses = uses()?;
    let image = change
        .references()
        .find(name)?
        .cloned()
        .ok_or_else(|| Error::NoSuchImage(name.into()))?;
    let used = uses.iter().find(|used| used.image == image.id && used.is_running);
    let used = used.or_else(|| uses.iter().find(|used| used.image == image.id));
    let given = given_name(&image, name);
    let untagged = match &given {
        Some(given) => one_name(&image, given),
        None => image.names.iter().chain(&image.digests).cloned().collect(),
    };
    let is_last = match &given {
        // A digest is a name too: the image stays while any other name or digest points to it.
        Some(_) => image
            .names
            .iter()
            .chain(&image.digests)
            .all(|name| untagged.contains(name)),
        None => true,
    };
    if let (Some(used), true, Force::No) = (used, is_last, force) {
        return Err(conflict(name, &image, used, given.is_some()));
    }
    if given.is_none() {
        check_by_id(name, &image, force, used)?;
    }
    untagged.iter().for_each(|name| change.untag(name));
    let mut removed: Vec<_> = untagged.into_iter().map(Removed::Untagged).collect();
    if is_last && used.is_none() {
        change.forget(&image.id);
        change.save()?;
        let freed = sweep::remove(store, &Needed::now(store, &change)?, std::slice::from_ref(&image))?;
        removed.push(Removed::Deleted(image.id));
        removed.extend(
            freed
                .layers
                .into_iter()
                .map(|layer| Removed::Deleted(Digest(layer.0))),
        );
    } else {
        change.save()?;
    }
    Ok(removed)
}

/// The name of the image that `text` spells; `None` if it is an id or the beginning of one.
fn given_name(image: &Record, text: &str) -> Option<String> {
    let name = Reference::parse(text).ok()?.or_latest();
    let full = match name.digest() {
        Some(&digest) => name.at_digest(digest).to_string(),
        None => name.to_string(),
    };
    (image.names.contains(&full) || image.digests.contains(&full)).then_some(full)
}

/// The name, and with the last tag of a repository also its digests.
fn one_name(image: &Record, given: &str) -> Vec<String> {
    let repository = |name: &str| Reference::parse(name).map(|name| name.repository()).ok();
    let wanted = repository(given);
    let has_other_tag = image
        .names
        .iter()
        .any(|name| name != given && repository(name) == wanted);
    let digests = image
        .digests
        .iter()
        .filter(|digest| !has_other_tag && repository(digest) == wanted);
    let digests = digests.filter(|digest| *digest != given && image.names.contains(given));
    std::iter::once(given.to_owned())
        .chain(digests.cloned())
        .collect()
}

/// By id, an image goes with all its names, if they are of one repository or it is forced.
fn check_by_id(name: &str, image: &Record, force: Force, used: Option<&Use>) -> Result<(), Error> {
    if let Some(used) = used.filter(|used| used.is_running) {
        return Err(conflict(name, image, used, false));
    }
    if image.names.len() > 1 && force == Force::No {
        return Err(Error::Conflict {
            action: format!("delete {}", short(&image.id)),
            must: "must be forced",
            reason: "image is referenced in multiple repositories".into(),
        });
    }
    Ok(())
}

fn conflict(name: &str, image: &Record, used: &Use, is_name: bool) -> Error {
    let container = used.container.get(..12).unwrap_or(&used.container);
    let id = short(&image.id);
    match (is_name, used.is_running) {
        (true, _) => Error::Conflict {
            action: format!("remove repository reference \"{name}\""),
            must: "must force",
            reason: format!("container {container} is using its referenced image {id}"),
        },
        (false, true) => Error::Conflict {
            action: format!("delete {id}"),
            must: "cannot be forced",
            reason: format!("image is being used by running container {container}"),
        },
        (false, false) => Error::Conflict {
            action: format!("delete {id}"),
            must: "must be forced",
            reason: format!("image is being used by stopped container {container}"),
        },
    }
}

fn short(id: &Digest) -> String {
    id.hex().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::images::names::References;
    use crate::store::lock::Attempt;
    use crate::store::{Lock, Mode, scratch};

    fn listed(names: &[&str], digests: &[String]) -> (tempfile::TempDir, Store) {
        let (dir, store) = scratch();
        let mut change = Change::begin(&store).unwrap();
        change.put(Record {
            id: Digest([1; 32]),
            manifest: Digest([2; 32]),
            layers: Vec::new(),
            size: 0,
            created: None,
            names: names.iter().map(|name| name.to_string()).collect(),
            digests: digests.iter().cloned().collect::<BTreeSet<_>>(),
        });
        change.save().unwrap();
        drop(change);
        (dir, store)
    }

    #[test]
    fn an_image_stays_while_any_name_or_digest_is_left() {
        let digest = |repository: &str| format!("{repository}@{}", Digest([2; 32]));
        let (a, b) = (digest("quay.io/x/a"), digest("quay.io/x/b"));
        let (_dir, store) = listed(&["quay.io/x/c:1"], &[a.clone(), b.clone()]);
        let nobody = || Ok(Vec::new());
        for name in ["quay.io/x/c:1", &a] {
            let removed = remove(&store, name, Force::No, &nobody).unwrap();
            assert_eq!(removed, [Removed::Untagged(name.to_owned())]);
        }
        let removed = remove(&store, &b, Force::No, &nobody).unwrap();
        assert_eq!(removed, [Removed::Untagged(b), Removed::Deleted(Digest([1; 32]))]);
        assert_eq!(References::load(&store).unwrap().images().count(), 0);
    }

    #[test]
    fn who_uses_an_image_is_asked_under_the_lock() {
        let (_dir, store) = listed(&["quay.io/x/c:1"], &[]);
        let uses = || {
            let path = store.locks().join("references");
            let other = Lock::attempt_existing(&path, Mode::Shared)?;
            assert!(matches!(other, Attempt::Held));
            Ok(Vec::new())
        };
        remove(&store, "quay.io/x/c:1", Force::No, &uses).unwrap();
        let gone = crate::images::names::Listed::hold(&store, &Digest([1; 32]));
        assert!(matches!(gone, Err(Error::NoSuchImage(_))));
    }
}
