//! What the network needs that no crate has: a TUN device, its addresses and routes, and two options of sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::check;

/// A device's name is shorter than this.
const NAME_SIZE: usize = libc::IFNAMSIZ;

/// Opens what TUN devices are made with.
///
/// # Errors
/// open(2)'s of /dev/net/tun.
pub(crate) fn open_tun() -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    Ok(open("/dev/net/tun", flags, Mode::empty())?)
}

/// Makes a TUN device of it in the process's network namespace. Each packet has a `virtio_net_hdr` of ten bytes before it, and
/// may leave its checksum to whom it is for. The device lives as long as the descriptor.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the namespace.
pub(crate) fn make_tun(device: &OwnedFd, name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    ioctl(device.as_fd(), libc::TUNSETIFF, &mut request)?;
    // SAFETY: TUNSETOFFLOAD takes an integer.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(libc::TUN_F_CSUM),
        )
    }))
    .map(drop)
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    if name.len() >= NAME_SIZE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// For requests that read a structure of the kernel's that is `T`, or write it: so it is borrowed to be changed, or the
/// compiler would go on with what was in it before.
fn ioctl<T>(device: BorrowedFd<'_>, number: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    let argument: *mut T = argument;
    // SAFETY: each caller passes the structure that its request takes.
    check(libc::c_long::from(unsafe {
        libc::ioctl(device.as_raw_fd(), number, argument)
    }))
    .map(drop)
}

/// A device of the process's network namespace, to be set up (netdevice(7)).
pub(crate) struct Interface {
    name: String,
    v4: OwnedFd,
}

/// What the kernel calls `rtentry` (route(8) of old); the C library's declaration is not in `libc` everywhere.
#[repr(C)]
struct RouteV4 {
    pad: libc::c_ulong,
    destination: libc::sockaddr,
    gateway: libc::sockaddr,
    mask: libc::sockaddr,
    flags: libc::c_ushort,
    pad2: libc::c_short,
    pad3: libc::c_ulong,
    pad4: *const libc::c_void,
    metric: libc::c_short,
    device: *const libc::c_char,
    mtu: libc::c_ulong,
    window: libc::c_ulong,
    round_trip: libc::c_ushort,
}

/// `in6_ifreq`.
#[repr(C)]
struct AddressV6 {
    address: [u8; 16],
    prefix: u32,
    index: libc::c_int,
}

/// `in6_rtmsg`.
#[repr(C)]
struct RouteV6 {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_prefix: u16,
    source_prefix: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: libc::c_int,
}

impl Interface {
    pub(crate) fn named(name: &str) -> io::Result<Interface> {
        Ok(Interface {
            name: name.to_owned(),
            v4: datagram(libc::AF_INET)?,
        })
    }

    /// Lets packets through.
    pub(crate) fn up(&self) -> io::Result<()> {
        let mut request = request(&self.name)?;
        ioctl(self.v4.as_fd(), libc::SIOCGIFFLAGS as libc::Ioctl, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has filled in the flags.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        ioctl(self.v4.as_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &mut request)
    }

    /// Sets the size of the largest packet.
    pub(crate) fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        let mut request = request(&self.name)?;
        request.ifr_ifru.ifru_mtu = mtu.into();
        ioctl(self.v4.as_fd(), libc::SIOCSIFMTU as libc::Ioctl, &mut request)
    }

    /// Gives it an address, whose net is then reached by it.
    pub(crate) fn add_v4(&self, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let mut request = request(&self.name)?;
        request.ifr_ifru.ifru_addr = socket_address(address);
        ioctl(self.v4.as_fd(), libc::SIOCSIFADDR as libc::Ioctl, &mut request)?;
        request.ifr_ifru.ifru_addr = socket_address(Ipv4Addr::from_bits(mask));
        ioctl(self.v4.as_fd(), libc::SIOCSIFNETMASK as libc::Ioctl, &mut request)
    }

    /// Sends what has no other route to `gateway`.
    pub(crate) fn default_v4(&self, gateway: Ipv4Addr) -> io::Result<()> {
        let mut route = RouteV4 {
            pad: 0,
            destination: socket_address(Ipv4Addr::UNSPECIFIED),
            gateway: socket_address(gateway),
            mask: socket_address(Ipv4Addr::UNSPECIFIED),
            flags: libc::RTF_UP | libc::RTF_GATEWAY,
            pad2: 0,
            pad3: 0,
            pad4: std::ptr::null(),
            metric: 0,
            device: std::ptr::null(),
            mtu: 0,
            window: 0,
            round_trip: 0,
        };
        ioctl(self.v4.as_fd(), libc::SIOCADDRT as libc::Ioctl, &mut route)
    }

    pub(crate) fn add_v6(&self, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
        let mut request = AddressV6 {
            address: address.octets(),
            prefix: prefix.into(),
            index: self.index()?,
        };
        ioctl(
            datagram(libc::AF_INET6)?.as_fd(),
            libc::SIOCSIFADDR as libc::Ioctl,
            &mut request,
        )
    }

    pub(crate) fn default_v6(&self, gateway: Ipv6Addr) -> io::Result<()> {
        let mut route = RouteV6 {
            destination: [0; 16],
            source: [0; 16],
            gateway: gateway.octets(),
            kind: 0,
            destination_prefix: 0,
            source_prefix: 0,
            metric: 1024,
            info: 0,
            flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
            index: self.index()?,
        };
        ioctl(
            datagram(libc::AF_INET6)?.as_fd(),
            libc::SIOCADDRT as libc::Ioctl,
            &mut route,
        )
    }

    fn index(&self) -> io::Result<libc::c_int> {
        let mut request = request(&self.name)?;
        ioctl(self.v4.as_fd(), libc::SIOCGIFINDEX as libc::Ioctl, &mut request)?;
        // SAFETY: SIOCGIFINDEX has filled in the index.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex })
    }
}

/// A socket that requests about devices go through.
fn datagram(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) gives a new descriptor, owned here alone.
    unsafe {
        let socket = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        Ok(OwnedFd::from_raw_fd(check(libc::c_long::from(socket))? as RawFd))
    }
}

/// A `sockaddr_in` in the place of a `sockaddr`.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}

/// What a socket holds to be sent, in bytes with all that the kernel needs around them, and how much it may hold.
pub(crate) struct SendBuffer {
    pub(crate) held: usize,
    pub(crate) limit: usize,
}

/// Linux 4.12's SO_MEMINFO.
pub(crate) fn send_buffer(socket: BorrowedFd<'_>) -> io::Result<SendBuffer> {
    let mut values = [0_u32; 9];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which are all of `values`.
    check(libc::c_long::from(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &mut length,
        )
    }))?;
    Ok(SendBuffer {
        held: values[libc::SK_MEMINFO_WMEM_QUEUED as usize] as usize,
        limit: values[libc::SK_MEMINFO_SNDBUF as usize] as usize,
    })
}

/// Where in what has arrived the next peek begins: of TCP since Linux 6.9.
pub(crate) fn set_peek_offset(socket: BorrowedFd<'_>, offset: i32) -> io::Result<()> {
    // SAFETY: SO_PEEK_OFF reads an int.
    check(libc::c_long::from(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            size_of_val(&offset) as libc::socklen_t,
        )
    }))
    .map(drop)
}
