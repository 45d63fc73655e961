//! Which steps of other stores does a build use, and where does it put its own? `--cache-from`, `--cache-to`.

use std::collections::BTreeSet;
use std::sync::Arc;

use fuse_overlay::index::DiffId;

use super::order::Order;
use super::solve::{Build, Fetching, Stage};
use super::{Error, Progress};
use crate::images::cache::{self, ExportError, Exported, Import, ImportError, Place};
use crate::images::pull::PullError;
use crate::images::push::{self, PushError, Sent};
use crate::images::{Claim, steps};
use crate::line::chain;
use crate::store::{Digest, Store};

/// `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where to; `None` is into the image's config.
    pub place: Option<Place>,
    /// Which steps.
    pub mode: Mode,
    /// What becomes of the build if the cache cannot be written.
    pub failure: OnFailure,
}

/// Which steps are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those that made the target's layers.
    Min,
    /// All of the build.
    Max,
}

/// What a failed export means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The build fails, too.
    Fail,
    /// The user is told.
    Warn,
}

/// Reads the documents of caches. One that cannot be used is told and left out.
pub(super) fn imports(order: &Order, progress: &dyn Progress) -> Vec<Import> {
    let load = |place: &Place| {
        let registries = order.trust.registries().map_err(PullError::from)?;
        Import::load(place, registries)
    };
    let mut imports = Vec::new();
    for place in &order.cache_from {
        progress.begins(&format!("importing cache manifest from {place}"));
        match load(place) {
            Ok(import) => imports.push(import),
            Err(error) => unused(progress, place, &error),
        }
        progress.done();
    }
    imports
}

fn unused(progress: &dyn Progress, place: &Place, error: &ImportError) {
    progress.warning(&format!("the cache {place} is not used: {}", chain(error)));
}

impl Build<'_> {
    /// Fetches a step's layer from a cache that has it, so that the store's own has it then.
    pub(super) fn imported(&self, stage: &Stage, key: &Digest, history: &str) -> Result<bool, Error> {
        for import in &self.imports {
            let Some(step) = import.find(key, &stage.layers) else {
                continue;
            };
            let claim = Claim::new(self.store, &step.stack())?;
            match import.fetch(self.store, &step, &Fetching(self.progress)) {
                Ok(()) => {
                    steps::put(self.store, key, &step.told_as(history))?;
                    drop(claim);
                    return Ok(true);
                }
                Err(error) => unused(self.progress, &import.place, &error),
            }
        }
        Ok(false)
    }

    /// Keeps the layers of all stages from prunes until they are exported.
    pub(super) fn claims_of_exported(&self) -> Vec<Arc<Claim>> {
        match self.order.cache_to.iter().any(|to| to.place.is_some()) {
            true => self
                .done
                .values()
                .filter_map(|stage| stage.claim.clone())
                .collect(),
            false => Vec::new(),
        }
    }
}

/// Puts the steps of a build where they were asked for, but for the image, which has its own by now.
/// `used`: for each platform its steps, and the target's layers.
pub(super) fn export(
    store: &Store,
    order: &Order,
    used: &[(Vec<steps::Step>, Vec<DiffId>)],
    progress: &dyn Progress,
) -> Result<(), Error> {
    let put = |steps: &[steps::Step], place: &Place| -> Result<Exported, ExportError> {
        let registries = order.trust.registries().map_err(PushError::from)?;
        cache::export(store, steps, place, &registries, &Writing(progress))
    };
    for CacheTo { place, mode, failure } in &order.cache_to {
        let Some(place) = place else { continue };
        let what = match place {
            Place::Registry(_) => "exporting cache to registry",
            Place::Directory { .. } => "exporting cache to client directory",
        };
        progress.begins(what);
        let of_each = used.iter().flat_map(|(steps, target)| match mode {
            Mode::Min => cache::of_target(steps, target),
            Mode::Max => steps.clone(),
        });
        // A step for all platforms is told by each.
        let mut told = BTreeSet::new();
        let steps: Vec<steps::Step> = of_each.filter(|step| told.insert(step.key())).collect();
        match put(&steps, place) {
            Ok(Exported { manifest, left_out }) => {
                progress.output(format!("writing cache manifest {manifest} done\n").as_bytes());
                if left_out > 0 {
                    progress.warning(&format!(
                        "the cache {place} lacks {left_out} steps: the store has lost their layers meanwhile"
                    ));
                }
            }
            Err(error) if *failure == OnFailure::Warn => {
                progress.warning(&format!("cannot export the cache to {place}: {}", chain(&error)));
            }
            Err(source) => {
                let (place, source) = (place.to_string(), Box::new(source));
                return Err(Error::CacheExport { place, source });
            }
        }
        progress.done();
    }
    Ok(())
}

/// An export, told as part of a build.
struct Writing<'a>(&'a dyn Progress);

impl push::Progress for Writing<'_> {
    fn layer(&self, layer: &DiffId, how: &Sent) {
        let how = match how {
            Sent::Exists => "is there",
            Sent::Mounted(_) => "mounted",
            Sent::Pushed => "done",
        };
        let line = format!("writing layer {} {how}\n", Digest(layer.0));
        self.0.output(line.as_bytes());
    }
}
