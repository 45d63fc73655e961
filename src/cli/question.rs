//! How is somebody asked before something is removed?

use std::io::{BufRead, Write};

use super::report::Failure;

/// Docker's question. `what` completes "This will remove".
pub(super) fn confirmed(what: &str) -> Result<bool, Failure> {
    ask(&format!("WARNING! This will remove {what}.\n"))
}

/// The same of several.
pub(super) fn confirmed_all(what: &[&str]) -> Result<bool, Failure> {
    let list: String = what.iter().map(|one| format!("  - {one}\n")).collect();
    ask(&format!("WARNING! This will remove:\n{list}\n"))
}

fn ask(warning: &str) -> Result<bool, Failure> {
    let unread = |error| Failure::new(format!("cannot ask: {error}")).hint(Some("-f does not ask"));
    let mut out = std::io::stderr().lock();
    write!(out, "{warning}Are you sure you want to continue? [y/N] ").map_err(unread)?;
    out.flush().map_err(unread)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(unread)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
