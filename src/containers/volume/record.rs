//! What is on disk of a volume? A directory of its name: `volume.json`, `_data`, and a lock that whoever makes, fills or
//! removes it holds. Without `volume.json` it is none, and free to be taken.
//!
//! They lie under `$BRYO_STATE`, beside the containers that use them: on this node, so that all users of a volume are
//! known, and on a disk that takes owners and locks, which a network filesystem may not.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::VolumeError;
use super::options::Backing;
use crate::containers::record::now;
use crate::containers::{Error, names};
use crate::store::events::{Event, Kind, tell};
use crate::store::lock::{Lock, Mode};
use crate::store::write::{Durability, replace, sync_parent};
use crate::store::{self, Store, failpoint, root};

/// The version of `volume.json` that this program writes.
const VERSION: u32 = 1;

/// The label of a volume that nobody named, Docker's.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the driver was told.
    pub options: BTreeMap<String, String>,
}

/// A volume to be made.
#[derive(Debug, Clone, Default)]
pub struct New {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
}

/// A volume whose lock is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: Record,
    pub(super) directory: PathBuf,
    _lock: Lock,
}

/// Where the volumes of a state directory lie.
pub(super) fn place(state: &Path) -> PathBuf {
    state.join("volumes")
}

/// Where a volume's data lies.
pub(super) fn data(directory: &Path) -> PathBuf {
    directory.join("_data")
}

impl Record {
    /// Where its data lies.
    pub fn mountpoint(&self, store: &Store) -> PathBuf {
        data(&place(store.state()).join(&self.name))
    }

    /// Nobody named it.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// A name that nobody has.
///
/// # Errors
/// There are no random numbers.
pub fn new_name() -> Result<String, Error> {
    names::new_id().map_err(Error::io("draw", Path::new("random numbers")))
}

/// Makes a volume; one that is there already is left as it is.
///
/// # Errors
/// A bad name or option; or what is there has other labels or options than these.
pub fn create(store: &Store, new: New) -> Result<(), Error> {
    if !names::is_name(&new.name) {
        return Err(VolumeError::Name(new.name).into());
    }
    ensure(store, new, Durability::Durable).map(drop)
}

/// The same, and its lock.
pub(super) fn ensure(store: &Store, new: New, durability: Durability) -> Result<Held, Error> {
    Backing::of(&new.options)?;
    let directory = place(store.state()).join(&new.name);
    for _ in 0..8 {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true);
        let made = failpoint::step().and_then(|()| builder.create(&directory));
        made.map_err(Error::io("create", &directory))?;
        let lock = match Lock::acquire(&directory.join("lock"), Mode::Exclusive) {
            // It was removed just now.
            Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            lock => lock?,
        };
        let record = match load(&directory)? {
            Some(record) => same(record, &new)?,
            None => {
                let record = make(&directory, new, durability)?;
                happened(store.state(), &record.name, "create");
                record
            }
        };
        return Ok(Held {
            record,
            directory,
            _lock: lock,
        });
    }
    Err(VolumeError::Restless(new.name).into())
}

/// Tells what becomes of a volume. A copy of an image's files is none.
pub(super) fn happened(state: &Path, name: &str, action: &str) {
    if names::is_name(name) {
        tell(
            state,
            &Event::now(Kind::Volume, action, name).with("driver", "local"),
        );
    }
}

fn same(record: Record, new: &New) -> Result<Record, Error> {
    let others = |asked: &BTreeMap<_, _>, has: &BTreeMap<_, _>| !asked.is_empty() && asked != has;
    let what = match (
        others(&new.options, &record.options),
        others(&new.labels, &record.labels),
    ) {
        (true, _) => "options",
        (false, true) => "labels",
        (false, false) => return Ok(record),
    };
    let name = record.name;
    Err(VolumeError::Differs { name, what }.into())
}

/// The record comes last: a volume that was killed half-way is none.
fn make(directory: &Path, new: New, durability: Durability) -> Result<Record, Error> {
    let record = Record {
        version: VERSION,
        name: new.name,
        created: now(),
        labels: new.labels,
        options: new.options,
    };
    let data = data(directory);
    match failpoint::step().and_then(|()| fs::DirBuilder::new().mode(0o755).create(&data)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.map_err(Error::io("create", &data))?,
    }
    // The umask is not asked: the container's users are to come in.
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&data, mode).map_err(Error::io("set the mode of", &data))?;
    let path = directory.join("volume.json");
    let text = serde_json::to_vec(&record).map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    replace(directory, &path, &text, durability)?;
    if durability == Durability::Durable {
        sync_parent(directory)?;
    }
    Ok(record)
}

