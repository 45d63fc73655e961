//! Who answers for a container's files? A child of the supervisor, outside the container's namespaces, as the plain user.
//! It may die at any moment: the supervisor keeps what must outlive it, and starts a successor that goes on in its place,
//! unseen by the container. This is the supervisor's side; `serving` is the server's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
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

use super::protocol::{After, Answer, Death, Indexes, Task};
use super::serving::{self, NAME, why_unsynced};
use super::stdio;
use crate::containers::process::Process;
use crate::containers::record::Takeovers;
use crate::containers::role;
use crate::containers::runtime::channel::{Channel, MOST_DESCRIPTORS};
use crate::containers::runtime::cores;
use crate::containers::storage::Storage;
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
    storage: Storage,
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
    /// When servers died by themselves, lately, and how many requests successors had found in hand by then.
    crashes: Vec<(Instant, u32)>,
    /// Has another taken over from the first?
    followed: bool,
}

/// How a server's life ended that was not ended from outside.
#[derive(Debug)]
pub(super) enum Finish {
    /// The mount went away, and everything is on the disk that is wanted.
    Synced,
    /// Otherwise; why, if it told.
    Failed(Option<std::io::Error>),
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    /// A system call failed.
    #[error("filesystem server: {0}")]
    Io(#[from] std::io::Error),
    /// What it said itself.
    #[error("{0}")]
    Said(String),
    /// It died before it had opened image and writable layer.
    #[error("the filesystem server died before it had opened the image")]
    Died,
    /// It died before the kernel had its first answer: there is nothing to go on with.
    #[error("it died before it had answered the kernel")]
    NeverServed,
    /// [`MOST_CRASHES`].
    #[error("it crashes again and again")]
    Crashing,
    /// One of another program.
    #[error("it does not answer")]
    Silent,
    /// [`TRIES`].
    #[error("its successors are killed at once, as for want of memory")]
    Hunted,
}

impl From<nix::errno::Errno> for ServerError {
    fn from(errno: nix::errno::Errno) -> ServerError {
        ServerError::Io(errno.into())
    }
}

/// Servers that die by themselves so often within [`LATELY`], and not of requests, have no successor. Where it is of
/// requests, the successor waits: who asks for his again and again has EIO each time, and must not have the machine.
const MOST_CRASHES: usize = 30;
const LATELY: Duration = Duration::from_secs(60);
/// How long it waits then.
const BREATHER: Duration = Duration::from_secs(1);
/// How long a server of another program may take to open image and writable layer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Successors tried that cannot be started, or are killed before they have opened the image.
const TRIES: usize = 100;
/// Between two of which the first could not be started.
const PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Forks the server, which opens image and writable layer at once. `close` drops what is the supervisor's alone.
    pub(super) fn fork(
        image: Lower,
        upper: &Path,
        storage: Storage,
        close: impl FnOnce(),
    ) -> Result<Server, ServerError> {
        let (ours, theirs) = Channel::pair()?;
        let ledger = ledger::create()?;
        upgrade::forget(upper);
        let mut all = Some((ours, theirs, close, image, ledger));
        let pid = sys::fork(|| {
            let Some((ours, theirs, close, image, ledger)) = all.take() else {
                return 125;
            };
            drop(ours);
            close();
            serving::run(image, upper, storage, &ledger, theirs)
        });
        let pid = pid?;
        // It opens image and writable layer while we go on.
        cores::spread(pid);
        let Some((channel, _, _, image, ledger)) = all else {
            return Err(std::io::Error::other("forked twice").into());
        };
        let shared = Shared {
            current: Current::new(pid, channel)?,
            estate: Estate {
                ledger,
                image,
                upper: upper.to_owned(),
                storage,
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
            succeeded: Arc::new(EventFd::from_flags(flags)?),
        })
    }

    /// Hands it the connection. `after`: what becomes of its writable layer once the container has ended. On `page` it notes what
    /// programs touch first; successors do not.
    pub(super) fn serve(
        &self,
        ids: &IdMaps,
        devices: Vec<OwnedFd>,
        (after, page): (After, Option<OwnedFd>),
    ) -> Result<(), ServerError> {
        let (uids, gids) = ids.inside();
        let pairs =
            |ranges: Vec<std::ops::Range<u32>>| ranges.into_iter().map(|r| (r.start, r.end)).collect();
        let task = |notes| Task::Serve {
            uids: pairs(uids.clone()),
            gids: pairs(gids.clone()),
            after,
            notes,
        };
        let mut shared = self.shared.lock();
        let given: Vec<BorrowedFd<'_>> = devices.iter().chain(&page).map(AsFd::as_fd).collect();
        let sent = shared.current.channel.send(&task(page.is_some()), &given);
        shared.estate.devices = devices;
        shared.estate.serve = Some(task(false));
        drop(shared);
        // One that is gone has said why.
        sent.or_else(|error| self.opened().and(Err(error.into())))
    }

