//! What do builds keep for later ones? Layers of steps, caches of RUN, hashes of contexts. BuildKit calls them regular,
//! exec.cachemount and source.local.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, urls};
use crate::images::steps;
use crate::store::lock::Attempt;
use crate::store::{Digest, Lock, Mode, Store, root, write};

/// Digits of an id, as many as BuildKit's have letters.
const ID: usize = 25;

/// One thing that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Names it.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The instruction, or what it is for.
    pub text: String,
    /// The id of the step that it stands on, if that is kept.
    pub parent: Option<String>,
    /// Bytes of disk.
    pub bytes: u64,
    /// When it was made, RFC 3339, if that is known.
    pub made: Option<String>,
    /// When it was used last, in seconds since 1970.
    pub used: i64,
    /// An image has the layer, too: it stays on the disk.
    pub shared: bool,
    /// A build needs it now.
    pub in_use: bool,
    pub(super) place: Place,
}

/// What a kept thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step's layer.
    Layer,
    /// `RUN --mount=type=cache`.
    Cache,
    /// Hashes of a context's files.
    Hashes,
    /// ADD of a file by URL.
    Url,
}

impl Kind {
    /// BuildKit's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Layer => "regular",
            Kind::Cache => "exec.cachemount",
            Kind::Hashes => "source.local",
            Kind::Url => "source.http",
        }
    }
}

/// Where it lies.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A step of this key, whose stack is this.
    Step(Digest, Vec<Digest>),
    Directory(PathBuf),
    File(PathBuf),
    /// And the note on it.
    Url(PathBuf),
}

/// Bytes of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// All. A layer that several steps made counts once.
    pub all: u64,
    /// What images have, too.
    pub shared: u64,
    /// What a prune could remove.
    pub reclaimable: u64,
}

impl Total {
    /// Of these.
    pub fn of<'a>(kept: impl IntoIterator<Item = &'a Kept>) -> Total {
        let mut total = Total::default();
        let mut counted = HashSet::new();
        for one in kept {
            if let Place::Step(_, layers) = &one.place
                && !counted.insert(layers.last())
            {
                continue;
            }
            total.all += one.bytes;
            total.shared += if one.shared { one.bytes } else { 0 };
            total.reclaimable += if one.in_use { 0 } else { one.bytes };
        }
        total
    }
}

/// All that builds keep, what was used last first, and of what was used at once what others stand on.
///
/// # Errors
/// Something cannot be looked at.
pub fn kept(store: &Store) -> Result<Vec<Kept>, Error> {
    let mut kept = layers(store)?;
    for entry in root::list(&caches(store))? {
        if entry.path().is_dir() {
            kept.push(cache(entry.path())?);
        }
    }
    for entry in root::list(&store.state().join("hashes"))? {
        kept.push(hashes(entry.path()));
    }
    for file in urls::files(store)? {
        kept.push(url(file));
    }
    kept.sort_by(|a, b| b.used.cmp(&a.used).then(a.depth().cmp(&b.depth())));
    Ok(kept)
}

pub(super) fn caches(store: &Store) -> PathBuf {
    store.state().join("caches")
}

impl Kept {
    /// How many layers its stack has.
    fn depth(&self) -> usize {
        match &self.place {
            Place::Step(_, layers) => layers.len(),
            _ => 0,
        }
    }
}

fn layers(store: &Store) -> Result<Vec<Kept>, Error> {
    let kept = steps::kept(store)?;
    let ids: HashMap<&[Digest], String> = kept
        .iter()
        .map(|one| (one.step.layers.as_slice(), short(&one.step.key().hex())))
        .collect();
    let below = |layers: &[Digest]| ids.get(layers.split_last()?.1).cloned();
    let layer = |one: &steps::Kept| Kept {
        id: short(&one.step.key().hex()),
        kind: Kind::Layer,
        text: one.step.text.clone(),
        parent: below(&one.step.layers),
        bytes: one.bytes,
        made: Some(one.step.created.clone()),
        used: one.used,
        shared: one.shared,
        in_use: one.in_use,
        place: Place::Step(one.step.key(), one.step.layers.clone()),
    };
    Ok(kept.iter().map(layer).collect())
}

fn cache(directory: PathBuf) -> Result<Kept, Error> {
    let used = directory.with_extension("use");
    let id = fs::read(&used).unwrap_or_default();
    let in_use = matches!(Lock::attempt_existing(&used, Mode::Exclusive)?, Attempt::Held);
    Ok(Kept {
        id: short(&name(&directory)),
        kind: Kind::Cache,
        text: format!("cache mount with id {:?}", String::from_utf8_lossy(&id)),
        parent: None,
        bytes: size(&directory),
        made: None,
        used: write::modified(if used.exists() { &used } else { &directory }),
        shared: false,
        in_use,
        place: Place::Directory(directory),
    })
}

/// Which URL it was may be a secret.
fn url(path: PathBuf) -> Kept {
    Kept {
        kind: Kind::Url,
        text: "file by URL".into(),
        place: Place::Url(path.clone()),
        ..hashes(path)
    }
}

fn hashes(path: PathBuf) -> Kept {
    Kept {
        id: name(&path),
        kind: Kind::Hashes,
        text: "hashes of a context's files".into(),
        parent: None,
        bytes: fs::metadata(&path).map_or(0, |found| found.len()),
        made: None,
        used: write::modified(&path),
        shared: false,
        in_use: false,
        place: Place::File(path),
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn short(hex: &str) -> String {
    hex.get(..ID).unwrap_or(hex).to_string()
}

/// Bytes of disk of all in a directory, as far as it can be looked at.
fn size(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    let mut ahead = vec![directory.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => ahead.push(entry.path()),
                Ok(meta) => bytes += meta.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}
