//! How is a command in a container left (`exec -it`, then the detach keys), and goes on? Whoever is beside it carries its terminal,
//! so that is a process of its own from the start: the tool waits for it, and may end before it.

use std::io::{self, BufRead as _, BufReader, PipeReader, Write as _};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid, getppid};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd as _;

use super::attach::Keys;
use super::exec::Prepared;
use super::runtime::StartError;
use super::supervisor::Attach;
use super::supervisor::stdio::{self, Beside};
use super::supervisor::tool::passed_signals;
use super::{Error, inherited};
use crate::line::chain;
use crate::sys;

/// From the process beside the command to the tool, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Warning(String),
    /// It did not start: exit code and reason.
    Failed(u8, String),
    Left,
    Ended(i32),
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The command ended, with this exit code.
    Ended(i32),
    /// The keys were typed.
    Left,
}

/// Starts a command with the user's terminal, and stays until it ends or is left.
///
/// # Errors
/// [`Error::Enter`].
pub fn run(prepared: Prepared, keys: Keys, warn: &mut dyn FnMut(&str)) -> Result<End, Error> {
    let trouble = |source| Error::Io {
        action: "run a command in",
        path: "the container".into(),
        source,
    };
    let (heard, say) = io::pipe().map_err(trouble)?;
    let tool = getpid();
    let passed = passed_signals();
    // Before the fork, so that none is lost between.
    passed.thread_block().map_err(|error| trouble(error.into()))?;
    let mut parts = Some((prepared, keys, heard, say));
    let beside = sys::fork(|| {
        let Some((prepared, keys, heard, say)) = parts.take() else {
            return 125;
        };
        drop(heard);
        stay(prepared, keys, say, tool);
        0
    });
    let beside = beside.map_err(trouble)?;
    let Some((.., heard, say)) = parts else {
        return Err(trouble(io::Error::other("forked twice")));
    };
    drop(say);
    inherited::close_preserved();
    wait(beside, heard, warn)
}

/// The process beside the command, to its end.
fn stay(prepared: Prepared, keys: Keys, mut say: io::PipeWriter, tool: Pid) {
    let mut tell = move |said: &Said| {
        let mut line = serde_json::to_vec(said).unwrap_or_default();
        line.push(b'\n');
        // A tool that is gone waits for nothing.
        let _ = say.write_all(&line);
    };
    // With the tool goes the terminal; both calls cannot fail.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if getppid() != tool {
        return;
    }
    let beside = Beside {
        keys,
        ..Beside::default()
    };
    let session = match prepared.start_watched(Attach::InputAndOutput, beside) {
        Ok(session) => session,
        Err(Error::Enter(why)) => return tell(&Said::Failed(why.code(), why.to_string())),
        Err(error) => return tell(&Said::Failed(125, chain(&error))),
    };
    for warning in session.warnings() {
        tell(&Said::Warning(warning.clone()));
    }
    let ended = session.ended_or_left(|| {
        let _ = prctl::set_pdeathsig(None);
        inherited::close();
        stdio::forget_streams();
        let _ = nix::unistd::setsid();
        tell(&Said::Left);
    });
    tell(&Said::Ended(ended.unwrap_or(255)));
}

/// The tool: hears what the process beside the command says, and passes signals to it.
fn wait(beside: Pid, heard: PipeReader, warn: &mut dyn FnMut(&str)) -> Result<End, Error> {
    let trouble = |source| Error::Io {
        action: "wait for",
        path: "the command".into(),
        source,
    };
    let signals = SignalFd::with_flags(&passed_signals(), SfdFlags::SFD_CLOEXEC);
    let signals = signals.map_err(|error| trouble(error.into()))?;
    let mut heard = BufReader::new(heard);
    loop {
        let mut fds = [
            PollFd::new(heard.get_ref().as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if heard.buffer().is_empty() {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(trouble(error.into())),
                Ok(_) => {}
            }
            if fds[1].any() == Some(true)
                && let Ok(Some(signal)) = signals.read_signal()
                // The terminal tells it of its size by itself.
                && signal.ssi_signo.cast_signed() != libc::SIGWINCH
            {
                // It may have ended.
                let _ = sys::signal::send_to_child(beside, signal.ssi_signo.cast_signed());
            }
            if fds[0].any() != Some(true) {
                continue;
            }
        }
        let mut line = String::new();
        heard.read_line(&mut line).map_err(trouble)?;
        match serde_json::from_str(&line) {
            Ok(Said::Warning(text)) => warn(&text),
            Ok(Said::Left) => return Ok(End::Left),
            Ok(Said::Ended(code)) => {
                let _ = waitpid(beside, None);
                return Ok(End::Ended(code));
            }
            Ok(Said::Failed(code, why)) => {
                let _ = waitpid(beside, None);
                return Err(StartError::of(code, why).into());
            }
            Err(_) => {
                let _ = waitpid(beside, None);
                return Err(StartError::Failed("the process beside the command was killed".into()).into());
            }
        }
    }
}
