//! Who carries a container's packets? A child of the supervisor outside of the container's namespaces, as the plain user. It
//! is this program, executed anew, so that it has nothing of the supervisor's: what it works with comes over a channel. It
//! may die at any moment: device and listeners are the supervisor's, which starts another; connections are lost, no more.
//! A program in its place (`hired`) is followed alike.

mod drain;
mod keeper;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::confine;
use super::hired::{HireError, Hired, Said};
use super::protocol::{Errand, Inquiry};
use crate::containers::network::{Carrier, Hire, Link, Live};
use crate::containers::process::Process;
use crate::containers::record;
use crate::containers::role;
use crate::containers::runtime::channel::{Channel, MOST_DESCRIPTORS};
use crate::line::chain;
use crate::net::{Known, Listener, NetError, Network as Stack, Port, Reach, Resolvers, raise_limit};
use crate::stderr;

pub(super) use drain::Impatient;
use keeper::Supervisor;

/// The name under which it is started.
pub(super) const NAME: &str = "bryo-network";
/// What it warns of, beside the container's record.
const LOG: &str = "network.log";
/// Most bytes of that.
const MOST_LOG: u64 = 1 << 20;
/// Between the starts of two: one that dies of what the container sends must not take a whole core for it. Twice as long
/// each time, up to [`LONGEST_PAUSE`], while none lives for [`HEALTHY`].
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const HEALTHY: Duration = Duration::from_secs(10);
/// The exit code of one whose device was deleted in the container: no other could go on.
const GONE: u8 = 3;
/// More than a plain answer has room for.
const MOST_ADDRESSES: usize = 32;

/// The network of a container that runs, as the supervisor sees it.
pub(super) struct Network {
    work: Work,
    log: PathBuf,
    current: Option<Current>,
    /// When the last one was started.
    started: Instant,
    /// How long after that another may be.
    pause: Duration,
    /// The device was deleted in the container.
    gone: bool,
    restarts: u32,
    /// Ports are published, which are free for others when the process has closed them, too.
    has_ports: bool,
    /// The process has closed all but the device.
    drained: bool,
}

/// Who carries the packets, and with what.
enum Work {
    /// A process of ours.
    Own {
        link: Link,
        reach: Reach,
        /// Once init has made it.
        device: Option<OwnedFd>,
    },
    /// A program.
    Program {
        hire: Hire,
        /// Once init has made it.
        namespace: Option<OwnedFd>,
        run: PathBuf,
        id: String,
    },
}

impl Work {
    /// The ports that are published.
    fn ports(&self) -> Vec<Port> {
        match self {
            Work::Own { link, .. } => link.listeners.iter().map(|one| one.port()).collect(),
            Work::Program { hire, .. } => hire.ports.clone(),
        }
    }

    /// Who does it.
    fn name(&self) -> &'static str {
        match self {
            Work::Own { .. } => "the network process",
            Work::Program { hire, .. } => hire.program.kind().name(),
        }
    }
}

/// One process.
struct Current {
    child: Child,
    pidfd: OwnedFd,
    line: Line,
}

/// How one hears of it.
enum Line {
    /// Of ours; and whether it says nothing any more.
    Channel(Channel, bool),
    /// Of a program.
    Said(Said),
}

impl Network {
    /// Starts the process, which then waits for the device. A program is started by [`Network::hire`].
    pub(super) fn start(carrier: Carrier, directory: &Path, run: &Path) -> std::io::Result<Network> {
        let log = directory.join(LOG);
        let work = match carrier {
            Carrier::Own(link) => Work::Own {
                link,
                reach: Reach {
                    outside: true,
                    names: false,
                },
                device: None,
            },
            Carrier::Program(hire) => Work::Program {
                hire,
                namespace: None,
                run: run.to_owned(),
                id: directory
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            },
        };
        Ok(Network {
            current: match work {
                Work::Own { .. } => Some(Current::start(&log)?),
                Work::Program { .. } => None,
            },
            has_ports: !work.ports().is_empty(),
            drained: false,
            work,
            log,
            started: Instant::now(),
            pause: PAUSE,
            gone: false,
            restarts: 0,
        })
    }

    /// Is it a program's work?
    pub(super) fn is_hired(&self) -> bool {
        matches!(self.work, Work::Program { .. })
    }

    /// The container's network namespace is there: a program makes its device there, and is ready.
    pub(super) fn hire(&mut self, made: OwnedFd) -> Result<(), HireError> {
        if let Work::Program { namespace, .. } = &mut self.work {
            *namespace = Some(made);
            self.current = Current::hire(&self.work)?;
            self.started = Instant::now();
        }
        Ok(())
    }

    /// The container's device is there: packets can go.
    pub(super) fn connect(&mut self, made: OwnedFd) {
        if let Work::Own { device, .. } = &mut self.work {
            *device = Some(made);
        }
        self.hand_over();
    }

