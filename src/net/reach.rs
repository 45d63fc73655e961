//! Which addresses may a container reach? All that the user can, but for the host's loopback: what listens there trusts
//! whoever asks to be the user, or at least to be on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::Addresses;

/// Where a packet's destination lies on the host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There.
    Host(SocketAddr),
    /// The host's name servers.
    Dns,
    /// Us, in the name of the gateway or the name server.
    Gateway,
    /// Nobody may go there.
    Forbidden,
}

/// Names' port.
const DNS: u16 = 53;

impl Place {
    /// Where `destination` lies.
    pub(super) fn of(destination: SocketAddr, addresses: &Addresses) -> Place {
        let address = destination.ip();
        if addresses.is_dns(address) {
            return if destination.port() == DNS {
                Place::Dns
            } else {
                Place::Gateway
            };
        }
        if addresses.is_gateway(address) {
            return Place::Gateway;
        }
        match is_forbidden(address) || addresses.is_container(address) {
            true => Place::Forbidden,
            false => Place::Host(destination),
        }
    }
}

/// The host's own address towards the world, where services answer that listen everywhere; `None` without one.
pub(super) fn outward(to: SocketAddr) -> Option<SocketAddr> {
    // Asks the kernel which address it would send from; nothing is sent. The addresses are those of documentation.
    let (any, somewhere): (SocketAddr, SocketAddr) = match to {
        SocketAddr::V4(_) => (
            (Ipv4Addr::UNSPECIFIED, 0).into(),
            (Ipv4Addr::new(192, 0, 2, 1), DNS).into(),
        ),
        SocketAddr::V6(_) => (
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), DNS).into(),
        ),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(somewhere).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!is_forbidden(own)).then(|| SocketAddr::new(own, to.port()))
}

/// Loopback and nowhere in all their spellings, and addresses that are not one host's.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                // Of a link that the container is not on.
                || first & 0xffc0 == 0xfe80
                || embedded(v6).is_some_and(is_forbidden_v4)
        }
    }
}

fn is_forbidden_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback() || v4.octets()[0] == 0 || v4.is_multicast() || v4.octets()[0] >= 240
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated by a NAT64, or of 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Routes;

    #[test]
    fn loopback_is_out_of_reach_in_all_spellings() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(is_forbidden(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "10.0.0.1",
            "169.254.169.254",
            "2001:db8::1",
            "fd00::7",
            "::ffff:1.1.1.1",
        ] {
            assert!(!is_forbidden(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_gateway_and_the_name_server_are_ours() {
        let addresses = Addresses::choose(&Routes::default().with_v6()).unwrap();
        let of = |text: &str| Place::of(text.parse().unwrap(), &addresses);
        assert_eq!(of("10.0.2.2:80"), Place::Gateway);
        assert_eq!(of("10.0.2.3:53"), Place::Dns);
        assert_eq!(of("10.0.2.3:80"), Place::Gateway);
        assert_eq!(of("[fd00::3]:53"), Place::Dns);
        assert_eq!(of("10.0.2.100:80"), Place::Forbidden);
        assert_eq!(of("[::1]:80"), Place::Forbidden);
        assert_eq!(of("192.0.2.7:80"), Place::Host("192.0.2.7:80".parse().unwrap()));
    }
}
