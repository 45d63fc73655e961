//! How does an error reach the user? One line: what failed, on what, why, what would help; and an exit code.

use std::process::ExitCode;

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The line, without the program's name.
    pub(crate) message: String,
    /// What would help, if anything is known.
    pub(crate) hint: Option<String>,
    /// Docker's exit codes: 125 for errors of `run` itself, 126 not executable, 127 not found, else 1.
    pub(crate) code: u8,
}

impl Failure {
    /// Prints the line and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match &self.hint {
            Some(hint) => eprintln!("bryo: {} ({hint})", self.message),
            None => eprintln!("bryo: {}", self.message),
        }
        ExitCode::from(self.code)
    }
}
