//! Who answers for a container's files? A child of the supervisor, outside the container's namespaces, as the plain user.
//! It may die at any moment: the supervisor keeps what must outlive it, and starts a successor that goes on in its place,
//! unseen by the container. This is the supervisor's side; `serving` is the server's.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuse_overlay::index::view::Access;
use fuse_overlay::ledger::{self, Ledger};
use fuse_overlay::union::Lower;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal as NixSignal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use parking_lot::Mutex;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::protocol::{Answer, Task};
use super::serving::{self, NAME, UNSYNCED};
use super::stdio;
use crate::containers::process::Process;
use crate::containers::record::Takeovers;
use crate::containers::runtime::channel::{Channel, MOST_DESCRIPTORS};
use crate::containers::upgrade;
use crate::host::IdMaps;
use crate::sys;

/// The server as the supervisor sees it: now this process, now another.
pub(super) struct Server {
    shared: Arc<Mutex<Shared>>,
    /// Waits for its deaths.
    keeper: Option<JoinHandle<Finish>>,
    /// Counts successors.
    succeeded: Arc<EventFd>,
}

/// One server process.
struct Current {
    process: Process,
    pidfd: Arc<OwnedFd>,
    channel: Channel,
}

/// What a server needs and must not take with it when it dies.
struct Estate {
    ledger: OwnedFd,
    image: Lower,
    upper: PathBuf,
    /// Every descriptor of /dev/fuse: while one is open, the container's calls wait.
    devices: Vec<OwnedFd>,
    serve: Option<Task>,
}

struct Shared {
    current: Current,
    estate: Estate,
    init: Option<OwnedFd>,
    /// Nothing of what it holds is wanted any more.
    unwanted: bool,
    /// How it died, and that nobody could follow it.
    lost: Option<String>,
    /// When servers died by themselves, lately.
    crashes: Vec<Instant>,
    /// Has another taken over from the first?
    followed: bool,
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

/// A server that dies by itself so often within [`LATELY`] has no successor.
const MOST_CRASHES: usize = 30;
const LATELY: Duration = Duration::from_secs(60);
/// How long a server of another program may take to open image and writable layer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Successors tried that cannot be started, or are killed before they have opened the image.
const TRIES: usize = 100;
/// Between two of which the first could not be started.
const PAUSE: Duration = Duration::from_millis(50);

fn failed(error: impl std::fmt::Display) -> Failure {
    format!("filesystem server: {error}")
}

impl Server {
    /// Forks the server, which opens image and writable layer at once. `close` drops what is the supervisor's alone.
    pub(super) fn fork(image: Lower, upper: &Path, close: impl FnOnce()) -> Result<Server, Failure> {
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        let ledger = ledger::create().map_err(failed)?;
        upgrade::forget(upper);
        let mut all = Some((ours, theirs, close, image, ledger));
        let pid = sys::fork(|| {
            let Some((ours, theirs, close, image, ledger)) = all.take() else {
                return 125;
            };
            drop(ours);
            close();
            serving::run(image, upper, &ledger, theirs)
        });
        let pid = pid.map_err(failed)?;
        let Some((channel, _, _, image, ledger)) = all else {
            return Err(failed("no channel"));
        };
        let shared = Shared {
            current: Current::new(pid, channel)?,
            estate: Estate {
                ledger,
                image,
                upper: upper.to_owned(),
                devices: Vec::new(),
                serve: None,
            },
            init: None,
            unwanted: false,
            lost: None,
            crashes: Vec::new(),
            followed: false,
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Server {
            shared: Arc::new(Mutex::new(shared)),
            keeper: None,
            succeeded: Arc::new(EventFd::from_flags(flags).map_err(failed)?),
        })
    }

    /// Hands it the connection.
    pub(super) fn serve(&self, ids: &IdMaps, devices: Vec<OwnedFd>) -> Result<(), Failure> {
        let (uids, gids) = ids.inside();
        let pairs =
            |ranges: Vec<std::ops::Range<u32>>| ranges.into_iter().map(|r| (r.start, r.end)).collect();
        let task = Task::Serve {
            uids: pairs(uids),
            gids: pairs(gids),
        };
        let mut shared = self.shared.lock();
        let sent = shared.current.channel.send(&task, &devices);
        shared.estate.devices = devices;
        shared.estate.serve = Some(task);
        drop(shared);
        // One that is gone has said why.
        sent.or_else(|error| self.opened().and(Err(failed(error))))
    }

    /// Waits until it has opened image and writable layer.
    pub(super) fn opened(&self) -> Result<(), Failure> {
        match self.shared.lock().current.opened()? {
            true => Ok(()),
            false => Err("the filesystem server died before it had opened the image".into()),
        }
    }

    /// Watches it in a thread, which starts a successor when it dies. Where there can be none, the connection is closed, so
    /// that nothing waits for it, and init killed.
    pub(super) fn watch(&mut self) -> std::io::Result<()> {
        let (shared, succeeded) = (Arc::clone(&self.shared), Arc::clone(&self.succeeded));
        let keeper = std::thread::Builder::new().name("keeper".into());
        self.keeper = Some(keeper.spawn(move || keep(&shared, &succeeded))?);
        Ok(())
    }