    /// Waits until it has opened image and writable layer.
    pub(super) fn opened(&self) -> Result<(), ServerError> {
        self.shared.lock().current.opened()
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
            busy: counted.busy,
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
            Some(keeper) => keeper.join().unwrap_or(Finish::Failed(None)),
            None => match reap(self.shared.lock().current.process) {
                End::Synced => Finish::Synced,
                End::Unsynced(why) => Finish::Failed(Some(why)),
                End::Died(..) => Finish::Failed(None),
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
        drop(self.finish());
    }
}

impl Current {
    fn new(pid: Pid, channel: Channel) -> Result<Current, ServerError> {
        let raw = rustix::process::Pid::from_raw(pid.as_raw());
        let pidfd = raw
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        Ok(Current {
            process: Process::child(pid.as_raw())?,
            pidfd: Arc::new(pidfd.map_err(std::io::Error::from)?),
            channel,
        })
    }

    /// Waits until it has opened image and writable layer.
    fn opened(&self) -> Result<(), ServerError> {
        match self.channel.receive()? {
            Some((Answer::Open, _)) => Ok(()),
            Some((Answer::Failed(why), _)) => Err(ServerError::Said(why)),
            None => Err(ServerError::Died),
        }
    }
}

/// How a server's process ended.
enum End {
    /// By itself: the mount is gone, and everything synced.
    Synced,
    /// By itself, but its last sync failed, for this reason.
    Unsynced(std::io::Error),
    /// Otherwise.
    Died(Death, String),
}

/// What servers died of lately, by themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crashes {
    /// No more than may be.
    Few,
    /// Many, and successors found requests in hand, which two deaths end.
    OfRequests,
    /// Many, and nobody found any.
    OfNothing,
}

/// Reaps a dead server.
fn reap(process: Process) -> End {
    let (death, how) = match waitpid(Pid::from_raw(process.pid), None) {
        Ok(WaitStatus::Exited(_, 0)) => return End::Synced,
        Ok(WaitStatus::Signaled(_, NixSignal::SIGKILL, _)) => (Death::Killed, "was killed".into()),
        Ok(WaitStatus::Signaled(_, signal, _)) => (death_of(signal), format!("died of {signal}")),
        Ok(WaitStatus::Exited(_, code)) => match why_unsynced(code) {
            Some(why) => return End::Unsynced(why),
            None => (Death::Crash, format!("failed (code {code})")),
        },
        // Nobody else reaps, so these do not happen.
        Ok(_) | Err(_) => (Death::Crash, "is gone".into()),
    };
    End::Died(death, how)
}

/// A process gets some signals for what it does itself.
fn death_of(signal: NixSignal) -> Death {
    use NixSignal::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    match signal {
        SIGABRT | SIGBUS | SIGFPE | SIGILL | SIGSEGV | SIGSYS | SIGTRAP => Death::Crash,
        _ => Death::Killed,
    }
}

