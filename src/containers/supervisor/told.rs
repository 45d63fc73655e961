//! What do others tell a supervisor whose tool is gone? By signals (see [`crate::containers::end`]), which it keeps until it
//! looks; also those that came while it executed itself anew.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::stdio::becomes_readable;
use crate::containers::bridge::NETWORKS;
use crate::containers::end::{END, LEAVE};

/// What was said so far.
#[derive(Debug)]
pub(super) struct Told {
    signals: SignalFd,
    leave: bool,
    networks: bool,
    /// By a person, not by a machine that goes down, which sends SIGTERM to all.
    stopped: bool,
}

impl Told {
    /// Listens from here on: these signals no longer end the process. To be called while it has one thread.
    pub(super) fn listen() -> nix::Result<Told> {
        let mut set = SigSet::empty();
        for signal in [LEAVE, END, NETWORKS] {
            set.add(Signal::try_from(signal.as_raw())?);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Told {
            signals: SignalFd::with_flags(&set, flags)?,
            leave: false,
            networks: false,
            stopped: false,
        })
    }

    /// Hears what is new: is the container to end?
    pub(super) fn hear(&mut self) -> bool {
        let mut end = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match signal.ssi_signo.cast_signed() {
                number if number == NETWORKS.as_raw() => self.networks = true,
                number => {
                    let is_end = number == END.as_raw();
                    end |= is_end;
                    self.stopped |= !is_end;
                    self.leave = true;
                }
            }
        }
        end
    }

    /// Was it heard that other networks are wanted? Once.
    pub(super) fn take_networks(&mut self) -> bool {
        std::mem::take(&mut self.networks)
    }

    /// Waits so long, or until somebody wants the container to end. Who wants other networks is no reason to hurry.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if self.is_left() || rest.is_zero() {
                return;
            }
            becomes_readable(self.as_fd(), Some(rest));
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
