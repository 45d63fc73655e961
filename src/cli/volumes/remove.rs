//! `volume rm`, `volume prune`: data goes for good.

use std::process::ExitCode;

use super::super::each::each;
use super::super::filter::of_prune_by_label;
use super::super::output::{deleted, human_size, put};
use super::super::question::confirmed;
use super::super::report::Failure;
use crate::containers::Error;
use crate::containers::prune::Filter;
use crate::containers::volume::{self, Record, VolumeError};
use crate::store::Store;

/// Flags of `volume rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// A volume that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,
}

/// Flags of `volume prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove those with a name, too
    #[arg(short, long)]
    all: bool,
    /// Remove only volumes for which this holds (label, label!)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Remove {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        each(&self.names, |name| match volume::remove(store, name) {
            Err(Error::Volume(VolumeError::NoSuchVolume(_))) if self.force => Ok(Some(name.into())),
            removed => Ok(removed.map(|()| Some(name.into()))?),
        })
    }
}

impl Prune {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = of_prune_by_label(&self.filter)?;
        let what = match self.all {
            true => "all local volumes not used by at least one container",
            false => "anonymous local volumes not used by at least one container",
        };
        if !self.force && !confirmed(what)? {
            return Err(Failure::new("volume prune has been cancelled"));
        }
        let is_chosen = |volume: &Record| {
            let accepts = |filter: &Filter| filter.accepts(&volume.created, &volume.labels);
            (self.all || volume.is_anonymous()) && filters.iter().all(accepts)
        };
        let pruned = volume::prune(store, &is_chosen)?;
        let gone = deleted("Volumes", &pruned.gone);
        put(&format!(
            "{gone}Total reclaimed space: {}\n",
            human_size(pruned.bytes)
        ))?;
        Ok(failed(pruned.failed))
    }
}

/// Tells why others stay.
pub(in crate::cli) fn failed(errors: Vec<Error>) -> ExitCode {
    let codes = errors.into_iter().map(|error| Failure::from(error).report());
    codes.last().unwrap_or(ExitCode::SUCCESS)
}
