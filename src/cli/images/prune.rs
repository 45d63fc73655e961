//! `image prune`: frees what nothing uses, after a question.

use super::remove::familiar;
use super::{now, uses};
use crate::build;
use crate::cli::output::{human_size, put};
use crate::cli::question::confirmed;
use crate::cli::report::Failure;
use crate::containers::orphans;
use crate::images::list::Filters;
use crate::images::names::References;
use crate::images::prune::{Pruned, Which, prune};
use crate::images::remove::Removed;
use crate::store::Store;

/// Flags of `image prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove all images that no container was made from, not only those without a tag
    #[arg(short, long)]
    all: bool,
    /// Remove only images for which this holds (until, label, label!)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        if let Some(other) = self.filter.iter().find(|filter| !is_prune_filter(filter)) {
            return Err(Failure::new(format!("invalid filter '{other}'"))
                .hint(Some("until, label and label! work here")));
        }
        let (which, what) = match self.all {
            true => (
                Which::Unused,
                "all images without at least one container associated to them",
            ),
            false => (Which::Dangling, "all dangling images"),
        };
        if !self.force && !confirmed(what)? {
            return Err(Failure::new("image prune has been cancelled"));
        }
        let filters = Filters::parse(&self.filter, &References::load(store)?, now())?;
        let mut pruned = prune(store, which, &filters, &|| uses(store))?;
        pruned.bytes += orphans::remove(store)?;
        build::remove_orphans(store).map_err(|error| Failure::of(&error))?;
        let gone = told(&pruned);
        put(&format!(
            "{gone}Total reclaimed space: {}\n",
            human_size(pruned.bytes)
        ))
    }
}

/// Docker's list of what is gone.
pub(in crate::cli) fn told(pruned: &Pruned) -> String {
    let line = |removed: &Removed| match removed {
        Removed::Untagged(name) => format!("untagged: {}\n", familiar(name)),
        Removed::Deleted(digest) => format!("deleted: {digest}\n"),
    };
    match pruned.removed.as_slice() {
        [] => String::new(),
        removed => format!(
            "Deleted Images:\n{}\n",
            removed.iter().map(line).collect::<String>()
        ),
    }
}

/// Those of Docker's `image prune`; the others choose by what `images` shows.
fn is_prune_filter(filter: &str) -> bool {
    matches!(filter.split('=').next(), Some("until" | "label" | "label!"))
}
