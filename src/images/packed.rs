//! What does an image look like outside the store? Its layers compressed, each always to the same bytes, and a manifest
//! of them.

use std::collections::BTreeMap;
use std::io::{self, Read};

use fuse_overlay::index::DiffId;
use sha2::{Digest as _, Sha256};

use super::forms::{Form, Forms};
use super::manifest::{Descriptor, Document, Manifest};
use super::packing::{Packing, Small};
use super::{Error, Image, layers, read_blob};
use crate::store::{self, Aside, Digesting, Store};

/// Whose names the parts of an image have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// The OCI image spec's.
    #[default]
    Oci,
    /// Docker's image manifest, version 2, schema 2.
    Docker,
}

impl Family {
    /// The family of a manifest, which may leave its own type out.
    pub fn of(manifest: &Manifest) -> Family {
        let config = &manifest.config.media_type;
        let own = manifest.media_type.as_ref().unwrap_or(config);
        match own.contains("docker") {
            true => Family::Docker,
            false => Family::Oci,
        }
    }

    pub(super) fn manifest(self) -> &'static str {
        match self {
            Family::Oci => "application/vnd.oci.image.manifest.v1+json",
            Family::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    /// A list of manifests.
    pub(super) fn index(self) -> &'static str {
        match self {
            Family::Oci => "application/vnd.oci.image.index.v1+json",
            Family::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    pub(super) fn config(self) -> &'static str {
        match self {
            Family::Oci => "application/vnd.oci.image.config.v1+json",
            Family::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    pub(super) fn layer(self, small: Small) -> &'static str {
        match (self, small) {
            (Family::Oci, Small::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Family::Oci, Small::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Family::Oci, Small::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Family::Docker, Small::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Family::Docker, Small::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            (Family::Docker, Small::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
        }
    }

    /// The family of an image with layers of this form: Docker's has none of zstd that its own programs read.
    pub(super) fn with(self, packing: Packing) -> Family {
        match packing.small {
            Small::Zstd => Family::Oci,
            Small::Gzip | Small::Plain => self,
        }
    }

    /// What this family calls a layer that another tool called `media_type`; `None` if nobody knows that.
    pub(super) fn renamed(self, media_type: &str) -> Option<&'static str> {
        let known = |small: &Small| {
            let families = [Family::Oci, Family::Docker];
            families.iter().any(|family| family.layer(*small) == media_type)
        };
        let mut all = [Small::Gzip, Small::Zstd, Small::Plain].into_iter();
        all.find(known).map(|small| self.layer(small))
    }

    /// The bytes of the manifest of an image with these layers.
    pub(super) fn describe(
        self,
        image: &Image,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Vec<u8>, Error> {
        let id = image.id;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(self.manifest().into()),
            config: Descriptor::new(self.config(), id, image.raw_config.len() as u64),
            layers,
            annotations,
        };
        serde_json::to_vec(&manifest).map_err(|source| Error::Config { id, source })
    }
}

/// The manifest with which an image lies in the store, and its bytes; `None` if it came with none that is understood.
pub(super) fn own_manifest(store: &Store, image: &Image) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
    let bytes = read_blob(store, "manifest", &image.manifest)?;
    Ok(match Document::parse(&bytes) {
        Ok(Document::Manifest(manifest)) => Some((*manifest, bytes)),
        _ => None,
    })
}

/// Writes a layer into a file aside, made small. Nothing but the tar counts: no time, no name, no machine.
pub(super) fn pack(
    store: &Store,
    layer: &DiffId,
    family: Family,
    packing: Packing,
) -> Result<(Aside, Descriptor), Error> {
    let aside = store.aside()?;
    let mut tar = Whole::open(store, layer)?;
    let mut out = Digesting::new(aside.file());
    if let Err(error) = packing.pack(&mut tar, &mut out) {
        let failed = store::Error::io("compress a layer into", aside.path());
        return Err(tar.failure(error, |error| failed(error).into()));
    }
    let (digest, size) = out.finish();
    Ok((aside, Descriptor::new(family.layer(packing.small), digest, size)))
}

/// The forms of a layer that serve, as a family calls them: those of the wanted kind first.
pub(super) fn serving(known: Forms, family: Family, packing: Packing) -> Vec<(Descriptor, Form)> {
    let is_wanted = |form: &Descriptor| form.media_type == family.layer(packing.small);
    let mut serving: Vec<(Descriptor, Form)> = known
        .into_iter()
        .filter_map(|(digest, form)| {
            let media_type = family.renamed(&form.media_type)?;
            Some((Descriptor::new(media_type, digest, form.size), form))
        })
        .filter(|(known, _)| !packing.force || is_wanted(known))
        .collect();
    serving.sort_by_key(|(known, _)| !is_wanted(known));
    serving
}

/// A layer's tar, which fails at its end if it is not what its diff id says: what is damaged does not leave the store.
#[derive(Debug)]
pub(super) struct Whole {
    tar: std::fs::File,
    layer: DiffId,
    sha256: Sha256,
    is_damaged: bool,
}

impl Whole {
    pub(super) fn open(store: &Store, layer: &DiffId) -> Result<Whole, Error> {
        Ok(Whole {
            tar: layers::open_tar(store, layer)?,
            layer: *layer,
            sha256: Sha256::new(),
            is_damaged: false,
        })
    }

    /// What an error of a copy from here was: of the tar, or `other`.
    pub(super) fn failure<E: From<Error>>(&self, error: io::Error, other: impl FnOnce(io::Error) -> E) -> E {
        match self.is_damaged {
            true => Error::LayerDamaged(self.layer).into(),
            false => other(error),
        }
    }
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(buffer)?;
        self.sha256.update(buffer.get(..count).unwrap_or_default());
        if count == 0 && !buffer.is_empty() {
            let found: [u8; 32] = self.sha256.clone().finalize().into();
            if found != self.layer.0 {
                self.is_damaged = true;
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_a_name_in_each_family() {
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        let docker = Family::Docker.renamed(zstd).unwrap();
        assert_eq!(docker, "application/vnd.docker.image.rootfs.diff.tar.zstd");
        assert_eq!(Family::Oci.renamed(docker), Some(zstd));
        assert_eq!(Family::Oci.renamed(zstd), Some(zstd));
        assert_eq!(Family::Oci.renamed("application/octet-stream"), None);
    }
}
