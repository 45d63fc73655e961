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

pub use super::held::{Held, Volumes, hold};
pub use super::named::find;

use super::amended::Amended;
use super::asked::Asked;
use super::process::Process;
use super::runtime::Crowd;
use super::storage::Storage;
use super::unit::Line;
use super::upkeep::Upkeep;
use super::{Error, attach, cgroup, events, joining, log, names, network, volume};
use crate::line::chain;
use crate::store::lock::{Attempt, Lock, Mode};
use crate::store::write::Durability;
use crate::store::{Digest, Store};

/// The version of `record.json` that this program writes.
const VERSION: u32 = 1;

/// Exit code of a container whose supervisor was killed: as if it had got SIGKILL.
pub(super) const KILLED: i32 = 137;

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
    /// Its command ended, and is started again after a pause.
    Restarting {
        /// Who waits for that.
        supervisor: Process,
        /// As Docker has it: 128 + n after signal n.
        code: i32,
        /// When it was started last, RFC 3339.
        started: String,
        /// When it ended, RFC 3339.
        finished: String,
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

impl Life {
    /// When it was started last, if it ever was.
    pub fn started(&self) -> Option<&String> {
        match self {
            Life::Running { started, .. }
            | Life::Restarting { started, .. }
            | Life::Exited { started, .. } => Some(started).filter(|started| !started.is_empty()),
            Life::Created => None,
        }
    }

    /// Who stays beside it, if somebody does.
    pub fn supervisor(&self) -> Option<Process> {
        match self {
            Life::Running { supervisor, .. } | Life::Restarting { supervisor, .. } => Some(*supervisor),
            Life::Created | Life::Exited { .. } => None,
        }
    }
}

/// How often filesystem servers were killed, and followed by others, while the container last ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeovers {
    /// Servers that took over.
    pub servers: u32,
    /// Those of them that found a request in hand, or several.
    #[serde(default)]
    pub busy: u32,
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
    /// `bridge` (the built-in one), `none`, `host` or `container:ID`.
    pub network: String,
    /// `-v`, but of volumes without a name.
    pub binds: Vec<String>,
    /// What was mounted because it was asked for, or the image's.
    #[serde(default)]
    pub mounts: Vec<volume::Mounted>,
    /// Where that is: older programs know no more, and do not read a record without it.
    #[serde(default)]
    pub mount_points: Vec<String>,
    /// `--volumes-from`.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// `--cap-add`, `--cap-drop`.
    pub capabilities: (Vec<String>, Vec<String>),
    /// `--privileged`.
    pub privileged: bool,
    /// `--security-opt`.
    pub security_opts: Vec<String>,
    /// More, as it was written.
    #[serde(default)]
    pub asked: Asked,
    /// `--init`: a process of ours is pid 1 and reaps.
    pub init: bool,
    /// `--join`: a digest of the flags that it was made with, which all who join must give.
    #[serde(default)]
    pub shared: Option<String>,
    /// How its command line was written.
    #[serde(default)]
    pub line: Option<Line>,
    /// `--storage-opt`.
    #[serde(default)]
    pub storage: Storage,
    /// `--log-driver`, `--log-opt`.
    #[serde(default)]
    pub log: log::Settings,
    /// What is done for it while it lives.
    #[serde(default)]
    pub upkeep: Upkeep,
    /// `--memory`, `--cgroup-parent` and the like.
    #[serde(default)]
    pub cgroup: cgroup::Settings,
    /// Ports, addresses, names of hosts.
    #[serde(default)]
    pub ports: network::Settings,
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
    /// Of its network, while it runs.
    #[serde(default)]
    pub network: network::Live,
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
    /// How often it was started again since somebody started it.
    #[serde(default)]
    pub restarts: u32,
    /// The exit code of the run before the one that goes on now, if it is one by the restart policy.
    #[serde(default)]
    pub last_code: Option<i32>,
    /// Whether the kernel killed a process of it, when it last ran, since its memory was at its end.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Whether its processes are stopped. The kernel knows that, and nobody else.
    #[serde(skip)]
    pub paused: bool,
    /// Whether somebody ended its last run: `unless-stopped` asks, which may be its policy later.
    #[serde(default)]
    pub stopped: bool,
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
            network: network::Live::default(),
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
            restarts: 0,
            last_code: None,
            out_of_memory: false,
            paused: false,
            stopped: false,
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

/// The ids of all directories of containers.
///
/// # Errors
/// They cannot be listed.
pub fn ids(store: &Store) -> Result<Vec<String>, Error> {
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

/// The record of the container of this name or id, or beginning of one.
///
/// # Errors
/// As for [`find`] and [`read`]; [`Error::NoSuchContainer`] also if it goes at this moment.
pub fn of_name(store: &Store, name: &str) -> Result<Record, Error> {
    read(store, &find(store, name)?)?.ok_or_else(|| Error::NoSuchContainer(name.into()))
}

/// Reads a container's record; what a killed supervisor left is put right first. `None`: it is gone.
///
/// # Errors
/// The record is damaged or of a newer version.
pub fn read(store: &Store, id: &str) -> Result<Option<Record>, Error> {
    let Some(record) = load(store, id)? else {
        return Ok(None);
    };
    let directory = store.container(id);
    let unsettled = record.life.supervisor().is_some()
        || record.afterwards == Afterwards::Remove
        || cgroup::is_left(&directory);
    if !unsettled {
        return Ok(Some(record));
    }
    match Lock::attempt_existing(&directory.join("lock"), Mode::Exclusive)? {
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
    let mut held = Held::of(store, record, lock);
    // Nobody listens there: else the next prune would find them.
    attach::unlisten(store.run(), id);
    attach::unlisten(store.run(), &joining::door(id));
    // In version 1 the frozen do not die.
    let _ = cgroup::thaw(held.directory());
    end_crowd(&held.record);
    if held.record.afterwards == Afterwards::Remove {
        held.remove()?;
        return Ok(None);
    }
    let exited = lost(&held.record.life);
    let remove = match &exited {
        Some(_) => cgroup::remove,
        // Whoever put that right has waited: a group that stays for ever is not to hold up each command.
        None => cgroup::remove_now,
    };
    if let Some(exited) = exited {
        // It ends by itself, too, but holds the ports until it has.
        if let Some(network) = held.record.network.process.take() {
            network.end(Duration::ZERO);
        }
        if let Life::Running { .. } = held.record.life {
            let code = ("exitCode", KILLED.to_string());
            events::happened(store.state(), &held.record, "die", &[code]);
        }
        // Nobody is kept from seeing it, or the other containers, by a full disk; the next command tries again.
        if let Err(error) = held.set_life(exited) {
            tracing::warn!("the end of container {id} cannot be recorded: {}", chain(&error));
        }
    }
    remove(held.directory());
    Ok(Some(held.record))
}

/// Ends what is left of a container without a pid namespace of its own, whose supervisor was killed together with all that would
/// have ended its processes.
fn end_crowd(record: &Record) {
    let ran = record.life.supervisor().is_some();
    if ran && !record.settings.asked.pid.is_empty() && !Crowd::of(&record.id).end() {
        tracing::warn!("processes of container {} do not end", record.id);
    }
}

/// What became of a container whose supervisor was killed.
fn lost(life: &Life) -> Option<Life> {
    let (code, started, finished) = match life {
        Life::Created | Life::Exited { .. } => return None,
        Life::Restarting {
            code,
            started,
            finished,
            ..
        } => (*code, started.clone(), finished.clone()),
        Life::Running {
            started,
            init,
            server,
            ..
        } => {
            // Both end by themselves when the supervisor does, the server after it has synced; until then the writable
            // layer is in use.
            server.end(SERVER_PATIENCE);
            init.end(Duration::ZERO);
            (KILLED, started.clone(), now())
        }
    };
    Some(Life::Exited {
        code,
        error: "the supervisor was killed".into(),
        started,
        finished,
    })
}

fn load(store: &Store, id: &str) -> Result<Option<Record>, Error> {
    load_at(&store.container(id))
}

/// The record of a container's directory, as it is on the disk, with what was changed since.
pub(super) fn load_at(directory: &Path) -> Result<Option<Record>, Error> {
    let path = directory.join("record.json");
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
    let mut record: Record = serde_json::from_slice(&text).map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    if record.version > VERSION {
        return Err(Error::Newer {
            path,
            found: record.version,
        });
    }
    Amended::read(directory).apply(&mut record);
    record.paused = matches!(record.life, Life::Running { .. }) && cgroup::is_frozen(directory);
    let settings = &mut record.settings;
    if settings.mounts.is_empty() && !settings.mount_points.is_empty() {
        // An older program's. Without its Spec it cannot be started, but be looked at and removed.
        settings.mounts = read_spec(directory)
            .map(|spec| volume::mounted_of(&spec, &settings.mount_points))
            .unwrap_or_default();
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
