//! A connection has ended without a word: what became of the container? The record says so, now or soon.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::Left;
use crate::containers::record::{self, Life, Record};
use crate::containers::{Error, events};
use crate::store::Store;

/// How often one looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long a run may go on that nobody hears any more.
const PATIENCE: Duration = Duration::from_secs(15);

/// The end of the run that `record` is of; its supervisor may have been killed, or have gone on to the next. `signals` end
/// the wait.
pub(super) fn seen(store: &Store, record: &Record, signals: &SignalFd) -> Result<Left, Error> {
    let unreached = |source| Error::Unreached {
        name: record.name.clone(),
        source,
    };
    let end = Instant::now() + PATIENCE;
    loop {
        // Settles what a killed supervisor left.
        let now = record::read(store, &record.id)?;
        if let Some(left) = ended(store, record, now.as_ref()) {
            return Ok(left);
        }
        if Instant::now() > end {
            let cut = io::Error::other("it no longer answers; the container runs");
            return Err(unreached(cut));
        }
        if let Some(signal) = signalled(signals).map_err(unreached)? {
            return Ok(Left::Signal(signal));
        }
    }
}

/// How the run of `before` has ended, if it has.
fn ended(store: &Store, before: &Record, now: Option<&Record>) -> Option<Left> {
    let known = || events::last_code(store.state(), &before.id);
    let (code, error) = match now.map(|now| (now, &now.life)) {
        Some((now, Life::Running { started, .. })) => {
            if before.life.started() == Some(started) && before.restarts == now.restarts {
                return None;
            }
            (now.last_code.or_else(known), "")
        }
        Some((_, Life::Restarting { code, .. })) => (Some(*code), ""),
        Some((_, Life::Exited { code, error, .. })) => (Some(*code), error.as_str()),
        // It was removed, and perhaps there is another of that id: not ours.
        Some((_, Life::Created)) | None => (known(), ""),
    };
    let trouble = (!error.is_empty()).then(|| error.to_owned());
    Some(match code {
        Some(code) => Left::Ended { code, trouble },
        None => Left::Ended {
            code: 137,
            trouble: Some("the container is gone, and nobody knows its exit code".into()),
        },
    })
}

/// Waits a moment; gives a signal that came and ends a program.
fn signalled(signals: &SignalFd) -> io::Result<Option<i32>> {
    let timeout = PollTimeout::try_from(INTERVAL).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(Errno::EINTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    let came = signals
        .read_signal()?
        .map(|signal| signal.ssi_signo.cast_signed());
    Ok(came.filter(|number| ends.iter().any(|signal| *signal as i32 == *number)))
}
