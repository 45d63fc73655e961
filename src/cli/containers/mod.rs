//! Commands on containers.

use std::process::ExitCode;

use super::report::Failure;
use crate::containers::Error;
use crate::store::{self, Store};

mod attach;
mod chosen;
mod cidfile;
mod commit;
mod copy;
mod details;
mod diff;
mod end;
mod environment;
mod exec;
mod foreign;
mod inspect;
mod join;
mod limits;
mod logs;
mod more;
mod network;
mod pause;
mod port;
mod prune;
mod ps;
mod rename;
mod run;
mod start;
mod stats;
mod top;
mod update;
mod upgrade;
mod upkeep;
mod wait;
mod words;

pub(super) use end::load as load_container;
pub(super) use inspect::found as inspect_container;
pub(super) use ps::command as container_command;
pub(super) use ps::status as container_status;
pub(super) use words::without as flags_without;

#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    #[command(flatten)]
    Common(Common),
    /// List containers
    Ps(ps::Ps),
    /// Give running containers the filesystem server of this program; they notice nothing
    UpgradeServer(upgrade::UpgradeServer),
    /// Work on containers
    #[command(subcommand)]
    Container(Group),
}

/// `container …`, as Docker groups them.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum Group {
    #[command(flatten)]
    Common(Common),
    /// List containers
    #[command(name = "ls", visible_aliases = ["list", "ps"])]
    List(ps::Ps),
    /// Show all that is known of containers
    Inspect(super::inspect::Inspect),
    /// Remove all containers that do not run
    Prune(prune::Prune),
}

/// Commands that have one name alone and in the group.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum Common {
    /// Create and run a new container from an image
    #[command(disable_help_flag = true)]
    Run(Box<run::Run>),
    /// Create a new container
    #[command(disable_help_flag = true)]
    Create(Box<run::Create>),
    /// Start stopped containers
    Start(start::Start),
    /// Show what a container changed in its tree: A (added), C (changed), D (deleted)
    Diff(diff::Diff),
    /// Hear, and speak to, a running container
    Attach(attach::Attach),
    /// Copy files and directories between a container and the host, or between containers
    Cp(copy::Cp),
    /// Write a container's whole tree as a tar
    Export(copy::Export),
    /// Run a command in a running container
    Exec(exec::Exec),
    /// Show what a container wrote
    Logs(logs::Logs),
    /// Show where the host has a container's ports
    Port(port::PortOf),
    /// Show the processes of a running container
    Top(top::Top),
    /// Show what containers use, again and again
    Stats(stats::Stats),
    /// Make an image of a container
    Commit(commit::Commit),
    /// Remove containers
    Rm(end::Rm),
    /// Send a signal to running containers
    Kill(end::Kill),
    /// Stop running containers: their stop signal, then SIGKILL
    Stop(end::Stop),
    /// Stop containers, if they run, and start them again
    Restart(end::Restart),
    /// Wait until containers stop, then print their exit codes
    Wait(wait::Wait),
    /// Give a container another name
    Rename(rename::Rename),
    /// Give containers another restart policy, or other limits
    Update(update::Update),
    /// Stop all processes of containers, to go on later
    Pause(pause::Pause),
    /// Let the processes of paused containers go on
    Unpause(pause::Pause),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Common(command) => command.run(),
            Command::Ps(ps) => ps.run(&Store::open()?),
            Command::UpgradeServer(upgrade) => upgrade.run(&Store::open()?),
            Command::Container(group) => group.run(),
        }
    }
}

impl Group {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Group::Common(command) => command.run(),
            Group::List(ps) => ps.run(&Store::open()?),
            Group::Inspect(inspect) => inspect.of_containers().run(),
            Group::Prune(prune) => prune.run(&Store::open()?),
        }
    }
}

impl Common {
    fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open().map_err(|error| {
            let failure = Failure::from(error);
            if matches!(self, Common::Run(_) | Common::Create(_)) {
                failure.code(125)
            } else {
                failure
            }
        })?;
        match self {
            Common::Run(run) => run.run(&store),
            Common::Create(create) => create.run(&store),
            Common::Start(start) => start.run(&store),
            Common::Diff(diff) => diff.run(&store),
            Common::Attach(attach) => attach.run(&store),
            Common::Cp(cp) => cp.run(&store),
            Common::Export(export) => export.run(&store),
            Common::Exec(exec) => exec.run(&store),
            Common::Logs(logs) => logs.run(&store),
            Common::Port(port) => port.run(&store),
            Common::Top(top) => top.run(&store),
            Common::Stats(stats) => stats.run(&store),
            Common::Commit(commit) => commit.run(&store),
            Common::Rm(rm) => rm.run(&store),
            Common::Kill(kill) => kill.run(&store),
            Common::Stop(stop) => stop.run(&store),
            Common::Restart(restart) => restart.run(&store),
            Common::Wait(wait) => wait.run(&store),
            Common::Rename(rename) => rename.run(&store).map(|()| ExitCode::SUCCESS),
            Common::Update(update) => update.run(&store),
            Common::Pause(pause) => pause.pause(&store),
            Common::Unpause(pause) => pause.unpause(&store),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Store(error) => error.into(),
            Error::Image(error) => error.into(),
            Error::Io { ref source, .. } => Failure::of(&error).hint(store::more_space(source)),
            error => Failure::of(&error),
        }
    }
}
