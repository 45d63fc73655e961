//! `tag`: one more name for an image.

use crate::cli::report::Failure;
use crate::images;
use crate::images::names::{Change, typed};
use crate::store::Store;

/// Arguments of `tag`.
#[derive(Debug, clap::Args)]
pub(crate) struct Tag {
    /// Name or id of the image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Tag {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        let name = typed(&self.target)?.or_latest();
        if name.digest().is_some() {
            return Err(images::Error::TagWithDigest.into());
        }
        let mut change = Change::begin(store)?;
        let found = change.references().find(&self.source)?.map(|image| image.id);
        let id = found.ok_or_else(|| images::Error::NoSuchImage(self.source.clone()))?;
        change.tag(&id, &name);
        change.save()?;
        images::events::happened(store, "tag", &id, &name.to_string());
        Ok(())
    }
}
