//! The flags of `run` and `create` about networks, ports and names of hosts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::report::Failure;
use crate::containers::files::{self, HostAddress, HostNames};
use crate::containers::network::{self, Flags, Mode};

/// As they are given.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct NetworkFlags {
    /// Network: bridge (the built-in one, also called default and private), none, host, container:NAME
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
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
    /// Set a name server
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
    /// Set a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set a DNS option
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Address of the container (not supported)
    #[arg(long, value_name = "IP", hide = true)]
    ip: Option<String>,
    /// IPv6 address of the container (not supported)
    #[arg(long, value_name = "IP", hide = true)]
    ip6: Option<String>,
    /// MAC address of the container (not supported)
    #[arg(long, value_name = "MAC", hide = true)]
    mac_address: Option<String>,
}

impl NetworkFlags {
    /// The host's, unless another is asked for.
    pub(super) fn or_hosts(&mut self) {
        self.network.get_or_insert_with(|| "host".into());
    }

    /// What they mean.
    pub(super) fn read(self) -> Result<(Flags, HostNames), Failure> {
        if self.ip.is_some() || self.ip6.is_some() {
            return Err(Failure::new(
                "user specified IP address is supported on user defined networks only",
            ));
        }
        if self.mac_address.is_some() {
            return Err(Failure::new("--mac-address is not supported").hint(Some(
                "the device in a container carries IP packets without Ethernet, so it has no such address",
            )));
        }
        let failed = |error: network::NetworkError| Failure::of(&error);
        let mode = self
            .network
            .as_deref()
            .map(Mode::parse)
            .transpose()
            .map_err(failed)?;
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
            mode,
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
        };
        Ok((flags, names))
    }
}
