//! Who ends the processes of a container that has no pid namespace of its own? With one, the kernel does, when init has ended.
//! Without, they are found by their mount namespace, which no two containers have in common, and killed one by one.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{fstat, stat};
use rustix::io;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::containers::process;

/// How long all of them may take to be gone: one that waits in the kernel dies when that lets it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks.
const BETWEEN: Duration = Duration::from_millis(2);

/// A container's processes, by its mount namespace.
#[derive(Debug)]
pub struct Crowd(OwnedFd);

impl From<OwnedFd> for Crowd {
    fn from(namespace: OwnedFd) -> Crowd {
        Crowd(namespace)
    }
}

impl Crowd {
    /// The namespace.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn namespace(&self) -> std::io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Kills all of them. `false`: some are still there after a while.
    pub fn end(&self) -> bool {
        let since = Instant::now();
        loop {
            let members = self.members();
            if members.is_empty() {
                return true;
            }
            for (pid, parent) in members {
                self.kill(pid, parent);
            }
            if since.elapsed() > PATIENCE {
                return false;
            }
            thread::sleep(BETWEEN);
        }
    }

    /// Those in the namespace, and with their parents their descendants, which may have made another.
    fn members(&self) -> HashMap<i32, Option<i32>> {
        let pids: Vec<i32> = process::all().collect();
        let own = pids.iter().filter(|pid| self.has(**pid)).map(|pid| (*pid, None));
        let mut members: HashMap<_, _> = own.collect();
        if members.is_empty() {
            return members;
        }
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (pid, parent) in pids.iter().filter_map(|pid| Some((*pid, living_child_of(*pid)?))) {
            children.entry(parent).or_default().push(pid);
        }
        let mut ahead: Vec<i32> = members.keys().copied().collect();
        while let Some(parent) = ahead.pop() {
            for child in children.remove(&parent).unwrap_or_default() {
                members.entry(child).or_insert_with(|| {
                    ahead.push(child);
                    Some(parent)
                });
            }
        }
        members
    }

    /// Is the process in the namespace? One that has ended is in none.
    fn has(&self, pid: i32) -> bool {
        let same = || -> io::Result<bool> {
            let (own, its) = (fstat(&self.0)?, stat(format!("/proc/{pid}/ns/mnt"))?);
            Ok((own.st_dev, own.st_ino) == (its.st_dev, its.st_ino))
        };
        same().unwrap_or(false)
    }

    /// `parent`: of one that descends from them.
    fn kill(&self, pid: i32, parent: Option<i32>) {
        let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return;
        };
        // The descriptor holds one process; only now is it sure to be one of these.
        if self.has(pid) || parent.is_some() && living_child_of(pid) == parent {
            // It may have ended.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
}

/// The parent of a process that has not ended (proc_pid_stat(5), fields 3 and 4).
fn living_child_of(pid: i32) -> Option<i32> {
    let stat = process::stat(pid).ok()?;
    let mut fields = stat.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_a_living_process_is_known() {
        let parent = nix::unistd::getppid().as_raw();
        assert_eq!(living_child_of(std::process::id().cast_signed()), Some(parent));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        while living_child_of(pid).is_some() {
            thread::sleep(BETWEEN);
        }
        child.wait().unwrap();
    }
}
