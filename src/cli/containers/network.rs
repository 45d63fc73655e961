//! The flags of `run` and `create` about networks, ports and names of hosts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::report::Failure;
use crate::containers::files::{self, HostAddress, HostNames};
use crate::containers::network::{self, Flags, Wishes};

/// As they are given.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct NetworkFlags {
    /// Network: bridge (the built-in one, also called default and private), none, host, container:NAME, or one of your own;
    /// several of those by several flags
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Another name of the container on its first network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Publish a port of the container on the host
    #[arg(short, long, value_name = "[IP:][HOST:]CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Publish all exposed ports on free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of them
    #[arg(long, value_name = "PORT[/udp]")]
    expose: Vec<String>,
    /// Name of the host inside the container
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Add a line to /etc/hosts; host-gateway is the host
    #[arg(long, value_name = "NAME:IP", value_parser = files::add_host)]
    add_host: Vec<(String, HostAddress)>,
    /// Leave /etc/hosts as the image has it
    #[arg(long, conflicts_with = "add_host")]
    no_hosts: bool,
    /// Set a name server
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
    /// Set a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set a DNS option
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Address of the container on its first network
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// IPv6 address of the container on its first network
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// MAC address of the container (not supported)
    #[arg(long, value_name = "MAC", hide = true)]
    mac_address: Option<String>,
}

impl NetworkFlags {
    /// The host's, unless another is asked for.
    pub(super) fn or_hosts(&mut self) {
        if self.network.is_empty() {
            self.network.push("host".into());
        }
    }

    /// What they mean.
    pub(super) fn read(self) -> Result<(Flags, HostNames), Failure> {
        if self.mac_address.is_some() {
            return Err(Failure::new("--mac-address is not supported").hint(Some(
                "the device in a container carries IP packets without Ethernet, so it has no such address",
            )));
        }
        let failed = |error: network::NetworkError| Failure::of(&error);
        let wishes = Wishes {
            networks: self.network,
            aliases: self.network_alias,
            v4: self.ip,
            v6: self.ip6,
        };
        let wanted = wishes.read().map_err(failed)?;
        let mut published = Vec::new();
        for text in &self.publish {
            for one in network::publish(text).map_err(failed)? {
                // Given twice, it is meant once.
                if !published.contains(&one) {
                    published.push(one);
                }
            }
        }
        let mut exposed = BTreeSet::new();
        for text in &self.expose {
            exposed.extend(network::expose(text).map_err(failed)?);
        }
        let flags = Flags {
            mode: wanted.mode,
            endpoints: wanted.endpoints,
            on_bridge: wanted.on_bridge,
            published,
            publish_all: self.publish_all,
            exposed,
            hostname: self.hostname,
        };
        let names = HostNames {
            hosts: self.add_host,
            servers: self.dns,
            search: self.dns_search,
            options: self.dns_option,
            none: self.no_hosts,
        };
        Ok((flags, names))
    }
}
