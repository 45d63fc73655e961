//! Who asks a container how it is? A process beside its supervisor, with one thread, since only such a one can enter a
//! container, and of a sealed copy of the program (see `runtime/sealed.rs`). It ends when the container does; the supervisor
//! starts another if it is killed, and that goes on from the file.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::state::{Health, Probe};
use super::{Check, Status};
use crate::containers::process::{Process, ends};
use crate::containers::record::{self, Life, Record, now};
use crate::containers::runtime::{Init, ensure_sealed};
use crate::containers::spec::Within;
use crate::containers::{Error, events, exec};
use crate::line::chain;
use crate::store::Store;

/// The name under which it is started; the container's id is its argument.
pub const NAME: &str = "bryo-health";

/// Bytes of a probe's output that are kept, as Docker does.
const MOST: usize = 4096;

/// What this process was started for, if it is to ask a container: its whole life, and its exit code.
pub fn beside() -> Option<u8> {
    let mut arguments = std::env::args_os().map(|word| word.into_string().unwrap_or_default());
    if arguments.next().is_none_or(|name| name != NAME) {
        return None;
    }
    let id = arguments.next()?;
    // The supervisor holds back what is said to it. Cannot fail with a valid set.
    let _ = SigSet::all().thread_unblock();
    // Where there can be no copy, each probe says so.
    let sealed = ensure_sealed();
    let _ = nix::sys::prctl::set_name(c"bryo-health");
    let watched = Store::open()
        .map_err(Error::from)
        .and_then(|store| Watch::of(&store, &id, sealed)?.map_or(Ok(()), Watch::run));
    Some(u8::from(watched.is_err()))
}

struct Watch<'a> {
    store: &'a Store,
    record: Record,
    check: Check,
    init: OwnedFd,
    sealed: io::Result<()>,
    /// When the container was started.
    begun: Instant,
    health: Health,
}

impl Watch<'_> {
    /// `None`: it does not run any more.
    fn of<'a>(store: &'a Store, id: &str, sealed: io::Result<()>) -> Result<Option<Watch<'a>>, Error> {
        let io = |source| Error::Io {
            action: "watch container",
            path: id.into(),
            source,
        };
        let Some(record) = record::read(store, id)? else {
            return Ok(None);
        };
        let (Some(check), Life::Running { init, started, .. }) =
            (record.settings.upkeep.health.clone(), &record.life)
        else {
            return Ok(None);
        };
        let Some(pidfd) = init.open().map_err(io)? else {
            return Ok(None);
        };
        let begun = Instant::now().checked_sub(age(*init).map_err(io)?);
        let health = Health::read(&store.container(id)).of_run(started);
        Ok(Some(Watch {
            store,
            check,
            init: pidfd,
            sealed,
            begun: begun.unwrap_or_else(Instant::now),
            health,
            record,
        }))
    }

    fn run(mut self) -> Result<(), Error> {
        let io = |source| Error::Io {
            action: "wait for the next check of",
            path: "a container".into(),
            source,
        };
        loop {
            let pause = self.health.pause(&self.check, self.begun.elapsed());
            if ends(&self.init, Some(pause)).map_err(io)? {
                return Ok(());
            }
            let age = self.begun.elapsed();
            let probe = self.probe();
            // One that its end has ended says nothing.
            if ends(&self.init, Some(Duration::ZERO)).map_err(io)? {
                return Ok(());
            }
            let before = self.health.status;
            self.health.add(probe, &self.check, age);
            if let Err(error) = self.health.write(&self.store.container(&self.record.id)) {
                // A full disk: what is found next may be written.
                tracing::warn!(
                    "the health of container {} is not kept: {}",
                    self.record.id,
                    chain(&error)
                );
            }
            if self.health.status != before {
                self.tell(self.health.status);
            }
        }
    }

    fn tell(&self, status: Status) {
        // It may have another name by now.
        let record = record::read(self.store, &self.record.id).ok().flatten();
        let record = record.as_ref().unwrap_or(&self.record);
        let action = format!("health_status: {}", status.name());
        events::happened(self.store.state(), record, &action, &[]);
    }

    fn probe(&self) -> Probe {
        let start = now();
        let (exit_code, output) = self.ask().unwrap_or_else(|error| (-1, chain(&error)));
        Probe {
            start,
            end: now(),
            exit_code,
            output,
        }
    }

    /// Runs the command; gives its exit code and output.
    fn ask(&self) -> Result<(i32, String), Error> {
        let io = |source| Error::Io {
            action: "run the check in",
            path: self.record.name.clone().into(),
            source,
        };
        if let Err(error) = &self.sealed {
            return Err(io(io::Error::new(error.kind(), error.to_string())));
        }
        let asked = Within {
            command: self.check.command(),
            ..Within::default()
        };
        let (command, output) = exec::prepare(self.store, &self.record, &asked)?.start_bound()?;
        let heard = hear(&command, output.into(), self.check.patience());
        if !matches!(heard, Ok((_, Over::Ended))) {
            // Our own child, not reaped yet, and what a shell has begun for it: nobody else would end that.
            let _ = killpg(command.pid, Signal::SIGKILL);
            let _ = kill(command.pid, Signal::SIGKILL);
        }
        let status = waitpid(command.pid, None).map_err(|errno| io(errno.into()))?;
        let (text, over) = heard.map_err(io)?;
        Ok(match (over, status) {
            (Over::TooLate, _) => (-1, too_late(self.check.patience(), &text)),
            (Over::Ended, WaitStatus::Exited(_, code)) => (code, text),
            (Over::Ended, WaitStatus::Signaled(_, signal, _)) => (128 + signal as i32, text),
            (Over::Ended, _) => (-1, text),
        })
    }
}

fn too_late(limit: Duration, text: &str) -> String {
    let colon = if text.is_empty() { "" } else { ": " };
    format!("Health check exceeded timeout ({limit:?}){colon}{text}")
}

/// How long a process has been there, by a clock that nobody sets.
fn age(process: Process) -> io::Result<Duration> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok());
    let ticks = ticks.filter(|ticks| *ticks > 0).unwrap_or(100);
    let start = Duration::from_millis(process.start.saturating_mul(1000) / ticks);
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(now.saturating_sub(start))
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
