//! `attach`: to hear, and speak to, a container that runs.

use std::process::ExitCode;

use super::super::report::Failure;
use super::end::load;
use super::start::{exit_code, require_terminal, warn};
use crate::containers::attach::{Keys, Left, Visit, Visitor};
use crate::containers::record::{self, Record};
use crate::containers::supervisor::Attach as Streams;
use crate::store::Store;

/// Flags of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    leaving: DetachKeys,
    /// Pass no input to it
    #[arg(long)]
    no_stdin: bool,
    /// Pass the tool's signals to the command, if it has no terminal
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// `--detach-keys`.
#[derive(Debug, clap::Args)]
pub(super) struct DetachKeys {
    /// Keys that leave its terminal, which goes on: characters and ctrl-X, with commas between
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: String,
}

impl DetachKeys {
    pub(super) fn read(&self) -> Result<Keys, Failure> {
        self.detach_keys.parse().map_err(|error| Failure::of(&error))
    }
}

impl Attach {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let visitor = Visitor {
            input: !self.no_stdin,
            proxy: self.sig_proxy,
            keys: self.leaving.read()?,
        };
        attach(store, load(store, &self.container)?, visitor)
    }
}

/// Stays with a container that runs, until it ends or is left. Its exit code is ours.
pub(super) fn attach(store: &Store, record: Record, visitor: Visitor) -> Result<ExitCode, Failure> {
    let spec = record::read_spec(&store.container(&record.id))?;
    let tty = spec.process().as_ref().and_then(|process| process.terminal()) == Some(true);
    if visitor.input && record.settings.open_stdin {
        require_terminal(Streams::InputAndOutput, tty)?;
    }
    let mut visit = Visit::begin(store, record, visitor)?;
    let left = visit.stay(store)?;
    if visit.left_out > 0 {
        let bytes = visit.left_out;
        warn(&format!(
            "{bytes} bytes were left out, since they were not read in time: see logs"
        ));
    }
    Ok(match left {
        Left::Ended { code, trouble } => {
            trouble.iter().for_each(|trouble| warn(trouble));
            ExitCode::from(exit_code(code))
        }
        Left::Keys => {
            told_of_leaving();
            ExitCode::SUCCESS
        }
        Left::Signal(signal) => ExitCode::from(exit_code(128 + signal)),
    })
}

/// Docker's words to who typed the keys; the cursor stands where the container left it.
pub(super) fn told_of_leaving() {
    crate::line::say!("\nread escape sequence");
}
