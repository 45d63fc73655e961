//! `network rm`, `network prune`.

use std::process::ExitCode;

use super::super::each::each;
use super::super::filter::of_prune;
use super::super::output::{deleted, put};
use super::super::question::confirmed;
use super::super::report::Failure;
use crate::containers::Error;
use crate::containers::bridge::{self, BridgeError};
use crate::containers::prune::Filter;
use crate::store::Store;

/// Flags of `network rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// A network that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

/// Flags of `network prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove only networks for which this holds (until, label, label!)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Remove {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        each(&self.names, |name| match bridge::remove(store, name) {
            Err(Error::Bridge(BridgeError::NotFound(_))) if self.force => Ok(None),
            removed => Ok(removed.map(|()| Some(name.into()))?),
        })
    }
}

impl Prune {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = of_prune(&self.filter)?;
        if !self.force && !confirmed("all custom networks not used by at least one container")? {
            return Err(Failure::new("network prune has been cancelled"));
        }
        let gone = bridge::prune(store, &|network| {
            let accepts = |filter: &Filter| filter.accepts(&network.created, &network.labels);
            filters.iter().all(accepts)
        })?;
        put(&deleted("Networks", &gone))?;
        Ok(ExitCode::SUCCESS)
    }
}
