//! Which layer did an equal step of a build make before? One small file per step below `$BRYO_ROOT/steps`, named by its
//! key: a hash of all that the step depends on. The layers that these files name are kept like those of images.
//!
//! Nothing is believed that is not whole: a file that cannot be read, of another version, or whose layers are gone, is as
//! good as none. It is written last, when its layer is stored, and replaced as a whole. Its time of modification says when
//! it was used last.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuse_overlay::index::DiffId;
use serde::{Deserialize, Serialize};

use super::names::Change;
use super::{Error, layers, sweep};
use crate::store::seal::{sealed, unsealed};
use crate::store::write::{self, replace};
use crate::store::{self, Digest, Durability, Store};

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    version: u32,
    /// Its key: one under another's name is not believed.
    key: Digest,
    /// The stack with the step's layer on top, lowest first.
    pub layers: Vec<Digest>,
    /// When the layer was made, RFC 3339: the history of an image that reuses it says so again.
    pub created: String,
    /// The instruction.
    pub text: String,
    /// Its layer is the same whatever it lies on: `COPY --link`. The stack is the one that it was used on last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    linked: bool,
}

const VERSION: u32 = 1;

impl Step {
    /// A step that has made the top of `layers`.
    pub fn new(key: Digest, layers: &[DiffId], created: &str, text: &str) -> Step {
        Step {
            version: VERSION,
            key,
            layers: layers.iter().map(|layer| Digest(layer.0)).collect(),
            created: created.into(),
            text: text.into(),
            linked: false,
        }
    }

    /// The same, but its layer depends on nothing below it.
    pub fn linked(self) -> Step {
        Step { linked: true, ..self }
    }

    /// The same, with the instruction's text, which does not travel.
    pub fn told_as(self, text: &str) -> Step {
        Step {
            text: text.into(),
            ..self
        }
    }

    /// Does its layer depend on nothing below it?
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// What names it.
    pub fn key(&self) -> Digest {
        self.key
    }

    /// The stack with its layer on top.
    pub fn stack(&self) -> Vec<DiffId> {
        self.layers.iter().copied().map(DiffId::from).collect()
    }

    /// Has it added one layer to this stack?
    pub fn is_above(&self, below: &[DiffId]) -> bool {
        let stack = self.stack();
        stack.len() == below.len() + 1 && stack.starts_with(below)
    }

    /// The step as one that stands on this stack; `None` if it does not.
    pub fn above(&self, below: &[DiffId]) -> Option<Step> {
        if self.is_above(below) {
            return Some(self.clone());
        }
        let own = self.layers.last().filter(|_| self.linked)?;
        let below = below.iter().map(|layer| Digest(layer.0));
        Some(Step {
            layers: below.chain([*own]).collect(),
            ..self.clone()
        })
    }

    /// Are its layers all there? Claimed before, they stay.
    pub fn is_stored(&self, store: &Store) -> bool {
        self.stack().iter().all(|layer| layers::is_stored(store, layer))
    }
}

/// The step of a key above a stack, if its layers are all there.
pub fn find(store: &Store, key: &Digest, below: &[DiffId]) -> Option<Step> {
    let known = read(&fs::read(store.step(key)).ok()?).filter(|step| step.key == *key)?;
    known.above(below).filter(|step| step.is_stored(store))
}

/// A line with the sha256 of what follows, which is JSON.
fn read(text: &[u8]) -> Option<Step> {
    let step: Step = serde_json::from_slice(unsealed(text)?).ok()?;
    (step.version == VERSION).then_some(step)
}

fn written(step: &Step) -> serde_json::Result<Vec<u8>> {
    Ok(sealed(&serde_json::to_vec_pretty(step)?))
}

/// Remembers a step whose layers are stored and claimed.
///
/// # Errors
/// The file cannot be written.
pub fn put(store: &Store, key: &Digest, step: &Step) -> Result<(), Error> {
    let path = store.step(key);
    fs::create_dir_all(store.steps()).map_err(store::Error::io("make", &store.steps()))?;
    let text = written(step).map_err(io::Error::from);
    let text = text.map_err(store::Error::io("write", &path))?;
    Ok(replace(&store.tmp(), &path, &text, Durability::Volatile)?)
}

/// The stacks of all steps.
pub(super) fn stacks(store: &Store) -> Result<Vec<Vec<DiffId>>, Error> {
    let mut stacks = Vec::new();
    for entry in store::root::list(&store.steps())? {
        let step = fs::read(entry.path()).ok().and_then(|text| read(&text));
        stacks.extend(step.map(|step| step.stack()));
    }
    Ok(stacks)
}

/// A use within this time of another is not noted: it would cost a write, and ages are told in minutes at best.
const SAME_USE: Duration = Duration::from_secs(60);

