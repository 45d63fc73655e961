//! Who answers for a container's files? A child of the supervisor, outside the container's namespaces, as the plain user.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_overlay::fuse::{IdMap, serve};
use fuse_overlay::union::{Limits, Lower, OpenError, Storage, Tree};
use nix::sys::signal::Signal as NixSignal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use parking_lot::Mutex;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::protocol::{Answer, Task};
use super::stdio;
use crate::containers::process::Process;
use crate::containers::record::SERVER_PATIENCE;
use crate::containers::runtime::channel::Channel;
use crate::host::IdMaps;
use crate::sys;

/// The server as the supervisor sees it.
pub(super) struct Server {
    /// The process.
    pub(super) process: Process,
    pidfd: OwnedFd,
    channel: Channel,
    shared: Arc<Mutex<Shared>>,
}

/// What must be let go when the server dies. The supervisor owns every descriptor of /dev/fuse, so a dead server alone
/// would leave the container's calls waiting for ever.
#[derive(Default)]
struct Shared {
    devices: Vec<OwnedFd>,
    init: Option<OwnedFd>,
    /// How it died while somebody needed it.
    lost: Option<String>,
}

/// How a server's life ended that was not ended from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The mount went away, and everything is on the disk.
    Synced,
    /// Otherwise.
    Failed,
}

/// Why there is no server.
type Failure = String;

impl Server {
    /// Forks the server, which opens image and writable layer at once. `close` drops what is the supervisor's alone.
    pub(super) fn fork(lower: Lower, upper: &Path, close: impl FnOnce()) -> Result<Server, Failure> {
        let failed = |error: &dyn std::fmt::Display| format!("filesystem server: {error}");
        let (ours, theirs) = Channel::pair().map_err(|error| failed(&error))?;
        let mut ends = Some((ours, theirs));
        let mut closed = Some((close, lower));
        let pid = sys::fork(|| {
            let (Some((ours, theirs)), Some((close, lower))) = (ends.take(), closed.take()) else {
                return 125;
            };
            drop(ours);
            close();
            run(lower, upper, theirs)
        });
        let pid = pid.map_err(|error| failed(&error))?;
        let Some((channel, _)) = ends else {
            return Err(failed(&"no channel"));
        };
        let raw = rustix::process::Pid::from_raw(pid.as_raw());
        let pidfd = raw
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let pidfd = pidfd.map_err(|error| failed(&error))?;
        let process = Process::of(pid.as_raw()).ok_or_else(|| failed(&"it died at once"))?;
        Ok(Server {
            process,
            pidfd,
            channel,
            shared: Arc::default(),
        })
    }

    /// Hands it the connection. From now on its death ends the container.
    pub(super) fn serve(&self, ids: &IdMaps, devices: Vec<OwnedFd>) -> Result<(), Failure> {
        let (uids, gids) = ids.inside();
        let pairs =
            |ranges: Vec<std::ops::Range<u32>>| ranges.into_iter().map(|r| (r.start, r.end)).collect();
        let task = Task::Serve {
            uids: pairs(uids),
            gids: pairs(gids),
        };
        let sent = self.channel.send(&task, &devices);
        self.shared.lock().devices = devices;
        // One that is gone has said why.
        sent.or_else(|error| self.opened().and(Err(format!("filesystem server: {error}"))))
    }

    /// Waits until it has opened image and writable layer.
    pub(super) fn opened(&self) -> Result<(), Failure> {
        match self.channel.receive() {
            Ok(Some((Answer::Open, _))) => Ok(()),
            Ok(Some((Answer::Failed(why), _))) => Err(why),
            Ok(None) => Err("the filesystem server died before it had opened the image".into()),
            Err(error) => Err(format!("filesystem server: {error}")),
        }
    }

    /// Watches it in a thread: when it dies, the connection is closed, so that nothing waits for it, and init killed.
    pub(super) fn watch(&self) -> std::io::Result<()> {
        let pidfd = self.pidfd.try_clone()?;
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name("watch".into()).spawn(move || {
            stdio::wait_readable(pidfd.as_fd());
            let mut shared = shared.lock();
            // Its end by itself, when the mount is gone, is no loss.
            shared.lost = death(&pidfd);
            shared.devices.clear();
            if let Some(init) = &shared.init {
                // It may have ended already, which is what is wanted.
                let _ = pidfd_send_signal(init, Signal::KILL);
            }
        })?;
        Ok(())
    }

