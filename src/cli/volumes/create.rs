//! `volume create`: a place for data that outlives containers.

use std::process::ExitCode;

use super::super::output::put;
use super::super::pairs::pairs;
use super::super::report::Failure;
use crate::containers::volume::{self, ANONYMOUS, New, VolumeError};
use crate::store::Store;

/// Flags of `volume create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The driver: local
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Tell the driver: type=tmpfs with o=…, or type=none, o=bind and device=DIR
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Its name; without one it gets 64 hex digits
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

impl Create {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        if self.driver != "local" {
            return Err(Failure::of(&VolumeError::Driver(self.driver)));
        }
        let mut labels = pairs(&self.label);
        let name = match self.name {
            Some(name) => name,
            None => {
                labels.insert(ANONYMOUS.into(), String::new());
                volume::new_name()?
            }
        };
        let options = pairs(&self.options);
        if options.get("type").is_some_and(|kind| kind == "tmpfs") {
            crate::line::say!(
                "bryo: each container has its own memory for {name}: without root it cannot be shared"
            );
        }
        let new = New {
            name: name.clone(),
            labels,
            options,
        };
        volume::create(store, new)?;
        put(&format!("{name}\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}
