//! The tool's side: fork the supervisor, pass signals and the terminal's size to it, wait for the end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::protocol::{Notice, Order};
use super::terminal::{self, Raw};
use super::{Attach, Start, beside};
use crate::containers::runtime::channel::Channel;
use crate::containers::runtime::{Ahead, Maker};
use crate::store::lease;
use crate::sys;

/// A container's supervisor as the tool sees it.
#[derive(Debug)]
pub struct Supervisor {
    channel: Channel,
    pid: Pid,
    pidfd: OwnedFd,
    signals: SignalFd,
    terminal: bool,
    attach: Attach,
    proxy: SignalProxy,
    /// Who made its user namespace, until the command runs.
    maker: Option<Maker>,
}

/// What becomes of signals that the tool gets while the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalProxy {
    /// They go to the command.
    Pass,
    /// Those that end a program end the tool alone, and the container goes on; others are dropped: `--sig-proxy=false`.
    Leave,
    /// Those that end a program end the container at once, and are no longer held back afterwards: a step of a build.
    End,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The command runs (what [`Supervisor::started`] waits for).
    Started,
    /// It goes on without its user, who typed the keys that leave its terminal.
    Left,
    /// The command ended.
    Exited {
        /// As Docker has it.
        code: i32,
        /// What went wrong on the way.
        trouble: Option<String>,
    },
    /// The command never ran.
    Failed {
        /// 125, 126 or 127.
        code: u8,
        /// One line.
        message: String,
    },
    /// The supervisor was killed, and the container with it.
    Lost,
    /// This signal came before the command ran; nothing of it is left.
    Interrupted(i32),
    /// This signal was for the tool; the container goes on.
    Signalled(i32),
}

/// Forks the supervisor, which starts the container. To be called while the tool has one thread.
///
/// # Errors
/// No process can be made.
pub fn start(mut start: Start) -> io::Result<Supervisor> {
    // The fork wants a process of one thread.
    let stilled = lease::still_all();
    let (terminal, attach) = (start.terminal, start.attach);
    let maker = start.ahead.as_mut().and_then(Ahead::part);
    let (ours, theirs) = Channel::pair()?;
    let passed = passed_signals();
    // Blocked before the fork, so that none is lost between; the supervisor unblocks them for itself.
    passed.thread_block()?;
    let signals = SignalFd::with_flags(&passed, SfdFlags::SFD_CLOEXEC)?;
    let mut parts = Some((start, ours, theirs, signals));
    let pid = sys::fork(|| {
        let Some((start, ours, theirs, signals)) = parts.take() else {
            return 125;
        };
        drop((ours, signals));
        // Cannot fail with a valid set.
        let _ = SigSet::all().thread_unblock();
        beside::main(start, theirs)
    })?;
    let Some((start, channel, theirs, signals)) = parts else {
        return Err(io::Error::other("forked twice"));
    };
    drop(theirs);
    start.held.leave();
    drop(stilled);
    let raw =
        rustix::process::Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::other("no supervisor"))?;
    let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())?;
    Ok(Supervisor {
        channel,
        pid,
        pidfd,
        signals,
        terminal,
        attach,
        proxy: SignalProxy::Pass,
        maker,
    })
}