pub(super) fn load(directory: &Path) -> Result<Option<Record>, Error> {
    let path = directory.join("volume.json");
    let text = match fs::read(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        text => text.map_err(Error::io("read", &path))?,
    };
    let record: Record = serde_json::from_slice(&text).map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    match record.version {
        VERSION => Ok(Some(record)),
        found => Err(Error::Newer { path, found }),
    }
}

/// Waits for the lock of a volume that is there.
pub(super) fn hold(state: &Path, name: &str) -> Result<Option<Held>, Error> {
    let directory = place(state).join(name);
    if load(&directory)?.is_none() {
        return Ok(None);
    }
    let lock = match Lock::acquire(&directory.join("lock"), Mode::Exclusive) {
        Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        lock => lock?,
    };
    held(directory, lock)
}

/// Takes a volume that nobody works on.
pub(super) fn attempt(state: &Path, name: &str) -> Result<Option<Held>, Error> {
    let directory = place(state).join(name);
    if load(&directory)?.is_none() {
        return Ok(None);
    }
    // One that was restored may have no lock yet.
    match Lock::try_acquire(&directory.join("lock"), Mode::Exclusive) {
        Ok(Some(lock)) => held(directory, lock),
        Ok(None) => Ok(None),
        // It was removed just now.
        Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn held(directory: PathBuf, lock: Lock) -> Result<Option<Held>, Error> {
    Ok(load(&directory)?.map(|record| Held {
        record,
        directory,
        _lock: lock,
    }))
}

/// The volume of this name.
///
/// # Errors
/// There is none, or its record cannot be read.
pub fn find(store: &Store, name: &str) -> Result<Record, Error> {
    let found = match names::is_name(name) {
        true => load(&place(store.state()).join(name))?,
        false => None,
    };
    found.ok_or_else(|| VolumeError::NoSuchVolume(name.into()).into())
}

/// All volumes, by name.
///
/// # Errors
/// They cannot be listed. One that cannot be read is told of and passed over.
pub fn all(store: &Store) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for entry in root::list(&place(store.state()))? {
        let name = entry.file_name();
        if !name.to_str().is_some_and(names::is_name) {
            continue;
        }
        match load(&entry.path()) {
            Ok(record) => records.extend(record),
            Err(error @ (Error::Json { .. } | Error::Newer { .. })) => {
                let why = crate::line::chain(&error);
                tracing::warn!("volume {} is passed over: {why}", name.display());
            }
            Err(error) => return Err(error),
        }
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> New {
        New {
            name: name.into(),
            ..New::default()
        }
    }

    #[test]
    fn a_volume_is_made_once_and_listed_by_name() {
        let (_dir, store) = store::scratch();
        create(&store, new("two")).unwrap();
        create(&store, new("one")).unwrap();
        create(&store, new("one")).unwrap();
        let names: Vec<String> = all(&store)
            .unwrap()
            .into_iter()
            .map(|record| record.name)
            .collect();
        assert_eq!(names, ["one", "two"]);
        assert!(find(&store, "one").unwrap().mountpoint(&store).is_dir());
        assert!(find(&store, "../volumes/one").is_err());
        assert!(create(&store, new("a/b")).is_err());
    }

    #[test]
    fn what_was_killed_half_way_is_none_and_is_made_then() {
        let (_dir, store) = store::scratch();
        fs::create_dir_all(place(store.state()).join("half/_data")).unwrap();
        assert!(find(&store, "half").is_err() && all(&store).unwrap().is_empty());
        create(&store, new("half")).unwrap();
        assert!(find(&store, "half").is_ok());
    }

    #[test]
    fn other_options_than_it_has_are_refused() {
        let (_dir, store) = store::scratch();
        create(&store, new("vol")).unwrap();
        let labels = BTreeMap::from([("k".to_string(), "v".to_string())]);
        let labelled = New { labels, ..new("vol") };
        assert!(matches!(
            create(&store, labelled),
            Err(Error::Volume(VolumeError::Differs { what: "labels", .. }))
        ));
    }
}
