//! On which core does a process go on that was forked to work beside its parent? Linux puts it on the core that it thinks
//! idlest; where all are at work at that moment, that may be its parent's. There it waits until that one sleeps, and another core
//! that falls idle meanwhile does not fetch it (measured: one to two milliseconds of a start, on two cores).

use std::fs;

use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Sends a child to another core than this one, if there is one; from there on it goes where the kernel likes. Who forks
/// meanwhile leaves its child with all cores but one.
pub(in crate::containers) fn spread(child: Pid) {
    // It may live for long: not sched_getaffinity(2), which leaves out the cores that are off at the moment.
    let Some(allowed) = allowed() else { return };
    if let Some(child) = off_this(child) {
        let _ = sched_setaffinity(Some(child), &allowed);
    }
}

/// Keeps a child, and what it forks, off this core, if there is another: for what lives for a moment, and waits itself for
/// what it forks.
pub(super) fn keep_off(child: Pid) {
    off_this(child);
}

/// Gives the child, if it was moved. It is a matter of speed alone, so what cannot be done is left.
fn off_this(child: Pid) -> Option<rustix::process::Pid> {
    let child = rustix::process::Pid::from_raw(child.as_raw())?;
    let mut others = sched_getaffinity(None).ok()?;
    others.unset(sched_getcpu());
    (others.count() > 0 && sched_setaffinity(Some(child), &others).is_ok()).then_some(child)
}

/// The cores that this thread may use (proc_pid_status(5)), which are its children's as well.
fn allowed() -> Option<CpuSet> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    parse(
        status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed:"))?,
    )
}

/// Words of 32 bits in hexadecimal, the highest first. None if there are more cores than a set has room for.
fn parse(words: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for (number, word) in words.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(word, 16).ok()?;
        for core in (0..32)
            .filter(|bit| bits >> bit & 1 == 1)
            .map(|bit| number * 32 + bit)
        {
            (core < CpuSet::MAX_CPU).then(|| set.set(core))?;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_as_the_kernel_writes_them() {
        let cores = |words| {
            let set = parse(words)?;
            Some(
                (0..CpuSet::MAX_CPU)
                    .filter(|core| set.is_set(*core))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(cores("\t3\n"), Some(vec![0, 1]));
        assert_eq!(cores("80000001,00000000,00000010"), Some(vec![4, 64, 95]));
        assert_eq!(cores("xyz"), None);
        assert_eq!(cores(&format!("1{}", ",00000000".repeat(32))), None, "core 1024");
    }

    #[test]
    fn who_is_spread_may_use_what_it_could_before() {
        let now = || fs::read_to_string("/proc/thread-self/status").unwrap();
        let cores = |status: String| {
            status
                .lines()
                .find(|line| line.starts_with("Cpus_allowed:"))
                .unwrap()
                .to_owned()
        };
        let before = cores(now());
        spread(nix::unistd::gettid());
        assert_eq!(cores(now()), before);
    }
}
