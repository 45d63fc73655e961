//! A container that nobody else may move: its lock is held, from its making to its removal, by one after the other.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::amended::Amended;
use super::record::{Afterwards, Life, Record, load_at, read_spec};
use super::{Error, cgroup, directory, events, named, volume};
use crate::store::lock::{Attempt, Lock, Mode};
use crate::store::write::{Durability, replace, sync_parent};
use crate::store::{Store, failpoint};

/// What becomes of a removed container's own volumes, those that nobody named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// They stay.
    Keep,
    /// They go, unless another container uses them.
    Remove,
}

/// A container whose lock is held: only its holder may change it.
#[derive(Debug)]
pub struct Held {
    /// What is recorded.
    pub record: Record,
    directory: PathBuf,
    names: PathBuf,
    lock: Lock,
}

impl Held {
    /// A container that is there, with its lock.
    pub(super) fn of(store: &Store, record: Record, lock: Lock) -> Held {
        Held {
            directory: store.container(&record.id),
            names: named::directory(store),
            record,
            lock,
        }
    }

    /// Makes the directory, writes record and Spec, claims the name. `spec` gets the directory.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; what was begun is removed again.
    pub fn create(
        store: &Store,
        record: Record,
        spec: impl FnOnce(&Path) -> Result<Spec, Error>,
    ) -> Result<Held, Error> {
        let directory = store.container(&record.id);
        let lock = directory::make(&directory)?;
        let held = Held::of(store, record, lock);
        match held.fill(spec) {
            Ok(()) => Ok(held),
            Err(error) => {
                held.discard();
                Err(error)
            }
        }
    }

    /// Gives up a container that is not made yet. What cannot be removed is an orphan without a record.
    pub(super) fn discard(self) {
        // The reason for giving up is the failure to report.
        let _ = self.erase(Volumes::Remove);
    }

    fn fill(&self, spec: impl FnOnce(&Path) -> Result<Spec, Error>) -> Result<(), Error> {
        let spec =
            serde_json::to_vec(&spec(&self.directory)?).map_err(|source| self.bad("config.json", source))?;
        replace(
            &self.directory,
            &self.directory.join("config.json"),
            &spec,
            self.record.durability(),
        )?;
        self.write()?;
        named::claim(&self.names, &self.record.name, &self.record.id)?;
        if self.record.durability() == Durability::Durable {
            sync_parent(&self.directory)?;
            sync_parent(&self.names.join(&self.record.name))?;
        }
        Ok(())
    }

    fn bad(&self, file: &str, source: serde_json::Error) -> Error {
        Error::Json {
            path: self.directory.join(file),
            source,
        }
    }

    fn write(&self) -> Result<(), Error> {
        let text = serde_json::to_vec(&self.record).map_err(|source| self.bad("record.json", source))?;
        Ok(replace(
            &self.directory,
            &self.directory.join("record.json"),
            &text,
            self.record.durability(),
        )?)
    }

    /// Reads what was changed since the record was read.
    pub(super) fn amend(&mut self) {
        Amended::read(&self.directory).apply(&mut self.record);
    }

    /// Where the container's files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Records a move.
    ///
    /// # Errors
    /// The record cannot be written; on the disk the old one stands.
    pub fn set_life(&mut self, life: Life) -> Result<(), Error> {
        self.record.life = life;
        self.write()
    }

    /// The Spec as it was made.
    ///
    /// # Errors
    /// `config.json` is gone or damaged.
    pub fn spec(&self) -> Result<Spec, Error> {
        read_spec(&self.directory)
    }

