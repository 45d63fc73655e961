//! Which addresses does a network have? Subnets of both families, as numbers; which are free, and whose they are.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BridgeError;
use crate::net::Routes;

/// A subnet: its first address, and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    first: IpAddr,
    prefix: u8,
}

/// A subnet that a network has, and what is given of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: Subnet,
    /// Its bridge's address.
    pub gateway: IpAddr,
    /// Addresses are given from this part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Subnet>,
    /// The user has named it, and so may name addresses in it.
    pub named: bool,
}

impl Subnet {
    /// The address's subnet of this length.
    pub fn around(address: IpAddr, prefix: u8) -> Option<Subnet> {
        let width = width(address);
        (prefix <= width).then(|| Subnet {
            first: of_number(number(address) & !low(width - prefix), address.is_ipv4()),
            prefix,
        })
    }

    /// The length of its prefix.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Is it IPv4's?
    pub fn is_v4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Is the address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        Subnet::around(address, self.prefix) == Some(*self)
    }

    /// Is any address in both?
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The address that is so many after the first.
    fn nth(&self, at: u128) -> Option<IpAddr> {
        let size = low(width(self.first) - self.prefix);
        (at <= size).then(|| of_number(number(self.first) + at, self.is_v4()))
    }

    /// Is the address none that a host can have: the subnet's own, or the broadcast's?
    fn is_kept(&self, address: IpAddr) -> bool {
        let rest = width(self.first) - self.prefix;
        let at = number(address) & low(rest);
        rest > 1 && (at == 0 || (self.is_v4() && at == low(rest)))
    }

    fn is_reached(&self, routes: &Routes) -> bool {
        routes.reaches(self.first, self.prefix)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A number of so many ones.
fn low(bits: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn of_number(number: u128, is_v4: bool) -> IpAddr {
    match is_v4 {
        true => Ipv4Addr::from_bits(number as u32).into(),
        false => Ipv6Addr::from_bits(number).into(),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = BridgeError;

    fn from_str(text: &str) -> Result<Subnet, BridgeError> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(address, prefix)| Some((address.parse().ok()?, prefix.parse().ok()?)));
        parsed
            .and_then(|(address, prefix)| Subnet::around(address, prefix))
            .ok_or_else(|| BridgeError::Subnet(text.into()))
    }
}

impl TryFrom<String> for Subnet {
    type Error = BridgeError;

    fn try_from(text: String) -> Result<Subnet, BridgeError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl Pool {
    /// A pool that the user has named.
    ///
    /// # Errors
    /// There is no room for a container, or range or gateway lie elsewhere.
    pub fn named(
        subnet: Subnet,
        gateway: Option<IpAddr>,
        range: Option<Subnet>,
    ) -> Result<Pool, BridgeError> {
        if width(subnet.first) - subnet.prefix < 2 {
            return Err(BridgeError::Small(subnet));
        }
        if let Some(range) =
            range.filter(|range| !subnet.contains(range.first) || range.prefix < subnet.prefix)
        {
            return Err(BridgeError::Range(range));
        }
        let first = range
            .and_then(|range| range.nth(0))
            .filter(|first| !subnet.is_kept(*first));
        let gateway = gateway.or(first).or(subnet.nth(1));
        match gateway.filter(|gateway| subnet.contains(*gateway) && !subnet.is_kept(*gateway)) {
            Some(gateway) => Ok(Pool {
                subnet,
                gateway,
                range,
                named: true,
            }),
            None => Err(BridgeError::Gateway(gateway.unwrap_or(subnet.first))),
        }
    }

    /// The first of Docker's IPv4 pools that neither the host nor another network has.
    ///
    /// # Errors
    /// There is none.
    pub fn free_v4(routes: &Routes, others: &[Subnet]) -> Result<Pool, BridgeError> {
        let wide = (18..32).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
        let narrow = (0..16).map(|third| (Ipv4Addr::new(192, 168, third * 16, 0), 20));
        let subnets = wide
            .chain(narrow)
            .filter_map(|(first, prefix)| Subnet::around(first.into(), prefix));
        let is_free = |subnet: &Subnet| {
            !subnet.is_reached(routes) && !others.iter().any(|other| other.overlaps(subnet))
        };
        let subnet = subnets.into_iter().find(is_free).ok_or(BridgeError::NoPool)?;
        Ok(Pool {
            named: false,
            ..Pool::named(subnet, None, None)?
        })
    }

    /// A unique local subnet of IPv6 (RFC 4193), by these random bits.
    ///
    /// # Errors
    /// None that happens.
    pub fn free_v6(random: [u8; 7]) -> Result<Pool, BridgeError> {
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..8].copy_from_slice(&random);
        let subnet = Subnet {
            first: Ipv6Addr::from(octets).into(),
            prefix: 64,
        };
        Ok(Pool {
            named: false,
            ..Pool::named(subnet, None, None)?
        })
    }

    /// Gives an address: the one that is wanted, or the lowest that is free.
    ///
    /// # Errors
    /// It is taken, lies elsewhere, or none is free.
    pub fn give(&self, wanted: Option<IpAddr>, taken: &HashSet<IpAddr>) -> Result<IpAddr, BridgeError> {
        let is_free = |address: &IpAddr| {
            *address != self.gateway && !self.subnet.is_kept(*address) && !taken.contains(address)
        };
        if let Some(wanted) = wanted {
            self.fits(wanted)?;
            return Some(wanted)
                .filter(is_free)
                .ok_or(BridgeError::AddressTaken(wanted));
        }
        let range = self.range.unwrap_or(self.subnet);
        // Those that are kept, taken, and one more.
        (0..=taken.len() as u128 + 3)
            .map_while(|at| range.nth(at))
            .find(is_free)
            .ok_or(BridgeError::Full(range))
    }

    /// Can a container have this address, if it is free?
    ///
    /// # Errors
    /// It cannot.
    pub fn fits(&self, wanted: IpAddr) -> Result<(), BridgeError> {
        match self.subnet.contains(wanted) && !self.subnet.is_kept(wanted) {
            true => Ok(()),
            false => Err(BridgeError::Elsewhere(wanted, self.subnet)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_read_and_compared() {
        assert_eq!(subnet("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(subnet("fd00::5/64").to_string(), "fd00::/64");
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "a/8", "10.0.0/8"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
        assert!(subnet("10.0.0.0/8").overlaps(&subnet("10.2.0.0/16")));
        assert!(subnet("10.2.0.0/16").overlaps(&subnet("10.0.0.0/8")));
        assert!(!subnet("10.2.0.0/16").overlaps(&subnet("10.3.0.0/16")));
        assert!(!subnet("0.0.0.0/0").overlaps(&subnet("::/0")));
        assert!(subnet("0.0.0.0/0").contains(ip("255.255.255.255")));
    }

    #[test]
    fn addresses_are_given_from_the_lowest() {
        let pool = Pool::named(subnet("10.5.0.0/29"), None, None).unwrap();
        assert_eq!(pool.gateway, ip("10.5.0.1"));
        let mut taken = HashSet::new();
        for last in 2..=6 {
            let given = pool.give(None, &taken).unwrap();
            assert_eq!(given, ip(&format!("10.5.0.{last}")));
            taken.insert(given);
        }
        assert!(matches!(pool.give(None, &taken), Err(BridgeError::Full(_))));
        taken.remove(&ip("10.5.0.3"));
        assert_eq!(pool.give(None, &taken).unwrap(), ip("10.5.0.3"));
        for (wanted, why) in [
            ("10.5.0.2", "already in use"),
            ("10.5.0.1", "already in use"),
            ("10.5.0.0", "no configured subnet"),
            ("10.5.0.7", "no configured subnet"),
            ("10.6.0.2", "no configured subnet"),
        ] {
            let error = pool.give(Some(ip(wanted)), &taken).unwrap_err().to_string();
            assert!(error.contains(why), "{wanted}: {error}");
        }
    }

    #[test]
    fn a_range_and_a_gateway_are_of_the_subnet() {
        let pool = Pool::named(subnet("10.5.0.0/16"), None, Some(subnet("10.5.7.0/24"))).unwrap();
        assert_eq!(pool.give(None, &HashSet::new()).unwrap(), ip("10.5.7.1"));
        let far = Pool::named(subnet("10.5.0.0/16"), Some(ip("10.6.0.1")), None);
        assert!(matches!(far, Err(BridgeError::Gateway(_))));
        let far = Pool::named(subnet("10.5.0.0/16"), None, Some(subnet("10.6.0.0/24")));
        assert!(matches!(far, Err(BridgeError::Range(_))));
        let wide = Pool::named(subnet("10.5.0.0/16"), None, Some(subnet("10.0.0.0/8")));
        assert!(matches!(wide, Err(BridgeError::Range(_))));
        assert!(matches!(
            Pool::named(subnet("10.5.0.0/31"), None, None),
            Err(BridgeError::Small(_))
        ));
    }

    #[test]
    fn a_pool_is_nobody_elses() {
        let none = Routes::default();
        let first = Pool::free_v4(&none, &[]).unwrap();
        assert_eq!(first.subnet.to_string(), "172.18.0.0/16");
        let second = Pool::free_v4(&none, &[first.subnet, subnet("172.19.5.0/24")]).unwrap();
        assert_eq!(second.subnet.to_string(), "172.20.0.0/16");
        let all = [subnet("172.16.0.0/12"), subnet("192.168.0.0/16")];
        assert!(matches!(Pool::free_v4(&none, &all), Err(BridgeError::NoPool)));
        let v6 = Pool::free_v6([1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(v6.subnet.to_string(), "fd01:203:405:607::/64");
        assert_eq!(v6.give(None, &HashSet::new()).unwrap(), ip("fd01:203:405:607::2"));
    }
}
