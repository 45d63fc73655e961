//! How does one wait for what becomes of a container? Its record and its health are files that are replaced; the
//! supervisor's end is noticed at once, too.

use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use super::health::{self, Status};
use super::record::{self, Life, Record};
use super::{Error, end, events};
use crate::store::{Changes, Store, Which};

/// What can be waited for, in Podman's words and in Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It does not run: Docker's own, and nothing to wait for where it does not.
    NotRunning,
    /// The next end of a run, if it does not run now of one that is still to come.
    NextExit,
    /// It is gone.
    Removed,
    /// It was never started.
    Created,
    /// It runs.
    Running,
    /// It has ended, and is not started again.
    Stopped,
    /// Its health.
    Health(Status),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        Ok(match text {
            "not-running" => Condition::NotRunning,
            "next-exit" => Condition::NextExit,
            "removed" | "removing" => Condition::Removed,
            "created" | "configured" => Condition::Created,
            "running" => Condition::Running,
            "stopped" | "exited" => Condition::Stopped,
            "healthy" => Condition::Health(Status::Healthy),
            "unhealthy" => Condition::Health(Status::Unhealthy),
            _ => return Err("created, running, stopped, exited, healthy or unhealthy".into()),
        })
    }
}

impl Condition {
    fn holds(self, store: &Store, record: &Record, run: &Run) -> bool {
        match (self, &record.life) {
            (Condition::NotRunning, life) => !matches!(life, Life::Running { .. }) || run.has_ended(record),
            (Condition::NextExit, _) => run.has_ended(record),
            (Condition::Created, Life::Created) | (Condition::Running, Life::Running { .. }) => true,
            (Condition::Created, Life::Exited { started, .. }) => started.is_empty(),
            (Condition::Stopped, Life::Exited { started, .. }) => !started.is_empty(),
            (Condition::Health(wanted), Life::Running { .. }) => {
                health::found(store, record).is_some_and(|health| health.status == wanted)
            }
            _ => false,
        }
    }

    /// Docker's, to whom a container without an exit code has 0; to Podman it has -1.
    pub fn is_dockers(self) -> bool {
        matches!(
            self,
            Condition::NotRunning | Condition::NextExit | Condition::Removed
        )
    }
}

/// The run of a container that somebody waits for: the one that went on when it was looked at first, else the next.
struct Run {
    /// When the one before was started, if there was none that went on.
    before: Option<String>,
    /// When it was started, and how often it had been started again.
    this: Option<(String, u32)>,
}

impl Run {
    fn of(record: &Record) -> Run {
        let mut run = Run {
            before: record.life.started().cloned(),
            this: None,
        };
        run.look(record);
        run
    }

    fn look(&mut self, record: &Record) {
        if let (None, Life::Running { started, .. }) = (&self.this, &record.life) {
            self.this = Some((started.clone(), record.restarts));
        }
    }

    fn has_ended(&self, now: &Record) -> bool {
        match (&self.this, &now.life) {
            (Some((this, restarts)), Life::Running { started, .. }) => {
                started != this || now.restarts != *restarts
            }
            (Some(_), _) => true,
            // Begun and ended unseen.
            (None, life) => life.started() != self.before.as_ref(),
        }
    }
}

/// Waits until one of these holds; gives the container's exit code, if it has one by then, and `None` if the container was
/// removed meanwhile and nobody knows its exit code. What does not run has ended.
///
/// # Errors
/// Its record cannot be read.
pub fn until(store: &Store, record: &Record, conditions: &[Condition]) -> Result<Option<Option<i32>>, Error> {
    let mut run = Run::of(record);
    let gone = conditions.contains(&Condition::Removed);
    let code = wait(store, record, |now| {
        run.look(now);
        conditions
            .iter()
            .any(|condition| condition.holds(store, now, &run))
    })?;
    Ok(match code {
        // Somebody has started it anew meanwhile.
        Some(None) if conditions.iter().any(|condition| condition.is_dockers()) => {
            Some(events::last_code(store.state(), &record.id))
        }
        None if gone => Some(None),
        code => code,
    })
}

fn wait(
    store: &Store,
    first: &Record,
    mut holds: impl FnMut(&Record) -> bool,
) -> Result<Option<Option<i32>>, Error> {
    let (id, mut seen) = (first.id.as_str(), end::exit_code(first));
    let changes = Changes::of(&store.container(id), Which::Replacement);
    loop {
        let Some(record) = record::read(store, id)? else {
            // It goes by itself (--rm), or somebody was fast.
            return Ok(events::last_code(store.state(), id).or(seen).map(Some));
        };
        seen = end::exit_code(&record).or(seen);
        if holds(&record) {
            return Ok(Some(end::exit_code(&record).or(record.last_code)));
        }
        more(&record, &changes).map_err(|source| Error::Io {
            action: "wait for container",
            path: id.into(),
            source,
        })?;
    }
}

/// Returns when there may be something new.
fn more(record: &Record, changes: &Changes) -> io::Result<()> {
    let supervisor = match record.life.supervisor() {
        Some(supervisor) => supervisor.open()?,
        None => None,
    };
    let end = supervisor.as_ref().map(AsFd::as_fd);
    changes.wait(end, None).map(drop)
}
