//! Who changes owners, and makes devices, in a container of one id? The kernel refuses ids that it does not map before it
//! asks the filesystem, though there owners are plain data. So the filter (`seccomp::notify`) has such calls wait, and the
//! helper carries them out on the filesystem, as `fuse_overlay::fuse::owners` has it said.
//!
//! The helper is the child that has made init: it is in the container's user namespace, with all capabilities there, but
//! in the outer pid namespace, out of the container's sight. It ends when the last process with the filter has ended. If it
//! is killed, the calls that wait, and all later ones, are ENOSYS: the kernel sees to it, and nobody takes its place.
//!
//! Whatever is not ours to answer goes back to the kernel (`ByKernel`), which then acts as it would without a filter. Of
//! this seccomp_unotify(2) warns, since memory may have changed since the helper looked: true, and harmless here. Nothing
//! is kept from a container by this filter, so there is nothing to be smuggled past it.

mod answer;
mod caller;
mod mounted;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use caps::CapsHashSet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, fchdir, setsid};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};

use super::channel::{Channel, Failure};
use super::seccomp::notify;
use super::start::hide;
use super::step::{Keep, Step};
use crate::host::IdMaps;
use crate::sys;

/// Adds to the steps that confine a container what hands calls over, if it has one id only.
pub(super) fn plan(steps: &mut Vec<Step>, maps: &IdMaps) {
    let ([user], [group], true) = (&*maps.uids, &*maps.gids, maps.is_single()) else {
        return;
    };
    if is_planned(steps) {
        return;
    }
    // Before the other filters, which need not allow it to be told. What they refuse stays refused: the kernel takes the
    // strictest answer.
    let last = steps
        .iter()
        .position(|step| matches!(step, Step::Seccomp(_)))
        .unwrap_or(steps.len());
    steps.insert(last, Step::HandOver(notify::program(user.inside, group.inside)));
    let privileges = steps.contains(&Step::NoNewPrivileges);
    for step in steps {
        if let Step::Capabilities { keep, .. } = step
            && !privileges
        {
            *keep = Keep::SysAdmin;
        }
    }
}

/// Is a helper wanted?
pub(super) fn is_planned(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::HandOver(_)))
}

/// In init, or the process of `exec`: installs the filter, and tells the helper where to listen. Gives what people are to
/// know if there can be none: the kernel refuses then as it always did.
pub(super) fn hand_over(program: &[u8], helper: Option<&Channel>) -> Result<Option<String>, Failure> {
    let Some(helper) = helper else {
        return Ok(None);
    };
    match sys::install_listening_seccomp(program) {
        Ok(listener) => helper
            .send(&(), &[listener])
            .map(|()| None)
            .map_err(|error| Failure::new("hand over chown(2) and mknod(2)", io::Error::from(error))),
        // A process can have one such filter, and whoever runs us is under another: a container of ours, most likely. Then
        // the kernel refuses as it always did; each start would warn of what few need.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
        Err(error) => Ok(Some(format!(
            "files cannot be given to other users than the one there is: seccomp(2) lets nobody listen here: {error}"
        ))),
    }
}

/// The helper before it knows where to listen.
pub(super) struct Station {
    heard: Channel,
    told: Channel,
    proc: OwnedFd,
    null: File,
}

/// The helper.
struct Helper {
    listener: OwnedFd,
    /// The host's /proc, where callers are found, and files that are open here: the working directory and root between calls.
    proc: OwnedFd,
    /// All that it may do in the user namespace.
    capabilities: CapsHashSet,
    /// The device number of the filesystem that was last found to be ours.
    ours: Option<(u32, u32)>,
}

