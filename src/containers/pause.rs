//! How does a container stop for a while, and go on? All its processes at once, by its cgroup; they notice nothing.

use super::record::{Life, Record};
use super::{Error, cgroup, events};
use crate::store::Store;

/// Stops all processes of a container; returns when they have.
///
/// # Errors
/// [`Error::Stopped`], [`Error::Paused`], [`Error::Pause`].
pub fn pause(store: &Store, record: &Record) -> Result<(), Error> {
    if !matches!(record.life, Life::Running { .. }) {
        return Err(Error::Stopped(record.name.clone()));
    }
    if record.paused {
        return Err(Error::Paused(record.name.clone()));
    }
    cgroup::freeze(&store.container(&record.id)).map_err(|source| Error::Pause {
        name: record.name.clone(),
        source,
    })?;
    events::happened(store.state(), record, "pause", &[]);
    Ok(())
}

/// Lets them go on.
///
/// # Errors
/// [`Error::NotPaused`]; the kernel refuses.
pub fn unpause(store: &Store, record: &Record) -> Result<(), Error> {
    if !record.paused {
        return Err(Error::NotPaused(record.name.clone()));
    }
    cgroup::thaw(&store.container(&record.id))?;
    events::happened(store.state(), record, "unpause", &[]);
    Ok(())
}
