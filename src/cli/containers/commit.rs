//! `commit`: a container becomes an image.

use std::process::ExitCode;

use crate::build::{Commit as Order, commit};
use crate::cli::output::put;
use crate::cli::report::Failure;
use crate::containers::record;
use crate::images::names::typed;
use crate::store::Store;

/// Flags of `commit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Commit {
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,
    /// What the history says
    #[arg(short, long)]
    message: Option<String>,
    /// Change its settings by an instruction of a Dockerfile, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Accepted for Docker's sake: a container need not be paused
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pause: Option<bool>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What to call the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Commit {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let id = record::find(store, &self.container)?;
        let record = record::read(store, &id)?
            .ok_or_else(|| Failure::new(format!("No such container: {}", self.container)))?;
        let mut names = Vec::new();
        for name in self.name.iter() {
            let parsed = typed(name)?;
            if parsed.digest().is_some() {
                return Err(crate::images::Error::TagWithDigest.into());
            }
            names.push(parsed);
        }
        let order = Order {
            author: self.author,
            message: self.message,
            changes: self.change,
            names,
        };
        let image = commit(store, &record, &order).map_err(|error| Failure::of(&error))?;
        put(&format!("{}\n", image.id))?;
        Ok(ExitCode::SUCCESS)
    }
}
