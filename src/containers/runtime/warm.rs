//! Who has in the kernel's caches what the command will touch first? A process beside init: while init still mounts, it looks
//! up the names and reads the bytes that an earlier start of the image was seen to touch (`containers::touched`). Its requests
//! are those that the command would make one by one, each waiting for its answer.
//!
//! It touches only the container's own tree, by paths without links, and nothing depends on it: what it cannot do is left.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fuse_overlay::fuse::touched::{self, PIECE, Touched};
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{Advice, Mode, OFlags, ResolveFlags, fadvise, openat2, readlinkat};

use super::channel::Channel;
use super::start::{Doors, die_with_parent, end_child, hide, watch};
use crate::sys;

/// The process as the supervisor, its parent, sees it; dropped, it is ended and reaped.
#[derive(Debug)]
pub(super) struct Warmer {
    pid: Pid,
    /// None if there was no descriptor for it.
    end: Option<OwnedFd>,
    reaped: bool,
}

impl Warmer {
    /// A child that is not reaped yet.
    pub(super) fn of(pid: Pid) -> Warmer {
        Warmer {
            pid,
            end: watch(pid).ok(),
            reaped: false,
        }
    }

    /// Readable when it has ended.
    pub(super) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Has it ended by itself? It is reaped then.
    pub(super) fn has_ended(&mut self) -> bool {
        let waited = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
        self.reaped = !matches!(waited, Ok(WaitStatus::StillAlive));
        self.reaped
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        if !self.reaped {
            end_child(self.pid);
        }
    }
}

/// Forks it as init's sibling. `doors` lead out of the container's cgroups, whose limits are the command's alone.
pub(super) fn begin(notes: &[u8], root: &OwnedFd, doors: &Doors, channel: &Channel) -> Option<Pid> {
    let warmer = sys::fork_sibling(CloneFlags::empty(), || {
        let kept: Vec<BorrowedFd<'_>> = doors.fds().chain([root.as_fd()]).collect();
        // The user's streams; then most of all the channel, by whose end the supervisor learns that the command runs.
        sys::close_each(&[0, 1, 2]);
        if hide().is_ok() && die_with_parent(channel).is_ok() && sys::close_all_but(&kept).is_ok() {
            doors.leave();
            touched::read(notes)
                .iter()
                .for_each(|touched| touch(root, touched));
        }
        // Descriptors that it no longer has must not be dropped.
        sys::exit(0)
    });
    // Without it the command does its own touching.
    warmer.ok()
}

fn touch(root: &OwnedFd, touched: &Touched) {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = |flags: OFlags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(root, &touched.path, flags, Mode::empty(), resolve)
    };
    if touched.reads.is_empty() {
        // Finding the name is all; a link is read, too.
        if let (Ok(name), true) = (open(OFlags::PATH), touched.link) {
            let _ = readlinkat(&name, c"", Vec::new());
        }
        return;
    }
    // What was a file then may be a fifo now.
    let Ok(file) = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) else {
        return;
    };
    for read in &touched.reads {
        for start in (read.start..read.end).step_by(PIECE as usize) {
            let _ = fadvise(
                &file,
                start,
                std::num::NonZeroU64::new(read.end - start),
                Advice::WillNeed,
            );
        }
    }
}
