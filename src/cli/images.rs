//! Commands on images.

use std::process::ExitCode;

use super::report::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {}
    }
}
