//! Commands on networks.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::report::Failure;
use crate::containers::Error;
use crate::containers::bridge::{self, BridgeError, Definition, Members, PREDEFINED};
use crate::containers::network;
use crate::containers::record::{self, Life};
use crate::store::{Digest, Store};

mod connect;
mod create;
mod list;
mod remove;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a network
    Create(create::Create),
    /// List networks
    #[command(name = "ls", visible_alias = "list")]
    List(list::List),
    /// Show all that is known of networks
    Inspect(super::inspect::Inspect),
    /// Put a container onto a network
    Connect(connect::Connect),
    /// Take a container off a network
    Disconnect(connect::Disconnect),
    /// Remove networks that no running container is on
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::Remove),
    /// Remove all networks that no running container is on
    Prune(remove::Prune),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Create(create) => create.run(&Store::open()?),
            Command::List(list) => list.run(&Store::open()?),
            Command::Inspect(inspect) => inspect.of_networks().run(),
            Command::Connect(connect) => connect.run(&Store::open()?),
            Command::Disconnect(disconnect) => disconnect.run(&Store::open()?),
            Command::Remove(remove) => remove.run(&Store::open()?),
            Command::Prune(prune) => prune.run(&Store::open()?),
        }
    }
}

/// The id of a network that is there by itself.
fn predefined_id(name: &str) -> String {
    Digest::of(format!("network {name}").as_bytes()).hex()
}

/// The driver of one.
fn predefined_driver(name: &str) -> &'static str {
    match name {
        "host" => "host",
        "none" => "null",
        _ => "bridge",
    }
}

/// The network's JSON, in Docker's shape; `None` if there is no such network.
pub(super) fn inspect_network(store: &Store, name: &str) -> Result<Option<Value>, Failure> {
    let is_meant = |one: &&&str| **one == name || (name.len() >= 4 && predefined_id(one).starts_with(name));
    if let Some(name) = PREDEFINED.iter().find(is_meant) {
        return predefined(store, name).map(Some);
    }
    match bridge::find(store, name) {
        Err(Error::Bridge(BridgeError::NotFound(_))) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(network) => Ok(Some(of_ones_own(store, &network)?)),
    }
}

fn of_ones_own(store: &Store, network: &Definition) -> Result<Value, Failure> {
    let mut containers = Map::new();
    for member in Members::of(store.run(), &network.id)?.iter() {
        let attached = &member.attached;
        let address = |is_v4| {
            let given = attached.of_family(is_v4);
            given.map_or(String::new(), |given| {
                format!("{}/{}", given.address, given.prefix)
            })
        };
        let record = record::read(store, &member.container)?;
        let shown = json!({
            "Name": record.map_or_else(|| member.name.clone(), |record| record.name),
            "EndpointID": attached.endpoint,
            "MacAddress": attached.mac_text(),
            "IPv4Address": address(true),
            "IPv6Address": address(false),
        });
        containers.insert(member.container.clone(), shown);
    }
    let pools = network.pools.iter().map(|pool| {
        let mut config = Map::new();
        config.insert("Subnet".into(), json!(pool.subnet));
        if let Some(range) = pool.range {
            config.insert("IPRange".into(), json!(range));
        }
        config.insert("Gateway".into(), json!(pool.gateway));
        Value::from(config)
    });
    let (internal, ipv6) = (network.internal, network.ipv6);
    let mut shown = shape(&network.name, &network.id, "bridge", (internal, ipv6));
    shown["Created"] = json!(network.created);
    shown["IPAM"]["Config"] = pools.collect();
    shown["Containers"] = containers.into();
    shown["Options"] = json!(network.options);
    shown["Labels"] = json!(network.labels);
    Ok(shown)
}

fn predefined(store: &Store, name: &str) -> Result<Value, Failure> {
    let mut containers = Map::new();
    for record in record::all(store)? {
        if matches!(record.life, Life::Running { .. }) && network::names(&record).contains(&name) {
            // Nobody reaches it by an address.
            let shown = json!({
                "Name": record.name,
                "EndpointID": "",
                "MacAddress": "",
                "IPv4Address": "",
                "IPv6Address": "",
            });
            containers.insert(record.id, shown);
        }
    }
    let mut shown = shape(
        name,
        &predefined_id(name),
        predefined_driver(name),
        (false, false),
    );
    shown["Containers"] = containers.into();
    Ok(shown)
}

/// What all have, in Docker's order.
fn shape(name: &str, id: &str, driver: &str, (internal, ipv6): (bool, bool)) -> Value {
    json!({
        "Name": name,
        "Id": id,
        "Created": "0001-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": true,
        "EnableIPv6": ipv6,
        "IPAM": {"Driver": "default", "Options": {}, "Config": []},
        "Internal": internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": {},
        "Options": {},
        "Labels": {},
    })
}
