//! Who works on the files of a container that runs? A process of ours within its user and mount namespaces, since nobody
//! outside may touch the mount. It is in none of the container's other namespaces, so nothing in there sees or signals it;
//! it executes nothing, and loads nothing.

use std::io::{self, PipeReader, Read as _, Write as _};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid, getppid};
use rustix::fs::{CWD, Mode as FileMode, OFlags, ResolveFlags, openat2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::apply::make_as_root;
use super::channel::Channel;
use super::rootfs::copy_of;
use super::start::hide;
use super::within::join;
use crate::store::lease;
use crate::sys;

/// A process of ours that does one thing, and what it will say of it.
#[derive(Debug)]
pub struct Helper<T> {
    pid: Pid,
    heard: PipeReader,
    says: PhantomData<T>,
}

/// Forks a process that does `work`, in the container of this init if one is given. It ends with the calling thread.
/// `others` are what of the caller's it must not hold. To be called by a process with one thread.
///
/// # Errors
/// No process can be made.
pub fn help<T, D>(
    init: Option<&OwnedFd>,
    others: D,
    work: impl FnOnce() -> Result<T, String>,
) -> io::Result<(Helper<T>, D)>
where
    T: Serialize + DeserializeOwned,
{
    let (heard, say) = io::pipe()?;
    let parent = getpid();
    let mut parts = Some((heard, say, others, work));
    let pid = sys::fork(|| {
        let Some((heard, mut say, others, work)) = parts.take() else {
            return 125;
        };
        drop((heard, others));
        let outcome = enter(init, parent).and_then(|()| work());
        let text = serde_json::to_vec(&outcome).unwrap_or_default();
        // Nobody listens: nobody waits for it.
        u8::from(say.write_all(&text).is_err())
    })?;
    let (heard, _say, others, _work) = parts.ok_or_else(|| io::Error::other("forked twice"))?;
    let helper = Helper {
        pid,
        heard,
        says: PhantomData,
    };
    Ok((helper, others))
}

fn enter(init: Option<&OwnedFd>, parent: Pid) -> Result<(), String> {
    let _ = SigSet::all().thread_unblock();
    umask(Mode::empty());
    if let Some(init) = init {
        hide().map_err(|failure| failure.text)?;
        join(init, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|failure| failure.text)?;
        make_as_root();
    }
    // Entering makes the kernel forget it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.desc().to_string())?;
    match getppid() == parent {
        true => Ok(()),
        false => Err("the tool has ended".into()),
    }
}

/// A detached copy of the mount at `place` in the container of this init, to be attached in another one. To be called by a
/// process with one thread.
///
/// # Errors
/// There is none, or the container has ended.
pub fn mount_of(init: &OwnedFd, place: &Path) -> io::Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    let stilled = lease::still_all();
    let (helper, ours) = help(Some(init), ours, || {
        let copy = copy_mount(place).map_err(|error| error.to_string())?;
        let sent = theirs.send(&(), &[copy]);
        sent.map_err(|error| error.desc().to_string())
    })?;
    drop(stilled);
    helper.end().map_err(io::Error::other)?;
    drop(theirs);
    let received = ours.receive::<()>()?;
    let descriptor = received.and_then(|((), descriptors)| descriptors.into_iter().next());
    descriptor.ok_or_else(|| io::Error::other("the container has ended"))
}

/// Who is in there may put links in the way: they lead nowhere.
fn copy_mount(place: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let plain = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    copy_of(openat2(CWD, place, flags, FileMode::empty(), plain)?)
}

impl<T: DeserializeOwned> Helper<T> {
    /// Waits for its end, and gives what it says.
    ///
    /// # Errors
    /// It failed, or was killed.
    pub fn end(mut self) -> Result<T, String> {
        let mut text = Vec::new();
        let read = self.heard.read_to_end(&mut text);
        // What it said counts.
        let _ = waitpid(self.pid, None);
        read.map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).unwrap_or_else(|_| Err("the process that did it was killed".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Tests run in threads, and such a process cannot be forked: what a helper does is tested with `cp`.
    #[test]
    fn a_process_with_threads_cannot_fork_a_helper() {
        let helped = help(None, (), || Ok(1));
        assert!(helped.is_err());
    }
}
