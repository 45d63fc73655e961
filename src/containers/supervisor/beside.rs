//! The supervisor's life: start the server and the container side by side, carry bytes and signals, clean up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::{Signal, pidfd_send_signal};

use super::Start;
use super::network::Network;
use super::protocol::{Notice, Order};
use super::server::{Finish, Server, ServerError};
use super::stdio::{self, Attach, Relay};
use crate::containers::log::Log;
use crate::containers::network::{Link, Live};
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
    network: Option<Network>,
    init: Init,
    relay: Relay,
    started: String,
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
        run,
        network,
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
    let mut mine = Some((held, tool, network));
    let server = taken.and_then(|()| {
        Server::fork(lower, &upper, storage, || {
            if let Some((held, tool, network)) = mine.take() {
                held.leave();
                drop((tool, network));
            }
        })
        .map_err(Failure::from)
    });
    let Some((mut held, tool, network)) = mine else {
        return 125;
    };
    let container = Container {
        plan,
        host,
        terminal,
        attach,
        open_stdin,
        run,
        discard: held.record.afterwards == Afterwards::Remove,
        log: Log::new(held.directory(), held.record.settings.log),
        link: network.link,
        directory: held.directory().to_owned(),
    };
    let begun = server.and_then(|server| begin(server, container, &tool));
    drop(network.joined);
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
    open_stdin: bool,
    run: PathBuf,
    /// Whether it is removed when it has ended.
    discard: bool,
    log: Log,
    /// For a network process.
    link: Option<Link>,
    /// Where the container's files lie.
    directory: PathBuf,
}

/// Starts the container. The server opens image and writable layer while the child makes its namespaces.
fn begin(mut server: Server, container: Container, tool: &Channel) -> Result<Running, Failure> {
    match launch(&mut server, container, tool) {
        Ok((init, relay, network)) => Ok(Running {
            server,
            network,
            init,
            relay,
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
) -> Result<(Init, Relay, Option<Network>), Failure> {
    let Container {
        plan,
        host,
        terminal,
        attach,
        open_stdin,
        run,
        discard,
        log,
        link,
        directory,
    } = container;
    let (inside, outside) = match terminal {
        true => stdio::terminal(attach),
        false => stdio::pipes(attach, open_stdin)?,
    };
    let mut launch = runtime::spawn(plan, host, inside, &run)?;
    // While the child makes the namespaces, so that no start waits for it.
    let network = link.map(|link| Network::start(link, &directory));
    let mut network = network.transpose()?;
    let devices = launch.devices()?;
    let ids = launch
        .id_maps()
        .ok_or_else(|| io::Error::other("the user namespace has no known id maps"))?;
    server.serve(ids, devices, discard)?;
    server.opened()?;
    server.watch()?;
    let mut init = launch.go()?;
    if let (Some(network), Some(device)) = (&mut network, init.network.take()) {
        network.connect(device);
    }
    for warning in &init.warnings {
        // Nobody to be warned is no reason to stop.
        let _ = tell(tool, &Notice::Warning(warning.clone()));
    }
    server.guard(&init.pidfd)?;
    let relay = outside.start(init.terminal.take(), log)?;
    Ok((init, relay, network))
}

/// Stays until the command has ended and all it wrote was passed on.
fn stay(held: &mut Held, running: Running, tool: &Channel) -> (Life, Notice) {
    let Running {
        server,
        mut network,
        init,
        relay,
        started,
    } = running;
    let mut trouble = record_running(held, &server, network.as_ref(), &init, &started).err();
    // A tool that is gone is noticed below.
    let _ = tell(tool, &Notice::Started);
    carry(&init, &relay, tool, server.succeeded(), &mut network, |network| {
        trouble = record_running(held, &server, network, &init, &started).err();
    });
    let mut code = reap(&init);
    // Its ports are free for others from here on.
    held.record.network = Live {
        restarts: network.map_or(0, |network| network.live().restarts),
        ..Live::default()
    };
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

fn record_running(
    held: &mut Held,
    server: &Server,
    network: Option<&Network>,
    init: &Init,
    started: &str,
) -> Result<(), String> {
    let gone = || "the container ended before it could be recorded".to_string();
    let life = Life::Running {
        supervisor: Process::of(std::process::id().cast_signed()).ok_or_else(gone)?,
        // Our child, not reaped yet: it is there even when it has ended.
        init: Process::of(init.pid.as_raw()).ok_or_else(gone)?,
        server: server.process(),
        started: started.into(),
    };
    held.record.takeovers = server.takeovers();
    held.record.network = network.map(Network::live).unwrap_or_default();
    held.set_life(life).map_err(|error| chain(&error))
}

/// Passes the tool's orders on until init ends. A tool that was killed takes the user's streams with it. `renewed` is
/// called when another filesystem server or network process has taken over.
fn carry(
    init: &Init,
    relay: &Relay,
    tool: &Channel,
    succeeded: &EventFd,
    network: &mut Option<Network>,
    mut renewed: impl FnMut(Option<&Network>),
) {
    let mut listening = true;
    loop {
        let mut fds = vec![
            PollFd::new(init.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(succeeded.as_fd(), PollFlags::POLLIN),
        ];
        if listening {
            fds.push(PollFd::new(tool.as_fd(), PollFlags::POLLIN));
        }
        let pidfd = network.as_ref().and_then(Network::pidfd);
        fds.extend(pidfd.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)));
        let due = network.as_ref().and_then(Network::due);
        let timeout = due.map_or(PollTimeout::NONE, until);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
        let told = listening && ready(2);
        if ready(0) {
            return;
        }
        if ready(1) && succeeded.read().is_ok() {
            renewed(network.as_ref());
        }
        if network.as_mut().is_some_and(Network::renew) {
            renewed(network.as_ref());
        }
        if told {
            match tool.receive() {
                Ok(Some((order, _))) => obey(order, init, relay),
                Ok(None) | Err(_) => {
                    listening = false;
                    stdio::forget_streams();
                }
            }
        }
    }
}

/// Rounded up, so that what is waited for is due then.
fn until(due: Duration) -> PollTimeout {
    PollTimeout::try_from(due + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
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
