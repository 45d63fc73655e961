//! Is what the store holds what its names say? Every tar is hashed against its diff id, every document against its
//! digest, every index is read whole. What is derived is made again; what is not is named, with what would help.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuse_overlay::index::{DiffId, View};
use fuse_overlay::layer::{self, VerifyError};
use parking_lot::Mutex;

use super::names::{Record, References};
use super::{Error, layers, read_blob, sweep};
use crate::store::{self, ChainId, Medium, Store};

/// Tars that are hashed at once: more would only take turns at the disk.
const MOST_THREADS: usize = 4;

/// Something that was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, with what.
    pub problem: String,
    /// What has become of it.
    pub outcome: Outcome,
    /// Names or ids of the images that it belongs to.
    pub images: Vec<String>,
}

/// What has become of something damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was derived, and made again.
    Repaired,
    /// It is lost; its images must be pulled again.
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

/// Checks all images on the list. A damaged tar is set aside, so that the next pull fetches it.
pub fn check(store: &Store) -> Result<Checked, Error> {
    let references = References::load(store)?;
    let images: Vec<&Record> = references.images().collect();
    let mut findings = Vec::new();
    for image in &images {
        let config = read_blob(store, "config", &image.id);
        let manifest = read_blob(store, "manifest", &image.manifest);
        for error in [config, manifest].into_iter().filter_map(Result::err) {
            findings.push(lost(error.to_string(), vec![title(image)]));
        }
    }
    let owners = owners(&images);
    let medium = store.medium()?;
    let (of_layers, bytes) = check_layers(store, medium, &owners)?;
    let is_lost: BTreeSet<DiffId> = of_layers
        .iter()
        .filter(|(_, finding)| finding.outcome == Outcome::Lost)
        .map(|(layer, _)| *layer)
        .collect();
    findings.extend(of_layers.into_iter().map(|(_, finding)| finding));
    let mut chains = BTreeSet::new();
    for image in &images {
        let is_whole = !image.layers().iter().any(|layer| is_lost.contains(layer));
        if is_whole && chains.insert(image.chain()) {
            findings.extend(check_merged(store, medium, image)?);
        }
    }
    // An image that was removed meanwhile is no damage.
    let now = References::load(store)?;
    let is_there = |title: &String| now.find(title).is_ok_and(|found| found.is_some());
    findings.retain(|finding| finding.images.iter().any(is_there));
    Ok(Checked {
        images: images.len(),
        layers: owners.len(),
        bytes,
        findings,
    })
}

fn title(image: &Record) -> String {
    image
        .names
        .first()
        .cloned()
        .unwrap_or_else(|| image.id.to_string())
}

fn lost(problem: String, images: Vec<String>) -> Finding {
    Finding {
        problem,
        outcome: Outcome::Lost,
        images,
    }
}

/// Each layer with the images it belongs to.
fn owners(images: &[&Record]) -> BTreeMap<DiffId, Vec<String>> {
    let mut owners: BTreeMap<DiffId, Vec<String>> = BTreeMap::new();
    for image in images {
        for layer in image.layers() {
            let titles = owners.entry(layer).or_default();
            if !titles.contains(&title(image)) {
                titles.push(title(image));
            }
        }
    }
    owners
}

/// Findings by layer, and the bytes read.
type OfLayers = (Vec<(DiffId, Finding)>, u64);

fn check_layers(
    store: &Store,
    medium: Medium,
    owners: &BTreeMap<DiffId, Vec<String>>,
) -> Result<OfLayers, Error> {
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
                while let Some((layer, titles)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = check_layer(store, medium, layer);
                    results.lock().push((**layer, *titles, result));
                }
            });
        }
    });
    let mut findings = Vec::new();
    let mut bytes = 0u64;
    let mut results = results.into_inner();
    results.sort_by_key(|(layer, ..)| *layer);
    for (layer, titles, result) in results {
        let (size, problem) = result?;
        bytes = bytes.saturating_add(size);
        if let Some((outcome, problem)) = problem {
            findings.push((
                layer,
                Finding {
                    problem,
                    outcome,
                    images: titles.clone(),
                },
            ));
        }
    }
    Ok((findings, bytes))
}

/// The size of a layer's tar, and what was wrong with it or its index.
fn check_layer(
    store: &Store,
    medium: Medium,
    layer: &DiffId,
) -> Result<(u64, Option<(Outcome, String)>), Error> {
    let tar = match layers::open_tar(store, layer) {
        Ok(tar) => tar,
        Err(error @ Error::LayerMissing(_)) => return Ok((0, Some((Outcome::Lost, error.to_string())))),
        Err(error) => return Err(error),
    };
    let size = layers::size(store, layer)?;
    let path = store.layer_index(layer);
    let index = layers::load(&path, medium, |view| {
        view.source() == layer.0 && view.check().is_ok()
    })?;
    let problem = match layer::verify(&tar, *layer, index.as_ref()) {
        Ok(()) if index.is_some() => return Ok((size, None)),
        Ok(()) => "index is missing, old or damaged".to_owned(),
        Err(VerifyError::Read(error)) => {
            return Err(store::Error::io("read", &store.layer_tar(layer))(error).into());
        }
        Err(error @ VerifyError::DiffId(_)) => {
            set_aside(store, layer)?;
            return Ok((
                size,
                Some((Outcome::Lost, format!("layer {layer:?} is damaged: {error}"))),
            ));
        }
        Err(error @ (VerifyError::Sum(_) | VerifyError::Index(_))) => error.to_string(),
    };
    layers::reindex(store, layer, &tar)?;
    Ok((
        size,
        Some((Outcome::Repaired, format!("layer {layer:?}: {problem}"))),
    ))
}

/// Takes a damaged tar out of the layer's name. Containers that have it open keep it; the next prune removes it.
fn set_aside(store: &Store, layer: &DiffId) -> Result<(), Error> {
    let tar = store.layer_tar(layer);
    let mut aside = tar.clone().into_os_string();
    aside.push(sweep::DAMAGED);
    Ok(fs::rename(&tar, &aside).map_err(store::Error::io("set aside", &tar))?)
}

fn check_merged(store: &Store, medium: Medium, image: &Record) -> Result<Option<Finding>, Error> {
    let layers = image.layers();
    let chain = ChainId::of(&layers);
    let path = store.merged_index(&chain);
    let is_good = |view: &View| {
        let is_of_stack = view.source() == chain.0 && view.layers().is_ok_and(|found| found == layers);
        is_of_stack && view.check().is_ok()
    };
    if layers::load(&path, medium, is_good)?.is_some() {
        return Ok(None);
    }
    let index = |layer: &DiffId| {
        let path = store.layer_index(layer);
        layers::load(&path, medium, |view| view.source() == layer.0)?.ok_or(Error::LayerMissing(*layer))
    };
    let indexes = layers.iter().map(index).collect::<Result<Vec<_>, Error>>()?;
    layers::remerge(store, &chain, &indexes)?;
    let problem = format!("merged index of {} is missing, old or damaged", title(image));
    Ok(Some(Finding {
        problem,
        outcome: Outcome::Repaired,
        images: vec![title(image)],
    }))
}
