//! `push IMAGE KIND:PLACE`: into an archive or a directory instead of a registry, as podman has it.

use std::path::PathBuf;

use crate::cli::report::Failure;
use crate::images::names::typed;
use crate::images::packed::Family;
use crate::images::packing::Small;
use crate::images::push::Form;
use crate::images::reference::Reference;
use crate::images::save::{self, Format, Saved, To};
use crate::images::{Image, archive};
use crate::store::{Digest, Store};

/// Where others send images to, but Bryo does not.
const OTHERS: [(&str, &str); 5] = [
    ("dir", "`oci:DIRECTORY` has OCI's layout"),
    ("docker-daemon", "`save IMAGE | docker load` takes it there"),
    ("containers-storage", "`save IMAGE | podman load` takes it there"),
    ("ostree", "it is not supported"),
    ("sif", "it is not supported"),
];

/// Where an image is to go.
pub(super) struct Place {
    kind: Kind,
    path: PathBuf,
    /// What it is called there.
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    DockerArchive,
    OciArchive,
    OciDirectory,
}

impl Place {
    /// What is meant by where to send something; `None`: a registry.
    pub(super) fn read(text: &str) -> Result<Option<Place>, Failure> {
        let Some((kind, rest)) = text.split_once(':') else {
            return Ok(None);
        };
        let kind = match kind {
            "docker-archive" => Kind::DockerArchive,
            "oci-archive" => Kind::OciArchive,
            "oci" => Kind::OciDirectory,
            other => {
                let known = OTHERS.iter().find(|(place, _)| *place == other);
                return known.map_or(Ok(None), |(place, instead)| {
                    let why = format!("cannot push to {text}: {place} is no registry; {instead}");
                    Err(Failure::new(why).code(125))
                });
            }
        };
        let (path, name) = archive::split_name(rest);
        // As podman: nothing behind the colon is no name.
        let name = name.filter(|name| !name.is_empty());
        if path.as_os_str().is_empty() {
            return Err(Failure::new(format!("cannot push to {text}: it has no path")).code(125));
        }
        Ok(Some(Place { kind, path, name }))
    }

    /// Has an image there a manifest?
    pub(super) fn has_manifest(&self) -> bool {
        self.kind != Kind::DockerArchive
    }

    /// Writes the image there. Gives its manifest's digest, which a Docker archive has not.
    ///
    /// `asked` is how the image was asked for: a name of its stays its name in a Docker archive, as with podman.
    pub(super) fn send(
        &self,
        store: &Store,
        image: Image,
        asked: &str,
        form: Form,
    ) -> Result<Option<Digest>, Failure> {
        self.may_have(&form)?;
        let own = Reference::parse(asked).ok().map(Reference::or_latest);
        let own = own.filter(|name| image.names.contains(&name.to_string()));
        let mut saved = Saved::listed(store, image, Vec::new())?;
        saved.packing = form.packing;
        let (format, to) = match self.kind {
            Kind::DockerArchive => (Format::Docker, To::File(&self.path)),
            Kind::OciArchive => (Format::Oci, To::File(&self.path)),
            Kind::OciDirectory => (Format::Oci, To::Directory(&self.path)),
        };
        match (self.kind, &self.name) {
            (Kind::DockerArchive, name) => {
                let given = name.as_deref().map(tagged).transpose()?;
                saved.names = given.into_iter().chain(own).collect();
                saved.names.dedup();
            }
            (_, None) => {}
            (_, Some(tag)) => saved.tag = Some(named(tag)?),
        }
        let made = save::save(store, &[saved], format, to)?;
        Ok(made.first().map(|manifest| manifest.digest))
    }

    /// Does the archive have what was asked for?
    fn may_have(&self, form: &Form) -> Result<(), Failure> {
        let refused = |why: String| Err(Failure::new(why).code(125));
        match (self.kind, form.family) {
            (Kind::DockerArchive, Some(Family::Oci)) => {
                return refused(
                    "--format=oci is not what a docker-archive has; an oci-archive has it".into(),
                );
            }
            (Kind::OciArchive | Kind::OciDirectory, Some(Family::Docker)) => {
                return refused("--format=v2s2 is not what OCI's layout has; a docker-archive has it".into());
            }
            _ => {}
        }
        if self.kind == Kind::DockerArchive {
            if form.packing.small == Small::Zstd {
                return refused("a docker-archive has plain layers: no zstd".into());
            }
            // As podman, which cannot add to one either, and keeps what is there.
            if self
                .path
                .metadata()
                .is_ok_and(|found| found.is_file() && found.len() > 0)
            {
                let path = self.path.display();
                return refused(format!(
                    "docker-archive doesn't support modifying existing images: {path} is there"
                ));
            }
        }
        Ok(())
    }
}

/// The name in a Docker archive.
fn tagged(text: &str) -> Result<Reference, Failure> {
    let name = typed(text)?;
    match name.digest() {
        Some(_) => Err(Failure::new(format!("docker-archive: {text} has a digest, no tag")).code(125)),
        None => Ok(name.or_latest()),
    }
}

/// The name in an OCI layout (image-spec, annotations.md: `org.opencontainers.image.ref.name`): parts of letters and digits, with
/// single separators in between.
fn named(tag: &str) -> Result<String, Failure> {
    let is_separator = |byte: &u8| b"-._:@/+".contains(byte);
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || is_separator(byte);
    let bytes = tag.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let is_name = bytes.iter().all(is_known)
        && ends.iter().all(|end| end.is_some_and(|byte| !is_separator(byte)))
        && !bytes
            .windows(2)
            .any(|pair| pair != b"--" && pair.iter().all(is_separator));
    match is_name {
        true => Ok(tag.to_owned()),
        false => Err(Failure::new(format!("{tag:?} is no name that OCI's layout allows")).code(125)),
    }
}
