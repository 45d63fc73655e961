//! A command on several things goes on after one that fails.

use std::process::ExitCode;

use super::output::put;
use super::report::Failure;

/// Does `one` for each name, and prints what it gives; errors are printed as they come, and the worst decides.
pub(super) fn each(
    names: &[String],
    mut one: impl FnMut(&str) -> Result<Option<String>, Failure>,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match one(name) {
            Ok(Some(line)) => put(&format!("{line}\n"))?,
            Ok(None) => {}
            Err(failure) => code = failure.report(),
        }
    }
    Ok(code)
}
