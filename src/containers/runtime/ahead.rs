//! How does a start not wait for newuidmap and newgidmap? If there is no user namespace to join, one is made while the tool
//! still reads its command line and makes the container; the supervisor takes it up, and others find it from then on (`holder`).
//!
//! ```text
//! tool ── fork ──► maker ── fork ──► child   makes the user namespace, and waits
//!      │                 └─ newuidmap, newgidmap write its ids
//!      └─ fork ──► supervisor ◄── the namespace, by a channel
//! ```
//! Whatever goes wrong, the supervisor finds no namespace there, and makes one as if nobody had begun; but why ids could not
//! be mapped, it is told. The namespace has no process when it comes: none for a container's `--pid host` to find.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;

use super::channel::{Channel, Failure, Report};
use super::holder::Search;
use super::namespaces::{Entry, enter_user_namespace, namespace_of};
use super::start::{die_with_parent, end_child, report};
use super::{cores, idmap};
use crate::containers::inherited;
use crate::host::{IdMaps, Probe};
use crate::store::lease;
use crate::sys;

/// A user namespace on its way.
#[derive(Debug)]
pub struct Ahead {
    maps: IdMaps,
    channel: Channel,
    maker: Option<Maker>,
}

/// The process that makes it: dropped by who forked it, it is ended and reaped. By then it has ended, or nobody wants it.
#[derive(Debug)]
pub struct Maker(Pid);

impl Ahead {
    /// Begins one, unless nothing would be gained. To be called by a process with one thread.
    pub fn begin(run: &Path, host: &Probe, maps: IdMaps) -> Option<Ahead> {
        if maps.is_single() || host.map_tools.is_none() || Search::finds_one(run, &maps) {
            return None;
        }
        let (ours, theirs) = Channel::pair().ok()?;
        let mut parts = Some(ours);
        let stilled = lease::still_all();
        let maker = sys::fork(|| {
            drop(parts.take());
            make((run, &maps), host, &theirs).map_or(125, |()| 0)
        });
        drop(stilled);
        let maker = maker.ok().map(Maker)?;
        // Where there are two cores, both tools share the other: even so they are done when the supervisor asks for the namespace.
        cores::keep_off(maker.0);
        Some(Ahead {
            maps,
            channel: parts?,
            maker: Some(maker),
        })
    }

    /// The process that makes it, for its parent to keep; what is left may go to another process.
    pub fn part(&mut self) -> Option<Maker> {
        self.maker.take()
    }

    /// Waits for it; none if it is not of these maps, or not to be had. An error tells why ids cannot be mapped.
    pub(super) fn namespace(self, maps: &IdMaps) -> Result<Option<OwnedFd>, Failure> {
        if self.maps != *maps {
            return Ok(None);
        }
        match self.channel.receive() {
            Ok(Some((Report::UserNamespace, namespaces))) => Ok(namespaces.into_iter().next()),
            Ok(Some((Report::Failed(failure), _))) => Err(failure),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        end_child(self.0);
    }
}

/// The maker. None if there is a namespace already, somebody else makes one, or something went wrong that the supervisor will
/// find by itself.
fn make((run, maps): (&Path, &IdMaps), host: &Probe, channel: &Channel) -> Option<()> {
    die_with_parent(channel).ok()?;
    // newuidmap and newgidmap, which are set-uid, would keep them beyond a command that is soon over.
    inherited::close();
    // Whoever comes meanwhile waits, and begins none.
    let search = Search::unless_there(run, maps)?;
    let (ours, theirs) = Channel::pair().ok()?;
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
    let child = child.ok().map(Maker)?;
    drop(theirs);
    let Ok(Some((Report::UserNamespace, _))) = ours.as_ref()?.receive() else {
        return None;
    };
    if let Err(failure) = idmap::map_child(child.0, maps, host) {
        report(channel, Err(failure));
        return None;
    }
    let namespace = namespace_of(child.0).ok()?;
    // The supervisor will want the lock, of which the child has a copy.
    drop((child, search));
    channel.send(&Report::UserNamespace, &[namespace]).ok()
}
