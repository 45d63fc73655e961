//! Where does an image come from? `docker://`, `oci:`, `oci-archive:` and `docker-archive:` in front of a place, or a
//! plain name.

use std::io::Read;

use crate::images::archive::{self, Archive};
use crate::images::manifest::{Descriptor, printable};
use crate::images::reference::Reference;
use crate::images::registry::{Registries, Repository};
use crate::store::Digest;

use super::PullError;

/// An open source of one image.
#[derive(Debug)]
pub enum Source {
    /// A repository, and the name that was asked for.
    Registry {
        /// Where from.
        repository: Box<Repository>,
        /// What was asked for, with a tag or a digest.
        name: Reference,
    },
    /// A file or a directory.
    Archive(Box<Archive>),
}

/// A document and its digest, verified.
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

impl Source {
    /// Understands what a user typed and opens it; a registry is not asked yet.
    pub fn open(text: &str, registries: &Registries) -> Result<Source, PullError> {
        if let Some(archive) = archive::open(text) {
            return Ok(Source::Archive(Box::new(archive?)));
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        let name = Reference::parse(name).map_err(|source| PullError::Name {
            text: printable(text),
            source,
        })?;
        let name = name.or_latest();
        let repository = Box::new(Repository::open(&name, registries)?);
        Ok(Source::Registry { repository, name })
    }

    /// The document that the name stands for: a manifest or an index.
    pub(super) fn top(&self) -> Result<Document, PullError> {
        match self {
            Source::Registry { repository, name } => {
                let served = match (name.digest(), name.tag()) {
                    (Some(digest), _) => repository.by_digest(digest)?,
                    (None, tag) => repository.by_tag(tag.unwrap_or("latest"))?,
                };
                Ok(Document {
                    bytes: served.bytes,
                    digest: served.digest,
                })
            }
            Source::Archive(archive) => {
                let bytes = archive.top()?;
                Ok(Document {
                    digest: Digest::of(&bytes),
                    bytes,
                })
            }
        }
    }

    /// A manifest that an index names.
    pub(super) fn manifest(&self, named: &Descriptor) -> Result<Document, PullError> {
        match self {
            Source::Registry { repository, .. } => {
                let served = repository.by_digest(&named.digest)?;
                Ok(Document {
                    bytes: served.bytes,
                    digest: served.digest,
                })
            }
            Source::Archive(archive) => Ok(Document {
                bytes: archive.document(named)?,
                digest: named.digest,
            }),
        }
    }

    /// A blob's bytes, not verified.
    pub(super) fn blob<'a>(&'a self, blob: &Descriptor) -> Result<Box<dyn Read + Send + 'a>, PullError> {
        match self {
            Source::Registry { repository, .. } => Ok(Box::new(repository.blob(blob))),
            Source::Archive(archive) => Ok(archive.blob(blob)?),
        }
    }

    /// The names that the image gets; `digest` is that of the top document.
    pub(super) fn names(&self, digest: &Digest) -> Vec<Reference> {
        match self {
            Source::Registry { name, .. } => match name.digest() {
                Some(_) => vec![name.at_digest(*digest)],
                None => vec![name.clone(), name.at_digest(*digest)],
            },
            Source::Archive(archive) => archive.names().to_vec(),
        }
    }

    /// What is done, in Docker's word.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Source::Registry { .. } => "pull",
            Source::Archive(_) => "load",
        }
    }

    /// Docker's first line.
    pub(super) fn heading(&self) -> String {
        match self {
            Source::Registry { name, .. } => {
                let asked = name.tag().filter(|_| name.digest().is_none());
                let asked = asked.map_or_else(|| name.to_string(), Into::into);
                format!("{asked}: Pulling from {}", name.path())
            }
            Source::Archive(archive) => format!("Reading {}", archive.describe()),
        }
    }

    /// Where from, for people and for the notes on a layer.
    pub(super) fn describe(&self) -> String {
        match self {
            Source::Registry { name, .. } => name.repository(),
            Source::Archive(archive) => archive.describe(),
        }
    }
}
