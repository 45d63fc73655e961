//! `wait`: what becomes of a container?

use std::process::ExitCode;

use super::super::each::each;
use super::super::report::Failure;
use super::end::load;
use crate::containers::wait::{Condition, until};
use crate::store::Store;

/// Flags of `wait`.
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// Wait for one of these: not-running, next-exit, removed, created, running, stopped, exited, healthy, unhealthy
    #[arg(
        long,
        value_name = "CONDITION",
        value_delimiter = ',',
        default_value = "not-running"
    )]
    condition: Vec<Condition>,
    /// Taken for Podman's sake: changes are noticed when they happen
    #[arg(short, long, value_name = "TIME")]
    interval: Option<String>,
    /// One that is not there is no error: -1
    #[arg(long)]
    ignore: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Wait {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        each(&self.containers, |name| {
            let record = match load(store, name) {
                Err(crate::containers::Error::NoSuchContainer(_)) if self.ignore => {
                    return Ok(Some("-1".into()));
                }
                record => record?,
            };
            let dockers = self.condition.iter().all(|condition| condition.is_dockers());
            let unknown = if dockers { 0 } else { -1 };
            let code = until(store, &record, &self.condition)?.map(|code| code.unwrap_or(unknown));
            match code {
                Some(code) => Ok(Some(code.to_string())),
                None => Err(Failure::new(format!(
                    "container {name} was removed, and its exit code is not known"
                ))),
            }
        })
    }
}
