//! `network rm`, `network prune`.

use std::process::ExitCode;

use super::super::output::put;
use super::super::question::confirmed;
use super::super::report::Failure;
use super::list::has_label;
use crate::containers::Error;
use crate::containers::bridge::{self, BridgeError, Definition};
use crate::containers::record;
use crate::moment::moment;
use crate::store::Store;

/// Flags of `network rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// A network that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

/// Flags of `network prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove only networks for which this holds (until, label, label!)
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
            match bridge::remove(store, name) {
                Err(Error::Bridge(BridgeError::NotFound(_))) if self.force => {}
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
        if !self.force && !confirmed("all custom networks not used by at least one container")? {
            return Err(Failure::new("network prune has been cancelled"));
        }
        let gone = bridge::prune(store, &|network| {
            filters.iter().all(|filter| filter.accepts(network))
        })?;
        put(&told(&gone))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Docker's list of what is gone.
pub(in crate::cli) fn told(gone: &[String]) -> String {
    match gone {
        [] => String::new(),
        gone => format!("Deleted Networks:\n{}\n\n", gone.join("\n")),
    }
}

pub(in crate::cli) fn filters(texts: &[String]) -> Result<Vec<Filter>, Failure> {
    texts.iter().map(|text| Filter::parse(text)).collect()
}

/// Docker's filters of `network prune`. All must hold.
pub(in crate::cli) enum Filter {
    Until(String),
    Label(String),
    NotLabel(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, Failure> {
        let invalid = || Failure::new(format!("invalid filter '{text}'"));
        match text.split_once('=') {
            Some(("until", time)) => {
                let time = moment(time, jiff::Timestamp::now()).ok_or_else(invalid)?;
                Ok(Filter::Until(record::shown(time)))
            }
            Some(("label", label)) => Ok(Filter::Label(label.into())),
            Some(("label!", label)) => Ok(Filter::NotLabel(label.into())),
            _ => Err(invalid().hint(Some("until, label and label! work here"))),
        }
    }

    pub(in crate::cli) fn accepts(&self, network: &Definition) -> bool {
        match self {
            Filter::Until(time) => network.created < *time,
            Filter::Label(label) => has_label(network, label),
            Filter::NotLabel(label) => !has_label(network, label),
        }
    }
}
