//! How is an image read from a file or a directory? OCI image layouts (`oci:DIR`, `oci-archive:FILE`, as buildx names them
//! `oci-layout://DIR`) and what `docker save` writes (`docker-archive:FILE`). Archives are read in place: nothing is unpacked, no path of theirs is opened.
//! `files`: where in it is which file; `layouts`: which images those make.

mod files;
pub(super) mod layouts;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::manifest::{Descriptor, printable};
use super::reference::Reference;
use crate::store::Digest;
use files::Opened;
use layouts::{Hashed, Layout, Listed};

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// A file of it, or the file that it is.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not of its kind.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file or directory.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// The name is not in it, or none was given and there are several images.
    #[error("{}: {reason} (it has: {})", path.display(), if names.is_empty() { "no names" } else { names })]
    Choice {
        /// The file or directory.
        path: PathBuf,
        /// In words.
        reason: String,
        /// What there is.
        names: String,
    },
}

/// An archive with one image chosen.
#[derive(Debug)]
pub struct Archive {
    opened: Opened,
    top: Vec<u8>,
    names: Vec<Reference>,
    /// Where blobs lie that are not under `blobs/`.
    places: HashMap<Digest, String>,
}

/// What buildx has before a layout's path.
const LAYOUT: &str = "oci-layout://";

/// Is it `oci-layout://PATH[:TAG][@DIGEST]`? Its image is used from where it lies, and gets no name.
pub fn is_layout(text: &str) -> bool {
    text.starts_with(LAYOUT)
}

/// Opens `oci:…`, `oci-layout://…`, `oci-archive:…` or `docker-archive:…`; `None` for texts of other kinds.
pub fn open(text: &str) -> Option<Result<Archive, ArchiveError>> {
    if let Some(place) = text.strip_prefix(LAYOUT) {
        return Some(open_place(place));
    }
    let (kind, rest) = text.split_once(':')?;
    let (path, name) = split_name(rest);
    let opened = match kind {
        "oci" => Opened::directory(&path),
        "oci-archive" | "docker-archive" => Opened::file(&path),
        _ => return None,
    };
    let layout = match kind {
        "docker-archive" => Layout::Docker,
        _ => Layout::Oci,
    };
    Some(opened.and_then(|opened| {
        let chosen = layouts::choose(&opened, layout.images(&opened)?, name.as_deref())?;
        Archive::of(opened, chosen, &mut Hashed::new())
    }))
}

/// Opens the image of `PATH[:TAG][@DIGEST]`: without either that of the tag `latest`, or the only one. Whatever the digest
/// is of need not be listed.
fn open_place(place: &str) -> Result<Archive, ArchiveError> {
    let (place, digest) = match place.rsplit_once('@') {
        Some((before, digest)) if !Path::new(place).exists() => (before, Some(digest)),
        _ => (place, None),
    };
    let (path, tag) = split_name(place);
    let opened = Opened::directory(&path)?;
    let choose = |name| layouts::choose(&opened, Layout::Oci.images(&opened)?, name);
    let chosen = match (digest, tag) {
        (Some(digest), _) => Listed::of_digest(digest).ok_or_else(|| {
            let reason = format!("\"{}\" is no digest (sha256:…)", printable(digest));
            opened.format(reason)
        })?,
        (None, Some(tag)) => choose(Some(&tag))?,
        (None, None) => choose(Some("latest")).or_else(|_| choose(None))?,
    };
    Archive::of(opened, chosen, &mut Hashed::new())
}

/// Opens the image of a name in an OCI image layout.
///
/// # Errors
/// There is no such directory or name.
pub fn open_layout(path: &Path, name: &str) -> Result<Archive, ArchiveError> {
    let opened = Opened::directory(path)?;
    let chosen = layouts::choose(&opened, Layout::Oci.images(&opened)?, Some(name))?;
    Archive::of(opened, chosen, &mut Hashed::new())
}

/// Where images are.
#[derive(Debug)]
pub enum Held<'a> {
    /// In an OCI layout.
    Directory(&'a Path),
    /// In a tar, which messages call by this name.
    File(File, &'a Path),
}

/// All images of what `docker save`, `podman save` or `save` wrote.
///
/// # Errors
/// It is neither of their archives, or cannot be read.
pub fn all(held: Held<'_>) -> Result<Vec<Archive>, ArchiveError> {
    let (opened, layout) = match held {
        // The paths that Docker's list names would lead anywhere.
        Held::Directory(path) => (Opened::directory(path)?, Layout::Oci),
        Held::File(file, shown) => {
            let opened = Opened::tar(file, shown)?;
            let layout = Layout::of(&opened)?;
            (opened, layout)
        }
    };
    let mut hashed = Hashed::new();
    let images = layout.images(&opened)?.into_iter();
    images
        .map(|image| Archive::of(opened.clone(), image, &mut hashed))
        .collect()
}

/// `PATH[:NAME]`; a path with a colon in it must exist.
pub fn split_name(text: &str) -> (PathBuf, Option<String>) {
    match text.split_once(':') {
        Some((path, name)) if !Path::new(text).exists() => (path.into(), Some(name.into())),
        _ => (text.into(), None),
    }
}

impl Archive {
    fn of(opened: Opened, image: Listed, hashed: &mut Hashed) -> Result<Archive, ArchiveError> {
        let names = image.references(&opened.path);
        let (top, places) = image.document(&opened, hashed)?;
        Ok(Archive {
            opened,
            top,
            names,
            places,
        })
    }

    /// The document of the chosen image: a manifest or an index.
    pub fn top(&self) -> Result<Vec<u8>, ArchiveError> {
        Ok(self.top.clone())
    }

    /// A manifest, verified.
    pub fn document(&self, named: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
        layouts::read_document(&self.opened, named)
    }

    /// A blob's bytes, not verified.
    pub fn blob<'a>(&'a self, blob: &Descriptor) -> Result<Box<dyn Read + Send + 'a>, ArchiveError> {
        let own = layouts::blob(&blob.digest);
        let name = self.places.get(&blob.digest).unwrap_or(&own);
        Ok(Box::new(self.opened.read(name)?.0))
    }

    /// What the archive calls the image.
    pub fn names(&self) -> &[Reference] {
        &self.names
    }

    /// The file, for people.
    pub fn describe(&self) -> String {
        self.opened.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_other_kinds_are_no_archives() {
        assert!(open("debian:12").is_none());
        assert!(open("docker://debian").is_none());
        assert!(
            open("oci:/nowhere:tag")
                .unwrap()
                .unwrap_err()
                .to_string()
                .contains("/nowhere")
        );
    }
}
