//! pasta(1): its options come as words, separated by commas, as podman takes them.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Published;
use crate::net::{Port, Protocol, Resolvers, Routes};

/// Its options, each by its long name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pasta {
    options: Vec<(String, Option<String>)>,
    /// `--map-gw`: the gateway's address is the host's loopback. podman's word for that `--no-map-gw` is not wanted.
    maps_gateway: bool,
}

/// Options with a value: short, long. Those that older versions lack, they refuse themselves.
const VALUES: [(&str, &str); 22] = [
    ("-a", "--address"),
    ("-n", "--netmask"),
    ("-g", "--gateway"),
    ("-M", "--mac-addr"),
    ("", "--ns-mac-addr"),
    ("-m", "--mtu"),
    ("-i", "--interface"),
    ("-I", "--ns-ifname"),
    ("-o", "--outbound"),
    ("", "--outbound-if4"),
    ("", "--outbound-if6"),
    ("-D", "--dns"),
    ("", "--dns-forward"),
    ("", "--dns-host"),
    ("-S", "--search"),
    ("-t", TCP),
    ("-u", UDP),
    ("-T", "--tcp-ns"),
    ("-U", "--udp-ns"),
    ("", "--map-host-loopback"),
    ("", "--map-guest-addr"),
    ("-H", "--hostname"),
];

/// Options without: short, long.
const FLAGS: [(&str, &str); 17] = [
    ("-4", V4_ALONE),
    ("-6", V6_ALONE),
    ("", "--no-tcp"),
    ("", "--no-udp"),
    ("", "--no-icmp"),
    ("", "--no-dhcp"),
    ("", "--no-ndp"),
    ("", "--no-dhcpv6"),
    ("", "--no-ra"),
    ("", NO_GATEWAY),
    ("", "--dhcp-dns"),
    ("", "--dhcp-search"),
    ("", "--no-splice"),
    ("", "--freebind"),
    ("", "--host-lo-to-ns-lo"),
    ("", "--no-copy-routes"),
    ("", "--no-copy-addrs"),
];

const TCP: &str = "--tcp-ports";
const UDP: &str = "--udp-ports";
const V4_ALONE: &str = "--ipv4-only";
const V6_ALONE: &str = "--ipv6-only";
const NO_GATEWAY: &str = "--no-map-gw";

/// podman's own.
const GATEWAY: &str = "--map-gw";
/// It is always told so.
const CONFIGURE: &str = "--config-net";

/// Where the container asks for names: an address that no network has (RFC 3927), podman's choice too.
const NAMES: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

impl Pasta {
    pub(super) fn parse(text: &str) -> Result<Pasta, String> {
        let mut pasta = Pasta::default();
        let mut words = text.split(',').filter(|_| !text.is_empty());
        while let Some(word) = words.next() {
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (word, None),
            };
            let is = |(short, long): &&(&str, &str)| name == *long || !short.is_empty() && name == *short;
            if let Some((_, long)) = VALUES.iter().find(is) {
                let value = joined.or_else(|| words.next()).filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| format!("{name} needs a value"))?;
                pasta.options.push(((*long).into(), Some(value.into())));
            } else if joined.is_some() {
                return Err(format!("{word} is no option of pasta's for a container"));
            } else if let Some((_, long)) = FLAGS.iter().find(is) {
                pasta.options.push(((*long).into(), None));
            } else if name == GATEWAY {
                pasta.maps_gateway = true;
            } else if name != CONFIGURE {
                return Err(format!("{word} is no option of pasta's for a container"));
            }
        }
        Ok(pasta)
    }

    fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| option == name)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter();
        options.find(|(option, _)| option == name)?.1.as_deref()
    }

    /// It publishes by the families that the container has.
    pub(super) fn fit(&self, published: &[Published], routes: &Routes) -> Vec<Published> {
        let v6 = routes.has_way_out_v6() && !self.has(V4_ALONE);
        let only_v4 = |mut one: Published| {
            one.ip = one.ip.or((!v6).then_some(Ipv4Addr::UNSPECIFIED.into()));
            one
        };
        published.iter().cloned().map(only_v4).collect()
    }

    pub(super) fn words(&self, ports: &[Port]) -> Vec<String> {
        let mut words = vec![CONFIGURE.to_owned()];
        for (name, value) in &self.options {
            words.push(name.clone());
            words.extend(value.clone());
        }
        let forwarded = self.has("--dns-forward") || self.value("--dns") == Some("none");
        if !forwarded && !self.has(V6_ALONE) {
            words.extend(["--dns-forward".into(), NAMES.to_string()]);
        }
        if !self.maps_gateway && !self.has(NO_GATEWAY) {
            words.push(NO_GATEWAY.into());
        }
        for (name, protocol) in [(TCP, Protocol::Tcp), (UDP, Protocol::Udp)] {
            let of_protocol = ports.iter().filter(|port| port.protocol == protocol);
            let specs: Vec<String> = of_protocol.filter_map(|port| spec(port, ports)).collect();
            // Without a word it forwards all that it finds.
            if specs.is_empty() && !self.has(name) {
                words.extend([name.into(), "none".into()]);
            }
            words.extend(specs.into_iter().flat_map(|spec| [name.into(), spec]));
        }
        for name in ["--tcp-ns", "--udp-ns"] {
            if !self.has(name) {
                words.extend([name.into(), "none".into()]);
            }
        }
        words
    }

    pub(super) fn host(&self, gateway: impl FnOnce() -> Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let mapped = self
            .value("--map-guest-addr")
            .or(self.value("--map-host-loopback"));
        if let Some(mapped) = mapped.and_then(|address| address.parse().ok()) {
            return Some(mapped);
        }
        let chosen = self.value("--gateway").and_then(|address| address.parse().ok());
        match self.maps_gateway {
            true => chosen.or_else(gateway),
            false => None,
        }
    }

    pub(super) fn name_servers(&self, host: &Resolvers) -> Vec<IpAddr> {
        let asked = self.options.iter().filter(|(name, _)| name == "--dns-forward");
        let mut servers: Vec<IpAddr> = asked
            .filter_map(|(_, value)| value.as_deref()?.parse().ok())
            .collect();
        let is_off = self.value("--dns") == Some("none") || self.has(V6_ALONE);
        if servers.is_empty() && !is_off {
            servers.push(NAMES.into());
        }
        servers.extend(host.servers.iter().filter(|server| !server.is_loopback()));
        servers
    }
}

