//! What is on disk of a container? One directory each: its record, its Spec, its writable layer; and names that point
//! to them.
//!
//! Whoever moves a container (the tool that makes or starts it, then its supervisor) holds the directory's lock, so a
//! record that says *running* while nobody holds the lock is of a container whose supervisor was killed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::process::Process;
use super::storage::Storage;
use super::{Error, directory, log, names, volume};
use crate::line::chain;
use crate::store::failpoint;
use crate::store::lock::{Attempt, Lock, Mode};
use crate::store::write::{Durability, replace, sync_parent};
use crate::store::{Digest, Store};

/// The version of `record.json` that this program writes.
const VERSION: u32 = 1;

/// Exit code of a container whose supervisor was killed: as if it had got SIGKILL.
const KILLED: i32 = 137;

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Life {
    /// Never started.
    Created,
    /// Its command runs.
    Running {
        /// Who stays beside it.
        supervisor: Process,
        /// Pid 1 of the container.
        init: Process,
        /// Who answers for its filesystem.
        server: Process,
        /// When, RFC 3339.
        started: String,
    },
    /// Its command ended.
    Exited {
        /// As Docker has it: 128 + n after signal n.
        code: i32,
        /// Why it did not start, or was not seen to end.
        error: String,
        /// When, RFC 3339; empty if the command never ran.
        started: String,
        /// When, RFC 3339.
        finished: String,
    },
}

/// How often filesystem servers were killed, and followed by others, while the container last ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeovers {
    /// Servers that took over.
    pub servers: u32,
    /// Requests that they found in hand.
    pub in_hand: u32,
    /// Those among them whose work was done already, but for the answer.
    pub happened: u32,
}

/// What becomes of a container that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Afterwards {
    /// It stays until `rm`.
    Keep,
    /// `run --rm`.
    Remove,
    /// `create --rm`: it stays until it has run once.
    RemoveOnceRun,
    /// A step of a build: the builder takes its changes, and removes it. On no list, and no loss at a power cut.
    Commit,
}

/// What the flags said beyond the Spec; `inspect` and `start` need it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The hostname asked for or made.
    pub hostname: String,
    /// `-u`, or the image's.
    pub user: String,
    /// `-i`.
    pub open_stdin: bool,
    /// The command: the words after the image, or its CMD.
    pub command: Vec<String>,
    /// The entrypoint: asked for, or the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Labels of the image and of `-l`.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The signal that `stop` sends first.
    pub stop_signal: String,
    /// `none` or `host`.
    pub network: String,
    /// `-v`, but of volumes without a name.
    pub binds: Vec<String>,
    /// What was mounted because it was asked for, or the image's.
    #[serde(default)]
    pub mounts: Vec<volume::Mounted>,
    /// `--volumes-from`.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// `--cap-add`, `--cap-drop`.
    pub capabilities: (Vec<String>, Vec<String>),
    /// `--privileged`.
    pub privileged: bool,
    /// `--security-opt`.
    pub security_opts: Vec<String>,
    /// `--init`: a process of ours is pid 1 and reaps.
    pub init: bool,
    /// `--storage-opt`.
    #[serde(default)]
    pub storage: Storage,
    /// `--log-driver`, `--log-opt`.
    #[serde(default)]
    pub log: log::Settings,
}

impl Settings {
    /// Is there such a label, of this value if one is given?
    pub fn has_label(&self, name: &str, value: Option<&str>) -> bool {
        let found = self.labels.get(name);
        found.is_some_and(|found| value.is_none_or(|value| value == found))
    }
}

/// What a container stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// An image of this id.
    Image(Digest),
    /// A directory of the host (`--rootfs`).
    Rootfs(PathBuf),
}

impl Base {
    /// The image's id.
    pub fn image(&self) -> Option<&Digest> {
        match self {
            Base::Image(id) => Some(id),
            Base::Rootfs(_) => None,
        }
    }
}

/// A container as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Of its filesystem servers.
    #[serde(default)]
    pub takeovers: Takeovers,
    version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Unique among the user's containers.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What it stands on.
    #[serde(flatten)]
    pub base: Base,
    /// That, as the user called it.
    pub image_name: String,
    /// What becomes of it at its end.
    pub afterwards: Afterwards,
    /// Whose step it is, of a build's.
    #[serde(default)]
    pub builder: Option<Process>,
    /// The flags.
    pub settings: Settings,
    /// Its state.
    pub life: Life,
}

