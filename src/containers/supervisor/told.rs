//! What do others tell a supervisor whose tool is gone? By signals (see [`crate::containers::end`]), which it keeps until it
//! looks; also those that came while it executed itself anew.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::stdio::becomes_readable;
use crate::containers::end::{END, LEAVE};

/// What was said so far.
#[derive(Debug)]
pub(super) struct Told {
    signals: SignalFd,
    leave: bool,
    /// By a person, not by a machine that goes down, which sends SIGTERM to all.
    stopped: bool,
}

impl Told {
    /// Listens from here on: these signals no longer end the process. To be called while it has one thread.
    pub(super) fn listen() -> nix::Result<Told> {
        let mut set = SigSet::empty();
        for signal in [LEAVE, END] {
            set.add(Signal::try_from(signal.as_raw())?);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Told {
            signals: SignalFd::with_flags(&set, flags)?,
            leave: false,
            stopped: false,
        })
    }

    /// Hears what is new: is the container to end?
    pub(super) fn hear(&mut self) -> bool {
        let mut end = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let is_end = signal.ssi_signo.cast_signed() == END.as_raw();
            end |= is_end;
            self.stopped |= !is_end;
            self.leave = true;
        }
        end
    }

    /// Waits so long, or until somebody says something.
    pub(super) fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() || becomes_readable(self.as_fd(), Some(rest)) {
                return;
            }
        }
    }

    /// Somebody wants the container to end: it is not to be started again.
    pub(super) fn note_ending(&mut self) {
        (self.leave, self.stopped) = (true, true);
    }

    /// Has somebody stopped it?
    pub(super) fn is_stopped(&mut self) -> bool {
        self.hear();
        self.stopped
    }

    /// Is it not to be started again?
    pub(super) fn is_left(&mut self) -> bool {
        self.hear();
        self.leave
    }
}

impl AsFd for Told {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