/// As `-t` has it: `[ADDRESS/]HOST:CONTAINER`. A port of all addresses is said once: older versions refuse to hear of it twice.
fn spec(port: &Port, all: &[Port]) -> Option<String> {
    let ip = port.host.ip();
    let is_twin = |other: &Port| {
        other.host.ip() != ip
            && other.host.ip().is_unspecified()
            && (other.protocol, other.host.port(), other.container)
                == (port.protocol, port.host.port(), port.container)
    };
    let ports = format!("{}:{}", port.host.port(), port.container);
    match ip.is_unspecified() && all.iter().any(is_twin) {
        true => ip.is_ipv4().then_some(ports),
        false => Some(format!("{ip}/{ports}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, ports: &[Port]) -> String {
        Pasta::parse(text).unwrap().words(ports).join(" ")
    }

    #[test]
    fn what_is_not_said_is_podmans_default() {
        let plain = "--config-net --dns-forward 169.254.1.1 --no-map-gw --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none";
        assert_eq!(words("", &[]), plain);
        assert_eq!(
            words("--config-net,--no-map-gw", &[])
                .matches("--no-map-gw")
                .count(),
            1
        );
        let asked = words(
            "--map-gw,-t,auto,-T,5201,--mtu=1500,--dns-forward,10.0.2.3,-4",
            &[],
        );
        assert_eq!(
            asked,
            "--config-net --tcp-ports auto --tcp-ns 5201 --mtu 1500 --dns-forward 10.0.2.3 --ipv4-only --udp-ports none --udp-ns none"
        );
    }

    #[test]
    fn ports_are_published_beside_those_of_the_options() {
        let port = |protocol, host: &str| Port {
            protocol,
            host: host.parse().unwrap(),
            container: 80,
        };
        let ports = [
            port(Protocol::Tcp, "127.0.0.1:8080"),
            port(Protocol::Tcp, "[::]:8081"),
            port(Protocol::Tcp, "0.0.0.0:8082"),
            port(Protocol::Tcp, "[::]:8082"),
            port(Protocol::Udp, "0.0.0.0:53"),
        ];
        let all = words("-t,22", &ports);
        for part in [
            "--tcp-ports 22 ",
            "--tcp-ports 127.0.0.1/8080:80 ",
            "--tcp-ports ::/8081:80 ",
            "--tcp-ports 8082:80 ",
            "--udp-ports 0.0.0.0/53:80 ",
        ] {
            assert_eq!(all.matches(part).count(), 1, "{part}: {all}");
        }
    }

    /// A word that is no option would be a command that it executes, or another namespace.
    #[test]
    fn nothing_but_options_about_the_network_is_taken() {
        for text in [
            "sh",
            "1234",
            "--netns,/proc/1/ns/net",
            "--userns=/x",
            "-f",
            "--pid,/tmp/x",
            "-p,/tmp/x",
            "--log-file,/tmp/x",
            "--runas,0",
            "--trace",
            "-4t,80",
            "--",
            "",
            "-t",
            "-t,",
            "--no-tcp=1",
        ] {
            let parsed = Pasta::parse(text);
            assert_eq!(parsed.is_ok(), text.is_empty(), "{text}: {parsed:?}");
        }
        assert!(Pasta::parse("-t,80,,").is_err());
    }

    #[test]
    fn names_are_asked_of_it_and_then_of_the_hosts_servers() {
        let host = Resolvers::parse("nameserver 127.0.0.53\nnameserver 10.0.0.1\n");
        let servers = |text: &str| -> Vec<String> {
            let servers = Pasta::parse(text).unwrap().name_servers(&host);
            servers.iter().map(IpAddr::to_string).collect()
        };
        assert_eq!(servers(""), ["169.254.1.1", "10.0.0.1"]);
        assert_eq!(servers("--dns-forward,10.0.2.3"), ["10.0.2.3", "10.0.0.1"]);
        assert_eq!(servers("-D,none"), ["10.0.0.1"]);
    }

    #[test]
    fn the_host_is_the_gateway_only_if_that_is_asked_for() {
        let gateway = || Some(Ipv4Addr::new(192, 0, 2, 1));
        let host = |text: &str| {
            Pasta::parse(text)
                .unwrap()
                .host(gateway)
                .map(|address| address.to_string())
        };
        assert_eq!(host(""), None);
        assert_eq!(host("-g,10.0.2.2"), None);
        assert_eq!(host("--map-gw").unwrap(), "192.0.2.1");
        assert_eq!(host("--map-gw,-g,10.0.2.2").unwrap(), "10.0.2.2");
        assert_eq!(host("--map-host-loopback,10.0.9.9").unwrap(), "10.0.9.9");
    }
}
