//! By which socket of the host does a flow go?

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::engine::Token;

/// Where a flow's datagrams go and come from.
#[derive(Debug)]
pub(in crate::net) enum Way {
    /// A socket of its own, connected to the other end.
    Own(UdpSocket),
    /// The same, to one of the host's name servers.
    Dns { socket: UdpSocket, server: SocketAddr },
    /// The socket of a published port, by its place, which `client` sent to at the address `local`.
    Published {
        place: u64,
        client: SocketAddr,
        local: Option<IpAddr>,
    },
    /// A socket that the kernel has for echo requests.
    Echo(Socket),
}

/// A datagram that came to a published port.
pub(in crate::net) struct Arrived {
    pub(in crate::net) length: usize,
    pub(in crate::net) client: SocketAddr,
    /// Which of the host's addresses it was sent to.
    pub(in crate::net) local: Option<IpAddr>,
}

impl Way {
    /// A socket to `to`, called by `token`, if possible from the port that the container sends from: who speaks with many from
    /// one port is then seen as one, by the first of them at least.
    pub(in crate::net) fn own(port: u16, to: SocketAddr, epoll: &Epoll, token: Token) -> io::Result<Way> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking().cloexec(), None)?;
        // Taken, or root's: then any other.
        let _ = socket.bind(&SocketAddr::new(any, port).into());
        Ok(Way::Own(connected(socket, to, epoll, token)?))
    }

    /// A socket to a name server, called by `token`; its port is not to be guessed.
    pub(in crate::net) fn dns(server: SocketAddr, epoll: &Epoll, token: Token) -> io::Result<Way> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(server), kind, None)?;
        let socket = connected(socket, server, epoll, token)?;
        Ok(Way::Dns { socket, server })
    }

    /// A socket for echo requests to `to`. The kernel lets those have it whose group is in `net.ipv4.ping_group_range`.
    pub(in crate::net) fn echo(to: IpAddr, epoll: &Epoll, token: Token) -> io::Result<Way> {
        let to = SocketAddr::new(to, 0);
        let protocol = if to.is_ipv4() {
            Protocol::ICMPV4
        } else {
            Protocol::ICMPV6
        };
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(to), kind, Some(protocol))?;
        socket.connect(&to.into())?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token.into()))?;
        Ok(Way::Echo(socket))
    }
}

fn connected(socket: Socket, to: SocketAddr, epoll: &Epoll, token: Token) -> io::Result<UdpSocket> {
    socket.connect(&to.into())?;
    epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token.into()))?;
    Ok(socket.into())
}

/// Reads what came to a published port.
pub(in crate::net) fn receive_from(socket: &Socket, into: &mut [u8]) -> io::Result<Arrived> {
    let mut control = cmsg_space!(libc::in6_pktinfo);
    let mut buffers = [IoSliceMut::new(into)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut buffers,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let local = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(Ipv4Addr::from_bits(u32::from_be(
            info.ipi_spec_dst.s_addr,
        )))),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    let client = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
    });
    Ok(Arrived {
        length: message.bytes,
        client: client.ok_or(io::ErrorKind::InvalidData)?,
        local,
    })
}

/// Answers a client of a published port, from the address that it sent to.
pub(in crate::net) fn send_from(
    socket: &Socket,
    local: Option<IpAddr>,
    client: SocketAddr,
    payload: &[u8],
) -> io::Result<()> {
    let buffers = [IoSlice::new(payload)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let descriptor = socket.as_raw_fd();
    let sent = match (client, local) {
        (SocketAddr::V4(client), Some(IpAddr::V4(local))) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: local.to_bits().to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(
                descriptor,
                &buffers,
                &control,
                flags,
                Some(&SockaddrIn::from(client)),
            )
        }
        (SocketAddr::V6(client), Some(IpAddr::V6(local))) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: local.octets(),
                },
                ipi6_ifindex: 0,
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(
                descriptor,
                &buffers,
                &control,
                flags,
                Some(&SockaddrIn6::from(client)),
            )
        }
        (client, _) => {
            let to = SockaddrStorage::from(client);
            sendmsg(descriptor, &buffers, &[], flags, Some(&to))
        }
    };
    Ok(sent.map(drop)?)
}
