//! Which addresses has a container? Ones that the host has no route to, so that nothing the user could reach is hidden.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::NetError;

/// The addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family<A> {
    /// The container's.
    pub address: A,
    /// Where packets for anywhere else go; as a destination it means the host.
    pub gateway: A,
    /// Where names are asked for.
    pub dns: A,
    /// The length of the net's prefix.
    pub prefix: u8,
}

/// A container's addresses, as its record holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// IPv4.
    pub v4: Family<Ipv4Addr>,
    /// IPv6, if the host has a way out with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Family<Ipv6Addr>>,
}

/// A container's way out, as its Spec names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlet {
    /// Its addresses.
    #[serde(flatten)]
    pub addresses: Addresses,
    /// The device's name.
    pub device: String,
}

impl Addresses {
    /// Chooses them: 10.0.2.0/24 and fd00::/64, or the first nets like them that the host has no route to.
    ///
    /// # Errors
    /// Every such net is the host's.
    pub fn choose(routes: &Routes) -> Result<Addresses, NetError> {
        let tens = (2..=255).chain(0..2).map(|third| [10, 0, third]);
        let more = (1..=255).map(|second| [10, second, 2]);
        let others = (16..32).map(|second| [172, second, 2]);
        let mut nets = tens.chain(more).chain(others);
        let net = nets.find(|&[a, b, c]| !routes.reach(Ipv4Addr::new(a, b, c, 0), 24));
        let [a, b, c] = net.ok_or(NetError::NoAddress)?;
        let v4 = |last| Ipv4Addr::new(a, b, c, last);
        let mut nets =
            (0..=u16::MAX).map(|fourth| move |last| Ipv6Addr::new(0xfd00, 0, 0, fourth, 0, 0, 0, last));
        // Without one the container has no IPv6: a host that has routes to all of them is no host of IPv6's world.
        let v6 = nets
            .find(|net| !routes.reach_v6(net(0), 64))
            .filter(|_| routes.default_v6);
        Ok(Addresses {
            v4: Family {
                address: v4(100),
                gateway: v4(2),
                dns: v4(3),
                prefix: 24,
            },
            v6: v6.map(|net| Family {
                address: net(0x100),
                gateway: net(2),
                dns: net(3),
                prefix: 64,
            }),
        })
    }

    pub(super) fn is_container(&self, address: IpAddr) -> bool {
        self.is(address, |v4| v4.address, |v6| v6.address)
    }

    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        self.is(address, |v4| v4.gateway, |v6| v6.gateway)
    }

    pub(super) fn is_dns(&self, address: IpAddr) -> bool {
        self.is(address, |v4| v4.dns, |v6| v6.dns)
    }

    fn is(
        &self,
        address: IpAddr,
        v4: impl Fn(&Family<Ipv4Addr>) -> Ipv4Addr,
        v6: impl Fn(&Family<Ipv6Addr>) -> Ipv6Addr,
    ) -> bool {
        match address {
            IpAddr::V4(address) => address == v4(&self.v4),
            IpAddr::V6(address) => self.v6.as_ref().is_some_and(|family| address == v6(family)),
        }
    }
}

/// Where the host can send packets to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Networks, as bits, and the lengths of their prefixes; without the default.
    v4: Vec<(u32, u8)>,
    v6: Vec<(u128, u8)>,
    default_v6: bool,
    gateway: Option<Ipv4Addr>,
}

impl Routes {
    /// Reads the routes of the process's network namespace.
    ///
    /// # Errors
    /// The kernel's tables cannot be read.
    pub fn read() -> Result<Routes, NetError> {
        let read = |path| fs::read_to_string(path).map_err(|error| NetError::Host { path, error });
        // Without IPv6 there is no such file.
        let v6 = read("/proc/net/ipv6_route").unwrap_or_default();
        Ok(Routes::parse(&read("/proc/net/route")?, &v6))
    }

