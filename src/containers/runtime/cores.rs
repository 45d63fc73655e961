//! On which core does a process go on that was forked to work beside its parent? Linux leaves it on its parent's, where it
//! waits until that one sleeps, even if another core is idle (measured: a millisecond of a start).

use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Sends a child to another core than this one, if there is one; from there on it goes where the kernel likes. Only for
/// what lives for a moment: who forks between the two calls leaves its child with all cores but one. It is a matter of
/// speed alone, so what cannot be done is left.
pub(super) fn spread(child: Pid) {
    let Some(child) = rustix::process::Pid::from_raw(child.as_raw()) else {
        return;
    };
    let Ok(all) = sched_getaffinity(None) else {
        return;
    };
    let mut others: CpuSet = all;
    others.unset(sched_getcpu());
    if others.count() > 0 && sched_setaffinity(Some(child), &others).is_ok() {
        let _ = sched_setaffinity(Some(child), &all);
    }
}
