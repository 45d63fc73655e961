//! How are network namespaces joined? By a bridge in one of them, and a pair of devices for each that joins, one end here, one
//! there. Told to the kernel by rtnetlink(7).

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use super::NetError;
use super::device::sysctl;
use crate::sys::net::Interface;

/// The bridge's name in its namespace.
const BRIDGE: &str = "br0";
/// How long a carrier may take, and how often it is looked at.
const RISING: Duration = Duration::from_millis(5);
const RISING_LOOKS: u32 = 400;

/// An address, and the length of its net's prefix.
pub type Place = (IpAddr, u8);

/// A bridge to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its addresses.
    pub places: Vec<Place>,
    /// The largest packet.
    pub mtu: u32,
}

/// A device of a container's, to be made and connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plug {
    /// Its name inside.
    pub device: String,
    /// The name of its other end, unique in the network.
    pub outer: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its addresses.
    pub places: Vec<Place>,
    /// The largest packet.
    pub mtu: u32,
}

impl Bridge {
    /// Makes a network namespace with this bridge, in which the process stays. Wants CAP_SYS_ADMIN and CAP_NET_ADMIN in its
    /// user namespace.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn make(&self) -> Result<OwnedFd, NetError> {
        let step = |what| move |error| NetError::SetUp { what, error };
        let unshared = unshare(CloneFlags::CLONE_NEWNET);
        unshared.map_err(|error| step("a network namespace")(error.into()))?;
        let namespace = File::open("/proc/self/ns/net").map_err(step("a network namespace"))?;
        let lo = Interface::named("lo").and_then(|lo| lo.up());
        lo.map_err(step("the network's loopback device"))?;
        // It is a switch, no router: the setting may have come from the host's.
        sysctl("net/ipv4/ip_forward", "0");
        sysctl("net/ipv6/conf/all/forwarding", "0");
        no_address_of_its_own("default");
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(BRIDGE.into()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        up(&mut link);
        let kernel = Kernel::here().map_err(step("rtnetlink"))?;
        kernel.create(RouteNetlinkMessage::NewLink(link)).map_err(step(
            "the network's bridge (the administrator may have to `modprobe bridge`)",
        ))?;
        let index = index(BRIDGE).map_err(step("the network's bridge"))?;
        for place in &self.places {
            kernel
                .address(index, *place)
                .map_err(step("the gateway's address"))?;
        }
        Ok(namespace.into())
    }
}

impl Plug {
    /// Connects the namespace `container` with the bridge of `network`; the process is left in one of both.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn connect(&self, network: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Result<(), NetError> {
        let step = |what| move |error| NetError::SetUp { what, error };
        enter(container).map_err(step("the container's namespace"))?;
        // What one that was killed half-way has left.
        remove(&self.device).map_err(step("a device"))?;
        enter(network).map_err(step("the network's namespace"))?;
        let bridge = index(BRIDGE).map_err(step("the network's bridge"))?;
        let kernel = Kernel::here().map_err(step("rtnetlink"))?;
        kernel
            .create(RouteNetlinkMessage::NewLink(self.pair(bridge, container)))
            .map_err(step(
                "a pair of devices (the administrator may have to `modprobe veth`)",
            ))?;
        self.furnish(network, container).inspect_err(|_| {
            // Or it would stay, and be nobody's. What failed first is what to tell.
            let _ = disconnect(&self.outer, network);
        })
    }

    /// Gives the new pair its addresses, and waits until it can be used.
    fn furnish(&self, network: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Result<(), NetError> {
        let step = |what| move |error| NetError::SetUp { what, error };
        enter(container).map_err(step("the container's namespace"))?;
        let kernel = Kernel::here().map_err(step("rtnetlink"))?;
        no_address_of_its_own(&self.device);
        let index = index(&self.device).map_err(step("the container's device"))?;
        for place in &self.places {
            kernel
                .address(index, *place)
                .map_err(step("the container's address"))?;
        }
        let device = Interface::named(&self.device).and_then(|device| device.up());
        device.map_err(step("the container's device"))?;
        kernel
            .wait_until_up(index)
            .map_err(step("the container's device"))?;
        enter(network).map_err(step("the network's namespace"))?;
        let kernel = Kernel::here().map_err(step("rtnetlink"))?;
        let outer = self::index(&self.outer).map_err(step("the network's device"))?;
        kernel.wait_until_up(outer).map_err(step("the network's device"))
    }

    /// The pair as it is made in the network's namespace: this end is the bridge's.
    fn pair(&self, bridge: u32, container: BorrowedFd<'_>) -> LinkMessage {
        let mut inside = LinkMessage::default();
        inside.attributes = vec![
            LinkAttribute::IfName(self.device.clone()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::Address(self.mac.to_vec()),
            LinkAttribute::NetNsFd(container.as_raw_fd()),
        ];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(self.outer.clone()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
            ]),
        ];
        up(&mut link);
        link
    }
}

