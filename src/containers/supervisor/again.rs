//! How does a container start again that ended? Its supervisor executes itself anew, with the lock in its hands, waits, and
//! starts the container as a tool would. Nothing of the run before is left, not even its threads; pid and start time stay
//! the same, and with them the record's word for who is beside the container.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::told::Told;
use super::{Attach, Start, beside, stdio};
use crate::containers::held;
use crate::containers::life;
use crate::containers::process::Process;
use crate::containers::record::{Afterwards, Held, Life};
use crate::containers::restart;
use crate::containers::role;
use crate::containers::runtime::channel::Channel;
use crate::line::chain;
use crate::store::Store;

/// The name under which a supervisor executes itself.
const NAME: &str = "bryo-supervisor";

/// How long a container that ended after `run` waits to be started again; `None`: it is not.
pub(super) fn pause(
    held: &mut Held,
    life: &Life,
    told: &mut Told,
    [last, run]: [Duration; 2],
) -> Option<Duration> {
    let Life::Exited { code, .. } = life else {
        return None;
    };
    if held.record.afterwards != Afterwards::Keep || told.is_left() {
        return None;
    }
    held.amend();
    let policy = held.record.settings.upkeep.restart;
    policy
        .restarts(*code, held.record.restarts)
        .then(|| restart::pause(last, run))
}

/// Records that it waits. On a full disk it does so unrecorded.
pub(super) fn record(held: &mut Held, life: Life) {
    let (
        Life::Exited {
            code,
            started,
            finished,
            ..
        },
        Ok(supervisor),
    ) = (life, Process::own())
    else {
        return;
    };
    held.record.restarts += 1;
    held.record.last_code = Some(code);
    let waits = Life::Restarting {
        supervisor,
        code,
        started,
        finished,
    };
    if let Err(error) = held.set_life(waits) {
        tracing::warn!(
            "the restart of container {} cannot be recorded: {}",
            held.record.id,
            chain(&error)
        );
    }
}

/// Executes this program in the supervisor's place; returns only if it cannot.
pub(super) fn execute(held: &mut Held, store: &Store, pause: Duration) -> io::Error {
    stdio::forget_streams();
    let lock = match held.descriptor() {
        Ok(lock) => lock,
        Err(error) => return error,
    };
    role::command_in(store, NAME)
        .args([
            held.record.id.clone(),
            pause.as_millis().to_string(),
            held.record.restarts.to_string(),
        ])
        .stdin(lock)
        .exec()
}

/// What this process was executed for, if it is a supervisor: the rest of its life, and its exit code.
pub fn resumed() -> Option<u8> {
    let mut arguments = role::arguments(NAME)?;
    let (id, pause) = (arguments.next()?, arguments.next()?.parse().ok()?);
    let restarts = arguments.next()?.parse().ok()?;
    // What could not be recorded is read off the lock, which is free then.
    Some(resume(&id, Duration::from_millis(pause), restarts).unwrap_or(125))
}

fn resume(id: &str, pause: Duration, restarts: u32) -> Result<u8, crate::containers::Error> {
    let io = |source| crate::containers::Error::Io {
        action: "go on beside container",
        path: id.into(),
        source,
    };
    // A name is a help to people only.
    let _ = nix::sys::prctl::set_name(c"bryo-supervisor");
    let mut told = Told::listen().map_err(|errno| io(errno.into()))?;
    let lock = io::stdin().as_fd().try_clone_to_owned().map_err(io)?;
    stdio::forget_streams();
    let store = Store::open()?;
    let mut held = held::adopt(&store, id, lock)?;
    // On a full disk the record has not heard of it, and a limit would never be reached.
    held.record.restarts = restarts;
    told.wait(pause);
    reap();
    if told.is_left() {
        held.record.stopped = told.is_stopped();
        held.set_life(given_up(held.record.life.clone(), None))?;
        return Ok(0);
    }
    held.amend();
    let ready = life::opened(&store, held).and_then(|made| life::ready(&store, made, Attach::Detached));
    match ready {
        Ok(start) => Ok(beside::main(
            Start { pause, ..start },
            Channel::deaf().map_err(|errno| io(errno.into()))?,
        )),
        Err(failed) => {
            let (mut held, error) = *failed;
            held.set_life(given_up(held.record.life.clone(), Some(chain(&error))))?;
            Ok(125)
        }
    }
}

/// What the run before has killed and not waited for: its network process, which takes some milliseconds.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG))
        && status != WaitStatus::StillAlive
    {}
}

/// The end of a container that is not started again after all.
pub(super) fn given_up(life: Life, why: Option<String>) -> Life {
    match life {
        Life::Restarting {
            code,
            started,
            finished,
            ..
        } => Life::Exited {
            code: if why.is_some() { 125 } else { code },
            error: why.unwrap_or_default(),
            started,
            finished,
        },
        other => other,
    }
}