impl Station {
    /// To be called while the host's tree is there, by the process that is to become the helper. None where /proc does not
    /// show processes by the numbers that they have for us: a caller's number would be another process's there.
    pub(super) fn new() -> Result<Option<Station>, Failure> {
        let failed = |error: io::Error| Failure::new("prepare for chown(2) and mknod(2)", error);
        let (heard, told) = Channel::pair().map_err(|error| failed(error.into()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, "/proc", flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let shown = readlinkat(&proc, "self", Vec::new()).map_err(|error| failed(error.into()))?;
        if shown.to_bytes() != std::process::id().to_string().as_bytes() {
            return Ok(None);
        }
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(failed)?;
        Ok(Some(Station {
            heard,
            told,
            proc,
            null,
        }))
    }

    /// What init tells it by.
    pub(super) fn told(&self) -> &Channel {
        &self.told
    }

    /// Becomes the helper, which never returns; or returns if there is none to be.
    pub(super) fn take_up(self) {
        drop(self.told);
        let Ok(Some(((), descriptors))) = self.heard.receive() else {
            return;
        };
        let Some(listener) = descriptors.into_iter().next() else {
            return;
        };
        // Without one of these it would hold a terminal or pipe, die of a key, or show itself: then rather none.
        let apart = hide().is_ok()
            && setsid().is_ok()
            && prctl::set_pdeathsig(None).is_ok()
            && [
                dup2_stdin(&self.null),
                dup2_stdout(&self.null),
                dup2_stderr(&self.null),
            ]
            .iter()
            .all(Result::is_ok)
            && sys::close_all_but(&[listener.as_fd(), self.proc.as_fd()]).is_ok();
        if apart && let Ok(capabilities) = caps::read(None, caps::CapSet::Permitted) {
            // A name is a help to people only.
            let _ = prctl::set_name(c"bryo-owners");
            let mut helper = Helper {
                listener,
                proc: self.proc,
                capabilities,
                ours: None,
            };
            // Whatever it fails with, callers get ENOSYS, as when it is killed.
            let _ = helper.serve();
        }
        // Descriptors that it no longer has must not be dropped.
        sys::exit(0)
    }
}

impl Helper {
    /// Answers until nobody is left who could call.
    fn serve(&mut self) -> io::Result<()> {
        self.go_home()?;
        while self.is_called()? {
            let call = match sys::next_notified(self.listener.as_fd()) {
                Ok(call) => call,
                // The caller was killed.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
                Err(error) => return Err(error),
            };
            let how = self.answer(&call)?;
            // A caller that was killed meanwhile is none to answer to.
            let _ = sys::answer_notified(self.listener.as_fd(), call.id, how);
        }
        Ok(())
    }

    /// Waits for a call; false when there can be none any more.
    fn is_called(&self) -> io::Result<bool> {
        loop {
            let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    return Ok(fds
                        .iter()
                        .any(|fd| fd.revents().is_some_and(|what| what.contains(PollFlags::POLLIN))));
                }
            }
        }
    }

    /// Leaves a caller's root: the container could not unmount it.
    fn go_home(&self) -> io::Result<()> {
        fchdir(&self.proc)?;
        Ok(nix::unistd::chroot(".")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::IdRange;
    use crate::host::ids::IdMaps;

    fn confined(first: Vec<Step>) -> Vec<Step> {
        let sets = Box::default();
        let keep = Keep::None;
        first
            .into_iter()
            .chain([Step::Capabilities { sets, keep }])
            .collect()
    }

    fn keeps(steps: &[Step]) -> bool {
        steps
            .iter()
            .any(|step| matches!(step, Step::Capabilities { keep, .. } if *keep == Keep::SysAdmin))
    }

    #[test]
    fn calls_are_handed_over_where_there_is_one_id_and_before_other_filters() {
        let one = IdMaps::single(1000, 1000);
        let mut range = one.clone();
        range.uids.push(IdRange {
            inside: 1,
            outside: 100_000,
            count: 65_536,
        });
        let mut steps = confined(vec![]);
        plan(&mut steps, &range);
        assert!(!is_planned(&steps) && !keeps(&steps));
        steps.push(Step::Seccomp(vec![]));
        plan(&mut steps, &one);
        let [.., Step::HandOver(program), Step::Seccomp(_)] = &steps[..] else {
            panic!("{steps:?}")
        };
        assert_eq!(*program, notify::program(0, 0));
        assert!(keeps(&steps), "a filter needs it");
        // A start that falls back to one id plans anew.
        let planned = steps.clone();
        plan(&mut steps, &one);
        assert_eq!(steps, planned);
    }

    #[test]
    fn without_another_filter_it_is_last_and_no_new_privs_needs_no_capability() {
        let mut steps = confined(vec![Step::NoNewPrivileges]);
        plan(&mut steps, &IdMaps::single(1000, 1000));
        assert!(matches!(steps.last(), Some(Step::HandOver(_))));
        assert!(!keeps(&steps));
    }
}