/// Removes a device of this namespace, and with it its other end. One that is not there is removed.
///
/// # Errors
/// The kernel's.
pub fn disconnect(device: &str, namespace: BorrowedFd<'_>) -> Result<(), NetError> {
    let what = "the end of a device";
    enter(namespace)
        .and_then(|()| remove(device))
        .map_err(|error| NetError::SetUp { what, error })
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

fn index(device: &str) -> io::Result<u32> {
    Ok(if_nametoindex(device)?)
}

fn remove(device: &str) -> io::Result<()> {
    let index = match index(device) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
        index => index?,
    };
    let mut link = LinkMessage::default();
    link.header.index = index;
    match Kernel::here()?.ask(RouteNetlinkMessage::DelLink(link), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        removed => removed,
    }
}

fn up(link: &mut LinkMessage) {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
}

/// IPv6 has the addresses that are given, and none that the kernel makes of the Ethernet address of `device`; `default`: of any
/// that is made from here on.
fn no_address_of_its_own(device: &str) {
    sysctl(&format!("net/ipv6/conf/{device}/addr_gen_mode"), "1");
    sysctl(&format!("net/ipv6/conf/{device}/accept_ra"), "0");
}

/// The kernel, as the process's network namespace hears it.
struct Kernel(Socket);

impl Kernel {
    fn here() -> io::Result<Kernel> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Kernel(socket))
    }

    fn create(&self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.ask(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    fn address(&self, index: u32, (address, prefix): Place) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.prefix_len = prefix;
        message.header.index = index;
        // Who gives the addresses knows that each is given once.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        if let IpAddr::V4(v4) = address {
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let broadcast = std::net::Ipv4Addr::from_bits(v4.to_bits() | host);
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        self.create(RouteNetlinkMessage::NewAddress(message))
    }

    /// Waits until packets pass. Before the kernel has looked at a new carrier, which it does once a second, they are lost; asked
    /// for the device, a newer one (Linux 6.8) looks at once.
    fn wait_until_up(&self, index: u32) -> io::Result<()> {
        for _ in 0..RISING_LOOKS {
            let mut link = LinkMessage::default();
            link.header.index = index;
            let reply = self.exchange(RouteNetlinkMessage::GetLink(link), 0)?;
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = reply
                && link.attributes.contains(&LinkAttribute::OperState(State::Up))
            {
                return Ok(());
            }
            sleep(RISING);
        }
        // What is late costs its first packets, which are sent again.
        Ok(())
    }

    /// Asks for something to be done, and hears whether it was.
    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let (reply, _) = self.0.recv_from_full()?;
        let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply);
        match reply.map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            payload => Ok(payload),
        }
    }
}

/// The process's own network namespace, as a descriptor.
///
/// # Errors
/// /proc is not there.
pub fn own_namespace() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/self/ns/net")?.into())
}

/// Is it this namespace?
///
/// # Errors
/// fstat(2)'s.
pub fn number(namespace: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(namespace)?.st_ino)
}