    /// Tells it whom to kill when the supervisor dies.
    pub(super) fn guard(&self, init: &OwnedFd) -> std::io::Result<()> {
        let mut shared = self.shared.lock();
        if shared.lost.is_some() {
            // There was nobody to kill yet when the server was lost. Init may have ended already.
            let _ = pidfd_send_signal(init, Signal::KILL);
        }
        shared.init = Some(init.try_clone()?);
        match shared.current.channel.send(&Task::Guard, &[init.as_fd()]) {
            // A command that ended at once took mount and server with it; a server that died is the keeper's to see.
            Ok(()) | Err(nix::errno::Errno::EPIPE) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The process that it is now.
    pub(super) fn process(&self) -> Process {
        self.shared.lock().current.process
    }

    /// What its successors found.
    pub(super) fn takeovers(&self) -> Takeovers {
        let shared = self.shared.lock();
        if !shared.followed {
            // Nothing to read, which spares a start the mapping.
            return Takeovers::default();
        }
        let counted = Ledger::open(&shared.estate.ledger).map(|ledger| ledger.takeovers());
        counted.map_or(Takeovers::default(), |counted| Takeovers {
            servers: counted.successors,
            in_hand: counted.found,
            happened: counted.happened,
        })
    }

    /// Readable once another process has taken over.
    pub(super) fn succeeded(&self) -> &EventFd {
        &self.succeeded
    }

    /// How it died before the container did, if it did and nobody could follow it.
    pub(super) fn lost(&self) -> Option<String> {
        self.shared.lock().lost.clone()
    }

    /// Waits for its end, which follows the container's: it makes everything durable first.
    pub(super) fn finish(self) -> Finish {
        match self.keeper {
            // A keeper that panicked knows nothing good.
            Some(keeper) => keeper.join().unwrap_or(Finish::Failed),
            None => match reap(self.shared.lock().current.process) {
                End::Synced => Finish::Synced,
                End::Unsynced | End::Died(_) => Finish::Failed,
            },
        }
    }

    /// Ends it at once: nothing of the writable layer is wanted.
    pub(super) fn kill(self) {
        let mut shared = self.shared.lock();
        shared.unwanted = true;
        // It may be dead; then it is only reaped.
        let _ = pidfd_send_signal(&shared.current.pidfd, Signal::KILL);
        drop(shared);
        let (Finish::Synced | Finish::Failed) = self.finish();
    }
}

impl Current {
    fn new(pid: Pid, channel: Channel) -> Result<Current, Failure> {
        let raw = rustix::process::Pid::from_raw(pid.as_raw());
        let pidfd = raw
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        Ok(Current {
            // Our child, not reaped yet: it is there even when it has ended.
            process: Process::look(pid.as_raw()).map_err(failed)?,
            pidfd: Arc::new(pidfd.map_err(failed)?),
            channel,
        })
    }

    /// Waits until it has opened image and writable layer; says false if it died before.
    fn opened(&self) -> Result<bool, Failure> {
        match self.channel.receive() {
            Ok(Some((Answer::Open, _))) => Ok(true),
            Ok(Some((Answer::Failed(why), _))) => Err(why),
            Ok(None) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

/// How a server's process ended.
enum End {
    /// By itself: the mount is gone, and everything synced.
    Synced,
    /// By itself, but its last sync failed.
    Unsynced,
    /// Otherwise.
    Died(Death),
}

/// How a server died.
struct Death {
    how: String,
    /// Of a fault of its own, not of a signal that somebody sent.
    crashed: bool,
}

/// Reaps a dead server.
fn reap(process: Process) -> End {
    let (how, crashed) = match waitpid(Pid::from_raw(process.pid), None) {
        Ok(WaitStatus::Exited(_, 0)) => return End::Synced,
        Ok(WaitStatus::Exited(_, code)) if code == i32::from(UNSYNCED) => return End::Unsynced,
        Ok(WaitStatus::Signaled(_, NixSignal::SIGKILL, _)) => ("was killed".into(), false),
        Ok(WaitStatus::Signaled(_, signal, _)) => (format!("died of {signal}"), is_fault(signal)),
        Ok(WaitStatus::Exited(_, code)) => (format!("failed (code {code})"), true),
        // Nobody else reaps, so these do not happen.
        Ok(_) | Err(_) => ("is gone".into(), true),
    };
    End::Died(Death { how, crashed })
}

/// Is it a signal that a process gets for what it does itself?
fn is_fault(signal: NixSignal) -> bool {
    use NixSignal::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP].contains(&signal)
}

/// The keeper's life: waits for each server's death, until one ends by itself or nobody can follow it.
fn keep(shared: &Mutex<Shared>, succeeded: &EventFd) -> Finish {
    loop {
        let pidfd = Arc::clone(&shared.lock().current.pidfd);
        stdio::wait_readable(pidfd.as_fd());
        let mut shared = shared.lock();
        let death = match reap(shared.current.process) {
            End::Synced => return Finish::Synced,
            End::Unsynced => {
                shared.close();
                return Finish::Failed;
            }
            End::Died(death) => death,
        };
        if shared.unwanted {
            return Finish::Failed;
        }
        match shared.succeed(&death) {
            Ok(()) => {
                if death.crashed {
                    tracing::warn!(how = death.how, "filesystem server: another took over");
                } else {
                    tracing::info!(how = death.how, "filesystem server: another took over");
                }
                // Full only after 2⁶⁴ deaths that nobody looked at.
                let _ = succeeded.write(1);
            }
            Err(why) => {
                tracing::error!(how = death.how, %why, "filesystem server: nobody can follow it");
                shared.lost = Some(format!("{} and none could follow it ({why})", death.how));
                shared.close();
                return Finish::Failed;
            }
        }
    }
}

impl Shared {
    /// Lets go of the connection, so that nothing waits for it, and ends the container.
    fn close(&mut self) {
        self.estate.devices.clear();
        if let Some(init) = &self.init {
            // It may have ended already, which is what is wanted.
            let _ = pidfd_send_signal(init, Signal::KILL);
        }
    }

    /// Puts another server in the place of the dead one.
    fn succeed(&mut self, death: &Death) -> Result<(), Failure> {
        if !Ledger::open(&self.estate.ledger).map_err(failed)?.is_connected() {
            return Err("it died before it had answered the kernel".into());
        }
        let mut crashed = death.crashed;
        let mut program = upgrade::program(&self.estate.upper);
        let mut why_not = String::from("its successors are killed at once, as for want of memory");
        for _ in 0..TRIES {
            if crashed {
                self.count_crash()?;
            }
            let patience = program.as_ref().map(|_| PATIENCE);
            let mut started = false;
            let installed = self.estate.spawn(program.as_deref(), crashed).and_then(|server| {
                self.current = server;
                started = true;
                self.install(patience)
            });
            if installed == Ok(true) {
                self.followed = true;
                return Ok(());
            }
            let mut end = None;
            if started {
                // One that is alive all the same answers nothing that makes sense, or nothing at all.
                let _ = pidfd_send_signal(&self.current.pidfd, Signal::KILL);
                end = Some(reap(self.current.process));
            }
            // Its requests have been blamed.
            crashed = false;
            match (program.take(), installed) {
                // It may be of a version that does not know this ledger; ours does.
                (Some(program), why) => {
                    tracing::warn!(program = %program.display(), ?why, "no filesystem server of that program");
                }
                // A user with too many processes, or a machine without memory, may have fewer in a moment.
                (None, Err(why)) if !started => {
                    why_not = why;
                    std::thread::sleep(PAUSE);
                }
                (None, Err(why)) => return Err(why),
                (None, Ok(_)) => crashed = matches!(end, Some(End::Died(Death { crashed: true, .. }))),
            }
        }
        Err(why_not)
    }

    fn count_crash(&mut self) -> Result<(), Failure> {
        self.crashes.retain(|crash| crash.elapsed() < LATELY);
        self.crashes.push(Instant::now());
        match self.crashes.len() > MOST_CRASHES {
            true => Err("it crashes again and again".into()),
            false => Ok(()),
        }
    }

    /// Hands over to a server that was just started; says false if it died meanwhile.
    fn install(&self, patience: Option<Duration>) -> Result<bool, Failure> {
        let channel = &self.current.channel;
        if !stdio::becomes_readable(channel.as_fd(), patience) {
            return Err("it does not answer".into());
        }
        if !self.current.opened()? {
            return Ok(false);
        }
        let serve = self.estate.serve.as_ref().ok_or("it never had a connection")?;
        // One that is killed from here on is the keeper's to see.
        let _ = channel.send(serve, &self.estate.devices);
        if let Some(init) = &self.init {
            let _ = channel.send(&Task::Guard, &[init.as_fd()]);
        }
        Ok(true)
    }
}

impl Estate {
    /// Starts a successor: this same program anew, since a process with threads cannot be forked, or another `program`.
    fn spawn(&self, program: Option<&Path>, blame: bool) -> Result<Current, Failure> {
        use std::os::unix::process::CommandExt as _;
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        // First what may fail for want of descriptors, so that no child is left behind then.
        let (image, access) = self.image.descriptors().map_err(failed)?;
        let child = Command::new(program.unwrap_or(Path::new("/proc/self/exe")))
            .arg0(NAME)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pid = i32::try_from(child.id()).map_err(failed)?;
        let task = Task::Inherit {
            upper: self.upper.as_os_str().as_bytes().to_vec(),
            descriptors: image.len(),
            mapped: access == Access::Map,
            blame,
        };
        // If it is killed before it has read all, it is replaced by the next.
        let _ = ours.send(&task, std::slice::from_ref(&self.ledger));
        for part in image.chunks(MOST_DESCRIPTORS) {
            let _ = ours.send(&Task::Image, part);
        }
        Current::new(Pid::from_raw(pid), ours)
    }
}
