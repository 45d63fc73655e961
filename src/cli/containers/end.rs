//! `rm`, `kill`, `stop`, `restart`: how does a container end?

use std::process::ExitCode;
use std::time::Duration;

use super::super::each::each;
use super::super::report::Failure;
use super::chosen::{Chosen, runs};
use super::start::start;
use crate::containers::end::{self, Force};
use crate::containers::record::{self, Afterwards, Record, Volumes};
use crate::containers::upkeep::STOP_TIMEOUT;
use crate::containers::{Error, signals};
use crate::store::Store;

/// Flags of `rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// End running containers; one that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Remove the volumes that nobody named, too
    #[arg(short, long)]
    volumes: bool,
    /// One that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    /// With --force: seconds until SIGKILL
    #[arg(short, long, value_name = "SECONDS", requires = "force")]
    time: Option<u64>,
    #[command(flatten)]
    chosen: Chosen,
}

/// Flags of `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// Signal by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    chosen: Chosen,
}

/// How a container is stopped.
#[derive(Debug, clap::Args)]
struct How {
    /// Signal to send first
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds until SIGKILL; -1 waits for ever [default: the container's --stop-timeout, 10]
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
}

/// Flags of `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    how: How,
    /// One that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    #[command(flatten)]
    chosen: Chosen,
}

/// Flags of `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    how: How,
    /// Of all, those that run
    #[arg(long, requires = "all")]
    running: bool,
    #[command(flatten)]
    chosen: Chosen,
}

pub(in crate::cli) fn load(store: &Store, name: &str) -> Result<Record, Error> {
    record::of_name(store, name)
}

impl Rm {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let force = if self.force { Force::Yes } else { Force::No };
        let volumes = if self.volumes {
            Volumes::Remove
        } else {
            Volumes::Keep
        };
        let lenient = self.force || self.ignore;
        each(&self.chosen.names(store, |_| true, lenient)?, |name| {
            let id = match record::find(store, name) {
                Err(Error::NoSuchContainer(_)) if lenient => return Ok(None),
                found => found?,
            };
            if let Some(seconds) = self.time {
                let how = How {
                    signal: None,
                    time: i64::try_from(seconds).ok(),
                };
                how.stop(store, &load(store, &id)?)?;
            }
            end::remove_with(store, &id, force, volumes)?;
            Ok(Some(name.to_string()))
        })
    }
}

impl Kill {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let signal = signals::parse(&self.signal).map_err(|error| Failure::of(&error))?;
        each(&self.chosen.names(store, runs, false)?, |name| {
            let record = load(store, name)?;
            match signal {
                libc::SIGKILL => end::kill_for_good(store, &record)?,
                _ => end::kill(store, &record, signal)?,
            }
            Ok(Some(name.to_string()))
        })
    }
}

impl Stop {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let is_up = |record: &Record| record.life.supervisor().is_some();
        each(&self.chosen.names(store, is_up, self.ignore)?, |name| {
            let record = match load(store, name) {
                Err(Error::NoSuchContainer(_)) if self.ignore => return Ok(None),
                found => found?,
            };
            self.how.stop(store, &record)?;
            Ok(Some(name.to_string()))
        })
    }
}

impl How {
    /// Stops a container, if it runs.
    fn stop(&self, store: &Store, record: &Record) -> Result<(), Failure> {
        if record.life.supervisor().is_none() {
            return Ok(());
        }
        let own = record.settings.upkeep.stop_timeout;
        let seconds = self.time.or(own).unwrap_or(STOP_TIMEOUT);
        let limit = u64::try_from(seconds).ok().map(Duration::from_secs);
        let asked = self.signal.as_deref().map(signals::parse).transpose();
        let signal = asked.map_err(|error| Failure::of(&error))?;
        let signal = signal.unwrap_or_else(|| end::stop_signal(record));
        Ok(end::stop(store, record, signal, limit)?)
    }
}

impl Restart {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let fits = |record: &Record| !self.running || runs(record);
        each(&self.chosen.names(store, fits, false)?, |name| {
            let record = load(store, name)?;
            if record.afterwards == Afterwards::Remove {
                return Err(Failure::new(format!(
                    "container {name} cannot be restarted: it is removed when it ends (--rm)"
                )));
            }
            self.how.stop(store, &record)?;
            start(store, &record.id)?;
            end::restarted(store, &record);
            Ok(Some(name.to_string()))
        })
    }
}