impl Record {
    /// A container that is about to be made.
    pub fn new(
        id: String,
        name: String,
        base: (Base, String),
        afterwards: Afterwards,
        settings: Settings,
    ) -> Record {
        let (base, image_name) = base;
        let (created, life) = (now(), Life::Created);
        Record {
            takeovers: Takeovers::default(),
            version: VERSION,
            id,
            name,
            created,
            base,
            image_name,
            builder: (afterwards == Afterwards::Commit)
                .then(|| Process::of(std::process::id().cast_signed()))
                .flatten(),
            afterwards,
            settings,
            life,
        }
    }

    /// Nobody wants `--rm` containers after a power cut, so nothing waits for the disk on their behalf.
    pub(super) fn durability(&self) -> Durability {
        match self.afterwards {
            Afterwards::Keep | Afterwards::RemoveOnceRun => Durability::Durable,
            Afterwards::Remove | Afterwards::Commit => Durability::Volatile,
        }
    }
}

/// The present, [`shown`].
pub fn now() -> String {
    shown(jiff::Timestamp::now())
}

/// A time as RFC 3339 in UTC, with Docker's nanoseconds.
pub fn shown(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// What becomes of a removed container's own volumes, those that nobody named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// They stay.
    Keep,
    /// They go, unless another container uses them.
    Remove,
}

/// A container whose lock is held: only its holder may change it.
#[derive(Debug)]
pub struct Held {
    /// What is recorded.
    pub record: Record,
    directory: PathBuf,
    names: PathBuf,
    lock: Lock,
}

impl Held {
    /// Makes the directory, writes record and Spec, claims the name. `spec` gets the directory.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; what was begun is removed again.
    pub fn create(
        store: &Store,
        record: Record,
        spec: impl FnOnce(&Path) -> Result<Spec, Error>,
    ) -> Result<Held, Error> {
        let directory = store.container(&record.id);
        let lock = directory::make(&directory)?;
        let held = Held {
            record,
            names: names_dir(store),
            directory,
            lock,
        };
        match held.fill(spec) {
            Ok(()) => Ok(held),
            Err(error) => {
                held.discard();
                Err(error)
            }
        }
    }

    /// Gives up a container that is not made yet. What cannot be removed is an orphan without a record.
    pub(super) fn discard(self) {
        // The reason for giving up is the failure to report.
        let _ = self.remove_with(Volumes::Remove);
    }

    fn fill(&self, spec: impl FnOnce(&Path) -> Result<Spec, Error>) -> Result<(), Error> {
        let spec =
            serde_json::to_vec(&spec(&self.directory)?).map_err(|source| self.bad("config.json", source))?;
        replace(
            &self.directory,
            &self.directory.join("config.json"),
            &spec,
            self.record.durability(),
        )?;
        self.write()?;
        claim(&self.names, &self.record.name, &self.record.id)?;
        if self.record.durability() == Durability::Durable {
            sync_parent(&self.directory)?;
            sync_parent(&self.names.join(&self.record.name))?;
        }
        Ok(())
    }

    fn bad(&self, file: &str, source: serde_json::Error) -> Error {
        Error::Json {
            path: self.directory.join(file),
            source,
        }
    }

    fn write(&self) -> Result<(), Error> {
        let text = serde_json::to_vec(&self.record).map_err(|source| self.bad("record.json", source))?;
        Ok(replace(
            &self.directory,
            &self.directory.join("record.json"),
            &text,
            self.record.durability(),
        )?)
    }

    /// Where the container's files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Records a move.
    ///
    /// # Errors
    /// The record cannot be written; on the disk the old one stands.
    pub fn set_life(&mut self, life: Life) -> Result<(), Error> {
        self.record.life = life;
        self.write()
    }

    /// The Spec as it was made.
    ///
    /// # Errors
    /// `config.json` is gone or damaged.
    pub fn spec(&self) -> Result<Spec, Error> {
        read_spec(&self.directory)
    }

