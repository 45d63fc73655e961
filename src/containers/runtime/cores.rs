//! On which core does a process go on that was forked to work beside its parent? Linux leaves it on its parent's, where it
//! waits until that one sleeps, even if another core is idle (measured: a millisecond of a start).

use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Sends a child to another core than this one, if there is one; from there on it goes where the kernel likes. Who forks
/// meanwhile leaves its child with all cores but one.
pub(in crate::containers) fn spread(child: Pid) {
    if let Some((child, all)) = off_this(child) {
        let _ = sched_setaffinity(Some(child), &all);
    }
}

/// Keeps a child, and what it forks, off this core, if there is another. For what lives for a moment: what it forks and waits
/// for is else put on the core that is at work here, and is not fetched back when its own falls idle (measured: two
/// milliseconds of a start).
pub(super) fn keep_off(child: Pid) {
    off_this(child);
}

/// Gives the child and the cores it had. It is a matter of speed alone, so what cannot be done is left.
fn off_this(child: Pid) -> Option<(rustix::process::Pid, CpuSet)> {
    let child = rustix::process::Pid::from_raw(child.as_raw())?;
    let all = sched_getaffinity(None).ok()?;
    let mut others = all;
    others.unset(sched_getcpu());
    (others.count() > 0 && sched_setaffinity(Some(child), &others).is_ok()).then_some((child, all))
}
