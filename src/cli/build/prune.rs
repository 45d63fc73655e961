//! `builder prune`: what earlier builds left for later ones.

use std::process::ExitCode;

use crate::build;
use crate::cli::output::{human_size, put};
use crate::cli::question::confirmed;
use crate::cli::report::Failure;
use crate::store::Store;

/// Commands on the build cache.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Builder {
    /// Remove the build cache
    Prune(Prune),
}

/// Flags of `builder prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Accepted for Docker's sake: no part of the cache is kept without it
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Builder {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        let Builder::Prune(prune) = self;
        if !prune.force && !confirmed("all build cache")? {
            return Err(Failure::new("builder prune has been cancelled"));
        }
        let pruned = build::prune(&store).map_err(|error| Failure::of(&error))?;
        for cache in &pruned.kept {
            let path = cache.display();
            eprintln!(
                "bryo: the cache {path} stays: a RUN wrote to it under another id; `podman unshare rm -r` removes it"
            );
        }
        put(&format!("Total reclaimed space: {}\n", human_size(pruned.bytes)))?;
        Ok(ExitCode::SUCCESS)
    }
}