    /// Removes the container with all it holds, and the volumes of its own if it was to go by itself (`--rm`).
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        let volumes = match self.record.afterwards {
            Afterwards::Remove => Volumes::Remove,
            Afterwards::Keep | Afterwards::RemoveOnceRun | Afterwards::Commit => Volumes::Keep,
        };
        self.remove_with(volumes)
    }

    /// The record goes first: a container killed half-way is no container.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_with(mut self, volumes: Volumes) -> Result<(), Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io {
                action: "remove",
                path,
                source,
            }
        };
        let record = self.directory.join("record.json");
        failpoint::step();
        fs::remove_file(&record)
            .or_else(directory::ignore_missing)
            .map_err(io(&record))?;
        release(&self.names, &self.record.name, &self.record.id)?;
        directory::remove(&self.directory, self.lock).map_err(io(&self.directory))?;
        let mounts = &mut self.record.settings.mounts;
        mounts.retain(|mount| volumes == Volumes::Remove || mount.kind == volume::Kind::Image);
        if let Some(state) = self.names.parent().filter(|_| !mounts.is_empty()) {
            volume::release(state, mounts);
        }
        Ok(())
    }

    /// For the supervisor after its last fork.
    pub fn beat(&mut self) {
        self.lock.beat();
    }

    /// For the tool after it forked the supervisor, which holds the container from then on.
    pub fn leave(self) {
        self.lock.leave();
    }

    /// For the supervisor after it was forked.
    ///
    /// # Errors
    /// A lease (where `flock` does not work) cannot be taken over.
    pub fn take_over(&mut self) -> Result<(), Error> {
        Ok(self.lock.take_over()?)
    }
}

/// The Spec of a container's directory.
///
/// # Errors
/// `config.json` is gone or damaged.
pub fn read_spec(directory: &Path) -> Result<Spec, Error> {
    let path = directory.join("config.json");
    let text = fs::read(&path).map_err(|source| Error::Io {
        action: "read",
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })
}

fn names_dir(store: &Store) -> PathBuf {
    store.state().join("names")
}

/// A name is a symlink to an id: made and read in one call each, so no start waits for another's lock.
fn claim(names: &Path, name: &str, id: &str) -> Result<(), Error> {
    let path = names.join(name);
    let io = |source| Error::Io {
        action: "create",
        path: path.clone(),
        source,
    };
    for _ in 0..16 {
        failpoint::step();
        match std::os::unix::fs::symlink(id, &path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(names).map_err(io)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => drop_stale(names, name)?,
            Err(error) => return Err(io(error)),
        }
    }
    Err(Error::NameTaken {
        name: name.into(),
        id: resolve_name(names, name).unwrap_or_default(),
    })
}

/// Removes a name whose container is gone; refuses if it is there. Under a lock: of two who find one name stale, the
/// second must not remove what the first has just claimed.
fn drop_stale(names: &Path, name: &str) -> Result<(), Error> {
    let _lock = Lock::acquire(&names.join("..").join("names.lock"), Mode::Exclusive)?;
    let Some(id) = resolve_name(names, name) else {
        return Ok(());
    };
    let record = names.join("../containers").join(&id).join("record.json");
    if record.exists() {
        return Err(Error::NameTaken {
            name: name.into(),
            id,
        });
    }
    release(names, name, &id)
}

fn release(names: &Path, name: &str, id: &str) -> Result<(), Error> {
    let path = names.join(name);
    if resolve_name(names, name).as_deref() != Some(id) {
        return Ok(());
    }
    failpoint::step();
    fs::remove_file(&path)
        .or_else(directory::ignore_missing)
        .map_err(|source| Error::Io {
            action: "remove",
            path,
            source,
        })
}

fn resolve_name(names: &Path, name: &str) -> Option<String> {
    let id = fs::read_link(names.join(name))
        .ok()?
        .into_os_string()
        .into_string()
        .ok()?;
    names::is_id_prefix(&id).then_some(id)
}

/// Finds the container that `text` names: a name, an id, or the beginning of one.
///
/// # Errors
/// [`Error::NoSuchContainer`], [`Error::Ambiguous`].
pub fn find(store: &Store, text: &str) -> Result<String, Error> {
    let wanted = text.strip_prefix('/').unwrap_or(text);
    if names::is_name(wanted)
        && let Some(id) = resolve_name(&names_dir(store), wanted)
        && store.container(&id).join("record.json").exists()
    {
        return Ok(id);
    }
    let mut matching = Vec::new();
    if names::is_id_prefix(wanted) {
        matching = ids(store)?;
        matching.retain(|id| id.starts_with(wanted));
    }
    match matching.len() {
        0 => Err(Error::NoSuchContainer(text.into())),
        1 => Ok(matching.swap_remove(0)),
        _ => Err(Error::Ambiguous(text.into())),
    }
}

/// The ids of all directories of containers.
pub(super) fn ids(store: &Store) -> Result<Vec<String>, Error> {
    let directory = store.state().join("containers");
    let io = |source| Error::Io {
        action: "list",
        path: directory.clone(),
        source,
    };
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(io)?.file_name().into_string();
        ids.extend(
            name.ok()
                .filter(|name| name.len() == 64 && names::is_id_prefix(name)),
        );
    }
    Ok(ids)
}

