//! Who ends the processes of a container that has no pid namespace of its own? With one, the kernel does, when init has ended.
//! Without, they are found by what their list of mounts calls the container's tree, which no two containers have in common, and
//! killed one by one. Anybody may read that list, and nobody waits for it: it is not so of a process's namespaces while it
//! executes a program whose filesystem hangs, whosever that is.

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

/// A container's processes.
#[derive(Debug)]
pub struct Crowd {
    mark: String,
    /// Its mount namespace: by it those are known that have gone to another root.
    namespace: Option<OwnedFd>,
}

/// As what the tree of this container is in the list of mounts.
pub fn mark(id: &str) -> String {
    format!("bryo:{id}")
}

impl Crowd {
    /// Those of this mark.
    pub fn new(mark: String, namespace: Option<OwnedFd>) -> Crowd {
        Crowd { mark, namespace }
    }

    /// What a container has left of which nothing but its id is known.
    pub fn of(id: &str) -> Crowd {
        Crowd::new(mark(id), None)
    }

    /// The mark.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The namespace.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn namespace(&self) -> std::io::Result<Option<OwnedFd>> {
        self.namespace.as_ref().map(OwnedFd::try_clone).transpose()
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

    /// Those that see the tree, and with their parents their descendants, which may have made another.
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

    /// Does the process see the tree? One that has ended sees none.
    fn has(&self, pid: i32) -> bool {
        let mounts = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        match shows(&String::from_utf8_lossy(&mounts), &self.mark) {
            Seen::Tree => true,
            Seen::OtherRoot => false,
            Seen::NoRoot => !mounts.is_empty() && self.shares(pid),
        }
    }

    /// Is the process in the namespace?
    fn shares(&self, pid: i32) -> bool {
        let same = |own: &OwnedFd| -> io::Result<bool> {
            let (own, its) = (fstat(own)?, stat(format!("/proc/{pid}/ns/mnt"))?);
            Ok((own.st_dev, own.st_ino) == (its.st_dev, its.st_ino))
        };
        let own = self.namespace.as_ref();
        own.is_some_and(|own| same(own).unwrap_or(false))
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

/// What a process sees by its list of mounts.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The container's tree.
    Tree,
    /// The root of another.
    OtherRoot,
    /// Its root is no mount: it has gone to a directory (chroot).
    NoRoot,
}

/// Reads that list (proc_pid_mountinfo(5)).
fn shows(mounts: &str, mark: &str) -> Seen {
    let mut seen = Seen::NoRoot;
    for line in mounts.lines() {
        let source = line
            .rsplit_once(" - ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        if source == Some(mark) {
            return Seen::Tree;
        }
        if line.split(' ').nth(4) == Some("/") {
            seen = Seen::OtherRoot;
        }
    }
    seen
}

/// The parent of a process that has not ended (proc_pid_status(5), whose reader waits for nobody; who reads `stat` may).
fn living_child_of(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let parent = field("PPid:")?.parse().ok()?;
    (!field("State:")?.starts_with(['Z', 'X'])).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_mounts_tells_whose_root_it_is() {
        let own =
            "36 35 0:52 / / rw,nosuid - fuse bryo:ab rw,user_id=0\n37 36 0:53 / /proc rw - proc proc rw\n";
        assert_eq!(shows(own, "bryo:ab"), Seen::Tree);
        assert_eq!(shows(own, "bryo:a"), Seen::OtherRoot);
        let below = "37 36 0:53 / /proc rw - proc proc rw\n";
        assert_eq!(shows(below, "bryo:ab"), Seen::NoRoot);
        // A name with its own ` - ` does not pass for a mark.
        let odd = "36 35 0:52 / /a\\040-\\040fuse\\040bryo:ab rw - ext4 /dev/vda rw\n";
        assert_eq!(shows(odd, "bryo:ab"), Seen::NoRoot);
    }

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
