//! `save`: images → an archive.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;

use crate::cli::report::Failure;
use crate::images::names::References;
use crate::images::reference::Reference;
use crate::images::save::{self, Format, SaveError, Saved, To};
use crate::images::{self, Image};
use crate::store::{Digest, Store};

/// Flags of `save`.
#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    /// Write to this file; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How the archive is laid out
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Layout,
    /// Accepted for podman's sake: all names are images
    #[arg(short, long, hide = true)]
    multi_image_archive: bool,
    /// Accepted for podman's sake: nothing is said
    #[arg(short, long, hide = true)]
    quiet: bool,
    /// A name, or a repository with all its tags
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Layout {
    DockerArchive,
    OciArchive,
    OciDir,
}

impl Save {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        let images = chosen(store, &self.images)?;
        let format = match self.format {
            Layout::DockerArchive => Format::Docker,
            Layout::OciArchive | Layout::OciDir => Format::Oci,
        };
        let output = self.output.as_deref();
        match (self.format, output) {
            (Layout::OciDir, Some(path)) => save::save(store, &images, format, To::Directory(path))?,
            (Layout::OciDir, None) => {
                return Err(Failure::new("--format oci-dir wants a directory: --output DIRECTORY").code(125));
            }
            (_, Some(path)) => save::save(store, &images, format, To::File(path))?,
            (_, None) if stdout().is_terminal() => {
                let why = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
                return Err(Failure::new(why));
            }
            (_, None) => save::save(store, &images, format, To::Stream(&mut stdout().lock()))?,
        };
        Ok(())
    }
}

/// The images, each once, with those of their names that were asked for.
fn chosen(store: &Store, wanted: &[String]) -> Result<Vec<Saved>, Failure> {
    let listed = References::load(store)?;
    let mut order: Vec<Digest> = Vec::new();
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for text in wanted {
        for (id, name) in meant(store, &listed, text)? {
            if !order.contains(&id) {
                order.push(id);
            }
            let known = names.entry(id).or_default();
            known.extend(name.filter(|name| !known.contains(name)));
        }
    }
    let mut images = Vec::new();
    for id in order {
        let image = images::find(store, &id.to_string())?;
        let image = image.ok_or_else(|| images::Error::NoSuchImage(id.to_string()))?;
        images.push(Saved::listed(
            store,
            image,
            names.remove(&id).unwrap_or_default(),
        )?);
    }
    Ok(images)
}

/// A repository's name alone means all its tags, as for Docker; an id or a digest gives the image no name.
fn meant(
    store: &Store,
    listed: &References,
    text: &str,
) -> Result<Vec<(Digest, Option<Reference>)>, images::Error> {
    let parsed = Reference::parse(text).ok();
    if let Some(name) = parsed
        .as_ref()
        .filter(|name| name.tag().is_none() && name.digest().is_none())
    {
        let of_repository = listed.images().flat_map(|image| {
            let names = image.names.iter().filter_map(|name| Reference::parse(name).ok());
            let same = names.filter(|known| known.repository() == name.repository());
            same.map(|name| (image.id, Some(name)))
        });
        let found: Vec<_> = of_repository.collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let image: Image = images::find(store, text)?.ok_or_else(|| images::Error::NoSuchImage(text.into()))?;
    let name = parsed
        .map(Reference::or_latest)
        .filter(|name| image.names.contains(&name.to_string()));
    Ok(vec![(image.id, name)])
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Failure {
        Failure::of(&error).hint(error.hint())
    }
}
