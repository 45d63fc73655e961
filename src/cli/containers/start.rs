//! `start`: a stopped container goes on with the changes it made.

use std::io::{IsTerminal, stdin};
use std::process::ExitCode;

use super::super::each::each;
use super::super::report::Failure;
use super::attach::{DetachKeys, attach, told_of_leaving};
use super::end::load;
use crate::containers::attach::Visitor;
use crate::containers::life;
use crate::containers::record;
use crate::containers::supervisor::{Attach, Ending, SignalProxy, Supervisor};
use crate::host::logout_warning;
use crate::store::Store;

/// Flags of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// Show what it writes and wait for its end
    #[arg(short, long)]
    attach: bool,
    #[command(flatten)]
    leaving: DetachKeys,
    /// Pass standard input to it
    #[arg(short, long)]
    interactive: bool,
    /// Pass the tool's signals to the command, if it has no terminal; else those that end programs end the tool alone
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Start all containers
    #[arg(long, conflicts_with = "containers")]
    all: bool,
    /// Start those for which this holds, as of ps; also restart-policy and should-start-on-boot
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with = "containers")]
    filter: Vec<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "filter"])]
    containers: Vec<String>,
}

impl Start {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        if self.attach || self.interactive {
            let [name] = &self.containers[..] else {
                return Err(Failure::new(
                    "you cannot start and attach multiple containers at once",
                ));
            };
            return self.attached(store, name);
        }
        let names = match self.all || !self.filter.is_empty() {
            true => self.chosen(store)?,
            false => self.containers,
        };
        let mut any = false;
        let done = each(&names, |name| {
            any |= start(store, &record::find(store, name)?)?;
            Ok(Some(name.to_string()))
        });
        if any {
            tell_of_logout();
        }
        done
    }

    /// Those that filters choose, the oldest first: later ones may need it.
    fn chosen(&self, store: &Store) -> Result<Vec<String>, Failure> {
        let mut chosen = super::ps::chosen(store, &self.filter)?;
        chosen.reverse();
        Ok(chosen.into_iter().map(|record| record.name).collect())
    }

    fn attached(&self, store: &Store, name: &str) -> Result<ExitCode, Failure> {
        let keys = self.leaving.read()?;
        let id = record::find(store, name)?;
        let Some(mut made) = life::reopen(store, &id)? else {
            // It runs already.
            let visitor = Visitor {
                input: self.interactive,
                proxy: self.sig_proxy,
                keys,
            };
            return attach(store, load(store, name)?, visitor);
        };
        let open = self.interactive && made.held.record.settings.open_stdin;
        let streams = if open {
            Attach::InputAndOutput
        } else {
            Attach::Output
        };
        require_terminal(streams, made.has_terminal())?;
        made.keys = keys;
        // Docker's: `run` passes signals to a terminal's command, and who comes later does not.
        let proxy = self.sig_proxy && !made.has_terminal();
        let supervisor = life::start(store, made, streams)?;
        attached(store, &id, supervisor, proxy)
    }
}

/// Starts a container in the background, if it does not run: did it?
pub(super) fn start(store: &Store, id: &str) -> Result<bool, Failure> {
    match life::reopen(store, id)? {
        None => Ok(false),
        Some(made) => {
            let supervisor = life::start(store, made, Attach::Detached)?;
            detached(supervisor).map_err(|failure| failure.code(1))?;
            Ok(true)
        }
    }
}

/// Who starts something in the background means it to go on. Asked when it runs, so that no start waits for the answer.
pub(super) fn tell_of_logout() {
    if let Some(warning) = logout_warning() {
        warn(&warning);
    }
}

/// Docker's refusal, word for word: scripts look for it.
pub(super) fn require_terminal(attach: Attach, tty: bool) -> Result<(), Failure> {
    if tty && attach == Attach::InputAndOutput && !stdin().is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}

/// One line; what is in it may be of the container's making, as names of files are.
pub(super) fn warn(text: &str) {
    crate::line::say!("bryo: {}", crate::line::printable_line(text));
}

/// Waits until the command runs.
pub(super) fn detached(supervisor: Supervisor) -> Result<(), Failure> {
    match supervisor.started(&mut warn).map_err(|error| unheard(&error))? {
        Ending::Started | Ending::Left | Ending::Exited { .. } => Ok(()),
        Ending::Failed { code, message } => Err(Failure::new(message).code(code)),
        Ending::Lost => Err(Failure::new("the container's supervisor was killed").code(125)),
        Ending::Interrupted(signal) | Ending::Signalled(signal) => {
            Err(Failure::new("interrupted").code(exit_code(128 + signal)))
        }
    }
}

/// Stays with the command until it ends; its exit code is ours.
pub(super) fn attached(
    store: &Store,
    id: &str,
    supervisor: Supervisor,
    sig_proxy: bool,
) -> Result<ExitCode, Failure> {
    let proxy = if sig_proxy {
        SignalProxy::Pass
    } else {
        SignalProxy::Leave
    };
    match supervisor
        .ended(proxy, &mut warn)
        .map_err(|error| unheard(&error))?
    {
        Ending::Started => Ok(ExitCode::SUCCESS),
        Ending::Left => {
            told_of_leaving();
            Ok(ExitCode::SUCCESS)
        }
        Ending::Exited { code, trouble } => {
            if let Some(trouble) = trouble {
                warn(&trouble);
            }
            Ok(ExitCode::from(exit_code(code)))
        }
        Ending::Failed { code, message } => Err(Failure::new(message).code(code)),
        Ending::Lost => {
            // Puts the record right, or removes the container.
            record::read(store, id)?;
            Err(Failure::new("the container's supervisor was killed, and the container with it").code(137))
        }
        Ending::Interrupted(signal) => {
            record::read(store, id)?;
            Ok(ExitCode::from(exit_code(128 + signal)))
        }
        Ending::Signalled(signal) => Ok(ExitCode::from(exit_code(128 + signal))),
    }
}

pub(super) fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn unheard(error: &std::io::Error) -> Failure {
    Failure::new(format!("the container's supervisor cannot be heard: {error}")).code(125)
}
