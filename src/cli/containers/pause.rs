//! `pause` and `unpause`.

use std::process::ExitCode;

use super::super::each::each;
use super::super::report::Failure;
use super::end::load;
use crate::containers::Error;
use crate::containers::pause::{pause, unpause};
use crate::containers::record::Record;
use crate::store::Store;

/// Flags of `pause` and of `unpause`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Pause {
    pub(crate) fn pause(self, store: &Store) -> Result<ExitCode, Failure> {
        self.each(store, pause)
    }

    pub(crate) fn unpause(self, store: &Store) -> Result<ExitCode, Failure> {
        self.each(store, unpause)
    }

    fn each(self, store: &Store, one: fn(&Store, &Record) -> Result<(), Error>) -> Result<ExitCode, Failure> {
        each(&self.containers, |name| {
            one(store, &load(store, name)?)?;
            Ok(Some(name.to_string()))
        })
    }
}
