//! Commands on images.

use std::process::ExitCode;

use super::report::Failure;
use crate::images::{self, names::Change, reference::Reference};
use crate::store::Store;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Download an image from a registry or an archive
    Pull(super::pull::Pull),
    /// Create a tag that refers to an image
    Tag {
        /// Name or id of the image
        #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
        source: String,
        /// The new name
        #[arg(value_name = "TARGET_IMAGE[:TAG]")]
        target: String,
    },
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        match self {
            Command::Pull(pull) => return pull.run(&store),
            Command::Tag { source, target } => tag(&store, &source, &target)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn tag(store: &Store, source: &str, target: &str) -> Result<(), images::Error> {
    let name = Reference::parse(target)
        .map_err(|source| images::Error::Name {
            text: target.into(),
            source,
        })?
        .or_latest();
    if name.digest().is_some() {
        return Err(images::Error::TagWithDigest);
    }
    let mut change = Change::begin(store)?;
    let found = change.references().find(source)?.map(|record| record.id);
    let id = found.ok_or_else(|| images::Error::NoSuchImage(source.into()))?;
    change.tag(&id, &name);
    change.save()
}
