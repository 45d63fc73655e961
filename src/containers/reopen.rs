//! How is a container taken that does not run, to go on? Under its lock, which another command may hold at the moment.

use std::time::{Duration, Instant};

use super::Error;
use super::life::{Made, opened};
use super::record;
use crate::store::Store;

/// How long another command may be at it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes a container that does not run, to start it again. `None`: it runs already.
///
/// # Errors
/// It is gone, or what it stands on is; [`Error::Busy`].
pub fn reopen(store: &Store, id: &str) -> Result<Option<Made>, Error> {
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
            return opened(store, held).map(Some).map_err(|failed| failed.1);
        }
        // Another command is about to start it, or copies into it.
        if Instant::now() > end {
            return Err(Error::Busy(record.name));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
