//! How is a path opened that must not lead out of a directory, whatever links are in it? By openat2.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// A magic link leads nowhere, any other no further than the top.
pub(crate) const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens what is at a path below `top`, found as `how` says.
pub(crate) fn open<P: Arg + Copy>(
    top: impl AsFd,
    path: P,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd> {
    // A rename anywhere on the machine makes the kernel give up where it cannot tell that `..` stays inside; a few tries are
    // the manual's advice.
    for _ in 0..128 {
        match openat2(&top, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}
