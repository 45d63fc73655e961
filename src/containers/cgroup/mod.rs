//! Which cgroups does a container have? One in each hierarchy where the user may make some: `hierarchy` (what is mounted),
//! `place` (where one may be made), `group` (made, limited, removed), `limits` (what the flags mean there), `enter`, `freeze`,
//! `usage`. The kernel's rules: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/.
//!
//! In it are init and all that descends from it, and what `exec` starts; never the supervisor, the filesystem server and the
//! network process: a frozen server would hang whoever looks into the container's tree, and a limit on memory must not kill it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod enter;
mod freeze;
mod group;
mod hierarchy;
mod limits;
mod place;
mod usage;

pub use freeze::{freeze, is_frozen, thaw};
pub use limits::{Limits, LimitsError, MEMORY_MINIMUM};
pub use usage::{Usage, usage};

pub(in crate::containers) use enter::{doors, enter, leave};
pub(in crate::containers) use group::{Group, is_left, of, remove, remove_now};
pub(in crate::containers) use usage::was_short_of_memory;

/// Flags about cgroups, as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `--memory` and the like.
    pub limits: Limits,
    /// `--cgroup-parent`.
    pub parent: Option<String>,
}

/// The two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containers) enum Version {
    /// A hierarchy for some controllers.
    One,
    /// The unified one.
    Two,
}

/// What a cgroup can do for a container. [`Controller::Freezer`] and [`Controller::Time`] are part of every cgroup of
/// version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::containers) enum Controller {
    /// Limits memory.
    Memory,
    /// Shares and limits processor time.
    Cpu,
    /// Says on which processors.
    CpuSet,
    /// Limits the number of threads.
    Pids,
    /// Stops processes.
    Freezer,
    /// Counts processor time.
    Time,
}

/// The controllers that containers can have here, by the kernel's names; or why they have none, and what would help.
///
/// # Errors
/// There is no place for a container's cgroup.
pub fn offered() -> Result<Vec<&'static str>, String> {
    let offered = place::offered(&hierarchy::all());
    if offered.is_empty() {
        return Err(group::remedy(false));
    }
    Ok(offered.into_iter().map(Controller::name).collect())
}

/// How many processors there are, for [`Limits::check`].
pub fn processors() -> u64 {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN)
        .ok()
        .flatten();
    online.and_then(|count| u64::try_from(count).ok()).unwrap_or(1)
}

impl Controller {
    pub(super) const ALL: [Controller; 6] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::CpuSet,
        Controller::Pids,
        Controller::Freezer,
        Controller::Time,
    ];

    /// The kernel's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::CpuSet => "cpuset",
            Controller::Pids => "pids",
            Controller::Freezer => "freezer",
            Controller::Time => "cpuacct",
        }
    }

    fn named(name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Why a container has no cgroup as it was asked for. One line each.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of a cgroup.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// As a verb phrase.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The kernel does not take a limit.
    #[error("the kernel refuses {flag} ({} in {})", text, path.display())]
    Refused {
        /// The flag.
        flag: &'static str,
        /// What was written.
        text: String,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// `--cgroup-parent` of a group in which none can be made.
    #[error("--cgroup-parent {0}: no hierarchy of cgroups has such a group in which you may make others")]
    Parent(String),
    /// A container that is in no cgroup that can be frozen.
    #[error("it has no cgroup that could be frozen: {0}")]
    NotFreezable(String),
    /// Something in it waits in the kernel, and does not stop.
    #[error("its processes did not stop within {0} s; they go on")]
    NotFrozen(u64),
}