/// What a user or another program may send to the tool and means for the command. Not those that a fault in the tool
/// itself raises, nor those about its own children and streams.
pub(in crate::containers) fn passed_signals() -> SigSet {
    let mut set = SigSet::empty();
    let own = [
        Signal::SIGKILL,
        Signal::SIGSTOP,
        Signal::SIGCHLD,
        Signal::SIGPIPE,
        Signal::SIGURG,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
        Signal::SIGSYS,
        Signal::SIGTRAP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    for signal in Signal::iterator().filter(|signal| !own.contains(signal)) {
        set.add(signal);
    }
    sys::signal::with_realtime(&set)
}

/// Gives signals back their own meaning, which [`start`] took.
///
/// # Errors
/// None with a valid set.
pub fn unblock_signals() -> io::Result<()> {
    Ok(passed_signals().thread_unblock()?)
}

impl Supervisor {
    /// Waits until the command runs; it goes on without the tool.
    ///
    /// # Errors
    /// The supervisor cannot be heard.
    pub fn started(mut self, warn: &mut dyn FnMut(&str)) -> io::Result<Ending> {
        self.next(warn, Until::Started)
    }

    /// Waits for the end of the command, passing signals to it.
    ///
    /// # Errors
    /// The supervisor cannot be heard.
    pub fn ended(mut self, proxy: SignalProxy, warn: &mut dyn FnMut(&str)) -> io::Result<Ending> {
        self.proxy = proxy;
        let raw = (self.terminal && self.attach == Attach::InputAndOutput)
            .then(Raw::enter)
            .flatten();
        let ending = self.next(warn, Until::Ended);
        drop(raw);
        if proxy == SignalProxy::End {
            passed_signals().thread_unblock()?;
        }
        ending
    }

    fn next(&mut self, warn: &mut dyn FnMut(&str), until: Until) -> io::Result<Ending> {
        let mut stage = Stage::Before;
        loop {
            let mut fds = [
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            let [heard, signalled, dead] = fds.map(|fd| fd.any().unwrap_or(false));
            if heard {
                match self.channel.receive()? {
                    Some((Notice::Warning(text), _)) => warn(&text),
                    // In the background no signal is meant for the command.
                    Some((Notice::Starting, _)) if until == Until::Started => {}
                    Some((Notice::Starting, _)) => stage = Stage::Starting { first: None },
                    Some((Notice::Started, _)) if until == Until::Started => return Ok(Ending::Started),
                    Some((Notice::Started, _)) => {
                        stage = Stage::Started;
                        drop(self.maker.take());
                        self.resize();
                    }
                    Some((Notice::Left, _)) => return Ok(Ending::Left),
                    Some((Notice::Failed { code, message }, _)) => {
                        self.reap();
                        return Ok(Ending::Failed { code, message });
                    }
                    Some((Notice::Ended { code, error, stays }, _)) => {
                        if !stays {
                            self.reap();
                        }
                        return Ok(Ending::Exited { code, trouble: error });
                    }
                    None => {
                        self.reap();
                        return Ok(Ending::Lost);
                    }
                }
            } else if signalled
                && let Some(signal) = self.signals.read_signal()?
                && let Some(ending) = self.pass(signal.ssi_signo.cast_signed(), &mut stage)
            {
                return Ok(ending);
            } else if dead && !heard {
                // Not by the channel alone: a child of the supervisor that has not yet seen its death holds that open.
                self.reap();
                return Ok(Ending::Lost);
            }
        }
    }

    /// Passes a signal on. Before the command runs nobody could take it: those that end a program end the start. While it
    /// is about to run, the first is kept for it, and a second ends a start that hangs.
    fn pass(&self, number: i32, stage: &mut Stage) -> Option<Ending> {
        match Signal::try_from(number) {
            Ok(Signal::SIGWINCH) => self.resize(),
            Ok(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT)
                if stage.ends(number) || self.proxy == SignalProxy::End =>
            {
                // It may have ended by itself.
                let _ = kill(self.pid, Signal::SIGKILL);
                self.reap();
                return Some(Ending::Interrupted(number));
            }
            Ok(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT)
                if self.proxy == SignalProxy::Leave =>
            {
                return Some(Ending::Signalled(number));
            }
            _ if self.proxy == SignalProxy::Pass => self.order(Order::Signal(number)),
            _ => {}
        }
        None
    }

    fn resize(&self) {
        if self.terminal
            && let Some(size) = terminal::size()
        {
            self.order(Order::Resize {
                rows: size.rows,
                columns: size.columns,
            });
        }
    }

    fn order(&self, order: Order) {
        // A supervisor that is gone is noticed by the next receive.
        let _ = self.channel.send(&order, &[] as &[OwnedFd]);
    }

    /// The supervisor is dead or about to be. Reaped, it is no zombie, and its lock is free for certain.
    fn reap(&self) {
        // Only fails if it was reaped before.
        let _ = waitpid(self.pid, None);
    }
}

/// How far a start is, as the supervisor has told it.
enum Stage {
    Before,
    /// The supervisor hears of signals once the command runs.
    Starting {
        first: Option<i32>,
    },
    Started,
}

impl Stage {
    /// Does a signal that ends programs end the start? A hangup beside another comes by itself, of a terminal that closes or a
    /// service manager; nobody is impatient by it.
    fn ends(&mut self, number: i32) -> bool {
        match self {
            Stage::Before => true,
            Stage::Starting { first } => {
                let before = first.replace(number);
                let by_itself = |one| one == libc::SIGHUP;
                if let Some(before) = before.filter(|_| by_itself(number)) {
                    *first = Some(before);
                }
                before.is_some_and(|before| before == number || !by_itself(before) && !by_itself(number))
            }
            Stage::Started => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Started,
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_ends_a_start_but_no_hangup_beside_another() {
        let ended = |numbers: &[i32]| {
            let mut stage = Stage::Starting { first: None };
            numbers
                .iter()
                .map(|number| stage.ends(*number))
                .collect::<Vec<_>>()
        };
        let (hup, int, term) = (libc::SIGHUP, libc::SIGINT, libc::SIGTERM);
        assert_eq!(ended(&[int, int]), [false, true]);
        assert_eq!(ended(&[int, libc::SIGQUIT]), [false, true]);
        assert_eq!(ended(&[term, hup, term]), [false, false, true]);
        assert_eq!(ended(&[hup, term, int]), [false, false, true]);
        assert_eq!(ended(&[hup, hup]), [false, true]);
        assert!(Stage::Before.ends(hup) && !Stage::Started.ends(int));
    }
}