    /// Reads /proc/net/route and /proc/net/ipv6_route. Lines that are not understood are passed over.
    fn parse(v4: &str, v6: &str) -> Routes {
        let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
        let route = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let field = |at: usize| number(fields.get(at)?);
            Some(((field(1)?, field(7)?.leading_ones() as u8), field(2)))
        };
        let routes: Vec<_> = v4.lines().skip(1).filter_map(route).collect();
        let ways_out = routes.iter().filter(|(net, _)| *net == (0, 0));
        let nets_v6: Vec<_> = v6.lines().filter_map(net_v6).collect();
        Routes {
            gateway: ways_out
                .filter_map(|(_, gateway)| gateway.filter(|bits| *bits != 0))
                .map(Ipv4Addr::from_bits)
                .next(),
            v4: routes
                .into_iter()
                .map(|(net, _)| net)
                .filter(|net| net.1 > 0)
                .collect(),
            default_v6: nets_v6.iter().any(|net| net.1 == 0),
            v6: nets_v6.into_iter().filter(|net| net.1 > 0).collect(),
        }
    }

    /// The same, with a way out by IPv6 whether there is one or not.
    pub fn with_v6(self) -> Routes {
        Routes {
            default_v6: true,
            ..self
        }
    }

    /// Is there a way out by IPv6?
    pub fn has_way_out_v6(&self) -> bool {
        self.default_v6
    }

    /// Where the first way out by IPv4 leads.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.gateway
    }

    /// Is any address of the net one that there is a route to?
    pub fn reaches(&self, net: IpAddr, prefix: u8) -> bool {
        match net {
            IpAddr::V4(net) => self.reach(net, prefix),
            IpAddr::V6(net) => self.reach_v6(net, prefix),
        }
    }

    fn reach_v6(&self, net: Ipv6Addr, prefix: u8) -> bool {
        self.v6.iter().any(|&(other, length)| {
            let shift = 128 - u32::from(length.min(prefix));
            (net.to_bits() ^ other).checked_shr(shift).unwrap_or(0) == 0
        })
    }

    /// Is any address of the net one that there is a route to?
    fn reach(&self, net: Ipv4Addr, prefix: u8) -> bool {
        self.v4.iter().any(|&(other, length)| {
            let shift = 32 - u32::from(length.min(prefix));
            (net.to_bits() ^ other).checked_shr(shift).unwrap_or(0) == 0
        })
    }
}

/// The net of a route in /proc/net/ipv6_route, if packets can go there.
fn net_v6(line: &str) -> Option<(u128, u8)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, prefix, .., flags, device] = fields[..] else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let net = u128::from_str_radix(destination, 16).ok()?;
    let length = u8::from_str_radix(prefix, 16).ok()?;
    // Loopback's are the host's own addresses, whose nets are there with their devices.
    (flags & REJECT == 0 && flags & UP != 0 && device != "lo" && length <= 128).then_some((net, length))
}

/// RTF_UP, RTF_REJECT.
const UP: u32 = 1;
const REJECT: u32 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    fn chosen(routes: &str) -> Ipv4Addr {
        let routes = Routes::parse(&format!("{HEAD}{routes}"), "");
        Addresses::choose(&routes).unwrap().v4.address
    }

    #[test]
    fn a_net_is_chosen_that_the_host_does_not_reach() {
        let default = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(chosen(default), Ipv4Addr::new(10, 0, 2, 100));
        let same = "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(chosen(same), Ipv4Addr::new(10, 0, 3, 100));
        let within = "eth0\t4002000A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0\n";
        assert_eq!(chosen(within), Ipv4Addr::new(10, 0, 3, 100));
        let wider = "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(chosen(wider), Ipv4Addr::new(10, 1, 2, 100));
        let all = "vpn0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        assert_eq!(chosen(all), Ipv4Addr::new(172, 16, 2, 100));
        let more = format!("{all}vpn0\t000010AC\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0\n");
        let routes = Routes::parse(&format!("{HEAD}{more}"), "");
        assert_eq!(routes.gateway(), None);
        let routes_out = Routes::parse(&format!("{HEAD}{all}{default}"), "");
        assert_eq!(routes_out.gateway(), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert!(matches!(Addresses::choose(&routes), Err(NetError::NoAddress)));
    }

    #[test]
    fn a_way_out_by_ipv6_is_seen() {
        let zero = "0".repeat(32);
        let via = "fe800000000000000000000000000001";
        let default = format!("{zero} 00 {zero} 00 {via} 00000400 00000001 00000000 00000003     eth0\n");
        let none = format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n");
        assert!(Routes::parse(HEAD, &default).default_v6);
        assert!(!Routes::parse(HEAD, &none).default_v6);
        assert!(
            Addresses::choose(&Routes::parse(HEAD, &none))
                .unwrap()
                .v6
                .is_none()
        );
    }
}
