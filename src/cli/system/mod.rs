//! `system`: commands on all that Bryo keeps.

mod df;
mod prune;
mod reset;

use std::process::ExitCode;

use super::report::Failure;
use super::{events, info};
use crate::store::Store;

#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum System {
    /// Show how much room images, containers, volumes and build cache take
    Df(df::Df),
    /// Remove what nothing uses
    Prune(prune::Prune),
    /// Remove all that there is: containers, volumes, images, build cache
    Reset(reset::Reset),
    /// Show what happens to containers and images
    Events(events::Events),
    /// Show what there is, and where
    Info(info::Format),
}

impl System {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            System::Df(df) => df.run(&Store::open()?),
            System::Prune(prune) => prune.run(&Store::open()?),
            System::Reset(reset) => reset.run(&Store::open()?),
            System::Events(events) => events.run(),
            System::Info(format) => info::info(&format),
        }
    }
}
