//! The parts of `inspect` about networks and ports.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::absent;
use crate::containers::bridge::{Attached, Endpoint};
use crate::containers::files::HostAddress;
use crate::containers::network::{self, Shown};
use crate::containers::record::{Life, Record};

/// `NetworkSettings`. Addresses are of a container that runs.
pub(super) fn settings(record: &Record) -> Value {
    let pid = match &record.life {
        Life::Running { init, .. } => Some(init.pid),
        Life::Created | Life::Restarting { .. } | Life::Exited { .. } => None,
    };
    let has_own = record.settings.network != "host";
    let sandbox = pid.filter(|_| has_own).map(|pid| format!("/proc/{pid}/ns/net"));
    let addresses = outside();
    let mut all = json!({
        "SandboxKey": sandbox.unwrap_or_default(),
        "Inside": inside(record, pid.is_some()),
        "Ports": Shown::bindings(&network::shown(record)),
    });
    let mut networks = Map::new();
    for name in network::names(record) {
        let endpoint = record
            .settings
            .ports
            .endpoints
            .iter()
            .find(|one| one.network == name);
        let attached = record.network.attached.iter().find(|one| one.network == name);
        let shown = match endpoint {
            Some(endpoint) => of_network(record, endpoint, attached.filter(|_| pid.is_some())),
            None => addresses.clone(),
        };
        let mut whole = absent::network();
        whole.extend(shown);
        networks.insert(name.into(), whole.into());
    }
    if let Some(all) = all.as_object_mut() {
        all.extend(addresses);
        all.extend(absent::network_settings());
        all.insert("Networks".into(), networks.into());
    }
    all
}

/// The addresses by which others reach a container: none, as podman has it without root. The one inside is every
/// container's, and outside perhaps somebody else's.
fn outside() -> Map<String, Value> {
    let fields = [
        ("Gateway", Value::from("")),
        ("IPAddress", "".into()),
        ("IPPrefixLen", 0.into()),
        ("IPv6Gateway", "".into()),
        ("GlobalIPv6Address", "".into()),
        ("GlobalIPv6PrefixLen", 0.into()),
        // The device carries no Ethernet.
        ("MacAddress", "".into()),
    ];
    fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// What it has of a network of the user's own, as Docker shows it.
fn of_network(record: &Record, endpoint: &Endpoint, attached: Option<&Attached>) -> Map<String, Value> {
    let given = |is_v4| attached.and_then(|attached| attached.of_family(is_v4));
    let text =
        |address: Option<std::net::IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let (v4, v6) = (given(true), given(false));
    let short = record.id.get(..12).unwrap_or_default();
    let names = [record.name.as_str()]
        .into_iter()
        .chain(endpoint.aliases.iter().map(String::as_str));
    let fields = [
        ("Aliases", json!(endpoint.aliases)),
        ("DNSNames", json!(names.chain([short]).collect::<Vec<_>>())),
        (
            "NetworkID",
            json!(attached.map(|one| one.id.as_str()).unwrap_or_default()),
        ),
        (
            "EndpointID",
            json!(attached.map(|one| one.endpoint.as_str()).unwrap_or_default()),
        ),
        ("Gateway", json!(text(v4.map(|given| given.gateway)))),
        ("IPAddress", json!(text(v4.map(|given| given.address)))),
        ("IPPrefixLen", json!(v4.map_or(0, |given| given.prefix))),
        ("IPv6Gateway", json!(text(v6.map(|given| given.gateway)))),
        ("GlobalIPv6Address", json!(text(v6.map(|given| given.address)))),
        ("GlobalIPv6PrefixLen", json!(v6.map_or(0, |given| given.prefix))),
        (
            "MacAddress",
            json!(attached.map(Attached::mac_text).unwrap_or_default()),
        ),
    ];
    let fields = fields.into_iter();
    fields.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Those that the container itself knows. Bryo's own.
fn inside(record: &Record, is_running: bool) -> Value {
    let addresses = record.settings.ports.addresses.filter(|_| is_running);
    let v4 = addresses.map(|addresses| addresses.v4);
    let v6 = addresses.and_then(|addresses| addresses.v6);
    let text =
        |address: Option<std::net::IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    json!({
        "Gateway": text(v4.map(|v4| v4.gateway.into())),
        "IPAddress": text(v4.map(|v4| v4.address.into())),
        "IPPrefixLen": v4.map_or(0, |v4| v4.prefix),
        "IPv6Gateway": text(v6.map(|v6| v6.gateway.into())),
        "GlobalIPv6Address": text(v6.map(|v6| v6.address.into())),
        "GlobalIPv6PrefixLen": v6.map_or(0, |v6| v6.prefix),
    })
}

/// `Config.ExposedPorts`.
pub(super) fn exposed(record: &Record) -> Option<BTreeMap<String, Value>> {
    let ports = &record.settings.ports.exposed;
    let listed = ports.iter().map(|port| (port.to_string(), json!({})));
    (!ports.is_empty()).then(|| listed.collect())
}

/// `HostConfig.PortBindings`.
pub(super) fn bindings(record: &Record) -> Value {
    json!(network::asked(record))
}

/// `HostConfig.ExtraHosts`.
pub(super) fn extra_hosts(record: &Record) -> Vec<String> {
    let hosts = record.settings.ports.names.hosts.iter();
    hosts
        .map(|(name, address)| match address {
            HostAddress::Of(address) => format!("{name}:{address}"),
            HostAddress::Gateway => format!("{name}:host-gateway"),
        })
        .collect()
}
