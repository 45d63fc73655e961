//! `rmi`: names and images, one after the other; what fails does not keep the others.

use std::process::ExitCode;

use super::uses;
use crate::cli::output::put;
use crate::cli::report::Failure;
use crate::images::reference::Reference;
use crate::images::remove::{Force, Removed, remove};
use crate::images::{self};
use crate::store::Store;

/// Flags of `rmi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Remove all names of an image; one that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Names, ids or beginnings of ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Remove {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let force = if self.force { Force::Yes } else { Force::No };
        let mut code = ExitCode::SUCCESS;
        for name in &self.images {
            match remove(store, name, force, &|| uses(store)) {
                Ok(removed) => put(&removed.iter().map(line).collect::<String>())?,
                Err(images::Error::NoSuchImage(_)) if self.force => {}
                Err(error) => code = Failure::from(error).report(),
            }
        }
        Ok(code)
    }
}

/// Removes the image of a container that has ended (`run --rmi`), in silence.
pub(in crate::cli) fn remove_quietly(store: &Store, name: &str) -> Result<(), Failure> {
    remove(store, name, Force::No, &|| uses(store))?;
    Ok(())
}

fn line(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {}\n", familiar(name)),
        Removed::Deleted(digest) => format!("Deleted: {digest}\n"),
    }
}

pub(super) fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
}
