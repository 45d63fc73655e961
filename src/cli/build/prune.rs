//! `builder prune`: what earlier builds left for later ones.

use crate::build::{Filters, Prune as Order, Pruned};
use crate::cli::output::{deleted, human_size, put};
use crate::cli::question::confirmed;
use crate::cli::report::Failure;
use crate::containers::spec::mounts;
use crate::store::Store;

/// Flags of `builder prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove all unused build cache, not just dangling ones: also layers that images have
    #[arg(short, long)]
    all: bool,
    /// Remove only what this chooses: until=24h, id=ID, type=regular|exec.cachemount|source.local, inuse, shared, private
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Keep so much of the cache, what was used last
    #[arg(long, visible_alias = "reserved-space", value_name = "BYTES")]
    keep_storage: Option<String>,
    /// The most that the cache may have afterwards; what was unused longest goes first
    #[arg(long, value_name = "BYTES")]
    max_used_space: Option<String>,
}

impl Prune {
    pub(super) fn run(self, store: &Store) -> Result<(), Failure> {
        let keep = [
            bytes("keep-storage", self.keep_storage.as_deref())?,
            bytes("max-used-space", self.max_used_space.as_deref())?,
        ];
        let order = Order {
            all: self.all,
            filters: filters(&self.filter)?,
            // BuildKit: at most the one, but not less than the other.
            keep: keep.into_iter().max().unwrap_or(0),
        };
        let what = match self.all {
            true => "all build cache",
            false => "all dangling build cache",
        };
        if !self.force && !confirmed(what)? {
            return Err(Failure::new("builder prune has been cancelled"));
        }
        let pruned = order.carry_out(store).map_err(|error| Failure::of(&error))?;
        tell_kept(&pruned);
        let gone = deleted("build cache objects", &pruned.gone);
        put(&format!(
            "{gone}Total reclaimed space: {}\n",
            human_size(pruned.bytes)
        ))
    }
}

/// Says which caches could not be removed.
pub(in crate::cli) fn tell_kept(pruned: &Pruned) {
    for cache in &pruned.kept {
        let path = cache.display();
        crate::line::say!(
            "bryo: the cache {path} stays: a RUN wrote to it under another id; `podman unshare rm -r` removes it"
        );
    }
}

fn bytes(flag: &str, text: Option<&str>) -> Result<u64, Failure> {
    let Some(text) = text else { return Ok(0) };
    mounts::bytes(text)
        .ok_or_else(|| Failure::new(format!("invalid argument {text:?} for \"--{flag}\"")).code(125))
}

/// `--filter`.
pub(super) fn filters(texts: &[String]) -> Result<Filters, Failure> {
    let now = jiff::Timestamp::now().as_second();
    Filters::parse(texts, now).map_err(|text| {
        Failure::new(format!("invalid filter '{text}'")).hint(Some(
            "until=AGE, id=ID, type=regular|exec.cachemount|source.local, inuse, shared and private work here",
        ))
    })
}