    /// Tells it whom to kill when the supervisor dies.
    pub(super) fn guard(&self, init: &OwnedFd) -> std::io::Result<()> {
        self.shared.lock().init = Some(init.try_clone()?);
        // One that died before this line was seen by `watch` when there was nobody to kill yet.
        if self.is_dead() {
            // It may have ended already.
            let _ = pidfd_send_signal(init, Signal::KILL);
        }
        match self.channel.send(&Task::Guard, &[init.as_fd()]) {
            // A command that ended at once took mount and server with it; a server that died is `watch`'s to see.
            Ok(()) | Err(nix::errno::Errno::EPIPE) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has it died?
    pub(super) fn is_dead(&self) -> bool {
        stdio::is_readable(self.pidfd.as_fd())
    }

    /// How it died before the container did, if it did.
    pub(super) fn lost(&self) -> Option<String> {
        self.shared.lock().lost.clone()
    }

    /// Waits for its end, which follows the container's: it makes everything durable first.
    pub(super) fn finish(self) -> Finish {
        match waitpid(Pid::from_raw(self.process.pid), None) {
            Ok(WaitStatus::Exited(_, 0)) => Finish::Synced,
            // Nobody else reaps, so it is no error of waiting.
            _ => Finish::Failed,
        }
    }

    /// Ends it at once: nothing of the writable layer is wanted.
    pub(super) fn kill(self) {
        // It may be dead; then it is only reaped.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let (Finish::Synced | Finish::Failed) = self.finish();
    }
}

/// How a dead child died, without reaping it; `None` if it ended by itself, or is reaped already.
fn death(pidfd: &OwnedFd) -> Option<String> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    match waitid(Id::PIDFd(pidfd.as_fd()), flags) {
        Ok(WaitStatus::Signaled(_, NixSignal::SIGKILL, _)) => Some("was killed".into()),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("died of {signal}")),
        Ok(WaitStatus::Exited(_, code)) if code != 0 => Some(format!("failed (code {code})")),
        _ => None,
    }
}

/// The server's whole life.
fn run(lower: Lower, upper: &Path, channel: Channel) -> u8 {
    stdio::forget_streams();
    // A name is a help to people only.
    let _ = nix::sys::prctl::set_name(c"bryo-server");
    let tree = storage(upper).and_then(|storage| Tree::open_on(lower, storage, Limits::default()));
    let tree = match tree {
        Ok(tree) => tree,
        Err(error) => {
            // If nobody hears it, nobody is there to be told.
            let _ = channel.send(&Answer::Failed(error.to_string()), &NO_DESCRIPTORS);
            return 1;
        }
    };
    if channel.send(&Answer::Open, &NO_DESCRIPTORS).is_err() {
        return 1;
    }
    let Ok(Some((Task::Serve { uids, gids }, devices))) = channel.receive() else {
        return 1;
    };
    let ranges = |pairs: Vec<(u32, u32)>| pairs.into_iter().map(|(start, end)| start..end).collect();
    let ids = IdMap {
        uids: ranges(uids),
        gids: ranges(gids),
    };
    let guard = std::thread::Builder::new()
        .name("guard".into())
        .spawn(move || guard(&channel));
    match (guard, serve(tree, ids, devices)) {
        (Ok(_), Ok(())) => 0,
        _ => 1,
    }
}

/// Opens the writable layer. The container is our supervisor's, so who still has the layer in use is a server whose
/// supervisor was killed before it could record it: that one ends as soon as it has synced.
fn storage(upper: &Path) -> Result<Storage, OpenError> {
    let end = Instant::now() + SERVER_PATIENCE;
    loop {
        match Storage::open(upper) {
            Err(OpenError::InUse { .. }) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened,
        }
    }
}

/// Waits for the supervisor's end, which closes the channel, and kills init then. (Its parent-death signal does so
/// too, but that one is lost when the command is a set-uid program.)
fn guard(channel: &Channel) {
    let mut init = None;
    while let Ok(Some((Task::Guard, descriptors))) = channel.receive() {
        init = descriptors.into_iter().next();
    }
    match init {
        Some(init) => {
            // It may be dead already.
            let _ = pidfd_send_signal(&init, Signal::KILL);
        }
        // Not told yet: what there is of the container waits for this process, and ends with it.
        None => std::process::exit(1),
    }
}

const NO_DESCRIPTORS: [OwnedFd; 0] = [];
