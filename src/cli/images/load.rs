//! `load`: an archive → its images.

use std::fs::File;
use std::io::{IsTerminal as _, stdin};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use crate::cli::output::put;
use crate::cli::report::Failure;
use crate::images::load::{Input, load};
use crate::images::pull::{LayerEvent, Progress, Pulled};
use crate::store::{Digest, Store};

/// Flags of `load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Read this file, or directory in OCI's layout; without it, standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Accepted for Docker's sake: only the images' names are said
    #[arg(short, long, hide = true)]
    quiet: bool,
}

impl Load {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        let input = match &self.input {
            Some(path) => Input::Path(path),
            None if stdin().is_terminal() => {
                return Err(Failure::new("requested load from stdin, but stdin is empty")
                    .hint(Some("give a file by -i, or redirect")));
            }
            None => {
                let own = stdin().as_fd().try_clone_to_owned();
                let own =
                    own.map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
                Input::Stream(File::from(own))
            }
        };
        let mut said = Ok(());
        load(store, input, &Unheard, &mut |image| {
            if said.is_ok() {
                said = tell(image);
            }
        })?;
        said
    }
}

/// Docker's lines.
fn tell(image: &Pulled) -> Result<(), Failure> {
    if image.names.is_empty() {
        return put(&format!("Loaded image ID: {}\n", image.image.id));
    }
    for name in &image.names {
        put(&format!("Loaded image: {}\n", name.familiar()))?;
    }
    Ok(())
}

struct Unheard;

impl Progress for Unheard {
    fn begins(&self, _heading: &str) {}
    fn layer(&self, _blob: &Digest, _event: LayerEvent) {}
}
