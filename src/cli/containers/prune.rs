//! `container prune`: removes all that do not run, after a question.

use std::process::ExitCode;

use super::super::filter::of_prune;
use super::super::output::{deleted, human_size, put};
use super::super::question::confirmed;
use super::super::report::Failure;
use crate::containers::prune::prune;
use crate::store::Store;

/// Flags of `container prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove only containers for which this holds (until, label, label!)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = of_prune(&self.filter)?;
        if !self.force && !confirmed("all stopped containers")? {
            return Err(Failure::new("container prune has been cancelled"));
        }
        let pruned = prune(store, &filters)?;
        let gone = deleted("Containers", &pruned.gone);
        put(&format!(
            "{gone}Total reclaimed space: {}\n",
            human_size(pruned.bytes)
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
