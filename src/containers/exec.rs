//! How is a command run in a container that runs? By the tool itself: it enters the container, and stays beside the
//! command as a supervisor stays beside init. Nothing of it is recorded.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::waitpid;
use oci_spec::runtime::Spec;
use rustix::process::pidfd_send_signal;

use super::log::Log;
use super::process::{self, Process};
use super::record::{self, Life, Record};
use super::runtime::plan::GROUPS_ASKED;
use super::runtime::{self, Init, StartError, Stdio};
use super::spec::{Accounts, Confine, Within};
use super::supervisor::Attach;
use super::supervisor::stdio::{self, Beside, Outside, Relay};
use super::supervisor::terminal::{self, Raw};
use super::supervisor::tool::passed_signals;
use super::{Error, cgroup, events, inherited, names};
use crate::host::{IdMaps, Probe, ids};
use crate::line::chain;
use crate::store::Store;
use crate::sys;

/// A command that may be started in a container.
#[derive(Debug)]
pub struct Prepared {
    init: OwnedFd,
    within: runtime::Within,
    terminal: bool,
    /// The container's, for messages.
    name: String,
    told: Told,
}

/// What is told of a command: Docker's events.
#[derive(Debug)]
struct Told {
    state: PathBuf,
    record: Record,
    command: String,
    id: String,
}

impl Told {
    fn started(&self) {
        for action in ["exec_create", "exec_start"] {
            self.happened(&format!("{action}: {}", self.command), None);
        }
    }

    fn happened(&self, action: &str, code: Option<i32>) {
        let code = code.map(|code| ("exitCode", code.to_string()));
        let id = ("execID", self.id.clone());
        let more: Vec<_> = std::iter::once(id).chain(code).collect();
        events::happened(&self.state, &self.record, action, &more);
    }
}

/// A command that runs within a container.
#[derive(Debug)]
pub struct Session {
    command: Init,
    relay: Option<Relay>,
    signals: SignalFd,
    /// While the user's terminal is the command's.
    raw: Option<Raw>,
    told: Told,
}

/// Finds out what a command is to be. To be called while the process has one thread, by the
/// [sealed program](runtime::ensure_sealed).
///
/// # Errors
/// [`Error::Stopped`], and what is asked for that cannot be.
pub fn prepare(store: &Store, record: &Record, asked: &Within) -> Result<Prepared, Error> {
    let stopped = || Error::Stopped(record.name.clone());
    let Life::Running { init: process, .. } = record.life else {
        return Err(stopped());
    };
    if record.paused {
        return Err(Error::ExecPaused(record.name.clone()));
    }
    let directory = store.container(&record.id);
    let spec = record::read_spec(&directory)?;
    let way = way_in(process, record)?.ok_or_else(stopped)?;
    let asked_process = process_of(&way, &spec, record, asked)?;
    let within = runtime::plan_within(&spec, &asked_process, &ids_of(process.pid), &Probe::now())?;
    let within = within.in_cgroups(cgroup::of(&directory).entries());
    Ok(Prepared {
        init: way,
        within,
        terminal: asked.terminal.is_some(),
        name: record.name.clone(),
        told: Told {
            state: store.state().to_owned(),
            record: record.clone(),
            command: asked.command.join(" "),
            id: names::new_id().map_err(trouble(&record.name))?,
        },
    })
}

/// A process by which one comes into a container; `None` if it has ended.
///
/// # Errors
/// The kernel gives no descriptor of it.
pub(super) fn way_in(init: Process, record: &Record) -> Result<Option<OwnedFd>, Error> {
    door(init, record).map_or(Ok(None), |way| way.open().map_err(trouble(&record.name)))
}

/// The same as a process that may have ended meanwhile.
pub(super) fn door(init: Process, record: &Record) -> Option<Process> {
    match record.settings.init {
        true => child(init),
        false => Some(init),
    }
}

/// With `--init`, pid 1 is of this program, and closed to everybody; its child, the command, is in the same namespaces.
fn child(init: Process) -> Option<Process> {
    let pid = init.pid;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Process::of(children.split_whitespace().next()?.parse().ok()?)
}