/// Notes that a step's layer is used.
pub fn note_use(store: &Store, key: &Digest) {
    let path = store.step(key);
    let long_ago = |path: &Path| {
        let used = fs::metadata(path).and_then(|found| found.modified()).ok()?;
        SystemTime::now()
            .duration_since(used)
            .ok()
            .filter(|age| *age > SAME_USE)
    };
    if long_ago(&path).is_some() {
        // One that cannot be noted (a store that may only be read) is not missed until a prune.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
    }
}

/// A step that is remembered, and who else wants its layer.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The step.
    pub step: Step,
    /// Bytes of its layer's files.
    pub bytes: u64,
    /// When it was used last, or one that stands on it, in seconds since 1970.
    pub used: i64,
    /// An image has the layer.
    pub shared: bool,
    /// It is claimed: somebody builds with it, or it belongs to an image on its way in.
    pub in_use: bool,
}

/// All steps that are remembered.
///
/// # Errors
/// The store cannot be read.
pub fn kept(store: &Store) -> Result<Vec<Kept>, Error> {
    let change = Change::begin(store)?;
    let listed = change.references().images().flat_map(|image| image.layers());
    let listed: HashSet<DiffId> = listed.collect();
    let claimed: HashSet<DiffId> = sweep::claims(store)?.into_iter().flatten().collect();
    drop(change);
    let mut kept = Vec::new();
    for entry in store::root::list(&store.steps())? {
        let path = entry.path();
        let Some(step) = fs::read(&path).ok().and_then(|text| read(&text)) else {
            continue;
        };
        let Some(own) = step.layers.last().copied().map(DiffId::from) else {
            continue;
        };
        if store.step(&step.key) == path {
            kept.push(Kept {
                bytes: layers::bytes(store, &own),
                used: store::write::modified(&path),
                shared: listed.contains(&own),
                in_use: claimed.contains(&own),
                step,
            });
        }
    }
    inherit_use(&mut kept);
    Ok(kept)
}

/// Who uses a step uses all below it.
fn inherit_use(kept: &mut [Kept]) {
    let mut used: HashMap<Vec<Digest>, i64> = HashMap::new();
    for one in kept.iter() {
        for depth in 1..=one.step.layers.len() {
            let below = one.step.layers.get(..depth).unwrap_or_default();
            let last = used.entry(below.to_vec()).or_insert(one.used);
            *last = one.used.max(*last);
        }
    }
    for one in kept {
        one.used = used.get(&one.step.layers).copied().unwrap_or(one.used);
    }
}

/// Forgets a step: the next prune removes what only it kept.
///
/// # Errors
/// The file cannot be removed.
pub fn forget(store: &Store, key: &Digest) -> Result<(), Error> {
    write::remove(&store.step(key))?;
    Ok(())
}

/// Forgets what is not believed: damaged files, those of other versions or under another's name.
///
/// # Errors
/// A file cannot be read or removed.
pub fn forget_unusable(store: &Store) -> Result<(), Error> {
    for entry in store::root::list(&store.steps())? {
        let path = entry.path();
        let step = fs::read(&path).ok().and_then(|text| read(&text));
        if step.is_none_or(|step| step.layers.is_empty() || store.step(&step.key) != path) {
            write::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;

    #[test]
    fn only_what_is_whole_and_its_own_is_believed() {
        let (_dir, store) = scratch();
        let (key, other) = (Digest([1; 32]), Digest([2; 32]));
        let layer = DiffId([7; 32]);
        fs::write(store.layer_tar(&layer), b"").unwrap();
        put(&store, &key, &Step::new(key, &[layer], "then", "RUN true")).unwrap();
        assert!(find(&store, &key, &[]).is_some());
        assert!(find(&store, &key, &[layer]).is_none(), "above another stack");
        let (link, base) = (Digest([3; 32]), DiffId([8; 32]));
        let linked = Step::new(link, &[layer], "then", "COPY --link").linked();
        put(&store, &link, &linked).unwrap();
        assert!(find(&store, &link, &[base]).is_none(), "above what is not there");
        fs::write(store.layer_tar(&base), b"").unwrap();
        assert_eq!(find(&store, &link, &[base]).unwrap().stack(), [base, layer]);
        let path = store.step(&key);
        let whole = fs::read(&path).unwrap();
        fs::copy(&path, store.step(&other)).unwrap();
        assert!(find(&store, &other, &[]).is_none(), "under another's name");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert!(find(&store, &key, &[]).is_none(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(find(&store, &key, &[]).is_none(), "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(find(&store, &key, &[]).is_some());
        fs::remove_file(store.layer_tar(&layer)).unwrap();
        assert!(find(&store, &key, &[]).is_none(), "without its layer");
    }
}
