//! What is a container, from flags to its end? `spec`: flags → Spec; `record`: what is on disk; `life`: its moves;
//! `runtime`: Spec → steps → done; `supervisor`: who stays beside it; `log`: what it wrote.

use std::path::{Path, PathBuf};

mod accounts;
pub mod amended;
pub mod asked;
pub mod attach;
pub mod bridge;
pub mod cgroup;
pub mod changes;
pub mod copy;
mod directory;
pub mod early;
pub mod end;
mod events;
pub mod exec;
pub mod files;
mod flush;
pub mod growing;
pub mod health;
mod held;
pub mod image_file;
pub mod inherited;
pub mod joining;
pub mod leave;
pub mod life;
pub mod log;
mod making;
pub mod named;
pub(crate) mod names;
pub mod neighbour;
pub mod network;
mod notify;
pub mod orphans;
pub mod pause;
pub mod process;
pub mod processes;
pub mod prune;
pub mod record;
mod reopen;
pub mod restart;
mod role;
pub mod rootfs;
pub mod runtime;
pub mod signals;
mod sources;
pub mod spec;
pub mod storage;
pub mod supervisor;
mod touched;
pub mod unit;
pub mod upgrade;
pub mod upkeep;
pub mod view;
pub mod volume;
pub mod wait;

/// Why work on a container failed. One line each: what failed, on what, why, what would help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done, as a verb phrase.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of a container that is not what this program writes.
    #[error("{} is damaged", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A container made by a newer program.
    #[error("{} has version {found}: use the newer bryo that made it", path.display())]
    Newer {
        /// Its record.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// Nothing of that name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several ids begin so.
    #[error("several containers' ids begin with {0}: give more digits")]
    Ambiguous(String),
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// A name against the grammar.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    /// `rm` without `-f`.
    #[error(
        "cannot remove container \"/{0}\": container is running: stop the container before removing or force remove"
    )]
    Running(String),
    /// The same of one that waits to be started again.
    #[error(
        "cannot remove container \"/{0}\": container is restarting: stop the container before removing or force remove"
    )]
    Restarting(String),
    /// `kill` or `stop` of a container that does not run.
    #[error("cannot kill container: {0}: container is not running")]
    NotRunning(String),
    /// `attach` to a container that does not run; Docker's words.
    #[error("You cannot attach to a stopped container, start it first: {0}")]
    NotAttachable(String),
    /// `attach` to one that waits to be started again; Docker's words.
    #[error("You cannot attach to a restarting container, wait until it is running: {0}")]
    AttachRestarting(String),
    /// A container whose supervisor cannot be reached.
    #[error("cannot attach to container {name}: its supervisor cannot be reached by its socket in $BRYO_RUN")]
    Unreached {
        /// The container.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// `exec` in a container that does not run.
    #[error("container {0} is not running")]
    Stopped(String),
    /// `exec` in a container that is paused; Docker's words.
    #[error("Container {0} is paused, unpause the container before exec")]
    ExecPaused(String),
    /// `attach` to one; Docker's words.
    #[error("You cannot attach to a paused container, unpause it first: {0}")]
    AttachPaused(String),
    /// `start` of one; Docker's words.
    #[error("cannot start a paused container, try unpause instead: {0}")]
    StartPaused(String),
    /// `rm` of one without `-f`; Docker's words.
    #[error("cannot remove container \"/{0}\": container is paused and must be unpaused first")]
    RemovePaused(String),
    /// `pause` of one; Docker's words.
    #[error("Container {0} is already paused")]
    Paused(String),
    /// `unpause` of one that is not.
    #[error("Container {0} is not paused")]
    NotPaused(String),
    /// `pause` of one that cannot be.
    #[error("cannot pause container {name}")]
    Pause {
        /// Which.
        name: String,
        /// Why not.
        source: cgroup::CgroupError,
    },
    /// The writable layer of a container cannot be read.
    #[error("writable layer")]
    Upper(#[from] fuse_overlay::upper::OpenError),
    /// `upgrade-server` of a container that does not run.
    #[error("cannot upgrade the server of container {0}: container is not running")]
    NoServer(String),
    /// `upgrade-server` where this program's server cannot take over.
    #[error("container {0} goes on with its own filesystem server: this program's cannot take over from it")]
    NotUpgraded(String),
    /// `start` of a container whose image was removed.
    #[error("the image of container {name}, {image}, is not in the store: pull it again")]
    NoImage {
        /// The container.
        name: String,
        /// The image's id.
        image: String,
    },
    /// A bind mount's source.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {}", .0.display())]
    BindSource(PathBuf),
    /// The source of `--device`; Docker's words.
    #[error("error gathering device information while adding custom device \"{}\"", path.display())]
    Device {
        /// As given.
        path: PathBuf,
        /// Why it is none.
        #[source]
        why: std::io::Error,
    },
    /// `--restart`.
    #[error(transparent)]
    Policy(#[from] restart::PolicyError),
    /// Flags of limits.
    #[error(transparent)]
    Limits(#[from] cgroup::LimitsError),
    /// Limits cannot be changed.
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    /// Flags and image make no health check.
    #[error(transparent)]
    Check(#[from] health::CheckError),
    /// Flags and image make no Spec.
    #[error(transparent)]
    Spec(#[from] spec::SpecError),
    /// The network that was asked for.
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    /// What is another container's.
    #[error(transparent)]
    Neighbour(#[from] neighbour::NeighbourError),
    /// The Spec cannot be carried out here.
    #[error(transparent)]
    Plan(#[from] runtime::PlanError),
    /// A container that does not run, and that another command has been at for too long.
    #[error("another command works on container {0}: wait for it, or end it")]
    Busy(String),
    /// One side of a copy.
    #[error("cannot {action} {place}: {why}")]
    Copy {
        /// `copy from` or `copy to`.
        action: &'static str,
        /// As the user gave it.
        place: String,
        /// Why not.
        why: String,
    },
    /// `--join` of a container that lives as long as its own command.
    #[error("container {0} was not made by --join: a command is run in it by exec")]
    NotShared(String),
    /// `--join` with other flags than those of the one who made the container.
    #[error(
        "container {0} was made by --join with other flags: all who join give the same, but for -e, --env-file, -i and the command"
    )]
    OtherFlags(String),
    /// The supervisor of a container of `--join` cannot be reached.
    #[error("cannot join container {name}")]
    Join {
        /// The container.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A command did not come into a running container.
    #[error(transparent)]
    Enter(#[from] runtime::StartError),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// A network of the user's own.
    #[error(transparent)]
    Bridge(#[from] bridge::BridgeError),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] volume::VolumeError),
    /// The directory of `--rootfs`.
    #[error(transparent)]
    Rootfs(#[from] rootfs::RootfsError),
    /// The image.
    #[error(transparent)]
    Image(#[from] crate::images::Error),
}

impl Error {
    /// For `map_err`: `action` is a verb phrase.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}
