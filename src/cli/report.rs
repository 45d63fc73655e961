//! How does an error reach the user? One line: what failed, on what, why, what would help; and an exit code.

use std::error::Error;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::images::pull::PullError;
use crate::line::{chain, printable_line};
use crate::{images, store};

/// An error on its way to the user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The line, without the program's name.
    pub(crate) message: String,
    /// What would help, if anything is known.
    pub(crate) hint: Option<String>,
    /// Docker's exit codes: 125 for flags and for errors of `run` itself, 126 not executable, 127 not found, else 1.
    pub(crate) code: u8,
}

impl Failure {
    /// Exit code 1, no hint.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            code: 1,
        }
    }

    /// The error and its causes in one line.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Failure {
        Failure::new(chain(error))
    }

    pub(crate) fn hint(self, hint: Option<impl Into<String>>) -> Failure {
        Failure {
            hint: hint.map(Into::into),
            ..self
        }
    }

    pub(crate) fn code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    /// Prints the line and gives the exit code. Names in it may be of an image's making, and cannot steer the terminal.
    pub(crate) fn report(self) -> ExitCode {
        let line = match &self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message,
        };
        crate::line::say!("bryo: {}", printable_line(&line));
        ExitCode::from(self.code)
    }
}

impl From<images::Error> for Failure {
    fn from(error: images::Error) -> Failure {
        Failure::of(&error).hint(error.hint())
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Failure {
        Failure::of(&error).hint(error.hint())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        Failure::of(&error).hint(error.hint())
    }
}

/// The command line itself is wrong. Docker's codes: 125 for flags, 1 for commands and arguments.
impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Failure {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.clone(),
            Some(ContextValue::Strings(texts)) => texts.join(" "),
            _ => String::new(),
        };
        let command = command_of(&error);
        let argument = context(ContextKind::InvalidArg);
        let (message, code) = match error.kind() {
            ErrorKind::UnknownArgument => match argument.strip_prefix('-') {
                Some(flag) if flag.starts_with('-') => (format!("unknown flag: {argument}"), 125),
                Some(flag) => (format!("unknown shorthand flag: '{flag}'"), 125),
                None => (
                    format!("\"{command}\" does not take the argument '{argument}'"),
                    1,
                ),
            },
            ErrorKind::InvalidSubcommand => {
                let unknown = context(ContextKind::InvalidSubcommand);
                (format!("'{unknown}' is not a {command} command"), 1)
            }
            ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
                (format!("\"{command}\" requires the argument {argument}"), 1)
            }
            ErrorKind::MissingSubcommand => (format!("\"{command}\" requires a command"), 1),
            ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
                (format!("flag needs an argument: {argument}"), 125)
            }
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
                let value = context(ContextKind::InvalidValue);
                let cause = error
                    .source()
                    .map(|source| format!(": {source}"))
                    .unwrap_or_default();
                (format!("invalid argument \"{value}\" for {argument}{cause}"), 125)
            }
            ErrorKind::ArgumentConflict => {
                let prior = context(ContextKind::PriorArg);
                (format!("{argument} cannot be used together with {prior}"), 125)
            }
            _ => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                (line.strip_prefix("error: ").unwrap_or(line).to_owned(), 125)
            }
        };
        Failure {
            message,
            hint: Some(format!("see '{command} --help'")),
            code,
        }
    }
}

/// `bryo image ls` of "Usage: bryo image ls [OPTIONS] …".
fn command_of(error: &clap::Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let words: Vec<&str> = usage.split_whitespace().skip(1).take_while(is_name).collect();
    if words.is_empty() {
        "bryo".into()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_cause_and_what_helps() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        let failure = Failure::from(images::Error::from(store::Error::io("write", Path::new("/s/x"))(
            full,
        )));
        assert_eq!(
            failure.message,
            "cannot write /s/x: No space left on device (os error 28)"
        );
        assert!(failure.hint.is_some_and(|hint| hint.contains("prune")));
        assert_eq!(failure.code, 1);
    }

    #[derive(Debug, Parser)]
    #[command(name = "bryo", subcommand_required = true)]
    enum Sample {
        Rmi {
            #[arg(long)]
            _count: Option<u8>,
            #[arg(short, long)]
            _force: bool,
            #[arg(required = true, value_name = "IMAGE")]
            _images: Vec<String>,
        },
    }

    #[test]
    fn wrong_command_lines_get_dockers_words_and_codes() {
        let failure = |words: &str| {
            let failure = Failure::from(Sample::try_parse_from(words.split(' ')).unwrap_err());
            (failure.message, failure.code)
        };
        assert_eq!(failure("bryo rmi --nope a"), ("unknown flag: --nope".into(), 125));
        assert_eq!(
            failure("bryo rmi -x a"),
            ("unknown shorthand flag: 'x'".into(), 125)
        );
        assert_eq!(failure("bryo nope"), ("'nope' is not a bryo command".into(), 1));
        assert_eq!(
            failure("bryo rmi"),
            ("\"bryo rmi\" requires the argument <IMAGE>...".into(), 1)
        );
        let (message, code) = failure("bryo rmi --count x a");
        assert!(
            message.starts_with("invalid argument \"x\" for --count"),
            "{message}"
        );
        assert_eq!(code, 125);
    }
}
