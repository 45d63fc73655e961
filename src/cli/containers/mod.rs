//! Commands on containers.

use std::process::ExitCode;

use super::report::Failure;
use crate::containers::Error;
use crate::store::Store;

mod cidfile;
mod commit;
mod diff;
mod end;
mod exec;
mod inspect;
mod logs;
mod ps;
mod run;
mod start;
mod upgrade;

pub(super) use inspect::found as inspect_container;

#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Create and run a new container from an image
    #[command(disable_help_flag = true)]
    Run(Box<run::Run>),
    /// Create a new container
    #[command(disable_help_flag = true)]
    Create(Box<run::Create>),
    /// Start stopped containers
    Start(start::Start),
    /// List containers
    Ps(ps::Ps),
    /// Show what a container changed in its tree: A (added), C (changed), D (deleted)
    Diff(diff::Diff),
    /// Run a command in a running container
    Exec(exec::Exec),
    /// Show what a container wrote
    Logs(logs::Logs),
    /// Make an image of a container
    Commit(commit::Commit),
    /// Remove containers
    Rm(end::Rm),
    /// Send a signal to running containers
    Kill(end::Kill),
    /// Stop running containers: their stop signal, then SIGKILL
    Stop(end::Stop),
    /// Wait until containers stop, then print their exit codes
    Wait(end::Wait),
    /// Give running containers the filesystem server of this program; they notice nothing
    UpgradeServer(upgrade::UpgradeServer),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open().map_err(|error| {
            let failure = Failure::from(error);
            if matches!(self, Command::Run(_) | Command::Create(_)) {
                failure.code(125)
            } else {
                failure
            }
        })?;
        match self {
            Command::Run(run) => run.run(&store),
            Command::Create(create) => create.run(&store),
            Command::Start(start) => start.run(&store),
            Command::Ps(ps) => ps.run(&store),
            Command::Exec(exec) => exec.run(&store),
            Command::Logs(logs) => logs.run(&store),
            Command::Diff(diff) => diff.run(&store),
            Command::Commit(commit) => commit.run(&store),
            Command::Rm(rm) => rm.run(&store),
            Command::Kill(kill) => kill.run(&store),
            Command::Stop(stop) => stop.run(&store),
            Command::Wait(wait) => wait.run(&store),
            Command::UpgradeServer(upgrade) => upgrade.run(&store),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Store(error) => error.into(),
            Error::Image(error) => error.into(),
            error => Failure::of(&error),
        }
    }
}

/// Does `one` for each name, and prints what it gives; errors are printed as they come, and the worst decides.
fn each(
    names: &[String],
    mut one: impl FnMut(&str) -> Result<Option<String>, Failure>,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match one(name) {
            Ok(Some(line)) => super::output::put(&format!("{line}\n"))?,
            Ok(None) => {}
            Err(failure) => code = failure.report(),
        }
    }
    Ok(code)
}
