//! How does a container end: signalled, stopped, killed, removed?
//!
//! Who ends one for good first tells its supervisor not to start it again, by a signal, since that is there at once and
//! needs no room on a disk: SIGUSR1 says only that, SIGTERM also ends the container, or the wait for its next start.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::held;
use super::process::{self, Process};
use super::record::{self, Life, Record, Volumes};
use super::{Error, cgroup, events, signals};
use crate::store::Store;
use crate::sys;

/// How long a container may take to be gone after SIGKILL before its supervisor is killed as well.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a supervisor may take to be gone after its container: what that wrote goes to a disk that may be slow.
const SYNCING: Duration = Duration::from_secs(120);

/// How often one looks whether the container has begun another run meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// How long a container that ended may look as if it ran.
const RECORDING: Duration = Duration::from_secs(1);

/// How often one tries to take a container, [`BETWEEN`] apart: somebody may be about to start it, or copy into it.
const TRIES: u32 = 8;
/// The same for one that is to go anyway.
const FORCED_TRIES: u32 = 500;
const BETWEEN: Duration = Duration::from_millis(20);

/// Not to be started again.
pub(super) const LEAVE: Signal = Signal::USR1;
/// That, and to end now.
pub(super) const END: Signal = Signal::TERM;

/// Does whoever sends this signal want the container to end, and not to be started again? Those by which people end
/// programs do; SIGHUP and the like have a meaning of the program's own.
pub(super) fn is_ending(record: &Record, signal: i32) -> bool {
    let usual = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];
    usual.contains(&signal) || stop_signal(record) == signal
}

/// The signal by which it is stopped. Where an image names one that nobody knows, it is Docker's usual one, as with Docker.
pub fn stop_signal(record: &Record) -> i32 {
    signals::parse(&record.settings.stop_signal).unwrap_or(libc::SIGTERM)
}

/// Sends a signal to a running container's command. One that waits to be started again is no longer, if the signal is one
/// that ends.
///
/// # Errors
/// [`Error::NotRunning`].
pub fn kill(store: &Store, record: &Record, signal: i32) -> Result<(), Error> {
    let not_running = || Error::NotRunning(record.name.clone());
    let told = || events::happened(store.state(), record, "kill", &[("signal", signal.to_string())]);
    match record.life {
        Life::Running { supervisor, init, .. } => {
            let ends = is_ending(record, signal);
            if ends {
                leave(supervisor);
            }
            match send_told(init, signal, told) {
                // Its end is not recorded yet, and it would have been started again.
                Err(_) if ends && is_followed(record) => {
                    return give_up(supervisor, told).map_err(|_| not_running());
                }
                sent => sent.map_err(|_| not_running())?,
            }
            if ends {
                // Docker's way, too: it is to hear it.
                cgroup::thaw(&store.container(&record.id))?;
            }
            Ok(())
        }
        Life::Restarting { supervisor, .. } if is_ending(record, signal) => {
            give_up(supervisor, told).map_err(|_| not_running())
        }
        Life::Restarting { .. } | Life::Created | Life::Exited { .. } => Err(not_running()),
    }
}

/// Tells a supervisor not to start its container again: also one that would not anyway, since a policy may be given later, and
/// what was stopped does not start with the machine.
fn leave(supervisor: Process) {
    // It may have ended.
    let _ = send(supervisor, LEAVE);
}

/// May another run follow one that ends?
fn is_followed(record: &Record) -> bool {
    record.settings.upkeep.restart != super::restart::Policy::No
}

/// Ends a wait for the next start. Both signals: END alone may be the machine's, which goes down.
fn give_up(supervisor: Process, tell: impl FnOnce()) -> io::Result<()> {
    let pidfd = open(supervisor)?;
    tell();
    pidfd_send_signal(&pidfd, LEAVE)?;
    // The first may have been enough.
    let _ = pidfd_send_signal(&pidfd, END);
    Ok(())
}

fn send(process: Process, signal: Signal) -> io::Result<()> {
    send_told(process, signal.as_raw(), || {})
}

/// The same; `tell` is called before, so that what follows from the signal is told after it.
fn send_told(process: Process, signal: i32, tell: impl FnOnce()) -> io::Result<()> {
    let pidfd = open(process)?;
    tell();
    sys::signal::send(pidfd.as_fd(), signal)
}

fn open(process: Process) -> io::Result<OwnedFd> {
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    process.open()?.ok_or_else(gone)
}

/// Waits until a container's supervisor has ended, hence everything of it is on disk. `false`: not within
/// `limit` (`None` waits for ever).
///
/// # Errors
/// The kernel refuses to wait.
pub fn wait(record: &Record, limit: Option<Duration>) -> Result<bool, Error> {
    let Some(supervisor) = record.life.supervisor() else {
        return Ok(true);
    };
    match supervisor.open().map_err(unwaited(record))? {
        Some(pidfd) => process::ends(&pidfd, limit).map_err(unwaited(record)),
        None => Ok(true),
    }
}

/// Whether `rm` ends a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It refuses.
    No,
    /// It does.
    Yes,
}

/// Removes a container.
///
/// # Errors
/// [`Error::Running`], [`Error::Restarting`] and [`Error::NoSuchContainer`] without [`Force::Yes`]; [`Error::Busy`].
pub fn remove(store: &Store, id: &str, force: Force) -> Result<(), Error> {
    remove_with(store, id, force, Volumes::Keep)
}

