//! `container prune`: removes all that do not run, after a question.

use std::process::ExitCode;

use super::super::output::{human_size, put};
use super::super::question::confirmed;
use super::super::report::Failure;
use crate::containers::prune::{Filter, prune};
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
        let filters = filters(&self.filter)?;
        if !self.force && !confirmed("all stopped containers")? {
            return Err(Failure::new("container prune has been cancelled"));
        }
        let pruned = prune(store, &filters)?;
        let gone = told(&pruned.gone);
        put(&format!(
            "{gone}Total reclaimed space: {}\n",
            human_size(pruned.bytes)
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Docker's list of what is gone.
pub(in crate::cli) fn told(gone: &[String]) -> String {
    match gone {
        [] => String::new(),
        gone => format!("Deleted Containers:\n{}\n\n", gone.join("\n")),
    }
}

pub(in crate::cli) fn filters(texts: &[String]) -> Result<Vec<Filter>, Failure> {
    let one = |text: &String| {
        Filter::parse(text).ok_or_else(|| {
            Failure::new(format!("invalid filter '{text}'")).hint(Some("until, label and label! work here"))
        })
    };
    texts.iter().map(one).collect()
}
