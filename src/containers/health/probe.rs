//! How is a container asked? By a process for each time: it must have one thread to enter a container, and be of the sealed
//! program (see `runtime/sealed.rs`).

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::containers::record;
use crate::containers::runtime::{Init, ensure_sealed};
use crate::containers::spec::Within;
use crate::containers::{Error, exec, process, role};
use crate::line::chain;
use crate::store::Store;
use crate::sys;

/// The name under which it is started; its arguments are the container's id, and who starts it.
const NAME: &str = "bryo-probe";

/// Bytes of output that are kept, as Docker does.
const MOST: usize = 4096;

/// Asks a container; gives the command's exit code, -1 if there is none, and what it wrote.
pub(super) fn begin(id: &str) -> io::Result<(i32, String)> {
    let own = std::process::id().to_string();
    let done = role::command(NAME)
        .args([id, &own])
        .stdout(Stdio::piped())
        .output()?;
    serde_json::from_slice(&done.stdout).map_err(|_| io::Error::other("its process was killed"))
}

/// What this process was started for, if it is to ask once: its whole life, and its exit code. It dies with who started it.
pub fn once() -> Option<u8> {
    let mut arguments = role::arguments(NAME)?;
    let (id, parent) = (arguments.next()?, arguments.next()?);
    let bound = parent
        .parse()
        .map_err(io::Error::other)
        .and_then(|parent| sys::die_with(Pid::from_raw(parent)));
    if bound.is_err() {
        return Some(1);
    }
    let found = ask(&id).unwrap_or_else(|error| (-1, chain(&error)));
    let text = serde_json::to_vec(&found).unwrap_or_default();
    Some(u8::from(io::stdout().write_all(&text).is_err()))
}

/// Runs the command; gives its exit code and output.
fn ask(id: &str) -> Result<(i32, String), Error> {
    let io = |source| Error::Io {
        action: "run the check in container",
        path: id.into(),
        source,
    };
    ensure_sealed().map_err(io)?;
    let _ = nix::sys::prctl::set_name(c"bryo-probe");
    let store = Store::open()?;
    let record = record::read(&store, id)?.ok_or_else(|| Error::NoSuchContainer(id.into()))?;
    let check = record.settings.upkeep.health.clone().unwrap_or_default();
    let asked = Within {
        command: check.command(),
        ..Within::default()
    };
    let (command, output) = exec::prepare(&store, &record, &asked)?.start_bound()?;
    let heard = hear(&command, output.into(), check.patience());
    if !matches!(heard, Ok((_, Over::Ended))) {
        // Our own child, not reaped yet, and what a shell has begun for it: nobody else would end that.
        let _ = killpg(command.pid, Signal::SIGKILL);
        let _ = kill(command.pid, Signal::SIGKILL);
    }
    let code = process::reaped(command.pid).map_err(io)?;
    let (text, over) = heard.map_err(io)?;
    Ok(match over {
        Over::TooLate => (-1, too_late(check.patience(), &text)),
        Over::Ended => (code, text),
    })
}

fn too_late(limit: Duration, text: &str) -> String {
    let colon = if text.is_empty() { "" } else { ": " };
    format!("Health check exceeded timeout ({limit:?}){colon}{text}")
}

enum Over {
    Ended,
    TooLate,
}

/// Reads what the command writes until it ends, or its time is over.
fn hear(command: &Init, mut output: std::fs::File, limit: Duration) -> io::Result<(String, Over)> {
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let end = Instant::now() + limit;
    let (mut kept, mut open) = (Vec::new(), true);
    loop {
        let mut fds = vec![PollFd::new(command.pidfd.as_fd(), PollFlags::POLLIN)];
        if open {
            fds.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
        }
        // A millisecond more, so that it does not wake up before the end.
        let rest = end.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        match poll(&mut fds, PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let ended = fds.first().and_then(PollFd::any).unwrap_or(false);
        open &= read_some(&mut output, &mut kept);
        let over = match (ended, Instant::now() >= end) {
            (true, _) => Over::Ended,
            (false, true) => Over::TooLate,
            (false, false) => continue,
        };
        return Ok((String::from_utf8_lossy(&kept).into_owned(), over));
    }
}

/// Reads what is there, of somebody who writes without end only so much at a time; keeps the beginning. `false`: nothing
/// more will come.
fn read_some(output: &mut std::fs::File, kept: &mut Vec<u8>) -> bool {
    let mut buffer = [0; MOST];
    for _ in 0..64 {
        match output.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => {
                let room = MOST.saturating_sub(kept.len()).min(length);
                kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    true
}
