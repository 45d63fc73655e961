//! The supervisor's life, from fork to exit: what it starts is in `begin`, whom it hears in `voices`; then it cleans up.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use parking_lot::Mutex;

use super::begin::{Container, Failure, Running, begin};
use super::checker::Checker;
use super::links::Links;
use super::network::{Impatient, Network};
use super::protocol::{After, Notice};
use super::server::{Finish, Server};
use super::servers::Servers;
use super::stdio::{self, Attach};
use super::told::Told;
use super::voices::Voices;
use super::{Start, again};
use crate::containers::attach;
use crate::containers::attach::audience::Audience;
use crate::containers::log::Log;
use crate::containers::network::Live;
use crate::containers::process::{self, Process};
use crate::containers::record::{self, Afterwards, Held, KILLED, Life};
use crate::containers::runtime::Init;
use crate::containers::runtime::channel::Channel;
use crate::containers::touched::Known;
use crate::containers::{cgroup, events, inherited, notify};
use crate::line::chain;
use crate::store::Store;

/// The supervisor, from fork to exit.
pub(super) fn main(start: Start, tool: Channel) -> u8 {
    let Start {
        mut held,
        lower,
        views,
        mut plan,
        ahead,
        host,
        terminal,
        attach,
        log,
        keys,
        hidden,
        store,
        pause,
        network,
        joined,
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
    let audience = Arc::<Audience>::default();
    let mut mine = Some((held, tool, network, joined, ahead));
    let begun = told.and_then(|told| {
        Servers::fork((lower, &upper, storage), views, || {
            inherited::close_preserved();
            if let Some((held, tool, network, joined, ahead)) = mine.take() {
                held.leave();
                drop((tool, network, joined, ahead));
            }
        })
        .map(|servers| (servers, told))
        .map_err(Failure::from)
    });
    let Some((mut held, tool, network, joined, ahead)) = mine else {
        return 125;
    };
    let is_step = held.record.builder.is_some();
    let known = match (held.record.base.image(), plan.program()) {
        // A step of a build is run once.
        (Some(image), Some(program)) if !is_step => Known::of(&store, image, program),
        _ => Known::Nothing,
    };
    plan.touched = known.notes();
    let settings = &held.record.settings;
    let container = Container {
        plan,
        ahead,
        host,
        terminal,
        attach,
        keys,
        hidden,
        open_stdin: settings.open_stdin,
        // A step of a build is its builder's alone.
        id: (!is_step).then(|| held.record.id.clone()),
        shared: settings.shared.is_some(),
        upkeep: settings.upkeep.clone(),
        run: store.run().to_owned(),
        after: match held.record.afterwards {
            Afterwards::Keep | Afterwards::RemoveOnceRun => After::Kept,
            Afterwards::Commit => After::Read,
            Afterwards::Remove => After::Removed,
        },
        page: known.page(),
        log: Log::new(held.directory(), settings.log),
        carrier: network.carrier,
        links: Links::new(&store, &held.record),
        endpoints: settings.ports.endpoints.clone(),
        hostname: settings.hostname.clone(),
        directory: held.directory().to_owned(),
        audience: Arc::clone(&audience),
        cgroup: (!is_step).then(|| settings.cgroup.clone()),
    };
    let begun = begun.and_then(|(servers, told)| Ok((begin(servers, container, &tool)?, told)));
    drop((network.joined, joined));
    // The command has them.
    inherited::close_preserved();
    // The last fork is behind us; a lease is believed for far longer than a start takes.
    held.beat();
    let ran = match begun {
        Ok((running, mut told)) => {
            let ran = run(&mut held, running, (&tool, &store), &mut told, pause);
            known.keep();
            ran
        }
        Err(failure) => {
            let _ = cgroup::thaw(held.directory());
            cgroup::remove(held.directory());
            let (life, notice) = failed(&held, failure);
            Ran {
                life,
                notice,
                again: None,
            }
        }
    };
    // Before the lock is free: the socket is another supervisor's then.
    attach::unlisten(store.run(), &held.record.id);
    let Ran { life, notice, again } = ran;
    let Some(pause) = again else {
        let notice = conclude(held, life, notice, &tool);
        leave(&notice, &audience);
        return exit_code(&notice);
    };
    leave(&notice, &audience);
    restart(held, life, notice, (&tool, &store, pause))
}

/// What became of a run.
struct Ran {
    life: Life,
    notice: Notice,
    /// How long until it is started again; `None`: it is not.
    again: Option<Duration>,
}

fn run(
    held: &mut Held,
    running: Running,
    beside: (&Channel, &Store),
    told: &mut Told,
    pause: Duration,
) -> Ran {
    let begun = Instant::now();
    let (life, notice) = stay(held, running, beside, told);
    held.record.stopped = told.is_stopped();
    let again = again::pause(held, &life, told, [pause, begun.elapsed()]);
    Ran { life, notice, again }
}

/// That of the container is the supervisor's, too: systemd may have been told to watch it.
fn exit_code(notice: &Notice) -> u8 {
    match notice {
        Notice::Ended { code, .. } => u8::try_from(*code).unwrap_or(u8::MAX),
        Notice::Failed { code, .. } => *code,
        _ => 0,
    }
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
    // What its user's shell had open is not the container's, which may live longer.
    inherited::close();
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

pub(super) fn tell(tool: &Channel, notice: &Notice) -> nix::Result<()> {
    tool.send(notice, &[] as &[OwnedFd])
}

/// Records the end, or removes the container.
fn settle(mut held: Held, life: Life) -> Result<(), crate::containers::Error> {
    match held.record.afterwards {
        Afterwards::Keep | Afterwards::RemoveOnceRun | Afterwards::Commit => held.set_life(life),
        Afterwards::Remove => held.remove(),
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
        servers,
        mut network,
        mut links,
        mut init,
        warden,
        proxy,
        relay,
        guests,
        mut ranks,
        started,
    } = running;
    let mut trouble = record_running(
        held,
        &servers.root,
        (network.as_ref(), &links),
        init.pid,
        &started,
    )
    .err();
    events::happened(store.state(), &held.record, "start", &[]);
    // A tool that is gone is noticed below.
    let _ = tell(tool, &Notice::Started);
    if let Err(error) = notify::running(&held.record.settings.upkeep) {
        let text = format!("systemd cannot be told that the container runs: {error}");
        let _ = tell(tool, &Notice::Warning(text));
    }
    let pid = init.pid;
    let mut voices = Voices {
        init: &mut init,
        relay: &relay,
        guests: &guests,
        tool,
        told,
        checker: Checker::start(held, store),
        network: &mut network,
        links: &mut links,
        ranks: &mut ranks,
        proxy: proxy.as_ref(),
    };
    voices.carry(held, servers.root.succeeded(), |held, networks| {
        trouble = record_running(held, &servers.root, networks, pid, &started).err();
    });
    drop(voices);
    if let Some(ranks) = ranks {
        ranks.close();
    }
    let code = reap(&init);
    end_others(held, &mut init);
    drop(warden);
    drop(links);
    init.end_helpers();
    clear_groups(held);
    held.record.network = Live {
        restarts: network.as_ref().map_or(0, |network| network.live().restarts),
        ..Live::default()
    };
    // What it wrote last is carried on while the rest is seen to, unless nobody wants it any more.
    let mut network = network.filter(|_| code != KILLED);
    if let Some(network) = &mut network {
        network.finish();
    }
    held.record.takeovers = servers.root.takeovers();
    let log = relay.drain();
    let error = finish(servers, held.record.afterwards, &log);
    if let Some(network) = network {
        network.drain(Impatient { tool, told });
    }
    if !error.is_empty() {
        trouble.get_or_insert_with(|| error.clone());
    }
    let code = code.clamp(0, 255);
    held.amend();
    let attribute = ("exitCode", code.to_string());
    if held.record.out_of_memory {
        events::happened(store.state(), &held.record, "oom", &[]);
    }
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

/// Its cgroups go, once they have told whether memory was short.
fn clear_groups(held: &mut Held) {
    held.record.out_of_memory = cgroup::was_short_of_memory(&cgroup::of(held.directory()));
    // In version 1 the frozen do not die; nor, in both, does who was about to come in by `exec`.
    let _ = cgroup::thaw(held.directory());
    cgroup::remove(held.directory());
}

/// The servers' end. Gives what was lost, in words; nothing is the usual case.
fn finish(servers: Servers, afterwards: Afterwards, log: &Mutex<Log>) -> String {
    let mut error = servers.lost().map_or_else(String::new, |how| {
        format!("the filesystem server {how}, and the container with it")
    });
    let server = servers.end_views();
    match afterwards {
        Afterwards::Keep | Afterwards::RemoveOnceRun | Afterwards::Commit => {
            if let (Finish::Failed(why), true) = (server.finish(), error.is_empty()) {
                error = unwritten(why.as_ref());
            }
            // Best effort, as all of the log: output is no reason for a container to fail.
            let _ = log.lock().sync();
        }
        Afterwards::Remove => server.kill(),
    }
    error
}

/// What is told of a container whose last writes are lost.
fn unwritten(why: Option<&std::io::Error>) -> String {
    let what = "what the container wrote last could not be written to the disk";
    match why {
        None => what.to_owned(),
        Some(why) => format!("{what}: {why}"),
    }
}

/// Ends what init left, where the kernel does not.
fn end_others(held: &Held, init: &mut Init) {
    if held.record.settings.asked.pid.is_empty() {
        return;
    }
    // In version 1 the frozen do not die.
    let _ = cgroup::thaw(held.directory());
    if !init.end_crowd() {
        tracing::warn!("processes of container {} do not end", held.record.id);
    }
}

fn record_running(
    held: &mut Held,
    server: &Server,
    (network, links): (Option<&Network>, &Links),
    init: Pid,
    started: &str,
) -> Result<(), String> {
    let unread = |error| {
        format!(
            "{}: a process cannot be recorded: {error}",
            held.directory().display()
        )
    };
    let life = Life::Running {
        supervisor: Process::own().map_err(unread)?,
        init: Process::child(init.as_raw()).map_err(unread)?,
        server: server.process(),
        started: started.into(),
    };
    held.record.out_of_memory = false;
    held.record.takeovers = server.takeovers();
    let before = std::mem::take(&mut held.record.network);
    held.record.network = Live {
        trouble: before.trouble,
        ..network.map(Network::live).unwrap_or_default()
    };
    links.note(&mut held.record.network);
    held.set_life(life).map_err(|error| chain(&error))
}

/// Docker's exit code of init.
pub(super) fn reap(init: &Init) -> i32 {
    // Only we reap it; whatever took it was not the container's own end.
    process::reaped(init.pid).unwrap_or(137)
}
