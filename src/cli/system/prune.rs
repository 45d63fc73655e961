//! `system prune`: what nothing uses goes, after a question.

use std::process::ExitCode;

use crate::build::{Filters as Cached, Prune as PruneCache};
use crate::cli::build::tell_kept;
use crate::cli::filter::{of_prune, of_prune_by_label};
use crate::cli::images::{pruned_images, uses};
use crate::cli::output::{deleted, human_size, put};
use crate::cli::question::confirmed_all;
use crate::cli::report::Failure;
use crate::cli::volumes::volumes_stay;
use crate::containers::prune::Filter;
use crate::containers::{self, bridge, volume};
use crate::images::list::Filters;
use crate::images::names::References;
use crate::images::prune::{Which, prune};
use crate::store::Store;

/// Flags of `system prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove all images that no container was made from, not only those without a tag, and all build cache
    #[arg(short, long)]
    all: bool,
    /// Remove only what this holds for: until, label, label!
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove volumes that nobody named and no container uses, too
    #[arg(long)]
    volumes: bool,
}

impl Prune {
    pub(super) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = of_prune(&self.filter)?;
        let now = jiff::Timestamp::now().as_second();
        let of_images = Filters::parse(&self.filter, &References::load(store)?, now)?;
        if self.volumes && self.filter.iter().any(|filter| filter.starts_with("until=")) {
            return Err(Failure::new("the filter until is not for volumes")
                .hint(Some("prune volumes by a command of their own: bryo volume prune")));
        }
        let of_volumes = match self.volumes {
            true => of_prune_by_label(&self.filter)?,
            false => Vec::new(),
        };
        let (which, what) = match self.all {
            true => (
                Which::Unused,
                [
                    "all images without at least one container associated to them",
                    "all build cache",
                ],
            ),
            false => (Which::Dangling, ["all dangling images", "unused build cache"]),
        };
        let mut all = vec![
            "all stopped containers",
            "all networks not used by at least one container",
        ];
        if self.volumes {
            all.push("all anonymous volumes not used by at least one container");
        }
        all.extend(what);
        if !self.force && !confirmed_all(&all)? {
            return Err(Failure::new("system prune has been cancelled"));
        }
        let containers = containers::prune::prune(store, &filters)?;
        let networks = bridge::prune(store, &|one| {
            let accepts = |filter: &Filter| filter.accepts(&one.created, &one.labels);
            filters.iter().all(accepts)
        })?;
        let is_chosen = |one: &volume::Record| {
            let accepts = |filter: &Filter| filter.accepts(&one.created, &one.labels);
            self.volumes && one.is_anonymous() && of_volumes.iter().all(accepts)
        };
        let volumes = volume::prune(store, &is_chosen)?;
        let images = prune(store, which, &of_images, &|| uses(store))?;
        let mut text = deleted("Containers", &containers.gone) + &deleted("Networks", &networks);
        text += &deleted("Volumes", &volumes.gone);
        text += &pruned_images(&images);
        let mut bytes = containers.bytes + volumes.bytes + images.bytes;
        // What builds keep has no labels that one could ask for.
        let until = |filter: &&String| filter.starts_with("until=");
        if self.filter.iter().all(|filter| until(&filter)) {
            let cached = Cached::parse(&self.filter, now)
                .map_err(|text| Failure::new(format!("invalid filter '{text}'")))?;
            let order = PruneCache {
                all: self.all,
                filters: cached,
                keep: 0,
            };
            let cache = order.carry_out(store).map_err(|error| Failure::of(&error))?;
            tell_kept(&cache);
            text += &deleted("build cache objects", &cache.gone);
            bytes += cache.bytes;
        }
        put(&format!("{text}Total reclaimed space: {}\n", human_size(bytes)))?;
        Ok(volumes_stay(volumes.failed))
    }
}
