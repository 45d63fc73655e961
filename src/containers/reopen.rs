//! How is a container taken that does not run, to go on? Under its lock, which another command may hold at the moment.

use std::time::{Duration, Instant};

use fuse_overlay::union::Lower;

use super::life::{Made, opened};
use super::record::{self, Held};
use super::{Error, spec};
use crate::host::Probe;
use crate::store::Store;

/// How long another command may be at it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes a container that does not run, to start it again. `None`: it runs already.
///
/// # Errors
/// It is gone, or what it stands on is; [`Error::Busy`].
pub fn reopen(store: &Store, id: &str) -> Result<Option<Made>, Error> {
    match taken(store, id)? {
        Some(held) => opened(store, held).map(Some).map_err(|failed| failed.1),
        None => Ok(None),
    }
}

/// The same of a build's step, to run another command on a terminal where its own has ended. It stands on `lower`: its
/// image is on no list.
///
/// # Errors
/// As [`reopen`].
pub fn reopen_on_terminal(
    store: &Store,
    id: &str,
    lower: Lower,
    command: &[String],
) -> Result<Option<Made>, Error> {
    let Some(mut held) = taken(store, id)? else {
        return Ok(None);
    };
    held.record.settings.open_stdin = true;
    let mut spec = held.spec()?;
    spec::on_terminal(&mut spec, command);
    Ok(Some(Made::of(held, spec, lower, Probe::now())))
}

/// The right to a container that does not run. `None`: it runs.
fn taken(store: &Store, id: &str) -> Result<Option<Held>, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        // Settles what a killed supervisor left.
        let record = record::read(store, id)?.ok_or_else(|| Error::NoSuchContainer(id.into()))?;
        if record.paused {
            return Err(Error::StartPaused(record.name));
        }
        if record.life.supervisor().is_some() {
            return Ok(None);
        }
        if let Some(held) = record::hold(store, id)? {
            return Ok(Some(held));
        }
        // Another command is about to start it, or copies into it.
        if Instant::now() > end {
            return Err(Error::Busy(record.name));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
