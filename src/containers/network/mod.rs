//! Which network does a container see, and which of its ports has the host? What the flags mean, what is recorded, and what
//! a start needs; the packets' own way is `crate::net`, the process that carries them `supervisor/network`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::amended::Networks;
use super::bridge::{Attached, Endpoint};
use super::files::HostNames;
use super::process::Process;
use super::record::Record;
use super::spec::{CONTAINER, Network};
use crate::net::{Addresses, NetError, Port, Routes};

mod flags;
mod listen;
mod ports;
pub mod program;
mod publish;
mod start;
mod wishes;

pub use flags::{Asked, Choice, Flags, Joined, Mode};
pub use ports::{Shown, asked, shown};
pub use program::Program;
pub use publish::{Exposed, Published, expose, of_image, publish};
pub use start::{Carrier, Hire, Link, Ready, ready};
pub use wishes::{Wanted, Wishes, address, address_v6};

/// What a container's record keeps of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The ports that the host is to have, those of `-P` among them.
    pub published: Vec<Published>,
    /// `-P`.
    pub publish_all: bool,
    /// The ports that image and flags expose.
    pub exposed: BTreeSet<Exposed>,
    /// The addresses in a network of its own.
    pub addresses: Option<Addresses>,
    /// The flags about names of hosts.
    pub names: HostNames,
    /// What is asked of networks of the user's own.
    pub endpoints: Vec<Endpoint>,
    /// It is not on the built-in network.
    pub left_bridge: bool,
    /// How often that was changed.
    pub serial: u64,
    /// The program that carries the packets, if it is not ours.
    pub program: Option<Program>,
}

impl Settings {
    /// The networks that it is to be on.
    pub fn networks(&self) -> Networks {
        Networks {
            serial: self.serial,
            bridge: self.is_on_bridge(),
            endpoints: self.endpoints.clone(),
        }
    }

    /// Changes them.
    pub(super) fn set_networks(&mut self, networks: Networks) {
        self.serial = networks.serial;
        self.left_bridge = !networks.bridge;
        self.endpoints = networks.endpoints;
    }

    /// The flags about names as its files follow them: on networks of the user's own, names are asked for here first.
    pub(super) fn names_inside(&self) -> HostNames {
        let mut names = self.names.clone();
        if !self.endpoints.is_empty() {
            names.servers.clear();
            if !names.options.iter().any(|option| option.starts_with("ndots:")) {
                names.options.push("ndots:0".into());
            }
        }
        names
    }

    /// Is it on the built-in network?
    pub fn is_on_bridge(&self) -> bool {
        self.addresses.is_some() && !self.left_bridge
    }

    /// Of these flags and the image's ports.
    ///
    /// # Errors
    /// The host has no addresses left.
    pub fn new(
        flags: &Flags,
        of_image: BTreeSet<Exposed>,
        names: &HostNames,
        network: Network,
    ) -> Result<Settings, NetworkError> {
        let mut exposed = of_image;
        exposed.extend(flags.exposed.iter().copied());
        exposed.extend(flags.published.iter().map(|one| one.container));
        let mut published = Vec::new();
        let mut addresses = None;
        if network == Network::Private {
            addresses = Some(Addresses::choose(&Routes::read()?)?);
        }
        if matches!(network, Network::Private | Network::Program) {
            published.clone_from(&flags.published);
            if flags.publish_all {
                let named = |port: &Exposed| flags.published.iter().any(|one| one.container == *port);
                published.extend(exposed.iter().filter(|port| !named(port)).map(|port| Published {
                    ip: None,
                    host: None,
                    container: *port,
                }));
            }
        }
        Ok(Settings {
            published,
            publish_all: flags.publish_all,
            exposed,
            addresses,
            names: names.clone(),
            left_bridge: !flags.endpoints.is_empty() && !flags.on_bridge,
            endpoints: flags.endpoints.clone(),
            serial: 0,
            program: flags.program().cloned(),
        })
    }
}

