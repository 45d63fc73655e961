//! How does a container come to namespaces of another one, which runs? Named when it is made, they are opened anew at each
//! start, since the other may have been started again meanwhile.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::process::Process;
use super::record::{self, Life, Record};
use super::runtime::{self, HANDED};
use super::spec::{CONTAINER, Ipc, Pids, SHM, Shared};
use super::{Error, exec};
use crate::store::Store;

/// Why a container does not get what is another's.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// The other is not there to be joined.
    #[error("cannot join {what} of a non running container: {name}")]
    NotRunning {
        /// `network`, `IPC`, `PID`.
        what: &'static str,
        /// The other.
        name: String,
    },
    /// It keeps its memory for itself.
    #[error(
        "cannot join IPC of container {name}: non-shareable IPC (hint: make that one with --ipc shareable)"
    )]
    NotShareable {
        /// The other.
        name: String,
    },
    /// The kernel refuses.
    #[error("cannot join {what} of container {name}: {source}")]
    Join {
        /// As above.
        what: &'static str,
        /// The other.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// What is held of others until the container is made: its Spec names these descriptors.
#[derive(Debug, Default)]
pub struct Joined(Vec<OwnedFd>);

impl Joined {
    /// Has the Spec join this namespace of the container of this id, instead of making one.
    pub(super) fn namespace(
        &mut self,
        spec: &mut Spec,
        other: &Other,
        kind: LinuxNamespaceType,
    ) -> Result<(), Error> {
        let file = match kind {
            LinuxNamespaceType::Network => "net",
            LinuxNamespaceType::Ipc => "ipc",
            _ => "pid",
        };
        let path = self.keep(other.open(file)?);
        let linux = spec.linux_mut().as_mut();
        let namespaces = linux.and_then(|linux| linux.namespaces_mut().as_mut());
        for namespace in namespaces.into_iter().flatten() {
            if namespace.typ() == kind {
                namespace.set_path(Some(path.clone()));
            }
        }
        Ok(())
    }

    /// The memory that the other's processes share by name, if the Spec still wants it.
    fn shared_memory(&mut self, spec: &mut Spec, other: &Other) -> Result<(), Error> {
        let mounts = spec.mounts_mut().iter_mut().flatten();
        let mut wanted = mounts.filter(|mount| mount.typ().as_deref() == Some(HANDED));
        if let Some(mount) = wanted.next() {
            mount.set_source(Some(self.keep(other.mount(Path::new(SHM))?)));
        }
        Ok(())
    }

    fn keep(&mut self, descriptor: OwnedFd) -> PathBuf {
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        self.0.push(descriptor);
        path.into()
    }
}

/// Another container, which runs.
pub(super) struct Other {
    what: &'static str,
    record: Record,
    /// A process in its namespaces.
    door: Process,
}

impl Other {
    /// The container of this id. `what` is wanted of it.
    pub(super) fn find(store: &Store, id: &str, what: &'static str) -> Result<Other, Error> {
        let record = record::read(store, id)?.ok_or_else(|| Error::NoSuchContainer(id.into()))?;
        let door = match record.life {
            Life::Running { init, .. } => exec::door(init, &record),
            _ => None,
        };
        match door {
            Some(door) => Ok(Other { what, record, door }),
            None => Err(not_running(what, &record).into()),
        }
    }

    fn open(&self, file: &str) -> Result<OwnedFd, Error> {
        let opened = File::open(format!("/proc/{}/ns/{file}", self.door.pid));
        // Only now is it sure that the number was the container's.
        let now = Process::look(self.door.pid).map_err(|source| self.refused(source))?;
        if now != Some(self.door) {
            return Err(not_running(self.what, &self.record).into());
        }
        Ok(opened.map_err(|source| self.refused(source))?.into())
    }

    fn mount(&self, place: &Path) -> Result<OwnedFd, Error> {
        let way = self.door.open().map_err(|source| self.refused(source))?;
        let way = way.ok_or_else(|| not_running(self.what, &self.record))?;
        Ok(runtime::mount_of(&way, place).map_err(|source| self.refused(source))?)
    }

    fn refused(&self, source: std::io::Error) -> NeighbourError {
        NeighbourError::Join {
            what: self.what,
            name: self.record.name.clone(),
            source,
        }
    }
}

fn not_running(what: &'static str, record: &Record) -> NeighbourError {
    let name = record.name.clone();
    NeighbourError::NotRunning { what, name }
}

/// What was asked for by names, by ids; what another shares with the host is the host's.
///
/// # Errors
/// There is no such container, or its memory is its own.
pub fn chosen(store: &Store, asked: Shared) -> Result<Shared, Error> {
    let ipc = match asked.ipc {
        Ipc::Container(name) => {
            let other = record::of_name(store, &name)?;
            match other.settings.asked.ipc.as_str() {
                "host" => Ipc::Host,
                mode if mode == "shareable" || mode.starts_with(CONTAINER) => Ipc::Container(other.id),
                _ => return Err(NeighbourError::NotShareable { name: other.name }.into()),
            }
        }
        ipc => ipc,
    };
    let pids = match asked.pids {
        Pids::Container(name) => {
            let other = record::of_name(store, &name)?;
            match other.settings.asked.pid.as_str() {
                "host" => Pids::Host,
                _ => Pids::Container(other.id),
            }
        }
        pids => pids,
    };
    Ok(Shared { ipc, pids, ..asked })
}

/// Opens what a container that is about to start has of others, but for the network; its Spec then names it.
///
/// # Errors
/// One of them does not run.
pub(super) fn ready(store: &Store, record: &Record, spec: &mut Spec) -> Result<Joined, Error> {
    let asked = &record.settings.asked;
    let mut joined = Joined::default();
    if let Some(id) = asked.ipc.strip_prefix(CONTAINER) {
        let other = Other::find(store, id, "IPC")?;
        joined.namespace(spec, &other, LinuxNamespaceType::Ipc)?;
        joined.shared_memory(spec, &other)?;
    }
    if let Some(id) = asked.pid.strip_prefix(CONTAINER) {
        let other = Other::find(store, id, "PID")?;
        joined.namespace(spec, &other, LinuxNamespaceType::Pid)?;
    }
    Ok(joined)
}
