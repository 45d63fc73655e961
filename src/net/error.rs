//! Why is there no network?

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why a container has no network, or a port is not published.
#[derive(Debug, Error)]
pub enum NetError {
    /// /dev/net/tun is missing or closed to the user.
    #[error(
        "network: cannot open /dev/net/tun: {0}; the administrator can make it with `modprobe tun`, and `chmod 666 /dev/net/tun`; `--network none` does without"
    )]
    Tun(#[source] io::Error),
    /// It is there, but makes no device.
    #[error(
        "network: /dev/net/tun makes no device: {0}; `--network host` shares the host's network, `--network none` does without"
    )]
    MakeTun(#[source] io::Error),
    /// A step of the set-up in the container's namespace.
    #[error("network: cannot set up {what}: {error}")]
    SetUp {
        /// The step.
        what: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// Every net that a container could have is one that the host has routes to.
    #[error(
        "network: the host has routes to all of 10.0.0.0/8 and 172.16.0.0/12, so no address is left for the container; `--network host` shares the host's, `--network none` does without"
    )]
    NoAddress,
    /// A file of the host's.
    #[error("network: {path}: {error}")]
    Host {
        /// The file.
        path: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The port is taken.
    #[error("port {0} is taken by another program; choose another host port, or end that program")]
    Taken(SocketAddr),
    /// A port that is kept for root.
    #[error(
        "port {address} is below {first}, which the system keeps for root; choose a higher one, or have the administrator set net.ipv4.ip_unprivileged_port_start"
    )]
    Privileged {
        /// The host's address and port.
        address: SocketAddr,
        /// The first that everyone may use.
        first: u16,
    },
    /// No descriptor is left for it.
    #[error(
        "cannot publish port {0}: the user's limit of open files (`ulimit -Hn`) is reached; publish fewer ports, or have the administrator raise it"
    )]
    Descriptors(SocketAddr),
    /// The host does not have that address.
    #[error(
        "the host has no address {0} that a port could be published on; name one that it has, or none for all of them"
    )]
    NotOurs(SocketAddr),
    /// It cannot be listened at.
    #[error("cannot publish port {address}: {error}")]
    Listen {
        /// The host's address and port.
        address: SocketAddr,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The container's device was deleted in the container.
    #[error("network: the device eth0 was deleted")]
    Gone,
    /// The process that carries packets cannot go on.
    #[error("network: {what}: {error}")]
    Serve {
        /// What it wanted to do.
        what: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
}
