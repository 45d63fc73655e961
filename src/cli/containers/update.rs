//! `update`: a container gets other flags than it was made with.

use std::process::ExitCode;

use super::super::each::each;
use super::super::report::Failure;
use super::limits::LimitFlags;
use super::start::warn;
use crate::containers::amended;
use crate::containers::cgroup::Limits;
use crate::containers::record::Afterwards;
use crate::containers::restart::Policy;
use crate::store::Store;

/// Flags of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// Start it again when it ends: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = Policy::parse)]
    restart: Option<Policy>,
    #[command(flatten)]
    limits: LimitFlags,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Update {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let limits = self.limits.limits();
        if self.restart.is_none() && limits == Limits::default() {
            return Err(Failure::new(
                "you must provide one or more flags when using this command",
            ));
        }
        each(&self.containers, |name| {
            let record = super::end::load(store, name)?;
            if record.afterwards != Afterwards::Keep
                && self.restart.is_some_and(|policy| policy != Policy::No)
            {
                return Err(Failure::new(format!(
                    "container {name} cannot be restarted: it is removed when it ends (--rm)"
                )));
            }
            if limits != Limits::default() {
                let warnings = amended::set_limits(store, &record.id, &limits)?;
                warnings.iter().for_each(|text| warn(text));
            }
            if let Some(policy) = self.restart {
                amended::set_policy(store, &record.id, policy)?;
            }
            Ok(Some(name.to_string()))
        })
    }
}
