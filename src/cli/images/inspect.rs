//! `image inspect`: all that is known, as Docker's JSON or by a template.

use std::process::ExitCode;

use serde_json::Value;

use crate::cli::output::{inspected, put};
use crate::cli::report::Failure;
use crate::images::inspect::{Fields, inspect};
use crate::images::{self};
use crate::store::Store;

/// Flags of `image inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Names, ids or beginnings of ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Inspect {
    /// Prints what was found, then what was not.
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let mut objects = Vec::new();
        let mut code = ExitCode::SUCCESS;
        let mut missing = String::new();
        let mut failures = Vec::new();
        for name in &self.images {
            match found(store, name, self.format.as_deref()) {
                Ok(Some(object)) => objects.push(object),
                Err(error) => failures.push(Failure::from(error)),
                Ok(None) => missing.push_str(&format!("Error: No such image: {name}\n")),
            }
        }
        if !objects.is_empty() || self.format.is_none() {
            put(&inspected(&objects, self.format.as_deref())?)?;
        }
        if !missing.is_empty() {
            // Docker's words to the letter: scripts look for them.
            crate::line::tell(format_args!("{missing}"));
            code = ExitCode::FAILURE;
        }
        for failure in failures {
            code = failure.report();
        }
        Ok(code)
    }
}

/// The image's JSON for `format`; `None` if there is no such image.
pub(in crate::cli) fn found(
    store: &Store,
    name: &str,
    format: Option<&str>,
) -> Result<Option<Value>, images::Error> {
    let fields = match format {
        None | Some("" | "json") => Fields::Shown,
        Some(_) => Fields::All,
    };
    images::find(store, name)?
        .map(|image| inspect(&image, fields))
        .transpose()
}
