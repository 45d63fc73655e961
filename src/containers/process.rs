//! Does a process still run, and how does one wait for its end? Pids are used again, and all of them after a reboot, so a
//! process is its boot, its pid and its start, and is held by a descriptor.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use fuse_overlay::disk::boot_id;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid,
};
use serde::{Deserialize, Serialize};

use crate::host;

/// How long a killed process may take to die.
const DYING: Duration = Duration::from_secs(10);

/// A process, told from a later one of the same number by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start: u64,
    /// Which boot that is: another's processes are gone, whoever has their numbers now. Records without it are of this one.
    #[serde(default = "Boot::now")]
    boot: Boot,
}

/// One time that the kernel was started (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Boot(u128);

impl Boot {
    /// This one. Where the kernel does not say, they are all the same.
    fn now() -> Boot {
        static NOW: OnceLock<Boot> = OnceLock::new();
        *NOW.get_or_init(|| Boot(boot_id().map_or(0, u128::from_be_bytes)))
    }
}

impl From<Boot> for String {
    fn from(boot: Boot) -> String {
        format!("{:032x}", boot.0)
    }
}

impl TryFrom<String> for Boot {
    type Error = String;

    fn try_from(text: String) -> Result<Boot, String> {
        let id = u128::from_str_radix(&text, 16);
        id.map(Boot).map_err(|_| format!("'{text}' is no boot id"))
    }
}

impl Process {
    /// The living process of this number; `None`, too, if it cannot be read.
    pub fn of(pid: i32) -> Option<Process> {
        Process::look(pid).ok().flatten()
    }

    /// The same, told apart.
    ///
    /// # Errors
    /// Its record in /proc cannot be read.
    pub(super) fn look(pid: i32) -> io::Result<Option<Process>> {
        let boot = Boot::now();
        Ok(host::process::start(pid)?.map(|start| Process { pid, start, boot }))
    }

    /// This process.
    ///
    /// # Errors
    /// Its record in /proc cannot be read.
    pub(super) fn own() -> io::Result<Process> {
        Process::child(std::process::id().cast_signed())
    }

    /// A child that is not reaped yet: it is there even when it has ended.
    ///
    /// # Errors
    /// Its record in /proc cannot be read.
    pub(super) fn child(pid: i32) -> io::Result<Process> {
        Ok(Process::look(pid)?.ok_or(io::ErrorKind::NotFound)?)
    }

    /// Returns when it has ended: by itself within `patience`, else killed.
    pub(super) fn end(&self, patience: Duration) {
        let Ok(Some(pidfd)) = self.open() else { return };
        // One that cannot be waited for is as one that does not end.
        if !ends(&pidfd, Some(patience)).unwrap_or(false) {
            // It may have ended in between. One that no signal ends waits in the kernel, and so would we: bounded.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            let _ = ends(&pidfd, Some(DYING));
        }
    }

    /// A descriptor of it; `None` if it has ended.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn open(&self) -> std::io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The descriptor holds one process; only now is it sure to be the one meant.
            Ok(pidfd) => Ok((Process::look(self.pid)? == Some(*self)).then_some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Does it still run? What cannot be asked about does.
    pub fn lives(&self) -> bool {
        Process::look(self.pid).map_or(true, |now| now == Some(*self))
    }
}

/// The processes that /proc shows.
pub(super) fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Waits for the end of a process: `false` if it has not come within `limit` (`None` waits for ever).
///
/// # Errors
/// The kernel refuses to wait.
pub fn ends(pidfd: &OwnedFd, limit: Option<Duration>) -> std::io::Result<bool> {
    let timeout = match limit {
        None => PollTimeout::NONE,
        Some(limit) => PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
    };
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}

/// Waits for the end of a child; gives its exit code.
///
/// # Errors
/// The kernel refuses to wait: it is no child of this process, or was reaped before.
pub(super) fn reaped(child: nix::unistd::Pid) -> io::Result<i32> {
    let child = Pid::from_raw(child.as_raw());
    loop {
        match waitpid(child, WaitOptions::empty()) {
            Ok(ended) => {
                if let Some(code) = ended.and_then(|(_, status)| exit_code(status)) {
                    return Ok(code);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The exit code of a process that has ended, 128 + n after signal n: by its number, since real-time signals have no name.
pub(super) fn exit_code(status: WaitStatus) -> Option<i32> {
    let killed = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_another_boot_is_not_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let now = Process::of(child.id().cast_signed()).unwrap();
        let before = Process {
            boot: Boot(now.boot.0 ^ 1),
            ..now
        };
        before.end(Duration::ZERO);
        assert!(!before.lives() && before.open().unwrap().is_none());
        assert!(now.lives());
        now.end(Duration::ZERO);
        child.wait().unwrap();
        assert!(!now.lives());
    }

    #[test]
    fn a_process_is_read_again_and_one_of_an_older_record_is_of_this_boot() {
        let now = Process::of(std::process::id().cast_signed()).unwrap();
        assert_ne!(now.boot, Boot(0));
        let text = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Process>(&text).unwrap(), now);
        let older = format!(r#"{{"pid": {}, "start": {}}}"#, now.pid, now.start);
        assert_eq!(serde_json::from_str::<Process>(&older).unwrap(), now);
    }
}
