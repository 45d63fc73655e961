//! What does a start need of the network? Its ports, bound before anything else happens, or the network that it joins.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitBuilder, PosixRlimitType, Spec};

use super::program::{Kind, Program};
use super::{NetworkError, Published, listen};
use crate::containers::Error;
use crate::containers::neighbour::{Joined, Other};
use crate::containers::record::{self, Life, Record};
use crate::containers::runtime::plan::{HANDED_OUT, NETWORK};
use crate::containers::spec::CONTAINER;
use crate::net::{Addresses, Listener, Outlet, Port, Raised, Resolvers, Routes, raise_limit};
use crate::store::Store;

/// Who carries a container's packets, and with what.
#[derive(Debug)]
pub enum Carrier {
    /// A network process of ours.
    Own(Link),
    /// A program.
    Program(Hire),
}

/// A program that is to carry a container's packets.
#[derive(Debug, Clone)]
pub struct Hire {
    /// Which one, and its options.
    pub program: Program,
    /// Where it is.
    pub path: PathBuf,
    /// The ports that it is to publish.
    pub ports: Vec<Port>,
}

/// What the network process works with, besides the device that init makes.
#[derive(Debug)]
pub struct Link {
    /// The container's addresses, and those of the way out.
    pub addresses: Addresses,
    /// The host's side of published ports.
    pub listeners: Vec<Listener>,
    /// Who answers for names.
    pub resolvers: Resolvers,
    /// While there are more listeners than descriptors as a rule; behind them, so that it ends when they are closed.
    pub raised: Option<Raised>,
}

impl Link {
    /// The listeners, if they are more than a process may usually have.
    pub fn crowd(&self) -> Vec<RawFd> {
        let listeners = self.listeners.iter().filter(|_| self.raised.is_some());
        listeners.map(|one| one.as_fd().as_raw_fd()).collect()
    }
}

/// What is to be held until the container is made.
#[derive(Debug, Default)]
pub struct Ready {
    /// For a network of its own that has a way out.
    pub carrier: Option<Carrier>,
    /// The network namespace that it joins.
    pub joined: Joined,
}

/// Binds the ports of a container that is about to start, or opens the network that it joins; both are noted in its record
/// and Spec.
///
/// # Errors
/// A port is taken, or the other container does not run.
pub fn ready(store: &Store, record: &mut Record, spec: &mut Spec) -> Result<Ready, Error> {
    record.network = super::Live::default();
    if let Some(id) = record.settings.network.strip_prefix(CONTAINER) {
        let mut joined = Joined::default();
        let other = Other::find(store, id, "network")?;
        joined.namespace(spec, &other, LinuxNamespaceType::Network)?;
        return Ok(Ready {
            joined,
            carrier: None,
        });
    }
    if let Some(program) = record.settings.ports.program.clone() {
        return hire(store, record, spec, program);
    }
    let settings = &record.settings.ports;
    let Some(addresses) = settings.addresses else {
        return Ok(Ready::default());
    };
    // By IPv4 and IPv6.
    let raised = raise_limit(settings.published.len() * 2);
    let holder = |port: &Port| holder(store, port);
    let listeners = listen::all(&settings.published, holder)?;
    record.network.ports = listeners.iter().map(|one| one.port()).collect();
    if let Some(raised) = &raised {
        keep_limit(spec, raised);
    }
    let outlet = Outlet {
        addresses,
        // What programs take for their own network is one that others reach them by.
        device: if settings.is_on_bridge() { "eth0" } else { "tun0" }.into(),
    };
    let resolvers = resolvers(settings);
    let text = serde_json::to_string(&outlet).map_err(|source| Error::Json {
        path: "the container's addresses".into(),
        source,
    })?;
    order(spec, text);
    Ok(Ready {
        carrier: Some(Carrier::Own(Link {
            addresses,
            listeners,
            resolvers,
            raised,
        })),
        joined: Joined::default(),
    })
}

/// Tells the executor what to make of the network namespace.
fn order(spec: &mut Spec, text: String) {
    let notes = spec.annotations().clone().unwrap_or_default();
    let notes = notes.into_iter().chain([(NETWORK.to_owned(), text)]);
    spec.set_annotations(Some(notes.collect()));
}

/// Finds the program, and sees that its ports are free: it binds them itself, a moment later.
fn hire(store: &Store, record: &mut Record, spec: &mut Spec, program: Program) -> Result<Ready, Error> {
    let path = program.find(std::env::var_os("PATH"))?;
    if program.kind() == Kind::Slirp && !has_root(spec) {
        return Err(NetworkError::NoRoot.into());
    }
    let published = program.fit(
        &record.settings.ports.published,
        &Routes::read().map_err(NetworkError::from)?,
    )?;
    let ports = free(store, &published)?;
    record.network.ports.clone_from(&ports);
    order(spec, HANDED_OUT.into());
    let hire = Hire { program, path, ports };
    Ok(Ready {
        carrier: Some(Carrier::Program(hire)),
        joined: Joined::default(),
    })
}

/// The ports that are free for these wishes.
fn free(store: &Store, published: &[Published]) -> Result<Vec<Port>, NetworkError> {
    let _raised = raise_limit(published.len() * 2);
    let listeners = listen::all(published, |port| holder(store, port))?;
    Ok(listeners.iter().map(|one| one.port()).collect())
}

/// Is there a user 0 in it?
fn has_root(spec: &Spec) -> bool {
    let maps = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.uid_mappings().as_ref());
    maps.is_some_and(|maps| maps.iter().any(|map| map.container_id() == 0))
}

/// Whom the container's questions go to: on networks of the user's own, `--dns` says so; there all questions come here first.
fn resolvers(settings: &super::Settings) -> Resolvers {
    let mut resolvers = Resolvers::read();
    let asked = &settings.names.servers;
    if !settings.endpoints.is_empty() && !asked.is_empty() {
        resolvers.servers.clone_from(asked);
    }
    resolvers
}

/// The container that has this port.
fn holder(store: &Store, port: &Port) -> Option<String> {
    let has = |record: &Record| {
        matches!(record.life, Life::Running { .. })
            && record.network.ports.iter().any(|one| one.excludes(port))
    };
    // A record that cannot be read is another command's to tell of.
    let records = record::all(store).unwrap_or_default();
    records.into_iter().find(has).map(|record| record.name)
}

/// The command gets the limit of descriptors that the user has, unless it was to have another.
fn keep_limit(spec: &mut Spec, raised: &Raised) {
    let Some(process) = spec.process_mut() else { return };
    let mut limits = process.rlimits().clone().unwrap_or_default();
    if limits
        .iter()
        .any(|limit| limit.typ() == PosixRlimitType::RlimitNofile)
    {
        return;
    }
    let (soft, hard) = raised.before();
    let limit = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(soft)
        .hard(hard);
    limits.extend(limit.build());
    process.set_rlimits(Some(limits));
}