    /// One that cannot be given what it needs would wait for it for ever: its end is noticed by its pidfd, and it is followed.
    fn hand_over(&mut self) {
        if let (Some(current), Work::Own { link, reach, device }) = (&mut self.current, &self.work)
            && let Some(device) = device
            && let Err(error) = current.hand_over(link, *reach, device)
        {
            // Fails only for one that was reaped.
            let _ = current.child.kill();
            self.note(&format!("the network process cannot be told what to do: {error}"));
        }
    }

    /// The container reaches so far from now on.
    pub(super) fn set_reach(&mut self, wanted: Reach) {
        let Work::Own { reach, device, .. } = &mut self.work else {
            return;
        };
        *reach = wanted;
        if let (Some(current), Some(_)) = (&mut self.current, device)
            && let Line::Channel(channel, _) = &current.line
            && let Err(error) = channel.send_now(&Errand::Reach(wanted))
        {
            // One that does not hear it would go on as before: it is followed by one that is told at its start.
            let _ = current.child.kill();
            self.note(&format!(
                "the network process does not hear what changed: {error}"
            ));
        }
    }

    /// Readable when the process asks for a name.
    pub(super) fn voice(&self) -> Option<BorrowedFd<'_>> {
        match &self.current.as_ref()?.line {
            Line::Channel(channel, false) => Some(channel.as_fd()),
            Line::Channel(_, true) | Line::Said(_) => None,
        }
    }

    /// Answers the process's next question.
    pub(super) fn answer(&mut self, known: impl FnOnce(&str) -> Option<Known>) {
        let Some(Line::Channel(channel, is_silent)) = self.current.as_mut().map(|current| &mut current.line)
        else {
            return;
        };
        match channel.receive::<Inquiry>() {
            Ok(Some((Inquiry { question, name }, _))) => {
                let mut known = known(&name);
                if let Some(Known::Addresses(addresses)) = &mut known {
                    addresses.truncate(MOST_ADDRESSES);
                }
                // Where there is no room, the container asks again.
                let _ = channel.send_now(&Errand::Answer { question, known });
            }
            Ok(None) | Err(_) => *is_silent = true,
        }
    }

    /// Readable when the process has ended.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.current.as_ref().map(|current| current.pidfd.as_fd())
    }

    /// How long until another is to be started; none while there is one.
    pub(super) fn due(&self) -> Option<Duration> {
        let waited = self.started.elapsed();
        (self.current.is_none() && !self.gone).then(|| self.pause.saturating_sub(waited))
    }

    /// Puts another in the place of a dead one, if it is time. Did something change?
    pub(super) fn renew(&mut self) -> bool {
        if let Some(mut dead) = self.current.take_if(|current| current.has_ended()) {
            let status = dead.child.wait();
            if !self.is_hired() && matches!(&status, Ok(status) if status.code() == Some(GONE.into())) {
                self.gone = true;
                self.note("the device eth0 was deleted in the container, which has no network from here on");
                return true;
            }
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let name = self.work.name();
            let said = match &mut dead.line {
                Line::Channel(..) => String::new(),
                Line::Said(said) => format!(": {}", said.line()),
            };
            self.note(&format!("{name} died ({how}){said}; another follows"));
        }
        if self.due() != Some(Duration::ZERO) {
            return false;
        }
        // One that lived not even as long as it is waited for waits longer.
        self.pause = match self.started.elapsed() < HEALTHY.max(self.pause * 2) {
            true => LONGEST_PAUSE.min(self.pause * 2),
            false => PAUSE,
        };
        self.started = Instant::now();
        let started = match self.is_hired() {
            true => Current::hire(&self.work).map_err(|error| chain(&error)),
            false => Current::start(&self.log).map(Some).map_err(|error| chain(&error)),
        };
        match started {
            Ok(current) => {
                self.current = current;
                self.restarts = self.restarts.saturating_add(1);
                self.hand_over();
                true
            }
            Err(error) => {
                self.note(&format!("no other can be started: {error}"));
                false
            }
        }
    }

    /// Writes into its log: nobody hears a supervisor in the background.
    fn note(&self, text: &str) {
        use std::io::Write as _;
        if let Ok(mut log) = opened(&self.log)
            && log.metadata().is_ok_and(|log| log.len() < MOST_LOG)
        {
            // As `opened`.
            let _ = writeln!(log, "{} {text}", record::now());
        }
    }

    /// What is recorded.
    pub(super) fn live(&self) -> Live {
        let process = self
            .current
            .as_ref()
            .and_then(|current| Process::of(current.child.id().cast_signed()));
        Live {
            process,
            ports: self.work.ports(),
            restarts: self.restarts,
            ..Live::default()
        }
    }
}

