//! Which images does an archive hold, and what are they called? Two layouts: OCI's, with an `index.json`, and that of
//! `docker save`, with a `manifest.json`.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::ArchiveError;
use super::files::Opened;
use crate::images::manifest::{Descriptor, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST, Manifest, printable};
use crate::images::reference::Reference;
use crate::store::Digest;

/// The annotation of OCI layouts that names an image, often by its tag alone.
pub(in crate::images) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The one by which Docker and containerd name it in full.
pub(in crate::images) const FULL_NAME: &str = "io.containerd.image.name";

/// What the file `oci-layout` of such a layout says.
pub(in crate::images) const MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Where a layout has a blob.
pub(in crate::images) fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// How an archive lists its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// OCI image spec, image-layout.md.
    Oci,
    /// `docker save`.
    Docker,
}

/// An image on an archive's list.
#[derive(Debug)]
pub(super) struct Listed {
    /// As the archive spells them.
    names: Vec<String>,
    image: Documents,
}

#[derive(Debug)]
enum Documents {
    /// A manifest or an index.
    Top(Descriptor),
    /// A config and layers, as files of the archive.
    Files { config: String, layers: Vec<String> },
}

/// An image's document, and where its blobs lie that are not under `blobs/`.
type Found = (Vec<u8>, HashMap<Digest, String>);

/// Layers of an archive by their names in it.
pub(super) type Hashed = HashMap<String, Descriptor>;

impl Layout {
    /// The layout of an archive. Newer Dockers write both; like them, their own list is believed.
    pub(super) fn of(opened: &Opened) -> Result<Layout, ArchiveError> {
        match (opened.has("manifest.json"), opened.has("index.json")) {
            (true, _) => Ok(Layout::Docker),
            (false, true) => Ok(Layout::Oci),
            (false, false) => {
                Err(opened.format("it is no archive of images: it has no manifest.json or index.json"))
            }
        }
    }

    /// All images.
    pub(super) fn images(self, opened: &Opened) -> Result<Vec<Listed>, ArchiveError> {
        match self {
            Layout::Oci => of_index(opened),
            Layout::Docker => of_docker(opened),
        }
    }
}

/// Several entries for one image are its names.
fn of_index(opened: &Opened) -> Result<Vec<Listed>, ArchiveError> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Descriptor>,
    }
    let index: Index = opened.json("index.json")?;
    let mut images: Vec<Listed> = Vec::new();
    for entry in index.manifests {
        let same =
            |image: &Listed| matches!(&image.image, Documents::Top(known) if known.digest == entry.digest);
        let place = images.iter().position(same).unwrap_or(images.len());
        let names = [FULL_NAME, REF_NAME]
            .iter()
            .filter_map(|key| entry.annotations.get(*key).cloned());
        let names: Vec<String> = names.collect();
        match images.get_mut(place) {
            Some(image) => image.names.extend(names),
            None => images.push(Listed {
                names,
                image: Documents::Top(entry),
            }),
        }
    }
    Ok(images)
}

fn of_docker(opened: &Opened) -> Result<Vec<Listed>, ArchiveError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Saved {
        config: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    let saved: Vec<Saved> = opened.json("manifest.json")?;
    let listed = |saved: Saved| Listed {
        names: saved.repo_tags.unwrap_or_default(),
        image: Documents::Files {
            config: saved.config,
            layers: saved.layers,
        },
    };
    Ok(saved.into_iter().map(listed).collect())
}

/// The image of this name, which is then its only one; without a name, the only image.
pub(super) fn choose(
    opened: &Opened,
    images: Vec<Listed>,
    name: Option<&str>,
) -> Result<Listed, ArchiveError> {
    let names: Vec<String> = images.iter().flat_map(|image| image.names.clone()).collect();
    let count = images.len();
    let mut images = images.into_iter();
    match name {
        Some(name) => match images.find_map(|image| image.called(name)) {
            Some(image) => Ok(image),
            None => Err(opened.choice(format!("no image \"{}\" in it", printable(name)), names)),
        },
        None => match (count, images.next()) {
            (1, Some(only)) => Ok(only),
            (0, _) | (_, None) => Err(opened.format("it lists no image")),
            _ => Err(opened.choice("it has several images: add :NAME", names)),
        },
    }
}

impl Listed {
    /// The image of a manifest or an index that need not be on a list; `None` if the text is no digest.
    pub(super) fn of_digest(text: &str) -> Option<Listed> {
        let digest = text.parse().ok()?;
        Some(Listed {
            names: Vec::new(),
            image: Documents::Top(Descriptor::new("", digest, 0)),
        })
    }

    /// The image, by one name alone, if it has that.
    fn called(self, name: &str) -> Option<Listed> {
        let full = |text: &str| Reference::parse(text).ok().map(Reference::or_latest);
        let wanted = full(name);
        let is_it = |known: &&String| {
            // A tag alone is no name.
            *known == name || known.contains(['/', ':']) && wanted.is_some() && full(known) == wanted
        };
        let names = self.names.iter().find(is_it)?;
        Some(Listed {
            names: vec![names.clone()],
            ..self
        })
    }

