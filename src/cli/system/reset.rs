//! `system reset`: all goes, after a question.

use std::process::ExitCode;

use crate::build::{self, Prune as PruneCache};
use crate::cli::build::tell_kept;
use crate::cli::question::confirmed_all;
use crate::cli::report::Failure;
use crate::containers::end;
use crate::containers::{orphans, record, volume};
use crate::images::names::Change;
use crate::store::{Store, wipe};

/// Flags of `system reset`.
#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Reset {
    pub(super) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let busy = || {
            Failure::new("a pull or a build is at work: nothing is removed")
                .hint(Some("wait for its end, or stop it"))
        };
        if wipe::is_busy(store)? {
            return Err(busy());
        }
        let what = [
            "all containers, also those that run",
            "all volumes",
            "all images",
            "all build cache",
        ];
        if !self.force && !confirmed_all(&what)? {
            return Err(Failure::new("system reset has been cancelled"));
        }
        // First: no container is made of an image that is off the list.
        Change::begin(store)?.forget_all()?;
        remove_containers(store)?;
        volume::wipe(store.state())?;
        build::remove_orphans(store).map_err(|error| Failure::of(&error))?;
        let order = PruneCache {
            all: true,
            ..PruneCache::default()
        };
        tell_kept(&order.carry_out(store).map_err(|error| Failure::of(&error))?);
        if wipe::is_busy(store)? {
            return Err(busy());
        }
        let left = wipe::wipe(store)?;
        for (path, error) in &left {
            crate::line::say!("bryo: cannot remove {}: {error}", path.display());
        }
        Ok(if left.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Removes all, also those that are made meanwhile.
fn remove_containers(store: &Store) -> Result<(), Failure> {
    // Of a directory of the host there may be another each time.
    for _ in 0..8 {
        let ids = record::ids(store)?;
        if ids.is_empty() {
            break;
        }
        for id in ids {
            end::remove(store, &id, end::Force::Yes)?;
        }
        orphans::remove(store)?;
    }
    Ok(())
}
