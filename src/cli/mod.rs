//! Which commands and flags exist? Each file a family of commands: flags → one call → print.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

mod build;
mod containers;
mod each;
mod events;
mod filter;
mod foreign;
mod generate;
mod images;
mod info;
mod inspect;
mod log;
mod networks;
mod output;
mod pairs;
mod pull;
mod question;
mod report;
mod system;
mod template;
mod volumes;

use crate::containers::{early, health, inherited, runtime, supervisor, volume};
use report::Failure;

/// Pull, build and run OCI images as an ordinary user.
#[derive(Debug, Parser)]
#[command(name = "bryo", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Only the command that is called builds its flags: that saves a start 0.3 ms.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
#[allow(clippy::large_enum_variant)] // One value, once.
enum Command {
    #[command(flatten)]
    Images(images::Command),
    #[command(flatten)]
    Containers(containers::Command),
    /// Build an image from a Dockerfile
    Build(Box<build::Command>),
    /// Work on what builds keep
    #[command(subcommand)]
    Builder(build::Builder),
    /// Work on networks
    #[command(subcommand)]
    Network(networks::Command),
    /// Work on volumes
    #[command(subcommand)]
    Volume(volumes::Command),
    /// Make units for systemd
    #[command(subcommand)]
    Generate(generate::Generate),
    /// Show all that is known of containers, images, volumes or networks
    Inspect(inspect::Inspect),
    /// Show what happens to containers and images
    Events(events::Events),
    /// Show which program this is
    Version(info::Format),
    /// Show what there is, and where
    Info(info::Format),
    /// Work on all that is kept
    #[command(subcommand)]
    System(system::System),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    inherited::note();
    log::start();
    let roles = [
        runtime::keep,
        supervisor::helper,
        supervisor::resumed,
        supervisor::warden,
        supervisor::hired,
        health::beside,
        health::once,
        volume::sweeper,
    ];
    if let Some(code) = roles.iter().find_map(|role| role()) {
        return ExitCode::from(code);
    }
    if is_start(std::env::args_os()) {
        early::begin();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if is_answer(&error) => {
            let shown = output::put(&error.render().to_string());
            return shown.map_or_else(Failure::report, |()| ExitCode::SUCCESS);
        }
        Err(error) => return Failure::from(error).report(),
    };
    let done = match cli.command {
        Command::Images(command) => command.run(),
        Command::Containers(command) => command.run(),
        Command::Build(build) => build.run(),
        Command::Builder(builder) => builder.run(),
        Command::Network(command) => command.run(),
        Command::Volume(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Events(events) => events.run(),
        Command::Version(format) => info::version(&format),
        Command::Info(format) => info::info(&format),
        Command::System(system) => system.run(),
    };
    done.unwrap_or_else(Failure::report)
}

/// Will this command most likely start a container in this very process? One that joins another's executes the program anew.
fn is_start(mut words: impl Iterator<Item = OsString>) -> bool {
    let is_join = |word: OsString| word == "--join" || word.as_encoded_bytes().starts_with(b"--join=");
    words.nth(1).is_some_and(|command| command == "run") && !words.any(is_join)
}

/// Help or version was asked for; a family of commands alone (`bryo image`) asks for its help.
fn is_answer(error: &clap::Error) -> bool {
    error.exit_code() == 0 || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn what_starts_a_container_itself() {
        let is_start = |line: &str| super::is_start(line.split(' ').map(Into::into));
        assert!(is_start("bryo run image") && is_start("bryo run -d --name x image sh"));
        assert!(!is_start("bryo") && !is_start("bryo ps") && !is_start("bryo start run"));
        assert!(!is_start("bryo run --join auto image") && !is_start("bryo run --join=auto image"));
    }

    /// Two flags of one letter or two commands of one name show only when the command is used, as a panic.
    #[test]
    fn commands_and_flags_do_not_collide() {
        super::Cli::command().debug_assert();
    }
}
