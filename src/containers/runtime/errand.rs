//! How is something done to files that belong to a container's users, without a container? By a process of its own that
//! enters the user namespace of these ids, the holder's where there is one, and is root there.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{Channel, Failure, Order, Report};
use super::holder::Search;
use super::idmap;
use super::namespaces::{Entry, enter_user_namespace, namespace_of};
use super::start::{StartError, die_with_parent, hide, report};
use crate::host::{IdMaps, Probe};
use crate::store::lease;
use crate::sys;

/// Does `work` as root of the widest id maps that the user has; they are told to it, since newuidmap may fail where one id
/// works. To be called by a process with one thread.
///
/// # Errors
/// There is no such process; what the work itself says is in its answer.
pub fn as_root<T: Serialize + DeserializeOwned>(
    host: &Probe,
    run: &Path,
    work: impl FnMut(&IdMaps) -> T,
) -> Result<T, StartError> {
    as_root_of(host, &host.id_maps(), run, work)
}

/// The same with these id maps. Whose root the caller is not have no others to fall back on.
///
/// # Errors
/// As [`as_root`].
pub fn as_root_of<T: Serialize + DeserializeOwned>(
    host: &Probe,
    maps: &IdMaps,
    run: &Path,
    mut work: impl FnMut(&IdMaps) -> T,
) -> Result<T, StartError> {
    match attempt(host, run, maps, &mut work)? {
        Some(answer) => Ok(answer),
        None if !maps.is_root(host.uid, host.gid) => {
            Err(Failure::new("map ids", "newuidmap refuses them").into())
        }
        None => attempt(host, run, &IdMaps::single(host.uid, host.gid), &mut work)?
            .ok_or_else(|| Failure::new("map ids", "the kernel refuses even one").into()),
    }
}

/// `None`: newuidmap does not work.
fn attempt<T: Serialize + DeserializeOwned>(
    host: &Probe,
    run: &Path,
    maps: &IdMaps,
    work: &mut impl FnMut(&IdMaps) -> T,
) -> Result<Option<T>, StartError> {
    // The work may take long: who makes a container meanwhile is not to wait for this, so the lock of a search is let go.
    let (entry, _holder) = match Search::begin(run, maps)? {
        Search::Found(holder) => (Entry::Join(holder.descriptor()?), Some(holder)),
        // One for this alone: it is not worth to be found by others.
        _ => (Entry::Make(maps.clone()), None),
    };
    let map = |child| maps.is_single() || idmap::map_child(child, maps, host).is_ok();
    send(&entry, map, || work(maps))
}

/// Does `work` as root of the user namespace of a container's process: its tree can be opened nowhere else. The process that
/// does it is in no other namespace of the container's; where the host's processes are seen there, nobody may look into it. To be
/// called by a process with one thread.
///
/// # Errors
/// There is no such process; what the work itself says is in its answer.
pub fn as_root_of_process<T: Serialize + DeserializeOwned>(
    process: Pid,
    work: impl FnMut() -> T,
) -> Result<T, StartError> {
    let entry = Entry::Join(namespace_of(process)?);
    let answer = send(&entry, |_| true, work)?;
    answer.ok_or_else(|| Failure::new("work on a container's files", "its ids are not mapped").into())
}

/// Does `work` in a process in that user namespace, whose ids `map` maps if it is a new one. `None`: it cannot.
fn send<T: Serialize + DeserializeOwned>(
    entry: &Entry,
    map: impl Fn(Pid) -> bool,
    mut work: impl FnMut() -> T,
) -> Result<Option<T>, StartError> {
    let failed = |error: std::io::Error| Failure::new("work on a container's files", error);
    let (ours, theirs) = Channel::pair().map_err(|error| Failure::new("make a channel", error.desc()))?;
    // Of any length, and read when the process has ended.
    let answer = memfd_create("answer", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut answer = File::from(answer);
    let mut parts = Some(ours);
    // Leases are touched again from the fork on.
    let stilled = lease::still_all();
    let child = sys::fork(|| {
        drop(parts.take());
        report(&theirs, run_child(entry, &answer, &theirs, &mut work))
    });
    drop(stilled);
    let child = child.map_err(failed)?;
    drop(theirs);
    let Some(ours) = parts else {
        return Err(Failure::new("fork", "it happened twice").into());
    };
    let heard = accompany(&ours, child, map);
    drop(ours);
    // Only its end matters.
    let _ = waitpid(child, None);
    if !heard? {
        return Ok(None);
    }
    let mut text = Vec::new();
    answer.rewind().map_err(failed)?;
    answer.read_to_end(&mut text).map_err(failed)?;
    match serde_json::from_slice(&text) {
        Ok(answer) => Ok(Some(answer)),
        Err(_) => Err(Failure::new("work on a container's files", "the process was killed").into()),
    }
}

/// Maps the child's ids if it asks, and waits for its end. `false`: they cannot be mapped.
fn accompany(channel: &Channel, child: Pid, map: impl Fn(Pid) -> bool) -> Result<bool, Failure> {
    loop {
        match channel.receive() {
            Ok(None) => return Ok(true),
            Ok(Some((Report::UserNamespace, _))) => {
                if !map(child) {
                    return Ok(false);
                }
                // It may have been killed: then the answer is missing.
                let _ = channel.send(&Order::Mapped, &[] as &[OwnedFd]);
            }
            Ok(Some((Report::Failed(failure), _))) => return Err(failure),
            Ok(Some(_)) => {}
            Err(error) => return Err(Failure::new("hear from a process", error.desc())),
        }
    }
}

fn run_child<T: Serialize>(
    entry: &Entry,
    mut to: &File,
    channel: &Channel,
    work: &mut impl FnMut() -> T,
) -> Result<(), Failure> {
    die_with_parent(channel)?;
    umask(Mode::empty());
    if let Entry::Join(_) = entry {
        // Others are there already.
        hide()?;
    }
    enter_user_namespace(entry, channel)?;
    hide()?;
    die_with_parent(channel)?; // the kernel forgot it with the change of namespace
    let failed = |error: std::io::Error| Failure::new("answer", error);
    let answer = serde_json::to_vec(&work()).map_err(|error| failed(error.into()))?;
    to.write_all(&answer).map_err(failed)
}
