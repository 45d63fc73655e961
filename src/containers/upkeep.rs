//! What is done for a container while it lives, beside running it? Flags that the supervisor, and `stop`, go by.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::health::Check;
use super::restart::Policy;

/// Seconds until SIGKILL, if nothing else is said.
pub const STOP_TIMEOUT: i64 = 10;

/// The flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upkeep {
    /// `--restart`.
    pub restart: Policy,
    /// What is asked of it, by its image or by flags.
    pub health: Option<Check>,
    /// `--stop-timeout`: seconds; negative waits for ever.
    pub stop_timeout: Option<i64>,
    /// `--timeout`: seconds after which it is killed; 0: never.
    pub timeout: u64,
    /// `--pidfile`: where init's pid is written.
    pub pidfile: Option<PathBuf>,
    /// `--conmon-pidfile`: where the supervisor's pid is written.
    pub supervisor_pidfile: Option<PathBuf>,
    /// `--sdnotify`.
    pub notify: Notify,
}

/// Who tells systemd that a container is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// Nobody.
    #[default]
    Ignore,
    /// The supervisor, conmon's part in Podman: when the command runs.
    Conmon,
    /// The container.
    Container,
    /// The health check, when it finds the container well.
    Healthy,
}