    /// Its names in full, each once.
    pub(super) fn references(&self, path: &Path) -> Vec<Reference> {
        let mut names: Vec<Reference> = Vec::new();
        // Beside a full name, a tag alone says nothing new.
        let has_full = self.names.iter().any(|known| known.contains(['/', ':']));
        for known in &self.names {
            if has_full && matches!(self.image, Documents::Top(_)) && !known.contains(['/', ':']) {
                continue;
            }
            let name = match self.image {
                Documents::Top(_) => layout_name(path, known),
                Documents::Files { .. } => Reference::parse(known).ok().map(Reference::or_latest),
            };
            names.extend(name.filter(|name| !names.contains(name)));
        }
        names
    }

    /// Its document. What `docker save` wrote has none, so one is made: the layers are hashed for it, each once, though
    /// several images have it, or one many times.
    pub(super) fn document(&self, opened: &Opened, hashed: &mut Hashed) -> Result<Found, ArchiveError> {
        let (config, layers) = match &self.image {
            Documents::Top(top) => return Ok((read_document(opened, top)?, HashMap::new())),
            Documents::Files { config, layers } => (config, layers),
        };
        if layers.len() > MAX_LAYERS {
            let count = layers.len();
            return Err(opened.format(format!(
                "it lists an image of {count} layers, more than the {MAX_LAYERS} that are accepted"
            )));
        }
        let bytes = opened.read_small(config, MAX_CONFIG)?;
        let digest = Digest::of(&bytes);
        let mut places = HashMap::from([(digest, config.clone())]);
        let mut found = Vec::new();
        for layer in layers {
            let blob = match hashed.get(layer) {
                Some(blob) => blob.clone(),
                None => hash_layer(opened, layer)?,
            };
            places.insert(blob.digest, layer.clone());
            hashed.insert(layer.clone(), blob.clone());
            found.push(blob);
        }
        let size = bytes.len() as u64;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some("application/vnd.docker.distribution.manifest.v2+json".into()),
            config: Descriptor::new("application/vnd.docker.container.image.v1+json", digest, size),
            layers: found,
            annotations: BTreeMap::new(),
        };
        let top = serde_json::to_vec_pretty(&manifest).map_err(|error| opened.format(error.to_string()))?;
        Ok((top, places))
    }
}

/// The name of an image in a layout. A tag alone gets the file's name before it, on `localhost`, as podman has it.
fn layout_name(path: &Path, known: &str) -> Option<Reference> {
    if known.contains(['/', ':']) {
        return Reference::parse(known).ok().map(Reference::or_latest);
    }
    let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
    Reference::parse(&format!("localhost/{stem}:{known}")).ok()
}

pub(super) fn read_document(opened: &Opened, named: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
    let bytes = opened.read_small(&blob(&named.digest), MAX_MANIFEST)?;
    let found = Digest::of(&bytes);
    if found != named.digest {
        return Err(opened.format(format!(
            "manifest {} has another content: its digest is {found}",
            named.digest
        )));
    }
    Ok(bytes)
}

fn hash_layer(opened: &Opened, name: &str) -> Result<Descriptor, ArchiveError> {
    let failed = |source| ArchiveError::Read {
        path: opened.path.join(name),
        source,
    };
    let (mut file, size) = opened.read(name)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut media_type = "application/vnd.docker.image.rootfs.diff.tar";
    let mut first = true;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if first && bytes.starts_with(&[0x1f, 0x8b]) {
            media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        }
        first = false;
        if count == 0 {
            return Ok(Descriptor::new(
                media_type,
                Digest(hasher.finalize().into()),
                size,
            ));
        }
        hasher.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_names_images_as_podman_does() {
        let name = |path: &str, known: &str| layout_name(Path::new(path), known).map(|name| name.to_string());
        assert_eq!(name("/x/web.tar", "1.0").as_deref(), Some("localhost/web:1.0"));
        assert_eq!(
            name("/x/y", "docker.io/library/web:2").as_deref(),
            Some("docker.io/library/web:2")
        );
        assert_eq!(name("/x/ü", "1"), None);
    }

    #[test]
    fn an_image_is_found_by_what_its_archive_or_its_user_calls_it() {
        let listed = |names: &[&str]| Listed {
            names: names.iter().map(|name| name.to_string()).collect(),
            image: Documents::Files {
                config: String::new(),
                layers: Vec::new(),
            },
        };
        let names = ["docker.io/library/web:latest", "latest"];
        for name in ["web", "web:latest", "docker.io/library/web", "latest"] {
            assert!(listed(&names).called(name).is_some(), "{name}");
        }
        for name in ["web:1", "docker.io/library/latest", "", "WEB"] {
            assert!(listed(&names).called(name).is_none(), "{name}");
        }
    }
}