/// What there is of it while the container runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// Who carries the packets.
    pub process: Option<Process>,
    /// The ports that the host has.
    pub ports: Vec<Port>,
    /// How often another process had to take over.
    pub restarts: u32,
    /// What it has of the user's own networks.
    pub attached: Vec<Attached>,
    /// Networks that it could not be put onto, and why.
    pub trouble: BTreeMap<String, String>,
    /// The last change of its networks that was seen to.
    pub settled: u64,
    /// The supervisor knows what is asked by SIGUSR2.
    pub hears: bool,
}

/// The names of its networks, as `ps` and `inspect` show them. One joined has none.
pub fn names(record: &Record) -> Vec<&str> {
    let settings = &record.settings;
    if settings.ports.addresses.is_some() {
        let bridge = settings.ports.is_on_bridge().then_some("bridge");
        let own = settings.ports.endpoints.iter().map(|one| one.network.as_str());
        return bridge.into_iter().chain(own).collect();
    }
    let name = settings.network.as_str();
    if name.starts_with(CONTAINER) {
        Vec::new()
    } else {
        vec![name]
    }
}

/// Is it on a network of this name or id?
pub fn has(record: &Record, wanted: &str) -> bool {
    names(record).contains(&wanted) || record.network.attached.iter().any(|one| one.id == wanted)
}

/// Why a container does not get the network that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `-p`.
    #[error("invalid -p {text:?}: {why}")]
    Publish {
        /// As given.
        text: String,
        /// Which part is wrong.
        why: String,
    },
    /// `--expose`, or the image's EXPOSE.
    #[error("invalid range format for --expose {text:?}: {why}")]
    Expose {
        /// As given.
        text: String,
        /// Which part is wrong.
        why: String,
    },
    /// Flags that do not go together.
    #[error("conflicting options: {0}")]
    Conflict(&'static str),
    /// `--network container:`.
    #[error("Invalid network mode: invalid container format container:<name|id>")]
    NoContainer,
    /// `--network pasta:…` and the like.
    #[error("invalid --network {text:?}: {why}")]
    Option {
        /// As given.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// The program is not there.
    #[error(
        "{0} is not on PATH; install it, or leave --network out: the built-in network does the same work"
    )]
    Missing(&'static str),
    /// A port of IPv6, for slirp4netns.
    #[error("slirp4netns publishes ports by IPv4 alone, not at {0}; the built-in network does so by both")]
    OnlyV4(IpAddr),
    /// slirp4netns in a container without root.
    #[error("slirp4netns needs a root in the container, which --userns keep-id has not without an id range")]
    NoRoot,
    /// `--network` by another name.
    #[error("network {0} not found")]
    Unknown(String),
    /// `--network` of the same name twice.
    #[error("network {0:?} is specified multiple times")]
    Repeated(String),
    /// `--network name=…`.
    #[error("invalid --network {text:?}: {why}")]
    Keys {
        /// As given.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// `--ip`.
    #[error("invalid IP address: {0:?}")]
    Address(String),
    /// `--ip` with the built-in network.
    #[error("user specified IP address is supported on user defined networks only")]
    OwnAddress,
    /// `--network-alias` with the built-in network.
    #[error("network-scoped aliases are only supported for containers in user defined networks")]
    OwnAlias,
    /// A port is published twice.
    #[error("port {0} is asked for twice; publish it once, or choose another host port for one of them")]
    Twice(SocketAddr),
    /// Another container has the port.
    #[error("port {address} is taken by container {name}; choose another host port, or stop that container")]
    TakenBy {
        /// The host's address and port.
        address: SocketAddr,
        /// The container.
        name: String,
    },
    /// No free port of all that were allowed.
    #[error(
        "no port of the range {1} is free on {0}; choose a longer range, or name no host port to get any that is free"
    )]
    RangeTaken(IpAddr, String),
    /// The machine, or a port for another reason.
    #[error(transparent)]
    Net(#[from] NetError),
}
