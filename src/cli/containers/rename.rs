//! `rename`: a container gets another name.

use super::super::report::Failure;
use crate::containers::named;
use crate::containers::record;
use crate::store::Store;

/// Flags of `rename`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What it is called from now on
    #[arg(value_name = "NAME")]
    name: String,
}

impl Rename {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        let id = record::find(store, &self.container)?;
        Ok(named::rename(store, &id, &self.name)?)
    }
}