/// Reads a container's record; what a killed supervisor left is put right first. `None`: it is gone.
///
/// # Errors
/// The record is damaged or of a newer version.
pub fn read(store: &Store, id: &str) -> Result<Option<Record>, Error> {
    let Some(record) = load(store, id)? else {
        return Ok(None);
    };
    let unsettled = matches!(record.life, Life::Running { .. }) || record.afterwards == Afterwards::Remove;
    if !unsettled {
        return Ok(Some(record));
    }
    match Lock::attempt_existing(&store.container(id).join("lock"), Mode::Exclusive)? {
        Attempt::Held => Ok(Some(record)),
        Attempt::Gone => Ok(None),
        Attempt::Taken(lock) => settle(store, id, lock),
    }
}

/// How long a server may take to sync when its supervisor was killed. Killed then, it loses nothing but that sync.
pub(super) const SERVER_PATIENCE: Duration = Duration::from_secs(10);

/// The record under the lock: nobody is beside the container, so it does not run.
fn settle(store: &Store, id: &str, lock: Lock) -> Result<Option<Record>, Error> {
    let Some(record) = load(store, id)? else {
        return Ok(None);
    };
    let mut held = Held {
        record,
        directory: store.container(id),
        names: names_dir(store),
        lock,
    };
    if held.record.afterwards == Afterwards::Remove {
        held.remove()?;
        return Ok(None);
    }
    if let Life::Running {
        started,
        init,
        server,
        ..
    } = &held.record.life
    {
        // Both end by themselves when the supervisor does, the server after it has synced; until then the writable
        // layer is in use.
        server.end(SERVER_PATIENCE);
        init.end(Duration::ZERO);
        let (started, error) = (started.clone(), "the supervisor was killed".into());
        let exited = Life::Exited {
            code: KILLED,
            error,
            started,
            finished: now(),
        };
        // Nobody is kept from seeing it, or the other containers, by a full disk; the next command tries again.
        if let Err(error) = held.set_life(exited) {
            tracing::warn!("the end of container {id} cannot be recorded: {}", chain(&error));
        }
    }
    Ok(Some(held.record))
}

fn load(store: &Store, id: &str) -> Result<Option<Record>, Error> {
    let path = store.container(id).join("record.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Io {
                action: "read",
                path,
                source,
            });
        }
    };
    let record: Record = serde_json::from_slice(&text).map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    if record.version > VERSION {
        return Err(Error::Newer {
            path,
            found: record.version,
        });
    }
    Ok(Some(record))
}

/// All containers, newest first, each as [`read`] finds it.
///
/// # Errors
/// A record cannot be read.
pub fn all(store: &Store) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for id in ids(store)? {
        match read(store, &id) {
            Ok(record) => records.extend(record),
            // One damaged record must not hide all others, nor keep images from being removed.
            Err(error @ (Error::Json { .. } | Error::Newer { .. })) => {
                tracing::warn!("container {id} is passed over: {}", chain(&error));
            }
            Err(error) => return Err(error),
        }
    }
    records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    Ok(records)
}

/// Removes a container whose record cannot be read, with all it holds.
///
/// # Errors
/// [`Error::Running`] if somebody holds it; or something cannot be removed.
pub fn remove_damaged(store: &Store, id: &str) -> Result<(), Error> {
    let directory = store.container(id);
    let Attempt::Taken(lock) = Lock::attempt_existing(&directory.join("lock"), Mode::Exclusive)? else {
        return Err(Error::Running(id.into()));
    };
    failpoint::step();
    let io = |source| Error::Io {
        action: "remove",
        path: directory.clone(),
        source,
    };
    fs::remove_file(directory.join("record.json"))
        .or_else(directory::ignore_missing)
        .map_err(io)?;
    directory::remove(&directory, lock).map_err(io)
}

/// Takes a container that nobody moves, to start or remove it. `None`: someone holds it, so it runs or is about to.
///
/// # Errors
/// [`Error::NoSuchContainer`] if it is gone.
pub fn hold(store: &Store, id: &str) -> Result<Option<Held>, Error> {
    let gone = || Error::NoSuchContainer(id.into());
    match Lock::attempt_existing(&store.container(id).join("lock"), Mode::Exclusive)? {
        Attempt::Held => Ok(None),
        Attempt::Gone => Err(gone()),
        Attempt::Taken(lock) => {
            let record = load(store, id)?.ok_or_else(gone)?;
            Ok(Some(Held {
                record,
                directory: store.container(id),
                names: names_dir(store),
                lock,
            }))
        }
    }
}
