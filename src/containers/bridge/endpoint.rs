//! What does a container ask of a network, and what has it got while it runs?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BridgeError, Definition, Pool, Subnet};
use crate::net::Addresses;
use crate::store::events::{Event, Kind, tell};

/// What is asked: the record keeps it. A network is known by its name, so that one that was made anew is found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// `--network-alias`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `--ip`.
    #[serde(default)]
    pub v4: Option<Ipv4Addr>,
    /// `--ip6`.
    #[serde(default)]
    pub v6: Option<Ipv6Addr>,
}

/// An address that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The container's.
    pub address: IpAddr,
    /// The bridge's.
    pub gateway: IpAddr,
    /// The length of the subnet's prefix.
    pub prefix: u8,
}

/// What a container that runs has of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The network's name.
    pub network: String,
    /// Its id.
    pub id: String,
    /// 64 hex digits, of this run.
    pub endpoint: String,
    /// Nothing leads out of it.
    pub internal: bool,
    /// The device's name inside.
    pub device: String,
    /// Its addresses, IPv4's first.
    pub given: Vec<Given>,
}

impl Endpoint {
    /// Can it have the addresses that it asks for, if they are free?
    ///
    /// # Errors
    /// It cannot.
    pub fn fits(&self, network: &Definition) -> Result<(), BridgeError> {
        for wanted in [self.v4.map(IpAddr::from), self.v6.map(IpAddr::from)]
            .into_iter()
            .flatten()
        {
            let pool = network
                .pools
                .iter()
                .find(|pool| pool.subnet.is_v4() == wanted.is_ipv4());
            match pool {
                Some(pool) if pool.named => pool.fits(wanted)?,
                _ => return Err(BridgeError::Unnamed),
            }
        }
        Ok(())
    }

    /// The address that it asks for in this pool.
    pub(in crate::containers) fn wanted(&self, pool: &Pool) -> Option<IpAddr> {
        match pool.subnet.is_v4() {
            true => self.v4.map(IpAddr::from),
            false => self.v6.map(IpAddr::from),
        }
    }
}

impl Attached {
    /// Tells that a container came onto its network, or left it.
    pub(in crate::containers) fn happened(&self, state: &Path, action: &str, container: &str) {
        let event = Event::now(Kind::Network, action, &self.id).with("container", container);
        tell(state, &event.with("name", &self.network).with("type", "bridge"));
    }

    /// Docker's Ethernet address of an address of IPv4.
    pub fn mac(&self) -> [u8; 6] {
        let v4 = self.given.iter().find_map(|given| match given.address {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        });
        let [a, b, c, d] = v4.unwrap_or_default();
        [0x02, 0x42, a, b, c, d]
    }

    /// That as text.
    pub fn mac_text(&self) -> String {
        self.mac().map(|byte| format!("{byte:02x}")).join(":")
    }

    /// What was given of a family.
    pub fn of_family(&self, is_v4: bool) -> Option<&Given> {
        self.given.iter().find(|given| given.address.is_ipv4() == is_v4)
    }
}

/// The container's way out must not lie in the network.
pub(in crate::containers) fn apart(network: &Definition, way_out: &Addresses) -> Result<(), BridgeError> {
    let v4 =
        Subnet::around(way_out.v4.address.into(), way_out.v4.prefix).zip(Some(way_out.v4.address.into()));
    let v6 = way_out
        .v6
        .and_then(|v6| Subnet::around(v6.address.into(), v6.prefix).zip(Some(IpAddr::from(v6.address))));
    for (out, taken) in v4.into_iter().chain(v6) {
        if let Some(pool) = network.pools.iter().find(|pool| pool.subnet.overlaps(&out)) {
            return Err(BridgeError::WayOut {
                network: network.name.clone(),
                subnet: pool.subnet,
                taken,
            });
        }
    }
    Ok(())
}
