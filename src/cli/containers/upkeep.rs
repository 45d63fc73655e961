//! Flags of `run` and `create` about what is done for a container while it lives.

use std::path::{Path, PathBuf};

use super::super::report::Failure;
use crate::containers::health::{Asked, Check};
use crate::containers::life::Below;
use crate::containers::restart::Policy;
use crate::containers::upkeep::{self, Notify};
use crate::moment::age;

/// The flags.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Upkeep {
    /// Start it again when it ends: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", value_parser = Policy::parse)]
    restart: Policy,
    /// Ask the container how it is by this command; none asks nothing
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two checks (30s)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_interval: Option<u64>,
    /// Time that a check may take (30s)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_timeout: Option<u64>,
    /// Failures in a row that make it unhealthy (3)
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u64>,
    /// Time after the start in which failures do not count (0s)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_start_period: Option<u64>,
    /// Time between two checks in that time (5s)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_start_interval: Option<u64>,
    /// Ask nothing, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
    /// Seconds that `stop` waits before SIGKILL; -1 waits for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Kill it after so many seconds; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "0", hide_default_value = true)]
    timeout: u64,
    /// Write the pid of the container's first process to a file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write the pid of the process beside the container to a file; systemd's PIDFile
    #[arg(long, value_name = "FILE")]
    conmon_pidfile: Option<PathBuf>,
    /// Who tells systemd that it is ready: conmon (the process beside it, when the command runs), container, healthy (its
    /// health check), ignore (nobody)
    #[arg(long, value_name = "MODE", default_value = "ignore", value_parser = notify)]
    sdnotify: Notify,
}

/// Nanoseconds of Go's duration; 0 is as if it were not said, as Docker has it.
fn duration(text: &str) -> Result<u64, String> {
    let time = match text {
        "0" => return Ok(0),
        _ => age(text).ok_or("a time is 30s, 1m30s, 500ms")?,
    };
    match u64::try_from(time.as_nanos()) {
        Ok(0) => Ok(0),
        Ok(time) if time < 1_000_000 => Err("it cannot be less than 1ms".into()),
        Ok(time) => Ok(time),
        Err(_) => Err("it cannot be negative".into()),
    }
}

/// Podman's modes.
fn notify(text: &str) -> Result<Notify, String> {
    match text {
        "conmon" => Ok(Notify::Conmon),
        "ignore" => Ok(Notify::Ignore),
        "container" => Ok(Notify::Container),
        "healthy" => Ok(Notify::Healthy),
        _ => Err("container, conmon, healthy or ignore".into()),
    }
}

impl Upkeep {
    /// What the flags mean for a container of this image. `rm`: it is removed at its end.
    pub(super) fn read(self, cwd: &Path, rm: bool, below: &Below) -> Result<upkeep::Upkeep, Failure> {
        if rm && self.restart != Policy::No {
            return Err(
                Failure::new("conflicting options: cannot specify both --restart and --rm").code(125),
            );
        }
        let image: &[u8] = match below {
            Below::Image(image) => &image.raw_config,
            Below::Rootfs(_) => b"",
        };
        let health = self.asked().over(image);
        let health = health.map_err(|error| Failure::of(&error).code(125))?;
        if self.sdnotify == Notify::Healthy && health.is_none() {
            let why = "sdnotify policy \"healthy\" requires a healthcheck to be set";
            return Err(Failure::new(why).code(125));
        }
        Ok(upkeep::Upkeep {
            health,
            restart: self.restart,
            stop_timeout: self.stop_timeout,
            timeout: self.timeout,
            pidfile: self.pidfile.map(|path| cwd.join(path)),
            supervisor_pidfile: self.conmon_pidfile.map(|path| cwd.join(path)),
            notify: self.sdnotify,
        })
    }

    fn asked(&self) -> Asked {
        let test = self.health_cmd.as_deref().filter(|test| *test != "none");
        Asked {
            none: self.no_healthcheck || self.health_cmd.as_deref() == Some("none"),
            check: Check {
                test: test.map(Check::test).unwrap_or_default(),
                interval: self.health_interval.unwrap_or(0),
                timeout: self.health_timeout.unwrap_or(0),
                start_period: self.health_start_period.unwrap_or(0),
                start_interval: self.health_start_interval.unwrap_or(0),
                retries: self.health_retries.unwrap_or(0),
            },
        }
    }
}
