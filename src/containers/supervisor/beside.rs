//! The supervisor's life: start the server and the container side by side, carry bytes and signals, clean up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::{Signal, pidfd_send_signal};

use super::announce::{self, PidfileError};
use super::checker::Checker;
use super::network::{Impatient, Network};
use super::protocol::{Notice, Order};
use super::server::{Finish, Server, ServerError};
use super::stdio::{self, Attach, Beside, Relay};
use super::told::Told;
use super::{Start, again};
use crate::containers::attach::audience::Audience;
use crate::containers::attach::{self, Keys};
use crate::containers::log::Log;
use crate::containers::network::{Link, Live};
use crate::containers::process::Process;
use crate::containers::record::{self, Afterwards, Held, KILLED, Life};
use crate::containers::runtime::channel::Channel;
use crate::containers::runtime::{self, Init, StartError};
use crate::containers::upkeep::Upkeep;
use crate::containers::{end, events};
use crate::host::Probe;
use crate::line::chain;
use crate::store::Store;

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

impl From<PidfileError> for Failure {
    fn from(error: PidfileError) -> Failure {
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
    let Start {
        mut held,
        lower,
        plan,
        host,
        terminal,
        attach,
        log,
        keys,
        store,
        pause,
        network,
    } = start;
    if !settle_in(&held, attach, log) {
        return 125;
    }
    let taken = held.take_over().map_err(|error| Failure {
        code: 125,
        message: chain(&error),
    });
    let told = taken.and_then(|()| Told::listen().map_err(|errno| Failure::from(io::Error::from(errno))));
    let upper = held.directory().join("upper");
    let storage = held.record.settings.storage;
    let open_stdin = held.record.settings.open_stdin;
    let audience = Arc::<Audience>::default();
    let mut mine = Some((held, tool, network));
    let begun = told.and_then(|told| {
        Server::fork(lower, &upper, storage, || {
            if let Some((held, tool, network)) = mine.take() {
                held.leave();
                drop((tool, network));
            }
        })
        .map(|server| (server, told))
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
        keys,
        open_stdin,
        // A step of a build is its builder's alone.
        id: held.record.builder.is_none().then(|| held.record.id.clone()),
        upkeep: held.record.settings.upkeep.clone(),
        run: store.run().to_owned(),
        discard: held.record.afterwards == Afterwards::Remove,
        log: Log::new(held.directory(), held.record.settings.log),
        link: network.link,
        directory: held.directory().to_owned(),
        audience: Arc::clone(&audience),
    };
    let begun = begun.and_then(|(server, told)| Ok((begin(server, container, &tool)?, told)));
    drop(network.joined);
    // The last fork is behind us; a lease is believed for far longer than a start takes.
    held.beat();
    let (life, notice) = match begun {
        Ok((running, mut told)) => {
            let begun = Instant::now();
            let (life, notice) = stay(&mut held, running, (&tool, &store), &mut told);
            let times = [pause, begun.elapsed()];
            match again::pause(&mut held, &life, &mut told, times) {
                None => (life, notice),
                Some(pause) => {
                    attach::unlisten(store.run(), &held.record.id);
                    leave(&notice, &audience);
                    return restart(held, life, notice, (&tool, &store, pause));
                }
            }
        }
        Err(failure) => failed(&held, failure),
    };
    // Before the lock is free: the socket is another supervisor's then.
    attach::unlisten(store.run(), &held.record.id);
    let notice = conclude(held, life, notice, &tool);
    leave(&notice, &audience);
    0
}

/// Tells those who are attached that this run is over.
fn leave(notice: &Notice, audience: &Audience) {
    if let Notice::Ended { code, error, .. } = notice {
        audience.end(*code, error.as_deref());
    }
}

/// Makes a process of its own of the tool's child. `false`: nobody wants it any more.
fn settle_in(held: &Held, attach: Attach, log: Option<OwnedFd>) -> bool {
    // In a session of its own no key of the user's terminal reaches it; the tool passes on what is meant for the
    // command. Both calls fail only for a session leader, which a forked child is not.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"bryo-supervisor");
    if attach == Attach::Detached {
        stdio::forget_streams();
    }
    if let Some(builder) = held.record.builder {
        // A step ends with its build, whose main thread has forked us: nobody else wants what it makes.
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        if nix::unistd::getppid().as_raw() != builder.pid {
            return false;
        }
    }
    if let Some(log) = log {
        stdio::write_to(log);
    }
    true
}

/// The end of a container whose command did not run this time.
fn failed(held: &Held, Failure { code, message }: Failure) -> (Life, Notice) {
    let (started, finished) = match &held.record.life {
        // It ran before, at least.
        Life::Restarting {
            started, finished, ..
        } => (started.clone(), finished.clone()),
        _ => (String::new(), record::now()),
    };
    let life = Life::Exited {
        code: code.into(),
        error: message.clone(),
        started,
        finished,
    };
    (life, Notice::Failed { code, message })
}

/// Records the end, and tells the tool. Gives what it was told.
fn conclude(held: Held, life: Life, notice: Notice, tool: &Channel) -> Notice {
    let notice = match (settle(held, life), notice) {
        (Err(error), Notice::Ended { code, .. }) => Notice::Ended {
            code,
            error: Some(chain(&error)),
            stays: false,
        },
        (Err(error), Notice::Failed { code, message }) => Notice::Failed {
            code,
            message: format!("{message}; {}", chain(&error)),
        },
        (_, notice) => notice,
    };
    // The tool may be gone; then nobody waits for this.
    let _ = tell(tool, &notice);
    notice
}

/// Lets go of the tool, and becomes the supervisor of the next run.
fn restart(
    mut held: Held,
    life: Life,
    notice: Notice,
    (tool, store, pause): (&Channel, &Store, Duration),
) -> u8 {
    again::record(&mut held, life);
    if let Notice::Ended { code, error, .. } = notice {
        let stays = true;
        let _ = tell(tool, &Notice::Ended { code, error, stays });
    }
    let why = again::execute(&mut held, store, pause);
    let life = again::given_up(
        held.record.life.clone(),
        Some(format!("cannot be restarted: {why}")),
    );
    // If it cannot be recorded, nobody is left to be told; the free lock says that nobody is beside it.
    let _ = held.set_life(life);
    125
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
    upkeep: Upkeep,
    run: PathBuf,
    /// Whether it is removed when it has ended.
    discard: bool,
    log: Log,
    /// For a network process.
    link: Option<Link>,
    /// Where the container's files lie.
    directory: PathBuf,
    /// Those who attach.
    audience: Arc<Audience>,
}

/// Starts the container. The server opens image and writable layer while the child makes its namespaces.
fn begin(mut server: Server, container: Container, tool: &Channel) -> Result<Running, Failure> {
    match launch(&mut server, container, tool) {
        Ok((init, relay, network, guests)) => Ok(Running {
            server,
            network,
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
) -> Result<(Init, Relay, Option<Network>, Guests), Failure> {
    let Container {
        mut plan,
        host,
        terminal,
        attach,
        keys,
        open_stdin,
        id,
        upkeep,
        run,
        discard,
        log,
        link,
        directory,
        audience,
    } = container;
    plan.foreign = link.as_ref().map(Link::crowd).unwrap_or_default();
    let (inside, outside) = match terminal {
        true => stdio::terminal(attach),
        false => stdio::pipes(attach, open_stdin)?,
    };
    let mut launch = runtime::spawn(plan, host, inside, &run)?;
    // While the child makes the namespaces, so that no start waits for it.
    let network = link.map(|link| Network::start(link, &directory)).transpose();
    let mut network = network.map_err(|error| Failure {
        code: 125,
        message: format!("cannot start the network process: {error}"),
    })?;
    let devices = launch.devices()?;
    let ids = launch
        .id_maps()
        .ok_or_else(|| io::Error::other("the user namespace has no known id maps"))?;
    server.serve(ids, devices, discard)?;
    server.opened()?;
    server.watch()?;
    announce::supervisor(&upkeep)?;
    let pidfile = announce::init(&upkeep)?;
    let mut init = launch.go()?;
    if let (Some(network), Some(device)) = (&mut network, init.network.take()) {
        network.connect(device);
    }
    for warning in &init.warnings {
        // Nobody to be warned is no reason to stop.
        let _ = tell(tool, &Notice::Warning(warning.clone()));
    }
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
    let terminal = init.terminal.take();
    let written = pidfile.map_or(Ok(()), |file| file.write(init.pid.as_raw()));
    let guarded = written
        .map_err(Failure::from)
        .and_then(|()| Ok(server.guard(&init.pidfd)?));
    match guarded.and_then(|()| Ok(outside.start(terminal, log, beside)?)) {
        Ok(relay) => Ok((init, relay, network, Guests { audience, door })),
        Err(failure) => {
            // Nobody would be beside it.
            let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
            reap(&init);
            Err(failure)
        }
    }
}

/// Stays until the command has ended and all it wrote was passed on.
fn stay(
    held: &mut Held,
    running: Running,
    (tool, store): (&Channel, &Store),
    told: &mut Told,
) -> (Life, Notice) {
    let Running {
        server,
        mut network,
        mut init,
        relay,
        guests,
        started,
    } = running;
    let mut trouble = record_running(held, &server, network.as_ref(), &init, &started).err();
    events::happened(store.state(), &held.record, "start", &[]);
    // A tool that is gone is noticed below.
    let _ = tell(tool, &Notice::Started);
    if let Err(error) = announce::ready(&held.record.settings.upkeep) {
        let text = format!("systemd cannot be told that the container is ready: {error}");
        let _ = tell(tool, &Notice::Warning(text));
    }
    let mut voices = Voices {
        init: &init,
        relay: &relay,
        guests: &guests,
        tool,
        told,
        checker: Checker::start(held, store),
        network: &mut network,
    };
    voices.carry(held, server.succeeded(), |held, network| {
        trouble = record_running(held, &server, network, &init, &started).err();
    });
    drop(voices);
    let mut code = reap(&init);
    init.end_helper();
    held.record.network = Live {
        restarts: network.as_ref().map_or(0, |network| network.live().restarts),
        ..Live::default()
    };
    // What it wrote last is carried on while the rest is seen to, unless nobody wants it any more.
    let mut network = network.filter(|_| code != KILLED);
    if let Some(network) = &mut network {
        network.finish();
    }
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
    if let Some(network) = network {
        network.drain(Impatient { tool, told });
    }
    if !error.is_empty() {
        trouble.get_or_insert_with(|| error.clone());
    }
    code = code.clamp(0, 255);
    held.amend();
    let attribute = ("exitCode", code.to_string());
    events::happened(store.state(), &held.record, "die", &[attribute]);
    let life = Life::Exited {
        code,
        error,
        started,
        finished: record::now(),
    };
    let notice = Notice::Ended {
        code,
        error: trouble,
        stays: false,
    };
    (life, notice)
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

/// A container that runs, and who has something to say about it.
struct Voices<'a> {
    init: &'a Init,
    relay: &'a Relay,
    guests: &'a Guests,
    tool: &'a Channel,
    told: &'a mut Told,
    checker: Checker<'a>,
    network: &'a mut Option<Network>,
}

impl Voices<'_> {
    /// Passes on what is said until init ends, and takes in who attaches. A tool that was killed takes the user's streams with it. `renewed` is
    /// called when another filesystem server or network process has taken over.
    fn carry(
        &mut self,
        held: &mut Held,
        succeeded: &EventFd,
        mut renewed: impl FnMut(&mut Held, Option<&Network>),
    ) {
        let mut listening = true;
        loop {
            let mut fds = vec![
                PollFd::new(self.init.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(succeeded.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.told.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.relay.left().as_fd(), PollFlags::POLLIN),
            ];
            let tool = listening.then(|| self.tool.as_fd());
            let carrier = self.network.as_ref().and_then(Network::pidfd);
            let door = self.guests.door.as_ref().map(AsFd::as_fd);
            // In place of the one that is not there, one that is looked at anyway.
            let others = [tool, door, self.checker.fd(), carrier];
            let others = others.map(|fd| fd.unwrap_or(self.init.pidfd.as_fd()));
            fds.extend(others.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut fds, self.patience()) {
                Err(Errno::EINTR) => continue,
                Err(_) => return,
                Ok(_) => {}
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let ready = |at: usize| ready.get(at) == Some(&true);
            if ready(0) {
                return;
            }
            if ready(1) && succeeded.read().is_ok() {
                renewed(held, self.network.as_ref());
            }
            if self.network.as_mut().is_some_and(Network::renew) {
                renewed(held, self.network.as_ref());
            }
            if ready(2) && self.told.hear() {
                self.signal(end::stop_signal(&held.record).unwrap_or(libc::SIGTERM));
            }
            self.checker.look();
            if ready(3) && self.relay.left().read().is_ok() {
                // First: the user's terminal is somebody else's then.
                stdio::forget_streams();
                let _ = tell(self.tool, &Notice::Left);
            }
            if listening && ready(4) {
                match self.tool.receive() {
                    // The terminal's size is that of who attached last.
                    Ok(Some((Order::Resize { .. }, _))) if !self.guests.audience.is_empty() => {}
                    Ok(Some((order, _))) => self.obey(order, held),
                    Ok(None) | Err(_) => {
                        listening = false;
                        stdio::forget_streams();
                    }
                }
            }
            if ready(5)
                && let Some(door) = &self.guests.door
            {
                self.guests.audience.welcome(door, self.relay.inlet());
            }
        }
    }

    /// How long nobody is due.
    fn patience(&self) -> PollTimeout {
        let due = [self.checker.rest(), self.network.as_ref().and_then(Network::due)];
        // Rounded up, so that what is waited for is due then.
        due.into_iter().flatten().min().map_or(PollTimeout::NONE, |rest| {
            PollTimeout::try_from(rest + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        })
    }

    fn obey(&mut self, order: Order, held: &Held) {
        match order {
            Order::Signal(number) => {
                if end::is_ending(&held.record, number) {
                    self.told.note_ending();
                }
                self.signal(number);
            }
            Order::Resize { rows, columns } => self.relay.resize(rows, columns),
        }
    }

    fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            // Init may have ended in between.
            let _ = pidfd_send_signal(&self.init.pidfd, signal);
        }
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