/// The keeper's life: waits for each server's death, until one ends by itself or nobody can follow it.
fn keep(shared: &Mutex<Shared>, succeeded: &EventFd) -> Finish {
    loop {
        let pidfd = Arc::clone(&shared.lock().current.pidfd);
        stdio::wait_readable(pidfd.as_fd());
        let mut held = shared.lock();
        let (death, how) = match reap(held.current.process) {
            End::Synced => return Finish::Synced,
            End::Unsynced(why) => {
                held.close();
                return Finish::Failed(Some(why));
            }
            End::Died(death, how) => (death, how),
        };
        let crashes = match death {
            Death::Crash => held.count_crash(),
            Death::Killed => Crashes::Few,
        };
        if crashes == Crashes::OfRequests {
            // Whoever asks after the server meanwhile is answered.
            drop(held);
            std::thread::sleep(BREATHER);
            held = shared.lock();
        }
        let mut shared = held;
        if shared.unwanted {
            return Finish::Failed(None);
        }
        let succeeds = match crashes {
            Crashes::OfNothing => Err(ServerError::Crashing),
            Crashes::Few | Crashes::OfRequests => shared.succeed(death),
        };
        match succeeds {
            Ok(()) => {
                match death {
                    Death::Crash => tracing::warn!(how, "filesystem server: another took over"),
                    Death::Killed => tracing::info!(how, "filesystem server: another took over"),
                }
                // Full only after 2⁶⁴ deaths that nobody looked at.
                let _ = succeeded.write(1);
            }
            Err(why) => {
                tracing::error!(how, %why, "filesystem server: nobody can follow it");
                shared.lost = Some(format!("{how} and none could follow it ({why})"));
                shared.close();
                return Finish::Failed(None);
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
    fn succeed(&mut self, mut death: Death) -> Result<(), ServerError> {
        if !Ledger::open(&self.estate.ledger)?.is_connected() {
            return Err(ServerError::NeverServed);
        }
        let mut program = upgrade::program(&self.estate.upper);
        let mut why_not = ServerError::Hunted;
        for _ in 0..TRIES {
            let patience = program.as_ref().map(|_| PATIENCE);
            let mut started = false;
            let installed = self.estate.spawn(program.as_deref(), death).and_then(|server| {
                self.current = server;
                started = true;
                self.install(patience)
            });
            let Err(why) = installed else {
                self.followed = true;
                return Ok(());
            };
            let mut end = None;
            if started {
                // One that is alive all the same answers nothing that makes sense, or nothing at all.
                let _ = pidfd_send_signal(&self.current.pidfd, Signal::KILL);
                end = Some(reap(self.current.process));
            }
            // Its requests have been blamed.
            death = Death::Killed;
            match (program.take(), why) {
                // It may be of a version that does not know this ledger; ours does.
                (Some(program), why) => {
                    tracing::warn!(program = %program.display(), %why, "no filesystem server of that program");
                }
                // A user with too many processes, or a machine without memory, may have fewer in a moment.
                (None, why) if !started => {
                    why_not = why;
                    std::thread::sleep(PAUSE);
                }
                (None, ServerError::Died) => {
                    if let Some(End::Died(how, _)) = end {
                        death = how;
                    }
                    if death == Death::Crash && self.count_crash() != Crashes::Few {
                        return Err(ServerError::Crashing);
                    }
                }
                (None, why) => return Err(why),
            }
        }
        Err(why_not)
    }

    fn count_crash(&mut self) -> Crashes {
        let found = Ledger::open(&self.estate.ledger).map_or(0, |ledger| ledger.takeovers().found);
        self.crashes.retain(|(crash, _)| crash.elapsed() < LATELY);
        self.crashes.push((Instant::now(), found));
        match self.crashes.first() {
            Some((_, before)) if self.crashes.len() > MOST_CRASHES => match *before == found {
                true => Crashes::OfNothing,
                false => Crashes::OfRequests,
            },
            _ => Crashes::Few,
        }
    }

    /// Hands over to a server that was just started.
    fn install(&self, patience: Option<Duration>) -> Result<(), ServerError> {
        let channel = &self.current.channel;
        if !stdio::becomes_readable(channel.as_fd(), patience) {
            return Err(ServerError::Silent);
        }
        self.current.opened()?;
        let serve = self.estate.serve.as_ref().ok_or(ServerError::NeverServed)?;
        // One that is killed from here on is the keeper's to see.
        let _ = channel.send(serve, &self.estate.devices);
        if let Some(init) = &self.init {
            let _ = channel.send(&Task::Guard, &[init.as_fd()]);
        }
        Ok(())
    }
}

impl Estate {
    /// Starts a successor: this same program anew, since a process with threads cannot be forked, or another `program`.
    /// It learns how its predecessor died.
    fn spawn(&self, program: Option<&Path>, death: Death) -> Result<Current, ServerError> {
        let (ours, theirs) = Channel::pair()?;
        // First what may fail for want of descriptors, so that no child is left behind then.
        let (image, access) = self.image.descriptors()?;
        let mut command =
            program.map_or_else(|| role::command(NAME), |program| role::command_of(program, NAME));
        let child = command.stdin(OwnedFd::from(theirs)).spawn()?;
        let pid = child.id().cast_signed();
        let task = Task::Inherit {
            upper: self.upper.as_os_str().as_bytes().to_vec(),
            storage: self.storage,
            descriptors: image.len(),
            indexes: match access {
                Access::Map => Indexes::Mapped,
                Access::Read => Indexes::Read,
            },
            death,
        };
        // If it is killed before it has read all, it is replaced by the next.
        let _ = ours.send(&task, std::slice::from_ref(&self.ledger));
        for part in image.chunks(MOST_DESCRIPTORS) {
            let _ = ours.send(&Task::Image, part);
        }
        Current::new(Pid::from_raw(pid), ours)
    }
}