fn trouble(name: &str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io {
        action: "run a command in",
        path: name.into(),
        source,
    }
}

/// How long a container may take to be gone into which there is no way any more.
const ENDING: Duration = Duration::from_millis(200);

/// Goes into a container; if that fails since it ends at this moment, it is said so.
fn enter(init: &OwnedFd, name: &str, within: &runtime::Within, inside: Stdio) -> Result<Init, Error> {
    runtime::enter(init, within, inside).map_err(|why| match &why {
        // The kernel refuses the way in a little before it tells of the end.
        StartError::Failed(_) if process::ends(init, Some(ENDING)).unwrap_or(false) => {
            Error::Stopped(name.into())
        }
        _ => why.into(),
    })
}

impl Prepared {
    /// The same, with these of this process's descriptors.
    pub fn with(self, kept: Vec<RawFd>) -> Prepared {
        Prepared {
            within: self.within.with(kept),
            ..self
        }
    }

    /// The same, to die with this process, and with these of its descriptors.
    pub(super) fn bound(self, kept: Vec<RawFd>) -> Prepared {
        Prepared {
            within: self.within.bound().with(kept),
            ..self
        }
    }

    /// Starts it. Until it runs, signals end the tool, and it with that.
    ///
    /// # Errors
    /// [`Error::Enter`].
    pub fn start(self, attach: Attach) -> Result<Session, Error> {
        self.start_watched(attach, Beside::default())
    }

    /// The same; `beside` has the keys that leave its terminal.
    pub(super) fn start_watched(self, attach: Attach, beside: Beside) -> Result<Session, Error> {
        let trouble = trouble(&self.name);
        let (inside, outside) = streams(attach, self.terminal).map_err(&trouble)?;
        let mut command = enter(&self.init, &self.name, &self.within, inside)?;
        // The command has them.
        inherited::close_preserved();
        let is_terminal = self.terminal && attach == Attach::InputAndOutput;
        let begun = || {
            let passed = passed_signals();
            passed.thread_block()?;
            let signals = SignalFd::with_flags(&passed, SfdFlags::SFD_CLOEXEC)?;
            let master = command.terminal.take();
            // Before anything is shown, whose line ends are those of the container's terminal already.
            let raw = is_terminal.then(Raw::enter).flatten();
            let relay = outside.map(|outside| outside.start(master, Log::nothing(), beside));
            Ok((signals, relay.transpose()?, raw))
        };
        match begun() {
            Ok((signals, relay, raw)) => {
                self.told.started();
                Ok(Session {
                    told: self.told,
                    command,
                    relay,
                    signals,
                    raw,
                })
            }
            Err(error) => {
                // Our own child, which nobody would be beside.
                let _ = pidfd_send_signal(&command.pidfd, rustix::process::Signal::KILL);
                let _ = waitpid(command.pid, None);
                Err(trouble(error))
            }
        }
    }

    /// Starts it; what it writes, both streams as they come, is read from the descriptor. It dies with this process, which
    /// is to reap it.
    ///
    /// # Errors
    /// [`Error::Enter`].
    pub(super) fn start_bound(self) -> Result<(Init, OwnedFd), Error> {
        let trouble = trouble(&self.name);
        let streams = || {
            let (ours, theirs) = io::pipe()?;
            let null = fs::File::open("/dev/null")?;
            let inside = Stdio::Fds([null.into(), theirs.try_clone()?.into(), theirs.into()]);
            Ok((ours, inside))
        };
        let (output, inside) = streams().map_err(trouble)?;
        let command = enter(&self.init, &self.name, &self.within.bound(), inside)?;
        Ok((command, output.into()))
    }

