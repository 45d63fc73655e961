//! Which commands and flags exist? Each file a family of commands: flags → one call → print.

use std::process::ExitCode;

use clap::Parser;

mod containers;
mod images;
mod report;

use report::Failure;

/// Pull, build and run OCI images as an ordinary user.
#[derive(Debug, Parser)]
#[command(name = "bryo", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Images(images::Command),
    #[command(flatten)]
    Containers(containers::Command),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Images(command) => command.run(),
        Command::Containers(command) => command.run(),
    };
    done.unwrap_or_else(Failure::report)
}
