//! The supervisor's life: start the server and the container side by side, carry bytes and signals, clean up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::{Signal, pidfd_send_signal};

use super::Start;
use super::protocol::{Notice, Order};
use super::server::{Finish, Server, ServerError};
use super::stdio::{self, Attach, Beside, Relay};
use crate::containers::attach::audience::Audience;
use crate::containers::attach::{self, Keys};
use crate::containers::log::Log;
use crate::containers::process::Process;
use crate::containers::record::{self, Afterwards, Held, Life};
use crate::containers::runtime::channel::Channel;
use crate::containers::runtime::{self, Init, StartError};
use crate::host::Probe;
use crate::line::chain;

/// Why the container never ran.
struct Failure {
    code: u8,
    message: String,
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        Failure {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Failure {
        Failure {
            code: 125,
            message: error.to_string(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure {
            code: 125,
            message: format!("supervisor: {error}"),
        }
    }
}

/// A container whose command runs.
struct Running {
    server: Server,
    init: Init,
    relay: Relay,
    guests: Guests,
    started: String,
}

/// Those who attach, and where they come in; no door if none could be made.
struct Guests {
    audience: Arc<Audience>,
    door: Option<UnixListener>,
}

/// The supervisor, from fork to exit.
pub(super) fn main(start: Start, tool: Channel) -> u8 {
    // In a session of its own no key of the user's terminal reaches it; the tool passes on what is meant for the
    // command. Both calls fail only for a session leader, which a forked child is not.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"bryo-supervisor");
    let Start {
        mut held,
        lower,
        plan,
        host,
        terminal,
        attach,
        log,
        keys,
        run,
    } = start;
    if attach == Attach::Detached {
        stdio::forget_streams();
    }
    if let Some(builder) = held.record.builder {
        // A step ends with its build, whose main thread has forked us: nobody else wants what it makes.
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        if nix::unistd::getppid().as_raw() != builder.pid {
            return 125;
        }
    }
    if let Some(log) = log {
        stdio::write_to(log);
    }
    let taken = held.take_over().map_err(|error| Failure {
        code: 125,
        message: chain(&error),
    });
    let upper = held.directory().join("upper");
    let storage = held.record.settings.storage;
    let open_stdin = held.record.settings.open_stdin;
    let (run_directory, audience) = (run.clone(), Arc::<Audience>::default());
    let mut mine = Some((held, tool));
    let server = taken.and_then(|()| {
        Server::fork(lower, &upper, storage, || {
            if let Some((held, tool)) = mine.take() {
                held.leave();
                drop(tool);
            }
        })
        .map_err(Failure::from)
    });
    let Some((mut held, tool)) = mine else { return 125 };
    let container = Container {
        plan,
        host,
        terminal,
        attach,
        keys,
        open_stdin,
        // A step of a build is its builder's alone.
        id: held.record.builder.is_none().then(|| held.record.id.clone()),
        run,
        discard: held.record.afterwards == Afterwards::Remove,
        log: Log::new(held.directory(), held.record.settings.log),
        audience: Arc::clone(&audience),
    };
    let begun = server.and_then(|server| begin(server, container, &tool));
    // The last fork is behind us; a lease is believed for far longer than a start takes.
    held.beat();
    let (life, notice) = match begun {
        Ok(running) => stay(&mut held, running, &tool),
        Err(Failure { code, message }) => {
            let (started, finished) = (String::new(), record::now());
            let life = Life::Exited {
                code: code.into(),
                error: message.clone(),
                started,
                finished,
            };
            (life, Notice::Failed { code, message })
        }
    };
    let id = held.record.id.clone();
    let notice = match (settle(held, life), notice) {
        (Err(error), Notice::Ended { code, .. }) => Notice::Ended {
            code,
            error: Some(chain(&error)),
        },
        (Err(error), Notice::Failed { code, message }) => Notice::Failed {
            code,
            message: format!("{message}; {}", chain(&error)),
        },
        (_, notice) => notice,
    };
    // The tool may be gone; then nobody waits for this.
    let _ = tell(&tool, &notice);
    attach::unlisten(&run_directory, &id);
    if let Notice::Ended { code, error } = &notice {
        audience.end(*code, error.as_deref());
    }
    0
}

fn tell(tool: &Channel, notice: &Notice) -> nix::Result<()> {
    tool.send(notice, &[] as &[OwnedFd])
}

/// Records the end, or removes the container.
fn settle(mut held: Held, life: Life) -> Result<(), crate::containers::Error> {
    match held.record.afterwards {
        Afterwards::Keep | Afterwards::RemoveOnceRun | Afterwards::Commit => held.set_life(life),
        Afterwards::Remove => held.remove(),
    }
}

/// What is to be started, and how.
struct Container {
    plan: runtime::Plan,
    host: Probe,
    terminal: bool,
    attach: Attach,
    keys: Keys,
    open_stdin: bool,
    /// By which others may attach.
    id: Option<String>,
    run: PathBuf,
    /// Whether it is removed when it has ended.
    discard: bool,
    log: Log,
    /// Those who attach.
    audience: Arc<Audience>,
}

/// Starts the container. The server opens image and writable layer while the child makes its namespaces.
fn begin(mut server: Server, container: Container, tool: &Channel) -> Result<Running, Failure> {
    match launch(&mut server, container, tool) {
        Ok((init, relay, guests)) => Ok(Running {
            server,
            init,
            relay,
            guests,
            started: record::now(),
        }),
        Err(failure) => {
            server.kill();
            Err(failure)
        }
    }
}

fn launch(
    server: &mut Server,
    container: Container,
    tool: &Channel,
) -> Result<(Init, Relay, Guests), Failure> {
    let Container {
        plan,
        host,
        terminal,
        attach,
        keys,
        open_stdin,
        id,
        run,
        discard,
        log,
        audience,
    } = container;
    let (inside, outside) = match terminal {
        true => stdio::terminal(attach),
        false => stdio::pipes(attach, open_stdin)?,
    };
    let mut launch = runtime::spawn(plan, host, inside, &run)?;
    let devices = launch.devices()?;
    let ids = launch
        .id_maps()
        .ok_or_else(|| io::Error::other("the user namespace has no known id maps"))?;
    server.serve(ids, devices, discard)?;
    server.opened()?;
    server.watch()?;
    let mut init = launch.go()?;
    for warning in &init.warnings {
        // Nobody to be warned is no reason to stop.
        let _ = tell(tool, &Notice::Warning(warning.clone()));
    }
    server.guard(&init.pidfd)?;
    let door = match id.map(|id| attach::listen(&run, &id)).transpose() {
        Ok(door) => door,
        Err(why) => {
            let warning = format!("nobody will be able to attach to the container: {why}");
            let _ = tell(tool, &Notice::Warning(warning));
            None
        }
    };
    let beside = Beside {
        audience: Arc::clone(&audience),
        keys,
    };
    let relay = outside.start(init.terminal.take(), log, beside)?;
    Ok((init, relay, Guests { audience, door }))
}

/// Stays until the command has ended and all it wrote was passed on.
fn stay(held: &mut Held, running: Running, tool: &Channel) -> (Life, Notice) {
    let Running {
        server,
        init,
        relay,
        guests,
        started,
    } = running;
    let mut trouble = record_running(held, &server, &init, &started).err();
    // A tool that is gone is noticed below.
    let _ = tell(tool, &Notice::Started);
    carry(&init, (&relay, &guests), tool, server.succeeded(), || {
        trouble = record_running(held, &server, &init, &started).err();
    });
    let mut code = reap(&init);
    held.record.takeovers = server.takeovers();
    let log = relay.drain();
    let mut error = String::new();
    if let Some(how) = server.lost() {
        error = format!("the filesystem server {how}, and the container with it");
    }
    match held.record.afterwards {
        Afterwards::Keep | Afterwards::RemoveOnceRun | Afterwards::Commit => {
            if server.finish() == Finish::Failed && error.is_empty() {
                error = "what the container wrote last could not be written to the disk".into();
            }
            // Best effort, as all of the log: output is no reason for a container to fail.
            let _ = log.lock().sync();
        }
        Afterwards::Remove => server.kill(),
    }
    if !error.is_empty() {
        trouble.get_or_insert_with(|| error.clone());
    }
    code = code.clamp(0, 255);
    let life = Life::Exited {
        code,
        error,
        started,
        finished: record::now(),
    };
    (life, Notice::Ended { code, error: trouble })
}

fn record_running(held: &mut Held, server: &Server, init: &Init, started: &str) -> Result<(), String> {
    let gone = || "the container ended before it could be recorded".to_string();
    let life = Life::Running {
        supervisor: Process::of(std::process::id().cast_signed()).ok_or_else(gone)?,
        // Our child, not reaped yet: it is there even when it has ended.
        init: Process::of(init.pid.as_raw()).ok_or_else(gone)?,
        server: server.process(),
        started: started.into(),
    };
    held.record.takeovers = server.takeovers();
    held.set_life(life).map_err(|error| chain(&error))
}

/// Passes the tool's orders on until init ends, and takes in who attaches. A tool that was killed takes the user's streams
/// with it. `renewed` is called when another filesystem server has taken over.
fn carry(
    init: &Init,
    (relay, guests): (&Relay, &Guests),
    tool: &Channel,
    succeeded: &EventFd,
    mut renewed: impl FnMut(),
) {
    let mut listening = true;
    loop {
        let mut fds = vec![
            PollFd::new(init.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(succeeded.as_fd(), PollFlags::POLLIN),
            PollFd::new(relay.left().as_fd(), PollFlags::POLLIN),
        ];
        let tools = listening.then(|| next(&mut fds, tool.as_fd()));
        let door = guests.door.as_ref().map(|door| next(&mut fds, door.as_fd()));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
        if ready(0) {
            return;
        }
        if ready(1) && succeeded.read().is_ok() {
            renewed();
        }
        if ready(2) && relay.left().read().is_ok() {
            // First: the user's terminal is somebody else's then.
            stdio::forget_streams();
            let _ = tell(tool, &Notice::Left);
        }
        if tools.is_some_and(ready) {
            match tool.receive() {
                // The terminal's size is that of who attached last.
                Ok(Some((Order::Resize { .. }, _))) if !guests.audience.is_empty() => {}
                Ok(Some((order, _))) => obey(order, init, relay),
                Ok(None) | Err(_) => {
                    listening = false;
                    stdio::forget_streams();
                }
            }
        }
        if door.is_some_and(ready)
            && let Some(door) = &guests.door
        {
            guests.audience.welcome(door, relay.inlet());
        }
    }
}

/// Waits for one more; gives its place.
fn next<'a>(fds: &mut Vec<PollFd<'a>>, fd: BorrowedFd<'a>) -> usize {
    fds.push(PollFd::new(fd, PollFlags::POLLIN));
    fds.len() - 1
}

fn obey(order: Order, init: &Init, relay: &Relay) {
    match order {
        Order::Signal(number) => {
            if let Some(signal) = Signal::from_named_raw(number) {
                // Init may have ended in between.
                let _ = pidfd_send_signal(&init.pidfd, signal);
            }
        }
        Order::Resize { rows, columns } => relay.resize(rows, columns),
    }
}

/// Docker's exit code of init.
fn reap(init: &Init) -> i32 {
    loop {
        match waitpid(init.pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            // Only we reap it; whatever took it was not the container's own end.
            Err(_) => return 137,
        }
    }
}
