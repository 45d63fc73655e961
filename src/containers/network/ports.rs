//! How are a container's ports shown? As Docker's `ps` and `inspect` do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::publish::Exposed;
use crate::containers::record::{Life, Record};

/// A port of a container that runs, and where the host has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    /// The container's.
    pub container: Exposed,
    /// The host's; none: it is only exposed.
    pub host: Option<SocketAddr>,
}

/// A binding as `inspect` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Binding {
    /// Empty for all addresses.
    pub host_ip: String,
    /// Empty for any port.
    pub host_port: String,
}

/// The ports of a container, in order; none while it does not run.
pub fn shown(record: &Record) -> Vec<Shown> {
    if !matches!(record.life, Life::Running { .. }) {
        return Vec::new();
    }
    let mut ports: Vec<Shown> = record
        .network
        .ports
        .iter()
        .map(|port| Shown {
            container: Exposed {
                port: port.container,
                protocol: port.protocol,
            },
            host: Some(port.host),
        })
        .collect();
    let has_network = record.settings.network != "host" && !super::names(record).is_empty();
    let exposed = record.settings.ports.exposed.iter().filter(|_| has_network);
    let unpublished = exposed.filter(|port| {
        !record
            .network
            .ports
            .iter()
            .any(|one| one.container == port.port && one.protocol == port.protocol)
    });
    ports.extend(
        unpublished
            .map(|port| Shown {
                container: *port,
                host: None,
            })
            .collect::<Vec<_>>(),
    );
    ports.sort();
    ports
}

impl Shown {
    /// Ports in a row are one entry if the host's are the same numbers.
    pub fn line(ports: &[Shown]) -> String {
        let (mut groups, mut singles): (Vec<Vec<Shown>>, Vec<String>) = (Vec::new(), Vec::new());
        for port in ports {
            if let Some(host) = port.host.filter(|host| host.port() != port.container.port) {
                singles.push(format!("{host}->{}", port.container));
                continue;
            }
            let follows = |group: &&mut Vec<Shown>| group.last().is_some_and(|last| port.follows(last));
            match groups.iter_mut().find(follows) {
                Some(group) => group.push(*port),
                None => groups.push(vec![*port]),
            }
        }
        let groups = groups
            .iter()
            .filter_map(|group| Some(Shown::group(group.first()?, group.last()?)));
        groups.chain(singles).collect::<Vec<_>>().join(", ")
    }

    fn follows(&self, last: &Shown) -> bool {
        self.container.protocol == last.container.protocol
            && self.host.map(|host| host.ip()) == last.host.map(|host| host.ip())
            && last.container.port.checked_add(1) == Some(self.container.port)
    }

    fn group(first: &Shown, last: &Shown) -> String {
        let (from, to) = (first.container.port, last.container.port);
        let range = if from == to {
            from.to_string()
        } else {
            format!("{from}-{to}")
        };
        let protocol = first.container.protocol;
        match first.host {
            None => format!("{range}/{protocol}"),
            Some(SocketAddr::V4(host)) => format!("{}:{range}->{range}/{protocol}", host.ip()),
            Some(SocketAddr::V6(host)) => format!("[{}]:{range}->{range}/{protocol}", host.ip()),
        }
    }

    /// `NetworkSettings.Ports` of `inspect`: no list for what is only exposed.
    pub fn bindings(ports: &[Shown]) -> BTreeMap<String, Option<Vec<Binding>>> {
        let mut all: BTreeMap<String, Option<Vec<Binding>>> = BTreeMap::new();
        for port in ports {
            let list = all.entry(port.container.to_string()).or_default();
            if let Some(host) = port.host {
                list.get_or_insert_default().push(Binding {
                    host_ip: host.ip().to_string(),
                    host_port: host.port().to_string(),
                });
            }
        }
        all
    }
}

/// `HostConfig.PortBindings` of `inspect`: what was asked for.
pub fn asked(record: &Record) -> BTreeMap<String, Vec<Binding>> {
    let mut all: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for one in &record.settings.ports.published {
        all.entry(one.container.to_string()).or_default().push(Binding {
            host_ip: one.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: one.host_port(),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    fn port(container: u16, host: Option<&str>) -> Shown {
        Shown {
            container: Exposed {
                port: container,
                protocol: Protocol::Tcp,
            },
            host: host.map(|host| host.parse().unwrap()),
        }
    }

    #[test]
    fn ports_in_a_row_are_shown_as_one() {
        let ports = [
            port(80, Some("0.0.0.0:8080")),
            port(80, Some("[::]:8080")),
            port(443, None),
            port(444, None),
            port(8000, Some("0.0.0.0:8000")),
            port(8000, Some("[::]:8000")),
            port(8001, Some("0.0.0.0:8001")),
            port(8001, Some("[::]:8001")),
        ];
        assert_eq!(
            Shown::line(&ports),
            "443-444/tcp, 0.0.0.0:8000-8001->8000-8001/tcp, [::]:8000-8001->8000-8001/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(Shown::line(&[]), "");
    }

    #[test]
    fn inspect_lists_bindings_by_port() {
        let ports = [port(80, Some("127.0.0.1:8080")), port(443, None)];
        let text = serde_json::to_string(&Shown::bindings(&ports)).unwrap();
        assert_eq!(
            text,
            r#"{"443/tcp":null,"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]}"#
        );
    }
}
