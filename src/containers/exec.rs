//! How is a command run in a container that runs? By the tool itself: it enters the container, and stays beside the
//! command as a supervisor stays beside init. Nothing of it is recorded.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use oci_spec::runtime::Spec;
use rustix::process::pidfd_send_signal;

use super::Error;
use super::log::Log;
use super::record::{self, Life, Record};
use super::runtime::{self, Init, Stdio};
use super::spec::{Accounts, Confine, Within};
use super::supervisor::Attach;
use super::supervisor::stdio::{self, Outside, Relay};
use super::supervisor::terminal::{self, Raw};
use super::supervisor::tool::passed_signals;
use crate::host::{IdMaps, Probe, ids};
use crate::store::Store;

/// A command that runs within a container.
#[derive(Debug)]
pub struct Session {
    command: Init,
    relay: Option<Relay>,
    signals: SignalFd,
    raw: Option<Raw>,
}

/// Starts a command. To be called while the process has one thread.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Enter`], and what is asked for that cannot be.
pub fn start(store: &Store, record: &Record, asked: &Within, attach: Attach) -> Result<Session, Error> {
    let not_running = || Error::NotRunning(record.name.clone());
    let Life::Running { init: process, .. } = record.life else {
        return Err(not_running());
    };
    let trouble = |source| Error::Io {
        action: "run a command in",
        path: record.name.clone().into(),
        source,
    };
    let init = process.open().map_err(trouble)?.ok_or_else(not_running)?;
    let spec = record::read_spec(&store.container(&record.id))?;
    let host = Probe::now();
    let ids = ids_of(process.pid);
    let process = process_of(&init, &spec, record, asked)?;
    let within = runtime::plan_within(&spec, &process, &ids, &host)?;
    let (inside, outside) = streams(attach, asked.terminal.is_some()).map_err(trouble)?;
    let passed = passed_signals();
    // Before the fork, so that none is lost; the command has them again.
    passed.thread_block().map_err(|error| trouble(error.into()))?;
    let signals =
        SignalFd::with_flags(&passed, SfdFlags::SFD_CLOEXEC).map_err(|error| trouble(error.into()))?;
    let mut command = runtime::enter(&init, &within, inside)?;
    let raw = (asked.terminal.is_some() && attach == Attach::InputAndOutput)
        .then(Raw::enter)
        .flatten();
    let master = command.terminal.take();
    let relay = outside.map(|outside| outside.start(master, Log::nothing()));
    Ok(Session {
        command,
        relay: relay.transpose().map_err(trouble)?,
        signals,
        raw,
    })
}

/// The ids in force: not those of the Spec, if newuidmap failed when the container started.
fn ids_of(init: i32) -> IdMaps {
    // Gone, it has none, and what follows fails.
    let read = |file: &str| fs::read_to_string(format!("/proc/{init}/{file}")).unwrap_or_default();
    IdMaps {
        uids: ids::mapped(&read("uid_map")),
        gids: ids::mapped(&read("gid_map")),
    }
}

fn process_of(
    init: &OwnedFd,
    spec: &Spec,
    record: &Record,
    asked: &Within,
) -> Result<oci_spec::runtime::Process, Error> {
    let settings = &record.settings;
    let (cap_add, cap_drop) = settings.capabilities.clone();
    let confine = Confine {
        cap_add,
        cap_drop,
        privileged: settings.privileged,
        ..Confine::default()
    };
    if asked.user.is_none() {
        return Ok(asked.process(spec, confine, None)?);
    }
    let [passwd, group] = runtime::read_texts(init, ["/etc/passwd", "/etc/group"])?;
    let accounts = Accounts {
        passwd: &passwd,
        group: &group,
        user: &settings.user,
    };
    Ok(asked.process(spec, confine, Some(accounts))?)
}

/// The command's streams, and our ends of them. Nobody hears one that is left alone.
fn streams(attach: Attach, terminal: bool) -> io::Result<(Stdio, Option<Outside>)> {
    if attach == Attach::Detached {
        let null = || fs::File::options().read(true).write(true).open("/dev/null");
        return Ok((Stdio::Fds([null()?.into(), null()?.into(), null()?.into()]), None));
    }
    let (inside, outside) = match terminal {
        true => stdio::terminal(attach),
        false => stdio::pipes(attach, attach == Attach::InputAndOutput)?,
    };
    Ok((inside, Some(outside)))
}

impl Session {
    /// What could not be done as asked.
    pub fn warnings(&self) -> &[String] {
        &self.command.warnings
    }

    /// Waits for the command's end, passing signals to it; gives its exit code, 128 + n after signal n.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn ended(mut self) -> io::Result<i32> {
        self.resize();
        loop {
            let mut fds = [
                PollFd::new(self.command.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            let [ended, signalled] = fds.map(|fd| fd.any().unwrap_or(false));
            if ended {
                break;
            }
            if signalled && let Some(signal) = self.signals.read_signal()? {
                self.pass(signal.ssi_signo.cast_signed());
            }
        }
        let status = waitpid(self.command.pid, None)?;
        if let Some(relay) = self.relay.take() {
            relay.end();
        }
        drop(self.raw.take());
        Ok(match status {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            _ => 255,
        })
    }

    fn pass(&self, number: i32) {
        if number == Signal::SIGWINCH as i32 {
            self.resize();
        } else if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
            // It may have ended in between.
            let _ = pidfd_send_signal(&self.command.pidfd, signal);
        }
    }

    fn resize(&self) {
        if let (Some(relay), Some(size)) = (&self.relay, terminal::size()) {
            relay.resize(size.rows, size.columns);
        }
    }
}