    /// Removes the container with all it holds, and the volumes of its own if it was to go by itself (`--rm`).
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        let volumes = match self.record.afterwards {
            Afterwards::Remove => Volumes::Remove,
            Afterwards::Keep | Afterwards::RemoveOnceRun | Afterwards::Commit => Volumes::Keep,
        };
        self.remove_with(volumes)
    }

    /// The record goes first: a container killed half-way is no container.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_with(mut self, volumes: Volumes) -> Result<(), Error> {
        self.amend();
        let (state, record) = (self.state().to_owned(), self.record.clone());
        self.erase(volumes)?;
        events::happened(&state, &record, "destroy", &[]);
        Ok(())
    }

    /// `$BRYO_STATE`.
    fn state(&self) -> &Path {
        self.names.parent().unwrap_or(&self.names)
    }

    fn erase(mut self, volumes: Volumes) -> Result<(), Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io {
                action: "remove",
                path,
                source,
            }
        };
        let record = self.directory.join("record.json");
        // Nobody is in them any more, and what names them goes.
        cgroup::remove(&self.directory);
        failpoint::step()
            .and_then(|()| fs::remove_file(&record))
            .or_else(directory::ignore_missing)
            .map_err(io(&record))?;
        named::release(&self.names, &self.record.name, &self.record.id)?;
        // One that is being renamed has two; who renames it looks for the record when that is written.
        if let Some(renamed) = Amended::read(&self.directory).name {
            named::release(&self.names, &renamed, &self.record.id)?;
        }
        directory::remove(&self.directory, self.lock).map_err(io(&self.directory))?;
        let mounts = &mut self.record.settings.mounts;
        mounts.retain(|mount| volumes == Volumes::Remove || mount.kind == volume::Kind::Image);
        if let Some(state) = self.names.parent().filter(|_| !mounts.is_empty()) {
            volume::release(state, mounts);
        }
        Ok(())
    }

    /// For the supervisor before it executes itself: the locked file, for [`adopt`]. The lock is held until then.
    pub(super) fn descriptor(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        Ok(self.lock.file().try_clone()?.into())
    }

    /// For the supervisor after its last fork.
    pub fn beat(&mut self) {
        self.lock.beat();
    }

    /// For the tool after it forked the supervisor, which holds the container from then on.
    pub fn leave(self) {
        self.lock.leave();
    }

    /// For the supervisor after it was forked.
    ///
    /// # Errors
    /// A lease (where `flock` does not work) cannot be taken over.
    pub fn take_over(&mut self) -> Result<(), Error> {
        Ok(self.lock.take_over()?)
    }
}

/// Removes a container whose record cannot be read, with all it holds.
///
/// # Errors
/// [`Error::Running`] if somebody holds it; or something cannot be removed.
pub(super) fn remove_damaged(store: &Store, id: &str) -> Result<(), Error> {
    let directory = store.container(id);
    let Attempt::Taken(lock) = Lock::attempt_existing(&directory.join("lock"), Mode::Exclusive)? else {
        return Err(Error::Running(id.into()));
    };
    cgroup::remove(&directory);
    let io = |source| Error::Io {
        action: "remove",
        path: directory.clone(),
        source,
    };
    failpoint::step()
        .and_then(|()| fs::remove_file(directory.join("record.json")))
        .or_else(directory::ignore_missing)
        .map_err(io)?;
    directory::remove(&directory, lock).map_err(io)
}

/// Takes a container whose lock this process held before it executed this program: `lock` is the locked file.
///
/// # Errors
/// Its record cannot be read.
pub(super) fn adopt(store: &Store, id: &str, lock: std::os::fd::OwnedFd) -> Result<Held, Error> {
    let directory = store.container(id);
    let lock = Lock::adopt(lock.into(), &directory.join("lock"))?;
    let record = load_at(&directory)?.ok_or_else(|| Error::NoSuchContainer(id.into()))?;
    Ok(Held::of(store, record, lock))
}

/// Takes a container that nobody moves, to start or remove it. `None`: someone holds it, so it runs or is about to.
///
/// # Errors
/// [`Error::NoSuchContainer`] if it is gone.
pub fn hold(store: &Store, id: &str) -> Result<Option<Held>, Error> {
    let gone = || Error::NoSuchContainer(id.into());
    match Lock::attempt_existing(&store.container(id).join("lock"), Mode::Exclusive)? {
        Attempt::Held => Ok(None),
        Attempt::Gone => Err(gone()),
        Attempt::Taken(lock) => {
            let record = load_at(&store.container(id))?.ok_or_else(gone)?;
            Ok(Some(Held::of(store, record, lock)))
        }
    }
}
