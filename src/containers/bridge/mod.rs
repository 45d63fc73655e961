//! What is a network of the user's own? A bridge that containers are on. `subnet`: which addresses it has; `definition`: what is
//! on disk of it; `endpoint`: what a container asks of it; `member`: who is on it now; `connect`: who comes and goes while
//! it runs; `remove`: its end. The devices are `net/bridge.rs`, who makes them `supervisor/links.rs`.

use std::net::IpAddr;

mod connect;
mod definition;
mod endpoint;
mod member;
mod remove;
mod subnet;

pub(super) use connect::NETWORKS;
pub use connect::{connect, disconnect};
pub use definition::{Definition, New, PREDEFINED, all, create, find, find_named};
pub(super) use endpoint::apart;
pub use endpoint::{Attached, Endpoint, Given};
pub use member::{Member, Members};
pub use remove::{prune, remove};
pub use subnet::{Pool, Subnet};

/// Why work on a network failed. Docker's words, where it has some.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Nothing of that name or id.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several ids begin so.
    #[error("several networks' ids begin with {0}: give more digits")]
    Ambiguous(String),
    /// The name is taken.
    #[error("network with name {0} already exists")]
    Exists(String),
    /// A name against the grammar.
    #[error("invalid network name {0:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed")]
    Name(String),
    /// `bridge`, `host`, `none`.
    #[error("operation is not permitted on predefined {0} network")]
    Predefined(String),
    /// The same, of `rm`.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Kept(String),
    /// `--driver`.
    #[error("network driver {0:?} is not there: the only one is bridge")]
    Driver(String),
    /// `--opt`.
    #[error("network option {0} is not supported: com.docker.network.driver.mtu=NUMBER is")]
    Option(String),
    /// `--subnet`, `--ip-range`.
    #[error("invalid subnet {0:?}: such as 172.28.0.0/16 is one")]
    Subnet(String),
    /// `--gateway` or `--ip-range` without `--subnet`, or more of them.
    #[error(
        "each --ip-range and --gateway needs a --subnet that it lies in, and there is one --subnet for IPv4, and one for IPv6"
    )]
    Unpaired,
    /// A subnet of IPv6 without `--ipv6`.
    #[error("the subnet {0} needs --ipv6")]
    NeedsV6(Subnet),
    /// No room.
    #[error("subnet {0} has no room for containers")]
    Small(Subnet),
    /// `--ip-range` lies elsewhere.
    #[error("no matching subnet for range {0}")]
    Range(Subnet),
    /// `--gateway` lies elsewhere.
    #[error("no matching subnet for gateway {0}")]
    Gateway(IpAddr),
    /// Another network has addresses of it.
    #[error("invalid pool request: Pool overlaps with other one on this address space: {0}, of network {1}")]
    Overlap(Subnet, String),
    /// The addresses of the container's way out.
    #[error(
        "network {network} has the subnet {subnet}, in which the container's way out lies ({taken}): make the network with another --subnet, or the container anew"
    )]
    WayOut {
        /// The network.
        network: String,
        /// Its subnet.
        subnet: Subnet,
        /// The container's address there.
        taken: IpAddr,
    },
    /// All are taken.
    #[error("all predefined address pools have been fully subnetted: name one by --subnet")]
    NoPool,
    /// All addresses are given.
    #[error("no available IPv4 addresses on this network's address pools: {0}")]
    Full(Subnet),
    /// `--ip`.
    #[error("Address already in use: {0}")]
    AddressTaken(IpAddr),
    /// `--ip`.
    #[error("invalid address {0}: no configured subnet contains it ({1})")]
    Elsewhere(IpAddr, Subnet),
    /// `--ip`.
    #[error(
        "user specified IP address is supported only when connecting to networks with user configured subnets"
    )]
    Unnamed,
    /// `rm` of one that is used.
    #[error("error while removing network: network {name} has active endpoints ({})", users.join(", "))]
    InUse {
        /// The network.
        name: String,
        /// `name:"…" id:"…"`.
        users: Vec<String>,
    },
    /// `connect`.
    #[error("endpoint with name {container} already exists in network {network}")]
    Connected {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// `disconnect`.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// `connect` of one with `--network host`, `none` or `container:`.
    #[error(
        "container {container} has the network mode {mode}: only a container with a network of its own can be connected to others"
    )]
    Mode {
        /// The container.
        container: String,
        /// What it was made with.
        mode: String,
    },
    /// A supervisor that is older than networks.
    #[error("container {0} was started by an older bryo, which knows no networks: restart it first")]
    Old(String),
    /// The supervisor says nothing.
    #[error("the supervisor of container {0} does not answer: it will do what it was asked when it can")]
    Silent(String),
    /// Containers that do not share a user namespace.
    #[error(
        "container {container} cannot join network {network}: the containers on it have other id maps, so its user namespace is another; start all of them as one user, with or without an id range"
    )]
    OtherIds {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// Its lock is held.
    #[error(
        "network {0} is busy: somebody has been connecting a container for a minute, or was stopped while doing it"
    )]
    Busy(String),
    /// The container could not be taken off.
    #[error("the container is still connected to network {network}: {why}")]
    Leave {
        /// The network.
        network: String,
        /// What failed, and why.
        why: String,
    },
    /// The container could not be connected.
    #[error("cannot connect the container to network {network}: {why}")]
    Join {
        /// The network.
        network: String,
        /// What failed, and why.
        why: String,
    },
}
