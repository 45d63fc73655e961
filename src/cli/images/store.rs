//! `store check`: is everything what its name says?

use std::process::ExitCode;

use super::remove::familiar;
use crate::cli::output::{human_size, put};
use crate::cli::report::Failure;
use crate::images::check::{Outcome, check};
use crate::store::Store;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum StoreCommand {
    /// Hash every layer, read every index, and rebuild what is derived; exit code 1 if something is lost
    Check,
}

impl StoreCommand {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let StoreCommand::Check = self;
        let checked = check(store)?;
        let mut code = ExitCode::SUCCESS;
        for finding in &checked.findings {
            let images: Vec<String> = finding.images.iter().map(|name| familiar(name)).collect();
            let outcome = match finding.outcome {
                Outcome::Repaired => "made again".to_owned(),
                Outcome::Lost => {
                    code = ExitCode::FAILURE;
                    match images.as_slice() {
                        [] => "lost; the next build makes it again".into(),
                        images => format!("lost; what helps: bryo pull {}", images.join(", bryo pull ")),
                    }
                }
            };
            put(&format!("{}: {outcome}\n", finding.problem))?;
        }
        let lost = checked
            .findings
            .iter()
            .filter(|finding| finding.outcome == Outcome::Lost)
            .count();
        put(&format!(
            "{} images, {} layers, {}: {}\n",
            checked.images,
            checked.layers,
            human_size(checked.bytes),
            match (checked.findings.len(), lost) {
                (0, _) => "all whole".to_owned(),
                (found, 0) => format!("{found} repaired"),
                (found, lost) => format!("{} repaired, {lost} lost", found - lost),
            }
        ))?;
        Ok(code)
    }
}
