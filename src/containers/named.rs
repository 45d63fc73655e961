//! Which container does a name mean? A symlink to its id, made and read in one call each, so that no start waits for
//! another's lock. What the container is called is in its record; a name whose container is gone, or is called otherwise
//! by now, is stale, and whoever wants it takes it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::amended::Amended;
use super::record::{self, ids, load_at};
use super::{Error, events, names};
use crate::store::lock::{Lock, Mode};
use crate::store::root::create_dirs;
use crate::store::{Store, failpoint};

/// Where names lie.
pub(super) fn directory(store: &Store) -> PathBuf {
    store.state().join("names")
}

/// Gives the container of this id a name, which may be its own already.
pub(super) fn claim(names: &Path, name: &str, id: &str) -> Result<(), Error> {
    let path = names.join(name);
    let io = |source| Error::Io {
        action: "create",
        path: path.clone(),
        source,
    };
    for _ in 0..TRIES {
        match failpoint::step().and_then(|()| std::os::unix::fs::symlink(id, &path)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => create_dirs(names)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if resolve(names, name).as_deref() == Some(id) {
                    return Ok(());
                }
                drop_stale(names, name)?;
            }
            Err(error) => return Err(io(error)),
        }
    }
    Err(Error::NameTaken {
        name: name.into(),
        id: resolve(names, name).unwrap_or_default(),
    })
}

/// How often a name is asked for, with a pause while others hold the lock of stale names: who was stopped with it is no
/// reason to wait for ever.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Removes a name whose container is gone; refuses if it is there. Under a lock: of two who find one name stale, the
/// second must not remove what the first has just claimed.
fn drop_stale(names: &Path, name: &str) -> Result<(), Error> {
    let Some(_lock) = Lock::try_acquire(&names.join("..").join("names.lock"), Mode::Exclusive)? else {
        std::thread::sleep(PAUSE);
        return Ok(());
    };
    let Some(id) = resolve(names, name) else {
        return Ok(());
    };
    if is_called(&names.join("../containers").join(&id), name) {
        return Err(Error::NameTaken {
            name: name.into(),
            id,
        });
    }
    release(names, name, &id)
}

/// Takes a name from the container of this id, if it has it.
pub(super) fn release(names: &Path, name: &str, id: &str) -> Result<(), Error> {
    let path = names.join(name);
    if resolve(names, name).as_deref() != Some(id) {
        return Ok(());
    }
    match failpoint::step().and_then(|()| fs::remove_file(&path)) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Io {
            action: "remove",
            path,
            source,
        }),
        _ => Ok(()),
    }
}

fn resolve(names: &Path, name: &str) -> Option<String> {
    let id = fs::read_link(names.join(name))
        .ok()?
        .into_os_string()
        .into_string()
        .ok()?;
    names::is_id_prefix(&id).then_some(id)
}

/// Is there a container in this directory, of this name? One whose record cannot be read has every name that points to it.
/// So has one that is being renamed to it: who does that has the lock.
fn is_called(container: &Path, name: &str) -> bool {
    match load_at(container) {
        Ok(None) => false,
        Ok(Some(record)) => record.name == name || is_being_renamed(container),
        Err(_) => true,
    }
}

fn is_being_renamed(container: &Path) -> bool {
    let lock = Lock::attempt_existing(&container.join(RENAMING), Mode::Exclusive);
    matches!(lock, Ok(crate::store::lock::Attempt::Held))
}

const RENAMING: &str = "amended.lock";

/// Finds the container that `text` names: a name, an id, or the beginning of one.
///
/// # Errors
/// [`Error::NoSuchContainer`], [`Error::Ambiguous`].
pub fn find(store: &Store, text: &str) -> Result<String, Error> {
    let wanted = text.strip_prefix('/').unwrap_or(text);
    if names::is_name(wanted)
        && let Some(id) = resolve(&directory(store), wanted)
        && is_called(&store.container(&id), wanted)
    {
        return Ok(id);
    }
    let mut matching = Vec::new();
    if names::is_id_prefix(wanted) {
        matching = ids(store)?;
        matching.retain(|id| id.starts_with(wanted));
    }
    match matching.len() {
        0 => Err(Error::NoSuchContainer(text.into())),
        1 => Ok(matching.swap_remove(0)),
        _ => Err(Error::Ambiguous(text.into())),
    }
}

/// Gives a container another name, whatever it does. Killed half-way, it has either name, and the other is free.
///
/// # Errors
/// [`Error::Name`], [`Error::NameTaken`].
pub fn rename(store: &Store, id: &str, name: &str) -> Result<(), Error> {
    if !names::is_name(name) {
        return Err(Error::Name(name.into()));
    }
    let container = store.container(id);
    let _lock = lock(&container, id)?;
    let record = record::read(store, id)?.ok_or_else(|| Error::NoSuchContainer(id.into()))?;
    if record.name == name {
        return Err(Error::NameTaken {
            name: name.into(),
            id: id.into(),
        });
    }
    let names = directory(store);
    claim(&names, name, id)?;
    let amended = Amended {
        name: Some(name.into()),
        ..Amended::read(&container)
    };
    if let Err(error) = amended.write(&container, record.durability()) {
        // The container has its old name still; the failure to report is the first.
        let _ = release(&names, name, id);
        return Err(error);
    }
    release(&names, &record.name, id)?;
    // Removed meanwhile, maybe by somebody who has not seen the new name.
    if load_at(&container)?.is_none() {
        release(&names, name, id)?;
        return Err(Error::NoSuchContainer(id.into()));
    }
    let was = record.name.clone();
    let mut record = record;
    record.name = name.into();
    events::happened(store.state(), &record, "rename", &[("oldName", was)]);
    Ok(())
}

/// Keeps others from amending the container, which must be there.
pub(super) fn lock(container: &Path, id: &str) -> Result<Lock, Error> {
    if load_at(container)?.is_none() {
        return Err(Error::NoSuchContainer(id.into()));
    }
    match Lock::acquire(&container.join(RENAMING), Mode::Exclusive) {
        Err(crate::store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Err(Error::NoSuchContainer(id.into()))
        }
        lock => Ok(lock?),
    }
}
