//! `upgrade-server`: a running container gets the filesystem server of this program.

use std::process::ExitCode;

use super::super::each::each;
use super::super::report::Failure;
use crate::containers::upgrade;
use crate::store::Store;

/// Arguments of `upgrade-server`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpgradeServer {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl UpgradeServer {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        each(&self.containers, |name| {
            upgrade::upgrade_server(store, &super::end::load(store, name)?)?;
            Ok(Some(name.to_string()))
        })
    }
}
