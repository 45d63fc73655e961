//! slirp4netns(1): its options are podman's, KEY=VALUE each.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{NetworkError, Published};
use crate::truth::truth;

/// Its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slirp {
    /// The container's net: its first address, and the length of its prefix.
    net: (Ipv4Addr, u8),
    mtu: u16,
    v6: bool,
    /// The gateway's address is the host's loopback.
    reaches_loopback: bool,
    /// Addresses, or devices whose addresses they are, of what goes out.
    outbound: Option<String>,
    outbound_v6: Option<String>,
}

impl Default for Slirp {
    fn default() -> Slirp {
        Slirp {
            net: (Ipv4Addr::new(10, 0, 2, 0), 24),
            mtu: 65520,
            v6: true,
            reaches_loopback: false,
            outbound: None,
            outbound_v6: None,
        }
    }
}

/// What it takes for an MTU: IPv4's least, and its own most.
const MTUS: std::ops::RangeInclusive<u16> = 68..=65521;
/// Its addresses lie up to the hundredth.
const LONGEST_PREFIX: u8 = 25;

impl Slirp {
    pub(super) fn parse(text: &str) -> Result<Slirp, String> {
        let mut slirp = Slirp::default();
        for pair in text.split(',').filter(|_| !text.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?}: each option is KEY=VALUE"))?;
            slirp.set(key, value)?;
        }
        Ok(slirp)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("{key}={value}: {what} is wanted");
        let yes = || truth(value).ok_or_else(|| wrong("true or false"));
        let given = || (!value.is_empty()).then(|| value.to_owned());
        match key {
            "allow_host_loopback" => self.reaches_loopback = yes()?,
            "enable_ipv6" => self.v6 = yes()?,
            "cidr" => {
                self.net = net(value).ok_or_else(|| wrong("an IPv4 net of /25 or larger, as 10.0.2.0/24,"))?
            }
            "mtu" => {
                let mtu = value.parse().ok().filter(|mtu| MTUS.contains(mtu));
                self.mtu = mtu.ok_or_else(|| wrong("a number from 68 to 65521"))?;
            }
            "outbound_addr" => self.outbound = Some(given().ok_or_else(|| wrong("an address or a device"))?),
            "outbound_addr6" => {
                self.outbound_v6 = Some(given().ok_or_else(|| wrong("an address or a device"))?);
            }
            "port_handler" if value == "slirp4netns" => {}
            "port_handler" if value == "rootlesskit" => {
                return Err(
                    "port_handler=rootlesskit is not there: slirp4netns publishes the ports itself".into(),
                );
            }
            "port_handler" => return Err(wrong("slirp4netns")),
            _ => {
                return Err(format!(
                    "{key} is not supported (supported: allow_host_loopback, cidr, enable_ipv6, mtu, outbound_addr, outbound_addr6, \
                     port_handler=slirp4netns)"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn words(&self) -> Vec<String> {
        let (first, prefix) = self.net;
        let mut words = vec![
            "--configure".to_owned(),
            format!("--mtu={}", self.mtu),
            format!("--cidr={first}/{prefix}"),
            "--enable-seccomp".into(),
        ];
        if self.v6 {
            words.push("--enable-ipv6".into());
        }
        if !self.reaches_loopback {
            words.push("--disable-host-loopback".into());
        }
        let outbound = [
            ("--outbound-addr", &self.outbound),
            ("--outbound-addr6", &self.outbound_v6),
        ];
        let given = outbound
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        words.extend(given.map(|(name, value)| format!("{name}={value}")));
        words
    }

    fn nth(&self, at: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.net.0.to_bits() | at)
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.nth(100)
    }

    pub(super) fn name_server(&self) -> Ipv4Addr {
        self.nth(3)
    }

    pub(super) fn host(&self) -> Option<Ipv4Addr> {
        self.reaches_loopback.then(|| self.nth(2))
    }
}

/// It publishes by IPv4 alone.
pub(super) fn fit(published: &[Published]) -> Result<Vec<Published>, NetworkError> {
    let v4 = |one: &Published| match one.ip {
        Some(ip @ IpAddr::V6(_)) => Err(NetworkError::OnlyV4(ip)),
        ip => Ok(Published {
            ip: ip.or(Some(Ipv4Addr::UNSPECIFIED.into())),
            ..one.clone()
        }),
    };
    published.iter().map(v4).collect()
}

/// A net, by any address in it.
fn net(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix))
        .filter(|_| prefix > 0)?;
    (prefix <= LONGEST_PREFIX).then(|| (Ipv4Addr::from_bits(address.to_bits() & mask), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_podmans() {
        let plain = "--configure --mtu=65520 --cidr=10.0.2.0/24 --enable-seccomp --enable-ipv6 --disable-host-loopback";
        assert_eq!(Slirp::default().words().join(" "), plain);
        let asked = Slirp::parse(
            "mtu=1500,allow_host_loopback=true,cidr=10.7.0.0/16,enable_ipv6=false,outbound_addr=eth0,port_handler=slirp4netns",
        );
        let asked = asked.unwrap();
        assert_eq!(
            asked.words().join(" "),
            "--configure --mtu=1500 --cidr=10.7.0.0/16 --enable-seccomp --outbound-addr=eth0"
        );
        assert_eq!(asked.address().to_string(), "10.7.0.100");
        assert_eq!(asked.name_server().to_string(), "10.7.0.3");
        assert_eq!(asked.host().unwrap().to_string(), "10.7.0.2");
        assert_eq!(Slirp::default().host(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_part() {
        for (text, why) in [
            ("mtu=1", "mtu=1: a number"),
            ("mtu", "KEY=VALUE"),
            ("mtu=1500,", "KEY=VALUE"),
            ("cidr=10.0.0.0/26", "an IPv4 net"),
            ("cidr=10.0.0.0/0", "an IPv4 net"),
            ("cidr=10.0.0.0", "an IPv4 net"),
            ("allow_host_loopback=yes", "true or false"),
            ("port_handler=rootlesskit", "is not there"),
            ("port_handler=x", "slirp4netns is wanted"),
            ("outbound_addr=", "an address or a device"),
            ("api-socket=/tmp/x", "api-socket is not supported"),
        ] {
            let error = Slirp::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn ports_are_ipv4s() {
        let of = |ip: Option<&str>| Published {
            ip: ip.map(|ip| ip.parse().unwrap()),
            host: None,
            container: crate::containers::network::expose("80").unwrap().next().unwrap(),
        };
        let fitted = fit(&[of(None), of(Some("127.0.0.1"))]).unwrap();
        assert_eq!(fitted, [of(Some("0.0.0.0")), of(Some("127.0.0.1"))]);
        assert!(fit(&[of(Some("::1"))]).unwrap_err().to_string().contains("::1"));
    }
}
