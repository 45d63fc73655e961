//! `volume rm`, `volume prune`: data goes for good.

use std::process::ExitCode;

use super::super::output::{human_size, put};
use super::super::question::confirmed;
use super::super::report::Failure;
use super::has_label;
use crate::containers::Error;
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
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            match volume::remove(store, name) {
                Err(Error::Volume(VolumeError::NoSuchVolume(_))) if self.force => {}
                Err(error) => {
                    code = Failure::from(error).report();
                    continue;
                }
                Ok(()) => {}
            }
            put(&format!("{name}\n"))?;
        }
        Ok(code)
    }
}

impl Prune {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = filters(&self.filter)?;
        let what = match self.all {
            true => "all local volumes not used by at least one container",
            false => "anonymous local volumes not used by at least one container",
        };
        if !self.force && !confirmed(what)? {
            return Err(Failure::new("volume prune has been cancelled"));
        }
        let is_chosen = |volume: &Record| {
            (self.all || volume.is_anonymous()) && filters.iter().all(|filter| filter.accepts(volume))
        };
        let pruned = volume::prune(store, &is_chosen)?;
        let gone = told(&pruned.gone);
        put(&format!(
            "{gone}Total reclaimed space: {}\n",
            human_size(pruned.bytes)
        ))?;
        Ok(failed(pruned.failed))
    }
}

/// Docker's list of what is gone.
pub(in crate::cli) fn told(gone: &[String]) -> String {
    match gone {
        [] => String::new(),
        gone => format!("Deleted Volumes:\n{}\n\n", gone.join("\n")),
    }
}

/// Tells why others stay.
pub(in crate::cli) fn failed(errors: Vec<Error>) -> ExitCode {
    let codes = errors.into_iter().map(|error| Failure::from(error).report());
    codes.last().unwrap_or(ExitCode::SUCCESS)
}

pub(in crate::cli) fn filters(texts: &[String]) -> Result<Vec<Filter>, Failure> {
    texts.iter().map(|text| Filter::parse(text)).collect()
}

/// Docker's filters of `volume prune`. All must hold.
pub(in crate::cli) enum Filter {
    Label(String),
    NotLabel(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, Failure> {
        // `label!=x`, too, is split at its first sign.
        match text.split_once('=') {
            Some(("label", label)) => Ok(Filter::Label(label.into())),
            Some(("label!", label)) => Ok(Filter::NotLabel(label.into())),
            _ => {
                Err(Failure::new(format!("invalid filter '{text}'")).hint(Some("label and label! work here")))
            }
        }
    }

    pub(in crate::cli) fn accepts(&self, volume: &Record) -> bool {
        match self {
            Filter::Label(label) => has_label(volume, label),
            Filter::NotLabel(label) => !has_label(volume, label),
        }
    }
}
