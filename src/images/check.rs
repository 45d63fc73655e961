//! Is what the store holds what its names say? Every tar is hashed against its diff id, every document against its
//! digest, every index is read whole. What is derived is made again; what is not is named, with what would help.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuse_overlay::index::{DiffId, View};
use fuse_overlay::layer::{self, VerifyError};
use nix::errno::Errno;
use parking_lot::Mutex;

use super::names::{Change, Record, References};
use super::{Error, layers, read_blob, steps, sweep};
use crate::store::lock::is_at;
use crate::store::{self, ChainId, Digest, Durability, Medium, Mode, Store, failpoint};

/// Tars that are hashed at once: more would only take turns at the disk.
const MOST_THREADS: usize = 4;

/// Something that was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, with what.
    pub problem: String,
    /// What has become of it.
    pub outcome: Outcome,
    /// Names or ids of the images that it belongs to. Without any it is the build cache's.
    pub images: Vec<String>,
}

/// What has become of something damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was derived, and made again.
    Repaired,
    /// It is lost: its images must be pulled again, its steps built.
    Lost,
}

/// What a check saw.
#[derive(Debug, Default)]
pub struct Checked {
    /// Images on the list.
    pub images: usize,
    /// Layers, each once.
    pub layers: usize,
    /// Bytes of tars that were hashed.
    pub bytes: u64,
    /// What was wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
struct Wrong {
    problem: String,
    outcome: Outcome,
    owners: Owners,
}

/// Whose a layer or a stack of layers is.
#[derive(Debug, Clone, Default)]
struct Owners {
    /// Images, by their ids.
    images: Vec<Digest>,
    /// A step of a build has made it, or stands on it.
    is_cached: bool,
}

impl Owners {
    fn image(id: Digest) -> Owners {
        Owners {
            images: vec![id],
            is_cached: false,
        }
    }

    fn cache() -> Owners {
        Owners {
            images: Vec::new(),
            is_cached: true,
        }
    }

    /// Is it still anybody's?
    fn remain(&self, now: &References) -> bool {
        self.is_cached || self.images.iter().any(|id| now.by_id(id).is_some())
    }
}

/// Checks all images on the list, and the layers of the build cache. A damaged tar is set aside, so that the next pull
/// fetches it, or the next build makes it.
///
/// Pulls and removals go on beside it: see [`surely`].
pub fn check(store: &Store) -> Result<Checked, Error> {
    let references = References::load(store)?;
    let images: Vec<&Record> = references.images().collect();
    let cached = steps::stacks(store)?;
    let owners = owners(&images, &cached);
    let medium = store.medium()?;
    let mut wrong = Vec::new();
    for image in &images {
        wrong.extend(check_document(store, "config", &image.id, image)?);
        wrong.extend(check_document(store, "manifest", &image.manifest, image)?);
    }
    let (of_layers, bytes) = check_layers(store, medium, &owners)?;
    wrong.extend(of_layers);
    let mut chains = BTreeSet::new();
    let of_images = images
        .iter()
        .map(|image| (image.layers(), Owners::image(image.id), title(image)));
    let of_steps = cached
        .into_iter()
        .map(|stack| (stack, Owners::cache(), "a build step".into()));
    for (stack, owners, name) in of_images.chain(of_steps) {
        if chains.insert(ChainId::of(&stack)) {
            wrong.extend(check_merged(store, medium, &stack, &owners, &name)?);
        }
    }
    Ok(Checked {
        images: images.len(),
        layers: owners.len(),
        bytes,
        findings: findings(&References::load(store)?, wrong),
    })
}

/// With the images' present names. What belongs to none that is still there is no matter any more.
fn findings(now: &References, wrong: Vec<Wrong>) -> Vec<Finding> {
    let still = wrong.into_iter().filter(|wrong| wrong.owners.remain(now));
    let named = still.map(|wrong| Finding {
        problem: wrong.problem,
        outcome: wrong.outcome,
        images: wrong
            .owners
            .images
            .iter()
            .filter_map(|id| now.by_id(id))
            .map(title)
            .collect(),
    });
    named.collect()
}

fn title(image: &Record) -> String {
    image
        .names
        .first()
        .cloned()
        .unwrap_or_else(|| image.id.to_string())
}

/// What `look` finds wrong when nothing can arrive or go, if it finds anything before: half a removal or half a pull is
/// no damage. Nor is anything of images that are removed.
fn surely<T>(
    store: &Store,
    owners: &Owners,
    look: impl Fn() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    if look()?.is_none() {
        return Ok(None);
    }
    let now = Change::begin(store)?;
    match owners.remain(now.references()) {
        true => look(),
        false => Ok(None),
    }
}

fn check_document(
    store: &Store,
    what: &'static str,
    digest: &Digest,
    image: &Record,
) -> Result<Option<Wrong>, Error> {
    surely(store, &Owners::image(image.id), || {
        Ok(read_blob(store, what, digest).err().map(|error| Wrong {
            problem: error.to_string(),
            outcome: Outcome::Lost,
            owners: Owners::image(image.id),
        }))
    })
}

/// Each layer with those it belongs to.
fn owners(images: &[&Record], cached: &[Vec<DiffId>]) -> BTreeMap<DiffId, Owners> {
    let mut owners: BTreeMap<DiffId, Owners> = BTreeMap::new();
    for image in images {
        for layer in image.layers() {
            let ids = &mut owners.entry(layer).or_default().images;
            if !ids.contains(&image.id) {
                ids.push(image.id);
            }
        }
    }
    for layer in cached.iter().flatten() {
        owners.entry(*layer).or_default().is_cached = true;
    }
    owners
}

/// What is wrong, in the layers' order, and the bytes read.
type OfLayers = (Vec<Wrong>, u64);

fn check_layers(store: &Store, medium: Medium, owners: &BTreeMap<DiffId, Owners>) -> Result<OfLayers, Error> {
    let work: Vec<_> = owners.iter().collect();
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MOST_THREADS)
        .min(work.len());
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((layer, owners)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = check_layer(store, medium, layer, owners);
                    results.lock().push((**layer, result));
                }
            });
        }
    });
    let mut wrong = Vec::new();
    let mut bytes = 0u64;
    let mut results = results.into_inner();
    results.sort_by_key(|(layer, _)| *layer);
    for (_, result) in results {
        let (size, found) = result?;
        bytes = bytes.saturating_add(size);
        wrong.extend(found);
    }
    Ok((wrong, bytes))
}