    /// Starts it with a process of its own beside it, which reaps it: a dead process that nobody reaps would hold up the
    /// container's end.
    ///
    /// # Errors
    /// [`Error::Enter`].
    pub fn start_alone(self) -> Result<(), Error> {
        let (mut heard, to) = io::pipe().map_err(trouble(&self.name))?;
        let name = self.name.clone();
        let mut parts = Some((self, to));
        sys::fork(|| {
            let Some((prepared, mut to)) = parts.take() else {
                return 125;
            };
            let _ = nix::unistd::setsid();
            inherited::close();
            stdio::forget_streams();
            let told = match prepared.start(Attach::Detached) {
                Ok(session) => Ok(session),
                Err(Error::Enter(why)) => Err((why.code(), why.to_string())),
                Err(error) => Err((125, chain(&error))),
            };
            let text = serde_json::to_vec(&told.as_ref().err()).unwrap_or_default();
            // A tool that is gone waits for nothing.
            let _ = to.write_all(&text);
            drop(to);
            drop(told.map(Session::ended));
            0
        })
        .map_err(trouble(&name))?;
        drop(parts);
        let mut text = Vec::new();
        heard.read_to_end(&mut text).map_err(trouble(&name))?;
        match serde_json::from_slice::<Option<(u8, String)>>(&text) {
            Ok(None) => Ok(()),
            Ok(Some((code, why))) => Err(StartError::of(code, why).into()),
            Err(_) => Err(StartError::Failed("the process beside the command was killed".into()).into()),
        }
    }
}

/// The ids in force: not those of the Spec, if newuidmap failed when the container started.
pub(super) fn ids_of(init: i32) -> IdMaps {
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
    let added = spec
        .annotations()
        .as_ref()
        .and_then(|notes| notes.get(GROUPS_ASKED));
    let added: Vec<String> = added
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(Into::into)
        .collect();
    let accounts = Accounts {
        added: &added,
        passwd: &passwd,
        group: &group,
        user: &settings.user,
    };
    Ok(asked.process(spec, confine, Some(accounts))?)
}

/// The command's streams, and our ends of them. Nobody hears one that is left alone.
fn streams(attach: Attach, terminal: bool) -> io::Result<(Stdio, Option<Outside>)> {
    let (inside, outside) = match (terminal, attach) {
        (true, _) => stdio::terminal(attach),
        (false, Attach::Detached) => {
            let null = || fs::File::options().read(true).write(true).open("/dev/null");
            return Ok((Stdio::Fds([null()?.into(), null()?.into(), null()?.into()]), None));
        }
        (false, _) => stdio::pipes(attach, attach == Attach::InputAndOutput)?,
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
    pub fn ended(self) -> io::Result<i32> {
        self.ended_or_left(|| ())
    }

    /// The same; `left` is called when the user has typed the keys that leave its terminal, which is the user's again.
    pub(super) fn ended_or_left(mut self, left: impl FnOnce()) -> io::Result<i32> {
        let mut left = Some(left);
        let mut raw = self.raw.take();
        self.resize();
        loop {
            let mut fds = vec![
                PollFd::new(self.command.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            let leaves = self.relay.as_ref().filter(|_| left.is_some());
            fds.extend(leaves.map(|relay| PollFd::new(relay.left().as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
            let (ended, signalled, leaves) = (ready(0), ready(1), ready(2));
            if ended {
                break;
            }
            if leaves && let Some(left) = left.take() {
                drop(raw.take());
                left();
            }
            if signalled && let Some(signal) = self.signals.read_signal()? {
                self.pass(signal.ssi_signo.cast_signed());
            }
        }
        let code = process::reaped(self.command.pid)?;
        if raw.is_none() {
            // Who reads slowly may lose patience. A raw terminal must be put back first, and what is left is little.
            passed_signals().thread_unblock()?;
        }
        if let Some(relay) = self.relay.take() {
            relay.end();
        }
        drop(raw);
        self.told.happened("exec_die", Some(code));
        Ok(code)
    }

    fn pass(&self, number: i32) {
        if number == Signal::SIGWINCH as i32 {
            self.resize();
        } else {
            // It may have ended in between.
            let _ = sys::signal::send(self.command.pidfd.as_fd(), number);
        }
    }

    fn resize(&self) {
        if let (Some(relay), Some(size)) = (&self.relay, terminal::size()) {
            relay.resize(size.rows, size.columns);
        }
    }
}
