//! `network create`.

use std::net::IpAddr;
use std::process::ExitCode;

use super::super::output::put;
use super::super::pairs::pairs;
use super::super::report::Failure;
use crate::containers::bridge::{self, BridgeError, New, Subnet};
use crate::store::Store;

/// Flags of `network create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The driver: bridge
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Its addresses, such as 172.28.0.0/16; without it they are chosen
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// The address of the bridge
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// Give containers addresses of this part of the subnet
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<String>,
    /// Nothing leads out of it
    #[arg(long)]
    internal: bool,
    /// With addresses of IPv6, too
    #[arg(long)]
    ipv6: bool,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Tell the driver: com.docker.network.driver.mtu=NUMBER
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
}

impl Create {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        if self.driver != "bridge" {
            return Err(Failure::of(&BridgeError::Driver(self.driver)));
        }
        let subnets = |texts: &[String]| {
            let parsed = texts.iter().map(|text| text.parse::<Subnet>());
            parsed
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Failure::of(&error))
        };
        let new = New {
            name: self.name,
            internal: self.internal,
            ipv6: self.ipv6,
            labels: pairs(&self.label),
            options: pairs(&self.options),
            subnets: subnets(&self.subnet)?,
            gateways: self.gateway,
            ranges: subnets(&self.ip_range)?,
        };
        let made = bridge::create(store, new)?;
        put(&format!("{}\n", made.id))?;
        Ok(ExitCode::SUCCESS)
    }
}
