//! `update`: a container gets other flags than it was made with.

use std::process::ExitCode;

use super::super::report::Failure;
use crate::containers::amended;
use crate::containers::record::Afterwards;
use crate::containers::restart::Policy;
use crate::store::Store;

/// Flags of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// Start it again when it ends: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = Policy::parse)]
    restart: Option<Policy>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Update {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let Some(policy) = self.restart else {
            return Err(Failure::new(
                "you must provide one or more flags when using this command",
            ));
        };
        super::each(&self.containers, |name| {
            let record = super::end::load(store, name)?;
            if record.afterwards != Afterwards::Keep && policy != Policy::No {
                return Err(Failure::new(format!(
                    "container {name} cannot be restarted: it is removed when it ends (--rm)"
                )));
            }
            amended::set_policy(store, &record.id, policy)?;
            Ok(Some(name.to_string()))
        })
    }
}