/// The same, and what becomes of the volumes of its own.
///
/// # Errors
/// As [`remove`].
pub fn remove_with(store: &Store, id: &str, force: Force, volumes: Volumes) -> Result<(), Error> {
    let mut name = id.to_owned();
    let tries = match force {
        Force::No => TRIES,
        Force::Yes => FORCED_TRIES,
    };
    // Each round ends a run; somebody may start it again in between.
    for _ in 0..tries {
        let record = match record::read(store, id) {
            Ok(Some(record)) => record,
            Ok(None) => return gone(name, force),
            Err(Error::Json { .. }) => return held::remove_damaged(store, id),
            Err(error) => return Err(error),
        };
        match (&record.life, force) {
            (Life::Running { .. }, Force::No) if record.paused => {
                return Err(Error::RemovePaused(record.name));
            }
            (Life::Running { .. }, Force::No) => return Err(Error::Running(record.name)),
            (Life::Restarting { .. }, Force::No) => return Err(Error::Restarting(record.name)),
            (Life::Running { .. } | Life::Restarting { .. }, Force::Yes) => end(store, &record, None)?,
            (Life::Created | Life::Exited { .. }, _) => {}
        }
        match record::hold(store, id) {
            Ok(Some(held)) if volumes == Volumes::Remove => return held.remove_with(volumes),
            Ok(Some(held)) => return held.remove(),
            // It is being made, started or ended at this moment.
            Ok(None) => std::thread::sleep(BETWEEN),
            Err(Error::NoSuchContainer(_)) => return gone(record.name, force),
            Err(error) => return Err(error),
        }
        name = record.name;
    }
    Err(Error::Busy(name))
}

/// Somebody else removed it meanwhile.
fn gone(name: String, force: Force) -> Result<(), Error> {
    match force {
        Force::No => Err(Error::NoSuchContainer(name)),
        Force::Yes => Ok(()),
    }
}

/// Asks a container to end for good, and kills it after `limit` (`None`: never).
///
/// # Errors
/// It cannot be waited for.
pub fn stop(store: &Store, record: &Record, signal: i32, limit: Option<Duration>) -> Result<(), Error> {
    match record.life {
        Life::Running { supervisor, .. } => {
            leave(supervisor);
            // Gone: it has ended, or is being started again, and then the supervisor sees to it.
            if kill(store, record, signal).is_err() {
                let _ = send(supervisor, END);
            }
        }
        Life::Restarting { supervisor, .. } => drop(give_up(supervisor, || {})),
        Life::Created | Life::Exited { .. } => return Ok(()),
    }
    await_command(record, limit)?;
    end(store, record, None)?;
    events::happened(store.state(), record, "stop", &[]);
    Ok(())
}

/// Tells that somebody restarted a container.
pub fn restarted(store: &Store, record: &Record) {
    events::happened(store.state(), record, "restart", &[]);
}

/// Kills a container, and waits until it is gone.
///
/// # Errors
/// As [`kill`]; it cannot be waited for.
pub fn kill_for_good(store: &Store, record: &Record) -> Result<(), Error> {
    kill(store, record, libc::SIGKILL)?;
    let killed = match record.life {
        Life::Running { init, .. } => Some(init),
        _ => None,
    };
    end(store, record, killed)
}

/// Waits until a container's command has ended, so long at most.
fn await_command(record: &Record, limit: Option<Duration>) -> Result<(), Error> {
    let Life::Running { init, .. } = record.life else {
        return wait(record, limit).map(drop);
    };
    let ended = match init.open() {
        Ok(Some(pidfd)) => process::ends(&pidfd, limit).map(drop),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    ended.map_err(unwaited(record))
}

fn unwaited(record: &Record) -> impl Fn(io::Error) -> Error {
    let path = record.name.clone();
    move |source| Error::Io {
        action: "wait for",
        path: path.clone().into(),
        source,
    }
}

/// Kills a container, whichever run it is in by then, and its supervisor if that does not see it end. `killed` is an init
/// that was sent SIGKILL already.
fn end(store: &Store, record: &Record, mut killed: Option<Process>) -> Result<(), Error> {
    let Some(supervisor) = record.life.supervisor() else {
        return Ok(());
    };
    let mut since = Instant::now();
    loop {
        let now = match record::read(store, &record.id)? {
            Some(now) if now.life.supervisor() == Some(supervisor) => now,
            _ => return Ok(()),
        };
        let patience = match now.life {
            Life::Running { init, .. } => {
                if killed != Some(init) {
                    // It may have ended just now.
                    let _ = kill(store, &now, libc::SIGKILL);
                    (killed, since) = (Some(init), Instant::now());
                }
                let ended = !init.lives();
                if ended && since.elapsed() > RECORDING {
                    // It carries on what the container sent last; or it waits for its next start, and a full disk keeps it from
                    // saying so.
                    let _ = send(supervisor, END);
                }
                if ended { SYNCING } else { PATIENCE }
            }
            _ => {
                let _ = send(supervisor, END);
                PATIENCE
            }
        };
        if wait(&now, Some(LOOK))? {
            return Ok(());
        }
        if since.elapsed() > patience {
            break;
        }
    }
    let _ = send(supervisor, Signal::KILL);
    wait(record, Some(PATIENCE)).map(drop)
}

/// The exit code of a container that ended, though it may be started again.
pub fn exit_code(record: &Record) -> Option<i32> {
    match &record.life {
        Life::Exited { code, .. } | Life::Restarting { code, .. } => Some(*code),
        Life::Created | Life::Running { .. } => None,
    }
}
