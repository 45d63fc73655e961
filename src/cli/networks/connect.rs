//! `network connect`, `network disconnect`.

use std::process::ExitCode;

use super::super::report::Failure;
use crate::containers::Error;
use crate::containers::bridge::{self, BridgeError, Endpoint};
use crate::containers::network::{address, address_v6};
use crate::store::Store;

/// Flags of `network connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Another name of the container there
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Its address
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// The network
    network: String,
    /// The container
    container: String,
}

/// Flags of `network disconnect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Disconnect {
    /// A container that is not there any more is no error
    #[arg(short, long)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Connect {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let failed = |error| Failure::of(&error);
        not_fixed(&self.network)?;
        let endpoint = Endpoint {
            network: self.network,
            aliases: self.alias,
            v4: self.ip.as_deref().map(address).transpose().map_err(failed)?,
            v6: self.ip6.as_deref().map(address_v6).transpose().map_err(failed)?,
        };
        bridge::connect(store, endpoint, &self.container)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Disconnect {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        not_fixed(&self.network)?;
        match bridge::disconnect(store, &self.network, &self.container) {
            Err(Error::NoSuchContainer(_)) if self.force => {}
            done => done?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A container has these from its beginning to its end, or not at all.
fn not_fixed(network: &str) -> Result<(), Failure> {
    match network {
        "host" | "none" => {
            let refused = Failure::of(&BridgeError::Predefined(network.into()));
            Err(refused.hint(Some("a container is made with it, by --network, or without")))
        }
        _ => Ok(()),
    }
}
