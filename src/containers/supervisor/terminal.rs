//! The user's own terminal, while a container with `-t` uses it: raw, and put back on every way out.

use std::io::stdin;
use std::os::fd::AsFd;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::containers::spec::TerminalSize;

/// Raw mode; dropping it restores what was.
#[derive(Debug)]
pub(in crate::containers) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes the terminal on standard input raw; `None` if there is none.
    pub(in crate::containers) fn enter() -> Option<Raw> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSADRAIN, &raw).ok()?;
        Some(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may have been hung up.
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// The size of the user's terminal, on whichever of its streams there is one.
pub fn size() -> Option<TerminalSize> {
    let of = |stream: std::os::fd::BorrowedFd<'_>| rustix::termios::tcgetwinsize(stream).ok();
    let size = of(std::io::stdout().as_fd())
        .or_else(|| of(stdin().as_fd()))
        .or_else(|| of(std::io::stderr().as_fd()))?;
    Some(TerminalSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}
