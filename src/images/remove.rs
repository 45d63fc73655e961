//! How does an image leave the store? Docker's rules for `rmi`: a name goes first; the image itself with its last name.

use super::names::{Change, Record};
use super::reference::Reference;
use super::sweep::{self, Needed};
use super::{Error, events};
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

/// Removes one name, or an image by id, and the image with its last name. `uses` is asked before, and once more when the
/// image is off the list ([`Change::take_off`]).
pub fn remove(
    store: &Store,
    name: &str,
    force: Force,
    uses: &dyn Fn() -> Result<Vec<Use>, Error>,
) -> Result<Vec<Removed>, Error> {
    let mut change = Change::begin(store)?;
    let known = uses()?;
    let image = change
        .references()
        .find(name)?
        .cloned()
        .ok_or_else(|| Error::NoSuchImage(name.into()))?;
    let used = user_of(&image, &known);
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
    let mut removed: Vec<_> = untagged.iter().cloned().map(Removed::Untagged).collect();
    if is_last && used.is_none() {
        if change.take_off(vec![image.clone()], uses)?.is_empty() {
            let now = uses()?;
            let used = user_of(&image, &now).ok_or_else(|| Error::NoSuchImage(name.into()))?;
            return Err(conflict(name, &image, used, given.is_some()));
        }
        events::deleted(store, &image);
        let freed = sweep::remove(store, &Needed::now(store, &change)?, std::slice::from_ref(&image))?;
        removed.push(Removed::Deleted(image.id));
        removed.extend(
            freed
                .layers
                .into_iter()
                .map(|layer| Removed::Deleted(Digest(layer.0))),
        );
    } else {
        untagged.iter().for_each(|name| change.untag(name));
        change.save()?;
        for name in &untagged {
            events::happened(store, "untag", &image.id, name);
        }
    }
    Ok(removed)
}

/// A container made from the image, best one that runs.
fn user_of<'a>(image: &Record, uses: &'a [Use]) -> Option<&'a Use> {
    let of_image = || uses.iter().filter(|used| used.image == image.id);
    of_image()
        .find(|used| used.is_running)
        .or_else(|| of_image().next())
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
    use crate::images::list::Filters;
    use crate::images::names::References;
    use crate::images::prune::Which;
    use crate::store::scratch;

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
    fn an_image_that_a_container_is_made_from_meanwhile_stays() {
        let (_dir, store) = listed(&["quay.io/x/c:1"], &[]);
        let is_listed = || {
            let references = References::load(&store).unwrap();
            references
                .by_id(&Digest([1; 32]))
                .is_some_and(|image| image.names.len() == 1)
        };
        // A start that wrote its record just before the image went off the list, and looked just after.
        let uses = || {
            let used = Use {
                container: "c".into(),
                image: Digest([1; 32]),
                is_running: true,
            };
            Ok(Vec::from_iter((!is_listed()).then_some(used)))
        };
        let kept = remove(&store, "quay.io/x/c:1", Force::Yes, &uses);
        assert!(is_listed(), "{kept:?}");
        let pruned = crate::images::prune::prune(&store, Which::Unused, &Filters::default(), &uses).unwrap();
        assert!(is_listed() && pruned.removed.is_empty(), "{pruned:?}");
        remove(&store, "quay.io/x/c:1", Force::No, &|| Ok(Vec::new())).unwrap();
        assert!(!is_listed());
    }
}
