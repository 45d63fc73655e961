//! `exec`: one more command in a container that runs.

use std::process::ExitCode;

use super::super::report::Failure;
use super::end::load;
use super::environment::Environment;
use super::start::{require_terminal, warn};
use crate::containers::spec::{TerminalSize, Within};
use crate::containers::supervisor::{Attach, terminal_size};
use crate::containers::{Error, exec};
use crate::store::Store;

/// Flags of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// Leave it alone: its output is shown nowhere
    #[arg(short, long, conflicts_with = "tty")]
    detach: bool,
    #[command(flatten)]
    environment: Environment,
    /// Pass standard input to it
    #[arg(short, long)]
    interactive: bool,
    /// Give it every capability that there is in the container's own namespace
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let attach = match (self.detach, self.interactive) {
            (true, _) => Attach::Detached,
            (false, true) => Attach::InputAndOutput,
            (false, false) => Attach::Output,
        };
        require_terminal(attach, self.tty)?;
        let record = load(store, &self.container)?;
        let session = exec::start(store, &record, &self.asked()?, attach).map_err(|error| match &error {
            Error::Enter(why) => {
                let code = why.code();
                Failure::from(error).code(code)
            }
            _ => error.into(),
        })?;
        session.warnings().iter().for_each(|warning| warn(warning));
        if attach == Attach::Detached {
            return Ok(ExitCode::SUCCESS);
        }
        let code = session.ended().map_err(|source| Error::Io {
            action: "wait for the command in",
            path: self.container.into(),
            source,
        })?;
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    }

    fn asked(&self) -> Result<Within, Error> {
        let environment = self.environment.read()?;
        let usual = TerminalSize {
            rows: 24,
            columns: 80,
        };
        Ok(Within {
            command: self.command.clone(),
            env: environment,
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            privileged: self.privileged,
            terminal: self.tty.then(|| terminal_size().unwrap_or(usual)),
        })
    }
}
