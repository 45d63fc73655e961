//! How is a container started? (`making`: how it is made.)

use std::fs;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use fuse_overlay::union::Lower;
use oci_spec::runtime::Spec;

use super::attach::Keys;
use super::log::Stream;
pub use super::making::{Below, Given, Wanted, create, identity};
use super::record::{Afterwards, Base, Held, Record};
pub use super::reopen::{reopen, reopen_on_terminal};
use super::runtime::{self, RootSource};
use super::supervisor::{self, Attach, Start, Supervisor};
use super::view::View;
use super::{Error, neighbour, network, notify, rootfs, volume};
use crate::host::Probe;
use crate::images::{self};
use crate::store::Store;

/// Threads of the filesystem server, each with its own descriptor of /dev/fuse: one for each of the `cores` that this
/// process may use. Fewer than two would let one slow read hold up all; more than sixteen queue up for the same locks.
fn server_threads(cores: usize) -> usize {
    cores.clamp(2, 16)
}

/// A container that is made and locked, and what it stands on opened.
#[derive(Debug)]
pub struct Made {
    /// The container.
    pub held: Held,
    /// Its Spec.
    pub spec: Spec,
    /// What it stands on.
    pub lower: Lower,
    /// The machine that it is to run on.
    pub host: Probe,
    /// A user namespace that is being made for it.
    pub ahead: Option<runtime::Ahead>,
    /// What could not be done as asked, one line each, for the user.
    pub warnings: Vec<String>,
    /// `--detach-keys`.
    pub keys: Keys,
    /// Other trees that it sees.
    pub views: Vec<View>,
    /// What of its output is not shown: `--attach` names the other.
    pub hidden: Option<Stream>,
    /// `--preserve-fds`: those of this process that the command is to have.
    pub kept: Vec<RawFd>,
}

impl Made {
    /// One that waits for its start.
    pub(super) fn of(held: Held, spec: Spec, lower: Lower, host: Probe) -> Made {
        Made {
            held,
            spec,
            lower,
            host,
            ahead: None,
            warnings: Vec::new(),
            keys: Keys::default(),
            views: Vec::new(),
            hidden: None,
            kept: Vec::new(),
        }
    }

    /// Does its command get a terminal?
    pub fn has_terminal(&self) -> bool {
        self.spec
            .process()
            .as_ref()
            .and_then(oci_spec::runtime::Process::terminal)
            .unwrap_or(false)
    }
}

/// Opens what a container stands on.
///
/// # Errors
/// [`Error::NoImage`], [`Error::Rootfs`].
pub(super) fn lower(store: &Store, record: &Record) -> Result<Lower, Error> {
    let image = match &record.base {
        Base::Rootfs(root) => return Ok(rootfs::open(root, &store.container(&record.id))?),
        Base::Image(image) => image.to_string(),
    };
    match images::find(store, &image)? {
        Some(image) => Ok(image.lower(store)?),
        None => Err(Error::NoImage {
            name: record.name.clone(),
            image,
        }),
    }
}

/// Opens all that a container needs that is to be started again. If something is gone, it is given back with the reason.
pub(super) fn opened(store: &Store, held: Held) -> Result<Made, Box<(Held, Error)>> {
    let host = Probe::now();
    let parts = || {
        volume::finish(store, &host, &held.record)?;
        Ok((held.spec()?, lower(store, &held.record)?))
    };
    match parts() {
        Err(error) => Err(Box::new((held, error))),
        Ok((spec, lower)) => Ok(Made::of(held, spec, lower, host)),
    }
}

/// Starts a container: forks its supervisor. To be called while the process has one thread.
///
/// # Errors
/// The Spec cannot be carried out here, or no process made; a container of `--rm` is removed again.
pub fn start(store: &Store, made: Made, attach: Attach) -> Result<Supervisor, Error> {
    start_with(store, made, attach, None)
}

/// The same; what the command writes goes to `log`, both streams as they come.
///
/// # Errors
/// As [`start`].
pub fn start_logged(store: &Store, made: Made, log: OwnedFd) -> Result<Supervisor, Error> {
    start_with(store, made, Attach::Output, Some(log))
}

fn start_with(store: &Store, made: Made, attach: Attach, log: Option<OwnedFd>) -> Result<Supervisor, Error> {
    let mut start = match ready(store, made, attach) {
        Ok(start) => start,
        Err(failed) => {
            let (held, error) = *failed;
            if held.record.afterwards == Afterwards::Remove {
                held.remove()?;
            }
            return Err(error);
        }
    };
    start.log = log;
    start.held.record.restarts = 0;
    start.held.record.last_code = None;
    start.held.record.stopped = false;
    supervisor::start(start).map_err(|source| Error::Io {
        action: "start a process beside",
        path: "the container".into(),
        source,
    })
}

/// Plans a start. If it cannot be, the container is given back with the reason.
pub(super) fn ready(store: &Store, made: Made, attach: Attach) -> Result<Start, Box<(Held, Error)>> {
    let terminal = made.has_terminal();
    let Made {
        mut held,
        mut spec,
        lower,
        host,
        ahead,
        warnings: _,
        keys,
        views,
        hidden,
        kept,
    } = made;
    if held.record.afterwards == Afterwards::RemoveOnceRun {
        held.record.afterwards = Afterwards::Remove;
    }
    if terminal {
        set_size(&mut spec);
    }
    let shown = notify::show(&held.record.settings.upkeep, held.directory(), &mut spec);
    let joined = shown.and_then(|()| neighbour::ready(store, &held.record, &mut spec));
    let joined = joined.and_then(|joined| Ok((joined, network::ready(store, &mut held.record, &mut spec)?)));
    let planned = joined.and_then(|(joined, network)| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let devices = server_threads(cores);
        let mut plan = runtime::plan(&spec, RootSource::Fuse { devices }, &host)?;
        plan.kept = kept;
        plan.views = views.iter().map(|view| view.place.clone()).collect();
        Ok((joined, network, plan))
    });
    match planned {
        Err(error) => Err(Box::new((held, error))),
        Ok((joined, network, plan)) => Ok(Start {
            held,
            lower,
            views,
            plan,
            ahead,
            host,
            terminal,
            attach,
            log: None,
            keys,
            hidden,
            store: store.clone(),
            pause: Duration::ZERO,
            network,
            joined,
        }),
    }
}

fn set_size(spec: &mut Spec) {
    let Some(size) = supervisor::terminal_size() else {
        return;
    };
    if let (Some(process), Ok(console)) = (spec.process_mut(), size.to_spec()) {
        process.set_console_size(Some(console));
    }
}

/// Reads `--security-opt seccomp=FILE` and the like: a whole text file of the host.
///
/// # Errors
/// It cannot be read.
pub fn read_file(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io {
        action: "read",
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_thread_for_each_core_within_bounds() {
        let threads = [1, 2, 3, 16, 17, 1024].map(server_threads);
        assert_eq!(threads, [2, 2, 3, 16, 16, 16]);
    }
}
