//! How does a container start? The supervisor makes the filesystem server, the network process and the container's
//! namespaces side by side, and brings them together.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Signal, pidfd_send_signal};

use super::announce::{self, PidfileError};
use super::beside::{reap, tell};
use super::hired::HireError;
use super::links::Links;
use super::network::Network;
use super::protocol::{After, Notice};
use super::ranks::Ranks;
use super::server::ServerError;
use super::servers::Servers;
use super::stdio::{self, Attach, Beside, Relay};
use super::warden::Warden;
use crate::containers::attach::audience::Audience;
use crate::containers::attach::{self, Keys};
use crate::containers::bridge::Endpoint;
use crate::containers::cgroup::{self, CgroupError, Group};
use crate::containers::log::{Log, Stream};
use crate::containers::network::Carrier;
use crate::containers::notify::Proxy;
use crate::containers::record;
use crate::containers::runtime::channel::Channel;
use crate::containers::runtime::{self, Init, Launch, StartError};
use crate::containers::upkeep::Upkeep;
use crate::host::Probe;
use crate::line::chain;

/// Why the container never ran.
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
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

impl From<HireError> for Failure {
    fn from(error: HireError) -> Failure {
        Failure {
            code: 125,
            message: error.to_string(),
        }
    }
}

impl From<CgroupError> for Failure {
    fn from(error: CgroupError) -> Failure {
        Failure {
            code: 125,
            message: chain(&error),
        }
    }
}

/// What is to be started, and how.
pub(super) struct Container {
    pub(super) plan: runtime::Plan,
    /// A user namespace that is being made for it.
    pub(super) ahead: Option<runtime::Ahead>,
    pub(super) host: Probe,
    pub(super) terminal: bool,
    pub(super) attach: Attach,
    pub(super) keys: Keys,
    pub(super) hidden: Option<Stream>,
    pub(super) open_stdin: bool,
    /// By which others may attach.
    pub(super) id: Option<String>,
    /// Whether it lives as long as somebody is in it.
    pub(super) shared: bool,
    pub(super) upkeep: Upkeep,
    pub(super) run: PathBuf,
    /// What becomes of its writable layer when it has ended.
    pub(super) after: After,
    /// Where it is noted what its programs touch first.
    pub(super) page: Option<OwnedFd>,
    pub(super) log: Log,
    /// For a network of its own that has a way out.
    pub(super) carrier: Option<Carrier>,
    /// The networks of the user's own, and what it asks of them.
    pub(super) links: Links,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) hostname: String,
    /// Where the container's files lie.
    pub(super) directory: PathBuf,
    /// Those who attach.
    pub(super) audience: Arc<Audience>,
    /// Its limits; a step of a build has none.
    pub(super) cgroup: Option<cgroup::Settings>,
}

/// A container whose command runs.
pub(super) struct Running {
    pub(super) servers: Servers,
    pub(super) network: Option<Network>,
    pub(super) links: Links,
    pub(super) init: Init,
    pub(super) warden: Option<Warden>,
    /// By which the container speaks to systemd.
    pub(super) proxy: Option<Proxy>,
    pub(super) relay: Relay,
    pub(super) guests: Guests,
    pub(super) ranks: Option<Ranks>,
    pub(super) started: String,
}

/// The way out, and those to others.
struct Ways {
    network: Option<Network>,
    links: Links,
}

/// Those who attach, and where they come in; no door if none could be made.
pub(super) struct Guests {
    pub(super) audience: Arc<Audience>,
    pub(super) door: Option<UnixListener>,
}

/// Starts the container. The server opens image and writable layer while the child makes its namespaces.
pub(super) fn begin(mut servers: Servers, container: Container, tool: &Channel) -> Result<Running, Failure> {
    let proxy = Proxy::listen(&container.upkeep, &container.directory);
    let ranks = match (&container.id, container.shared) {
        (Some(id), true) => Ranks::new(&container.run, id).map(Some),
        _ => Ok(None),
    };
    let launched = ranks
        .map_err(Failure::from)
        .and_then(|ranks| Ok((ranks, proxy?, launch(&mut servers, container, tool)?)));
    match launched {
        Ok((ranks, proxy, (init, relay, Ways { network, links }, guests, warden))) => Ok(Running {
            warden,
            proxy,
            servers,
            network,
            links,
            init,
            ranks,
            relay,
            guests,
            started: record::now(),
        }),
        Err(failure) => {
            servers.kill();
            Err(failure)
        }
    }
}

/// The container's cgroups, none if none can be made.
fn make_group(settings: Option<&cgroup::Settings>, directory: &Path) -> Result<Group, Failure> {
    let (Some(settings), Some(id)) = (settings, directory.file_name().and_then(|name| name.to_str())) else {
        return Ok(Group::default());
    };
    match Group::make(directory, id, settings) {
        // Nobody has asked for one, so nobody misses it: the kernel may have enough of them, or the disk be full.
        Err(error) if *settings == cgroup::Settings::default() => {
            tracing::warn!("the container has no cgroup: {}", chain(&error));
            Ok(Group::default())
        }
        made => Ok(made?),
    }
}

