//! What was found of a container's health? A file beside its record, `health.json`, since it changes often and is worth no
//! flush; it names the run that it is of. Docker's rules of who is healthy.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Check, or};
use crate::containers::Error;
use crate::containers::record::{Life, Record};
use crate::store::Store;
use crate::store::write::{Durability, replace};

const NAME: &str = "health.json";
/// Probes that are kept.
const KEPT: usize = 5;

/// How a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has not been well yet, and has time.
    #[default]
    Starting,
    /// The last check said so.
    Healthy,
    /// It failed too often.
    Unhealthy,
}

impl Status {
    /// Docker's word.
    pub fn name(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
        }
    }
}

/// What is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// How it is.
    pub status: Status,
    /// Failures in a row.
    pub failing_streak: u64,
    /// The last probes, oldest first.
    pub log: Vec<Probe>,
    /// When the run was started that this is of.
    #[serde(default, rename = "run")]
    pub run: String,
}

/// One time that it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probe {
    /// When, RFC 3339.
    pub start: String,
    /// When it was done.
    pub end: String,
    /// The command's; -1 if it was not done in time, or could not be run.
    pub exit_code: i32,
    /// What it wrote.
    pub output: String,
}

/// What is known of a container; `None` if nothing is asked of it.
pub fn found(store: &Store, record: &Record) -> Option<Health> {
    record.settings.upkeep.health.as_ref()?;
    let health = Health::read(&store.container(&record.id));
    Some(match &record.life {
        Life::Running { started, .. } => health.of_run(started),
        _ => health,
    })
}

impl Health {
    /// What is in a container's directory. One that cannot be read is as none: it comes again.
    pub(super) fn read(container: &Path) -> Health {
        let text = fs::read(container.join(NAME)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// That of the run that was started then.
    pub(super) fn of_run(self, started: &str) -> Health {
        match self.run == started {
            true => self,
            false => Health {
                run: started.into(),
                ..Health::default()
            },
        }
    }

    pub(super) fn write(&self, container: &Path) -> Result<(), Error> {
        let path = container.join(NAME);
        let text = serde_json::to_vec(self).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        Ok(replace(container, &path, &text, Durability::Volatile)?)
    }

    /// How long to wait until it is asked again, so long after its start.
    pub(super) fn pause(&self, check: &Check, age: Duration) -> Duration {
        let starting = self.status == Status::Starting && age < Duration::from_nanos(check.start_period);
        match starting {
            true => or(check.start_interval, 5),
            false => or(check.interval, 30),
        }
    }

    /// Takes note of a probe that began so long after the start.
    pub(super) fn add(&mut self, probe: Probe, check: &Check, age: Duration) {
        let in_start_period =
            self.status == Status::Starting && age < Duration::from_nanos(check.start_period);
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if !in_start_period {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries() {
                self.status = Status::Unhealthy;
            }
        }
        self.log.push(probe);
        let old = self.log.len().saturating_sub(KEPT);
        self.log.drain(..old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(exit_code: i32) -> Probe {
        let (start, end, output) = (String::new(), String::new(), String::new());
        Probe {
            start,
            end,
            exit_code,
            output,
        }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let (check, late) = (Check::default(), Duration::from_secs(1000));
        let mut health = Health::default();
        let mut all = Vec::new();
        for code in [1, 1, 0, 1, 127, -1, 1, 0] {
            health.add(probe(code), &check, late);
            all.push((health.status.name(), health.failing_streak));
        }
        let expected = [
            ("starting", 1),
            ("starting", 2),
            ("healthy", 0),
            ("healthy", 1),
            ("healthy", 2),
            ("unhealthy", 3),
            ("unhealthy", 4),
            ("healthy", 0),
        ];
        assert_eq!(all, expected);
        let codes: Vec<i32> = health.log.iter().map(|probe| probe.exit_code).collect();
        assert_eq!(codes, [1, 127, -1, 1, 0]);
    }

    #[test]
    fn failures_while_it_starts_do_not_count() {
        let check = Check {
            start_period: 10_000_000_000,
            retries: 1,
            ..Check::default()
        };
        let (early, late) = (Duration::from_secs(9), Duration::from_secs(10));
        let mut health = Health::default();
        health.add(probe(1), &check, early);
        assert_eq!((health.status, health.failing_streak), (Status::Starting, 0));
        assert_eq!(health.pause(&check, early), Duration::from_secs(5));
        assert_eq!(health.pause(&check, late), Duration::from_secs(30));
        // Once it was well, they do.
        health.add(probe(0), &check, early);
        assert_eq!(health.pause(&check, early), Duration::from_secs(30));
        health.add(probe(1), &check, early);
        assert_eq!(health.status, Status::Unhealthy);
    }

    #[test]
    fn what_is_known_is_of_one_run() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Health::read(directory.path()), Health::default());
        let mut health = Health::default().of_run("then");
        health.add(probe(0), &Check::default(), Duration::ZERO);
        health.write(directory.path()).unwrap();
        let read = Health::read(directory.path());
        assert_eq!(read, health);
        assert_eq!(read.clone().of_run("then"), health);
        assert_eq!(read.of_run("now").status, Status::Starting);
    }
}
