//! How does a start not wait for newuidmap and newgidmap? If there is no user namespace to join, one is made while the tool
//! still makes the container; the supervisor takes it up, and others find it from then on (`holder`).
//!
//! ```text
//! tool ── fork ──► maker ── fork ──► child   makes the user namespace, and waits
//!      │                 └─ newuidmap, newgidmap write its ids
//!      └─ fork ──► supervisor ◄── the namespace, by a channel
//! ```
//! Whatever goes wrong, the supervisor only finds no namespace there, and makes one as if nobody had begun; but why ids
//! could not be mapped, it is told. The namespace has no process when it comes: none for a container's `--pid host` to find.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::channel::{Channel, Failure, Report};
use super::holder::{Holder, Kept, Search};
use super::namespaces::{Entry, enter_user_namespace};
use super::start::{die_with_parent, report};
use super::{cores, idmap};
use crate::host::{IdMaps, Probe};
use crate::store::lease;
use crate::sys;

/// A user namespace on its way.
#[derive(Debug)]
pub struct Ahead {
    maps: IdMaps,
    /// It has the lock: nobody else begins one beside it.
    search: Search,
    channel: Channel,
    maker: Option<Maker>,
}

/// The process that makes it: dropped by who forked it, it is ended and reaped. By then it has ended, or nobody wants it.
#[derive(Debug)]
pub struct Maker(Pid);

impl Ahead {
    /// Begins one, unless there is one, somebody else makes one, or nothing would be gained. To be called by a process
    /// with one thread.
    pub fn begin(run: &Path, host: &Probe, maps: IdMaps) -> Option<Ahead> {
        if maps.is_single() || host.map_tools.is_none() {
            return None;
        }
        let search = Search::unless_there(run, &maps)?;
        let (ours, theirs) = Channel::pair().ok()?;
        let mut parts = Some((search, ours));
        let stilled = lease::still_all();
        let maker = sys::fork(|| {
            drop(parts.take());
            report(&theirs, make(&maps, host, &theirs))
        });
        drop(stilled);
        let maker = maker.ok().map(Maker)?;
        cores::spread(maker.0);
        let (search, channel) = parts?;
        Some(Ahead {
            maps,
            search,
            channel,
            maker: Some(maker),
        })
    }

    /// The process that makes it, for its parent to keep; what is left may go to another process.
    pub fn part(&mut self) -> Option<Maker> {
        self.maker.take()
    }

    /// Waits for it and keeps it for others; none if it is not of these maps, or not to be had.
    pub(super) fn take_up(self, maps: &IdMaps) -> Result<Option<Holder>, Failure> {
        if self.maps != *maps {
            return Ok(None);
        }
        let namespace = match self.channel.receive() {
            Ok(Some((Report::UserNamespace, namespaces))) => namespaces.into_iter().next(),
            Ok(Some((Report::Failed(failure), _))) => return Err(failure),
            Ok(_) | Err(_) => None,
        };
        let Some(namespace) = namespace else {
            return Ok(None);
        };
        match self.search.keep(namespace)? {
            Kept::Ours(holder) => Ok(holder),
            Kept::Late => Ok(None),
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        // Not reaped yet, so it is this one.
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// The maker.
fn make(maps: &IdMaps, host: &Probe, channel: &Channel) -> Result<(), Failure> {
    die_with_parent(channel)?;
    let lost = |error: Errno| Failure::new("speak with a process", error.desc());
    let (ours, theirs) = Channel::pair().map_err(lost)?;
    let mut ours = Some(ours);
    let entry = Entry::Make(maps.clone());
    let child = sys::fork(|| {
        drop(ours.take());
        let waits = || {
            die_with_parent(&theirs)?;
            enter_user_namespace(&entry, &theirs)
        };
        report(&theirs, waits())
    });
    let child = Maker(child.map_err(|error| Failure::new("fork", error))?);
    drop(theirs);
    match ours.as_ref().map(Channel::receive) {
        Some(Ok(Some((Report::UserNamespace, _)))) => {}
        Some(Ok(Some((Report::Failed(failure), _)))) => return Err(failure),
        _ => {
            return Err(Failure::new(
                "make a user namespace",
                "a process ended without a word",
            ));
        }
    }
    idmap::map_child(child.0, maps, host)?;
    let path = format!("/proc/{}/ns/user", child.0);
    let namespace = File::open(&path).map_err(|error| Failure::new(path, error))?;
    drop(child);
    channel
        .send(&Report::UserNamespace, &[OwnedFd::from(namespace)])
        .map_err(lost)
}
