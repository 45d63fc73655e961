//! `exec`: one more command in a container that runs.

use std::process::ExitCode;

use super::super::report::Failure;
use super::attach::{DetachKeys, told_of_leaving};
use super::end::load;
use super::environment::Environment;
use super::start::{exit_code, require_terminal, warn};
use crate::containers::runtime::ensure_sealed;
use crate::containers::spec::{TerminalSize, Within};
use crate::containers::supervisor::{Attach, terminal_size};
use crate::containers::{Error, exec, inherited, leave};
use crate::store::Store;

/// Flags of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// Leave it alone: its output is shown nowhere
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    leaving: DetachKeys,
    #[command(flatten)]
    environment: Environment,
    /// Pass standard input to it
    #[arg(short, long)]
    interactive: bool,
    /// Pass so many more descriptors of bryo's own to it, from 3 on
    #[arg(long, value_name = "NUMBER", default_value_t)]
    preserve_fds: u16,
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

/// Docker's exit codes of a command that cannot be run.
fn own_code(error: Error) -> Failure {
    match &error {
        Error::Enter(why) => {
            let code = why.code();
            Failure::from(error).code(code)
        }
        _ => error.into(),
    }
}

/// As it must be for who goes into a container that runs.
pub(super) fn go_on_sealed() -> Result<(), Failure> {
    ensure_sealed().map_err(|error| {
        Failure::new(format!(
            "cannot go on from a place where nobody can write to this program: {error}"
        ))
        .hint(Some("vm.memfd_noexec must not be 2"))
    })
}

impl Exec {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let attach = match (self.detach, self.interactive) {
            (true, _) => Attach::Detached,
            (false, true) => Attach::InputAndOutput,
            (false, false) => Attach::Output,
        };
        require_terminal(attach, self.tty)?;
        let keys = self.leaving.read()?;
        go_on_sealed()?;
        let record = load(store, &self.container)?;
        let kept = inherited::preserve(self.preserve_fds).map_err(|error| Failure::of(&error).code(125))?;
        let prepared = exec::prepare(store, &record, &self.asked()?)?.with(kept);
        if attach == Attach::Detached {
            prepared.start_alone().map_err(own_code)?;
            return Ok(ExitCode::SUCCESS);
        }
        if attach == Attach::InputAndOutput && self.tty {
            let end = leave::run(prepared, keys, &mut |warning| warn(warning)).map_err(own_code)?;
            return Ok(match end {
                leave::End::Ended(code) => ExitCode::from(exit_code(code)),
                leave::End::Left => {
                    told_of_leaving();
                    ExitCode::SUCCESS
                }
            });
        }
        let session = prepared.start(attach).map_err(own_code)?;
        session.warnings().iter().for_each(|warning| warn(warning));
        let code = session.ended().map_err(|source| Error::Io {
            action: "wait for the command in",
            path: self.container.into(),
            source,
        })?;
        Ok(ExitCode::from(exit_code(code)))
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
