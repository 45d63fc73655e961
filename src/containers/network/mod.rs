//! Which network does a container see, and which of its ports has the host? What the flags mean, what is recorded, and what
//! a start needs; the packets' own way is `crate::net`, the process that carries them `supervisor/network`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::files::HostNames;
use super::process::Process;
use super::record::Record;
use super::spec::Network;
use crate::net::{Addresses, NetError, Port, Routes};

mod flags;
mod listen;
mod ports;
mod publish;
mod start;

pub use flags::{Asked, Choice, Flags, Joined, Mode};
pub use ports::{Shown, asked, shown};
pub use publish::{Exposed, Published, expose, of_image, publish};
pub use start::{Link, Ready, ready};

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
}

impl Settings {
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
}

/// The name of the network, as `ps` and `inspect` show it. One joined has none.
pub fn name(record: &Record) -> Option<&str> {
    let name = record.settings.network.as_str();
    (!name.starts_with("container:")).then_some(name)
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
    /// `--network pasta` and the like.
    #[error("--network {0} is not supported: the built-in network does the same work (leave --network out)")]
    Helper(String),
    /// `--network` by another name.
    #[error(
        "network {0} not found: there are bridge, host, none and container:NAME; networks of one's own are not supported yet"
    )]
    Unknown(String),
    /// The container whose network is to be joined.
    #[error("cannot join network of a non running container: {0}")]
    NotRunning(String),
    /// Its network's descriptor.
    #[error("cannot join the network of container {name}: {source}")]
    Join {
        /// The container.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
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
