//! What became of the last builds? A record of each, with what was shown (`log`), kept for [`MOST`] of them.
//!
//! `$BRYO_STATE/history/<id>.json` is written when a build begins, without an end, and again when it has one; the builder
//! holds the lock of `<id>.log` meanwhile. So one without an end that nobody holds is a build that was killed.

mod log;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use log::{Event, What};

use super::workspace::io_error;
use super::{Error, Material, Progress, remote};
use crate::containers::names;
use crate::images::manifest::Descriptor;
use crate::store::lock::Attempt;
use crate::store::write::{self, Durability, replace};
use crate::store::{Lock, Mode, Store, root};
use log::{Heard, Log};

/// So many builds have a record.
const MOST: usize = 50;

/// Letters of an id, as many as BuildKit's have.
const ID: usize = 25;

/// What was asked for. URLs come without logins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// What the build is called in lists.
    pub name: String,
    /// A directory, an URL, or `-`.
    pub context: String,
    /// Its path in the context if it lies there, or `-`.
    pub dockerfile: String,
    /// The repository that the context is from, and the commit.
    pub repository: Option<(String, String)>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`.
    pub platforms: Vec<String>,
    /// `--build-context`.
    pub contexts: BTreeMap<String, String>,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Other flags, under buildx's names.
    pub config: Map<String, Value>,
}

/// How many steps there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steps {
    /// Begun.
    pub total: u32,
    /// Done, or found in the cache.
    pub completed: u32,
    /// Found in the cache.
    pub cached: u32,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With a result.
    Completed {
        /// The image's manifest or list, if there is one.
        manifest: Option<Descriptor>,
    },
    /// Without.
    Failed {
        /// Why.
        message: String,
        /// The lines of the Dockerfile where it happened, as they were shown.
        lines: String,
    },
    /// By a signal.
    Canceled,
}

/// A build that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When, in microseconds since 1970.
    pub at: i64,
    /// How.
    pub outcome: Outcome,
    /// Of it.
    #[serde(default)]
    pub steps: Steps,
    /// What came from outside.
    #[serde(default)]
    pub materials: Vec<Material>,
}

/// What is kept of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Names it.
    pub id: String,
    /// What was asked for.
    #[serde(default)]
    pub asked: Asked,
    /// When it began, in microseconds since 1970.
    pub started: i64,
    /// `None`: it has none yet, or was killed.
    #[serde(default)]
    pub end: Option<End>,
}

/// A record, and whether its build goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What is kept.
    pub record: Record,
    /// Its builder lives.
    pub running: bool,
    /// Of one without an end, as far as it came.
    pub steps: Steps,
    /// When the last was heard of it, in microseconds since 1970.
    pub last: i64,
}

/// A build that is kept a record of while it goes on. A record is no reason for a build to fail: one that cannot be
/// written is warned of.
#[derive(Debug)]
pub struct Begun {
    store: Store,
    record: Record,
    log: Arc<Log>,
    _running: Lock,
}

impl Begun {
    /// Begins one, and removes those that are too many.
    pub fn new(store: &Store, mut asked: Asked) -> Option<Begun> {
        asked.context = remote::without_login(&asked.context);
        for place in asked.contexts.values_mut() {
            *place = remote::without_login(place);
        }
        match Begun::begin(store, asked) {
            Ok(begun) => Some(begun),
            Err(error) => {
                tracing::warn!("no record of this build: {}", crate::line::chain(&error));
                None
            }
        }
    }

    fn begin(store: &Store, asked: Asked) -> Result<Begun, Error> {
        let above = directory(store);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&above);
        made.map_err(io_error("make", &above))?;
        let id = names::new_id().map_err(io_error("draw", Path::new("random numbers")))?;
        let id: String = id.chars().take(ID).collect();
        let path = log_of(store, &id);
        let running = Lock::acquire(&path, Mode::Exclusive)?;
        let begun = Begun {
            store: store.clone(),
            record: Record {
                id,
                asked,
                started: log::now(),
                end: None,
            },
            log: Arc::new(Log::at(&path)?),
            _running: running,
        };
        begun.write()?;
        tidy(store)?;
        Ok(begun)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Notes what `shown` hears.
    pub fn hears<'a>(&self, shown: Box<dyn Progress + 'a>) -> Box<dyn Progress + 'a> {
        Box::new(Heard::new(Arc::clone(&self.log), shown))
    }

    /// It is over.
    pub fn end(mut self, outcome: Outcome) {
        let (steps, materials) = self.log.told();
        self.record.end = Some(End {
            at: log::now(),
            outcome,
            steps,
            materials,
        });
        if let Err(error) = self.write() {
            tracing::warn!(
                "the record of this build has no end: {}",
                crate::line::chain(&error)
            );
        }
    }

    fn write(&self) -> Result<(), Error> {
        let path = record_of(&self.store, &self.record.id);
        let bytes =
            serde_json::to_vec(&self.record).map_err(|error| io_error("write", &path)(error.into()))?;
        Ok(replace(&self.store.tmp(), &path, &bytes, Durability::Volatile)?)
    }
}

fn directory(store: &Store) -> PathBuf {
    store.state().join("history")
}

fn log_of(store: &Store, id: &str) -> PathBuf {
    directory(store).join(format!("{id}.log"))
}

fn record_of(store: &Store, id: &str) -> PathBuf {
    directory(store).join(format!("{id}.json"))
}

/// The records, the newest first. One that cannot be read is none.
///
/// # Errors
/// Their directory cannot be read.
pub fn records(store: &Store) -> Result<Vec<Known>, Error> {
    let mut all = Vec::new();
    for record in read_all(store)? {
        all.push(known(store, record)?);
    }
    Ok(all)
}

fn read_all(store: &Store) -> Result<Vec<Record>, Error> {
    let mut all: Vec<Record> = Vec::new();
    for entry in root::list(&directory(store))? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(record) = read(&path)
            && path == record_of(store, &record.id)
        {
            all.push(record);
        }
    }
    all.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.id.cmp(&b.id)));
    Ok(all)
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn known(store: &Store, record: Record) -> Result<Known, Error> {
    if let Some(end) = &record.end {
        return Ok(Known {
            running: false,
            steps: end.steps,
            last: end.at,
            record,
        });
    }
    let lock = Lock::attempt_existing(&log_of(store, &record.id), Mode::Exclusive)?;
    let running = matches!(lock, Attempt::Held);
    // It may have ended since it was read.
    if !running
        && let Some(now) = read(&record_of(store, &record.id))
        && now.end.is_some()
    {
        return known(store, now);
    }
    let events = events(store, &record.id)?;
    let last = events.last().map_or(record.started, |event| event.at);
    Ok(Known {
        running,
        steps: log::counted(&events),
        last: if running { log::now() } else { last },
        record,
    })
}

/// What was shown of a build, in its order.
///
/// # Errors
/// It cannot be read.
pub fn events(store: &Store, id: &str) -> Result<Vec<Event>, Error> {
    log::read(&log_of(store, id))
}

/// Removes a record; says whether it could: that of a build that goes on stays.
///
/// # Errors
/// A file cannot be removed.
pub fn remove(store: &Store, id: &str) -> Result<bool, Error> {
    let log = log_of(store, id);
    let held = match Lock::attempt_existing(&log, Mode::Exclusive)? {
        Attempt::Held => return Ok(false),
        Attempt::Gone => None,
        Attempt::Taken(held) => Some(held),
    };
    write::remove(&record_of(store, id))?;
    write::remove(&log)?;
    drop(held);
    Ok(true)
}

/// Lets go of what killed builders held, where that is more than `flock`: a lease lies beside the log.
pub(super) fn let_go(store: &Store) -> Result<(), Error> {
    for entry in root::list(&directory(store))? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "lease") {
            drop(Lock::attempt_existing(&path.with_extension(""), Mode::Exclusive)?);
        }
    }
    Ok(())
}

/// Removes records that are too many, and what a killed builder left that has none.
fn tidy(store: &Store) -> Result<(), Error> {
    let kept: HashSet<String> = read_all(store)?
        .into_iter()
        .take(MOST)
        .map(|one| one.id)
        .collect();
    for entry in root::list(&directory(store))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.split('.').next().unwrap_or_default();
        if !kept.contains(id) {
            remove(store, id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;

    fn ended(store: &Store) -> String {
        let begun = Begun::new(store, Asked::default()).unwrap();
        let id = begun.id().to_owned();
        begun.end(Outcome::Canceled);
        id
    }

    #[test]
    fn only_the_last_are_kept_and_those_that_go_on() {
        let (_dir, store) = scratch();
        let first = Begun::new(&store, Asked::default()).unwrap();
        let ids: Vec<String> = (0..=MOST).map(|_| ended(&store)).collect();
        let known = records(&store).unwrap();
        assert!(known.iter().any(|one| one.record.id == first.id() && one.running));
        assert!(!known.iter().any(|one| one.record.id == ids[0]));
        assert!(known.iter().any(|one| one.record.id == ids[1]));
        drop(first);
        ended(&store);
        let left = fs::read_dir(directory(&store)).unwrap().count();
        assert_eq!(left, 2 * MOST);
    }

    #[test]
    fn one_without_an_end_that_nobody_holds_was_killed() {
        let (_dir, store) = scratch();
        let begun = Begun::new(&store, Asked::default()).unwrap();
        let state = || {
            records(&store)
                .unwrap()
                .pop()
                .map(|one| (one.running, one.record.end))
        };
        assert_eq!(state(), Some((true, None)));
        assert!(!remove(&store, begun.id()).unwrap(), "it goes on");
        let id = begun.id().to_owned();
        drop(begun);
        // A process that another test has just forked has the lock, too, until it executes its program.
        let mut tries = 0..3000;
        while state() == Some((true, None)) && tries.next().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(state(), Some((false, None)));
        assert!(remove(&store, &id).unwrap());
        assert_eq!(state(), None);
    }

    #[test]
    fn what_is_damaged_is_none_and_goes() {
        let (_dir, store) = scratch();
        let id = ended(&store);
        fs::write(record_of(&store, &id), "{").unwrap();
        assert_eq!(records(&store).unwrap(), []);
        ended(&store);
        assert!(!record_of(&store, &id).exists() && !log_of(&store, &id).exists());
    }

    #[test]
    fn logins_are_not_kept() {
        let (_dir, store) = scratch();
        let asked = Asked {
            context: "https://me:secret@host/r.git".into(),
            contexts: [("more".to_string(), "https://me:secret@host/s.git".to_string())].into(),
            ..Asked::default()
        };
        let begun = Begun::new(&store, asked).unwrap();
        let written = fs::read_to_string(record_of(&store, begun.id())).unwrap();
        assert!(
            written.contains("host/r.git") && !written.contains("secret"),
            "{written}"
        );
    }
}