impl Current {
    fn start(log: &Path) -> std::io::Result<Current> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = role::command(NAME);
        command.stdin(OwnedFd::from(theirs));
        if let Ok(log) = opened(log) {
            command.stderr(log);
        }
        let (child, pidfd) = role::start(&mut command)?;
        Ok(Current {
            child,
            pidfd,
            line: Line::Channel(ours, false),
        })
    }

    /// A program, ready; none if that is not what does the work.
    fn hire(work: &Work) -> Result<Option<Current>, HireError> {
        let Work::Program {
            hire,
            namespace: Some(namespace),
            run,
            id,
        } = work
        else {
            return Ok(None);
        };
        let Hired { child, pidfd, said } = Hired::start(hire, namespace, run, id)?;
        Ok(Some(Current {
            child,
            pidfd,
            line: Line::Said(said),
        }))
    }

    fn hand_over(&self, link: &Link, reach: Reach, device: &OwnedFd) -> nix::Result<()> {
        let errand = Errand::Begin {
            addresses: link.addresses,
            // It asks them, no more: the search list is the container's file's, and may be longer than a message.
            resolvers: Resolvers {
                servers: link.resolvers.servers.clone(),
                search: Vec::new(),
                options: Vec::new(),
            },
            listeners: link.listeners.len(),
            reach,
        };
        let Line::Channel(channel, _) = &self.line else {
            return Ok(());
        };
        channel.send(&errand, &[device.as_fd()])?;
        for some in link.listeners.chunks(MOST_DESCRIPTORS) {
            let ports = some.iter().map(|one| one.port()).collect();
            let sockets: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            channel.send(&Errand::Listeners(ports), &sockets)?;
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        super::stdio::becomes_readable(self.pidfd.as_fd(), Some(Duration::ZERO))
    }
}

impl Drop for Network {
    /// With the container, when it has drained, or a start that failed. Whoever closes the device last waits some ten milliseconds for the kernel:
    /// that is the process, for which nobody waits unless it has ports that must be free for others when this returns.
    fn drop(&mut self) {
        self.close();
        let has_ports = self.has_ports && !self.drained;
        if let Some(mut current) = self.current.take() {
            // Both fail only for one that was reaped.
            let _ = current.child.kill();
            if has_ports {
                let _ = current.child.wait();
            }
        }
    }
}

impl Network {
    /// Closes device and listeners: whoever closes the device last waits for the kernel.
    fn close(&mut self) {
        if let Work::Own { link, device, .. } = &mut self.work {
            drop(device.take());
            link.listeners.clear();
        }
    }
}

/// On a full disk there is no log.
fn opened(log: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).open(log)
}

/// The network process's whole life: its exit code.
pub(super) fn serve(channel: Channel) -> u8 {
    // A name is a help to people only.
    let _ = nix::sys::prctl::set_name(c"bryo-network");
    // A supervisor that died before this has closed the channel.
    let bound = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    if bound.is_err() || channel.is_hung_up() != Ok(false) {
        return 1;
    }
    let size = std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .and_then(|log| log.metadata());
    stderr::limit(MOST_LOG.saturating_sub(size.map_or(MOST_LOG, |log| log.len())) as usize);
    // Before the ports come, each of which is a descriptor.
    let _raised = raise_limit(usize::MAX);
    let Some((stack, keeper, reach)) = received(channel) else {
        return 1;
    };
    if let Err(why) = confine::network() {
        tracing::warn!(%why, "the network process is not confined");
    }
    match stack.serve_beside(Box::new(keeper), reach) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            match error {
                NetError::Gone => GONE,
                _ => 1,
            }
        }
    }
}

fn received(channel: Channel) -> Option<(Stack, Supervisor, Reach)> {
    let (
        Errand::Begin {
            addresses,
            resolvers,
            listeners: count,
            reach,
        },
        device,
    ) = channel.receive().ok()??
    else {
        return None;
    };
    let mut listeners = Vec::with_capacity(count);
    while listeners.len() < count {
        let (Errand::Listeners(ports), sockets) = channel.receive().ok()?? else {
            return None;
        };
        if ports.is_empty() || ports.len() != sockets.len() {
            tracing::error!(
                "{} of {} published ports arrived: the limit of open files is too low",
                sockets.len(),
                ports.len()
            );
            return None;
        }
        let pair = |(port, socket): (Port, OwnedFd)| Listener::from_descriptor(socket, port);
        listeners.extend(ports.into_iter().zip(sockets).map(pair));
    }
    let orders = channel.as_fd().try_clone_to_owned().ok()?;
    let stack = Stack {
        tun: device.into_iter().next()?,
        addresses,
        listeners,
        resolvers,
        orders,
    };
    Some((stack, Supervisor(channel), reach))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Addresses, Protocol, Routes};

    #[test]
    fn ports_that_do_not_all_arrive_are_an_error() {
        let (ours, theirs) = Channel::pair().unwrap();
        let some = File::open("/dev/null").unwrap();
        let begin = Errand::Begin {
            addresses: Addresses::choose(&Routes::default()).unwrap(),
            resolvers: Resolvers::parse(""),
            listeners: 2,
            reach: Reach {
                outside: true,
                names: false,
            },
        };
        let port = Port {
            protocol: Protocol::Tcp,
            host: "127.0.0.1:80".parse().unwrap(),
            container: 80,
        };
        ours.send(&begin, &[&some]).unwrap();
        ours.send(&Errand::Listeners(vec![port; 2]), &[&some]).unwrap();
        // A later one does not fill the gap.
        ours.send(&Errand::Listeners(vec![port]), &[&some]).unwrap();
        assert!(received(theirs).is_none());
    }
}
