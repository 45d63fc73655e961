//! `pause` and `unpause`.

use std::process::ExitCode;

use super::super::each::each;
use super::super::report::Failure;
use super::chosen::{Chosen, runs};
use super::end::load;
use crate::containers::Error;
use crate::containers::pause::{pause, unpause};
use crate::containers::record::Record;
use crate::store::Store;

/// Flags of `pause` and of `unpause`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    chosen: Chosen,
}

impl Pause {
    pub(crate) fn pause(self, store: &Store) -> Result<ExitCode, Failure> {
        self.each(store, pause, |record| runs(record) && !record.paused)
    }

    pub(crate) fn unpause(self, store: &Store) -> Result<ExitCode, Failure> {
        self.each(store, unpause, |record| record.paused)
    }

    fn each(
        self,
        store: &Store,
        one: fn(&Store, &Record) -> Result<(), Error>,
        fits: fn(&Record) -> bool,
    ) -> Result<ExitCode, Failure> {
        each(&self.chosen.names(store, fits, false)?, |name| {
            one(store, &load(store, name)?)?;
            Ok(Some(name.to_string()))
        })
    }
}
