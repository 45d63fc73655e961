//! Which ports of the host lead into the container? They are taken before anything starts, so that one in use is told first.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::NetError;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Of which kind both are.
    pub protocol: Protocol,
    /// The host's address and port; port 0 is any that is free.
    pub host: SocketAddr,
    /// The container's port.
    pub container: u16,
}

impl Port {
    /// Can the host not have both?
    pub fn excludes(&self, other: &Port) -> bool {
        let (ours, theirs) = (self.host.ip(), other.host.ip());
        self.protocol == other.protocol
            && self.host.port() == other.host.port()
            && ours.is_ipv4() == theirs.is_ipv4()
            && (ours == theirs || ours.is_unspecified() || theirs.is_unspecified())
    }
}

/// A published port that is taken.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Socket,
    port: Port,
}

/// Connections that may wait to be taken; the kernel lowers it to its own limit (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// Takes a port of the host.
///
/// # Errors
/// It is taken, kept for root, or its address not the host's.
pub fn listen(port: &Port) -> Result<Listener, NetError> {
    let socket = open(port).map_err(|error| explain(port.host, error))?;
    let host = socket.local_addr().ok().and_then(|address| address.as_socket());
    Ok(Listener {
        socket,
        port: Port {
            host: host.unwrap_or(port.host),
            ..*port
        },
    })
}

fn open(port: &Port) -> io::Result<Socket> {
    let kind = match port.protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(port.host), kind.nonblocking().cloexec(), None)?;
    if port.host.is_ipv6() {
        // IPv4 has a listener of its own, so that each client's address is of its own family.
        socket.set_only_v6(true)?;
    }
    if port.protocol == Protocol::Tcp {
        // Connections of an earlier container that still linger are no reason to refuse.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&port.host.into())?;
    match port.protocol {
        Protocol::Tcp => socket.listen(BACKLOG)?,
        // So that an answer goes out from the address that was asked.
        Protocol::Udp if port.host.is_ipv4() => {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4PacketInfo, &true)?;
        }
        Protocol::Udp => {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    Ok(socket)
}

fn explain(address: SocketAddr, error: io::Error) -> NetError {
    if error.raw_os_error() == Some(libc::EMFILE) {
        return NetError::Descriptors(address);
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => NetError::Taken(address),
        io::ErrorKind::AddrNotAvailable => NetError::NotOurs(address),
        io::ErrorKind::PermissionDenied => NetError::Privileged {
            address,
            first: fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(1024),
        },
        _ => NetError::Listen { address, error },
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// The port, with the number that was free if any was asked for.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Another descriptor of the same, for a process that takes over.
    ///
    /// # Errors
    /// There is none left.
    pub fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener {
            socket: self.socket.try_clone()?,
            port: self.port,
        })
    }

    /// One that came by a channel, with what [`Listener::port`] said of it.
    pub fn from_descriptor(socket: OwnedFd, port: Port) -> Listener {
        Listener {
            socket: socket.into(),
            port,
        }
    }
}
