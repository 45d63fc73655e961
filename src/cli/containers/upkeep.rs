//! Flags of `run` and `create` about what is done for a container while it lives.

use std::path::{Path, PathBuf};

use super::super::report::Failure;
use crate::containers::restart::Policy;
use crate::containers::upkeep::{self, Notify};

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Upkeep {
    /// Start it again when it ends: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", value_parser = Policy::parse)]
    restart: Policy,
    /// Seconds that `stop` waits before SIGKILL; -1 waits for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Write the pid of the container's first process to a file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write the pid of the process beside the container to a file; systemd's PIDFile
    #[arg(long, value_name = "FILE")]
    conmon_pidfile: Option<PathBuf>,
    /// Who tells systemd that it is ready: conmon (the process beside it, when the command runs), ignore (nobody)
    #[arg(long, value_name = "MODE", default_value = "ignore", value_parser = notify)]
    sdnotify: Notify,
}

/// Podman's modes, as far as there is something to do for them.
fn notify(text: &str) -> Result<Notify, String> {
    match text {
        "conmon" => Ok(Notify::Conmon),
        "ignore" => Ok(Notify::Ignore),
        "container" | "healthy" => Err("the socket of systemd is not shown to containers: use conmon".into()),
        _ => Err("conmon or ignore".into()),
    }
}

impl Upkeep {
    /// What the flags mean. `rm`: the container is removed at its end.
    pub(super) fn read(self, cwd: &Path, rm: bool) -> Result<upkeep::Upkeep, Failure> {
        if rm && self.restart != Policy::No {
            return Err(
                Failure::new("conflicting options: cannot specify both --restart and --rm").code(125),
            );
        }
        Ok(upkeep::Upkeep {
            restart: self.restart,
            stop_timeout: self.stop_timeout,
            pidfile: self.pidfile.map(|path| cwd.join(path)),
            supervisor_pidfile: self.conmon_pidfile.map(|path| cwd.join(path)),
            notify: self.sdnotify,
        })
    }
}
