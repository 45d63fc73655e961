//! How does one wait for what becomes of a container? Its record and its health are files that are replaced; the
//! supervisor's end is noticed at once, too.

use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use super::health::{self, Status};
use super::record::{self, Life, Record};
use super::{Error, end, events};
use crate::store::{Changes, Store, Which};

/// What can be waited for, in Podman's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
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
    fn holds(self, store: &Store, record: &Record) -> bool {
        match (self, &record.life) {
            (Condition::Created, Life::Created) | (Condition::Running, Life::Running { .. }) => true,
            (Condition::Created, Life::Exited { started, .. }) => started.is_empty(),
            (Condition::Stopped, Life::Exited { started, .. }) => !started.is_empty(),
            (Condition::Health(wanted), Life::Running { .. }) => {
                health::found(store, record).is_some_and(|health| health.status == wanted)
            }
            _ => false,
        }
    }
}

/// Waits until one of these holds; gives the container's exit code, if it has one by then, and `None` if the container was
/// removed meanwhile and nobody knows its exit code.
///
/// # Errors
/// Its record cannot be read.
pub fn until(store: &Store, id: &str, conditions: &[Condition]) -> Result<Option<Option<i32>>, Error> {
    wait(store, id, |record| {
        conditions.iter().any(|condition| condition.holds(store, record))
    })
}

/// Waits for the end of the run that goes on now, though it may be started again. One that does not run has ended.
///
/// # Errors
/// Its record cannot be read.
pub fn end_of_run(store: &Store, record: &Record) -> Result<Option<Option<i32>>, Error> {
    let Life::Running { started: this, .. } = &record.life else {
        return Ok(Some(end::exit_code(record)));
    };
    let before = record.restarts;
    let code = wait(store, &record.id, |now| match &now.life {
        Life::Running { started, .. } => started != this || now.restarts != before,
        _ => true,
    })?;
    // Somebody has started it anew meanwhile.
    let known = || events::last_code(store.state(), &record.id);
    Ok(code.map(|code| code.or_else(known)))
}

fn wait(store: &Store, id: &str, holds: impl Fn(&Record) -> bool) -> Result<Option<Option<i32>>, Error> {
    let changes = Changes::of(&store.container(id), Which::Replacement);
    loop {
        let Some(record) = record::read(store, id)? else {
            // It goes by itself (--rm), or somebody was fast.
            return Ok(events::last_code(store.state(), id).map(Some));
        };
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