fn launch(
    servers: &mut Servers,
    container: Container,
    tool: &Channel,
) -> Result<(Init, Relay, Ways, Guests, Option<Warden>), Failure> {
    let Container {
        mut plan,
        ahead,
        host,
        terminal,
        attach,
        keys,
        hidden,
        open_stdin,
        id,
        shared: _,
        upkeep,
        run,
        after,
        page,
        log,
        carrier,
        mut links,
        endpoints,
        hostname,
        directory,
        audience,
        cgroup,
    } = container;
    let group = make_group(cgroup.as_ref(), &directory)?;
    plan.cgroups = group.entries();
    plan.foreign = match &carrier {
        Some(Carrier::Own(link)) => link.crowd(),
        Some(Carrier::Program(_)) | None => Vec::new(),
    };
    let (inside, outside) = match terminal {
        true => stdio::terminal(attach),
        false => stdio::pipes(attach, open_stdin)?,
    };
    let mut launch = runtime::spawn(plan, host, inside, &run, ahead)?;
    // While the child makes what namespaces there are to be made, so that no start waits for it.
    let mut network = start_network(carrier, &directory, &run)?;
    serve(servers, &mut launch, (after, page))?;
    announce::supervisor(&upkeep)?;
    let pidfile = announce::init(&upkeep)?;
    match &mut network {
        Some(network) if network.is_hired() => network.hire(launch.network()?)?,
        Some(network) => join(network, &mut links, &mut launch, (&endpoints, &hostname))?,
        None => {}
    }
    if !group.is_empty() {
        launch.made()?;
    }
    let limits = cgroup.map(|settings| settings.limits).unwrap_or_default();
    let told = group.limit(&limits)?.warnings().into_iter();
    warn(tool, told.chain(group.outside()));
    // A tool that is gone is noticed by whoever listens to it next.
    let _ = tell(tool, &Notice::Starting);
    let warden = launch.crowd()?.map(Warden::start).transpose()?;
    let mut init = launch.go()?;
    if let (Some(network), Some(ends)) = (&mut network, init.network.take()) {
        ends.device.into_iter().for_each(|device| network.connect(device));
    }
    warn(tool, init.warnings.iter().cloned());
    let door = open_door(&run, id.as_deref(), tool);
    let beside = Beside {
        audience: Arc::clone(&audience),
        keys,
        hidden,
    };
    let terminal = init.terminal.take();
    let written = pidfile.map_or(Ok(()), |file| file.write(init.pid.as_raw()));
    let guarded = written
        .map_err(Failure::from)
        .and_then(|()| Ok(servers.guard(&init.pidfd)?));
    match guarded.and_then(|()| Ok(outside.start(terminal, log, beside)?)) {
        Ok(relay) => Ok((
            init,
            relay,
            Ways { network, links },
            Guests { audience, door },
            warden,
        )),
        Err(failure) => {
            // Nobody would be beside it.
            let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
            reap(&init);
            init.end_crowd();
            Err(failure)
        }
    }
}

fn start_network(carrier: Option<Carrier>, directory: &Path, run: &Path) -> Result<Option<Network>, Failure> {
    let network = carrier
        .map(|carrier| Network::start(carrier, directory, run))
        .transpose();
    network.map_err(|error| Failure {
        code: 125,
        message: format!("cannot start the network process: {error}"),
    })
}

/// Gives the servers their connections, and who is who in them.
fn serve(servers: &mut Servers, launch: &mut Launch, after: (After, Option<OwnedFd>)) -> Result<(), Failure> {
    let devices = launch.devices()?;
    let views = launch.views();
    let ids = launch
        .id_maps()
        .ok_or_else(|| io::Error::other("the user namespace has no known id maps"))?;
    Ok(servers.serve(ids, (devices, views), after)?)
}

/// Takes the container onto the networks of the user's own.
fn join(
    network: &mut Network,
    links: &mut Links,
    launch: &mut Launch,
    (endpoints, hostname): (&[Endpoint], &str),
) -> Result<(), Failure> {
    let joined = links.begin(launch.namespaces()?, endpoints);
    joined.map_err(|error| Failure {
        code: 125,
        message: chain(&error),
    })?;
    links.tell_hosts(hostname);
    network.set_reach(links.reach());
    Ok(())
}

/// Nobody to be warned is no reason to stop.
fn warn(tool: &Channel, warnings: impl Iterator<Item = String>) {
    for warning in warnings {
        let _ = tell(tool, &Notice::Warning(warning));
    }
}

/// Where they come in who attach.
fn open_door(run: &Path, id: Option<&str>, tool: &Channel) -> Option<UnixListener> {
    let door = id.map(|id| attach::listen(run, id)).transpose();
    door.unwrap_or_else(|why| {
        let warning = format!("nobody will be able to attach to the container: {why}");
        warn(tool, std::iter::once(warning));
        None
    })
}