/// The size of a layer's tar, and what was wrong with it or its index.
fn check_layer(
    store: &Store,
    medium: Medium,
    layer: &DiffId,
    owners: &Owners,
) -> Result<(u64, Option<Wrong>), Error> {
    let wrong = |problem, outcome| Wrong {
        problem,
        outcome,
        owners: owners.clone(),
    };
    let missing = || (!layers::is_stored(store, layer)).then(|| Error::LayerMissing(*layer));
    let path = store.layer_tar(layer);
    let tar = match layers::open_tar(store, layer) {
        Ok(tar) => tar,
        Err(Error::LayerMissing(_)) => {
            // A step of a build without its layer is as good as none.
            let owners = Owners {
                is_cached: false,
                ..owners.clone()
            };
            let error = surely(store, &owners, || Ok(missing()))?;
            let wrong = error.map(|error| Wrong {
                problem: error.to_string(),
                outcome: Outcome::Lost,
                owners,
            });
            return Ok((0, wrong));
        }
        Err(error) => return Err(error),
    };
    let size = tar.metadata().map_err(store::Error::io("look at", &path))?.len();
    let index = layers::load(&store.layer_index(layer), medium, |view| {
        view.source() == layer.0 && view.check().is_ok()
    })?;
    let (problem, outcome) = match layer::verify(&tar, *layer, index.as_ref()) {
        Ok(()) if index.is_some() => return Ok((size, None)),
        Ok(()) => ("index is missing, old or damaged".into(), Outcome::Repaired),
        // What its disk does not give any more. All else may be another day's.
        Err(VerifyError::Read(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => {
            (format!("cannot be read: {error}"), Outcome::Lost)
        }
        Err(VerifyError::Read(error)) => return Err(store::Error::io("read", &path)(error).into()),
        Err(error @ VerifyError::DiffId(_)) => (error.to_string(), Outcome::Lost),
        Err(error @ (VerifyError::Sum(_) | VerifyError::Index(_))) => (error.to_string(), Outcome::Repaired),
    };
    let is_mended = mend(store, layer, &tar, outcome)?;
    let problem = format!("layer {layer:?}: {problem}");
    Ok((size, is_mended.then(|| wrong(problem, outcome))))
}

/// Sets a damaged tar aside or makes its index again; `false` if this tar has gone meanwhile, and perhaps another come.
/// A tar arrives under the lock that is held here, but may be removed without it.
fn mend(store: &Store, layer: &DiffId, tar: &File, outcome: Outcome) -> Result<bool, Error> {
    let _lock = store.lock(&format!("layer-{layer}"), Mode::Exclusive)?;
    if !is_at(tar, &store.layer_tar(layer))? {
        return Ok(false);
    }
    match outcome {
        Outcome::Repaired => layers::reindex(store, layer, tar).map(|()| true),
        Outcome::Lost => set_aside(store, layer),
    }
}

/// Takes a damaged tar out of the layer's name. Containers that have it open keep it; the next prune removes it.
fn set_aside(store: &Store, layer: &DiffId) -> Result<bool, Error> {
    let tar = store.layer_tar(layer);
    let mut aside = tar.clone().into_os_string();
    aside.push(sweep::DAMAGED);
    match failpoint::step().and_then(|()| fs::rename(&tar, &aside)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(store::Error::io("set aside", &tar)(error).into()),
    }
}

fn check_merged(
    store: &Store,
    medium: Medium,
    stack: &[DiffId],
    owners: &Owners,
    name: &str,
) -> Result<Option<Wrong>, Error> {
    let chain = ChainId::of(stack);
    let path = store.merged_index(&chain);
    let is_good = |view: &View| {
        let is_of_stack = view.source() == chain.0 && view.layers().is_ok_and(|found| found == stack);
        is_of_stack && view.check().is_ok()
    };
    // That of a step is made when somebody builds on it.
    let is_due = || !owners.images.is_empty() || path.exists();
    let bad = || Ok((is_due() && layers::load(&path, medium, is_good)?.is_none()).then_some(()));
    if surely(store, owners, bad)?.is_none() {
        return Ok(None);
    }
    let mut indexes = Vec::new();
    for layer in stack {
        let is_its = |view: &View| view.source() == layer.0;
        match layers::load(&store.layer_index(layer), medium, is_its)? {
            Some(index) => indexes.push(index),
            // The layer is lost, which is said already, or the image has just been removed.
            None => return Ok(None),
        }
    }
    layers::remerge(store, &chain, &indexes, Durability::Whole)?;
    Ok(Some(Wrong {
        problem: format!("merged index of {name} is missing, old or damaged"),
        outcome: Outcome::Repaired,
        owners: owners.clone(),
    }))
}
