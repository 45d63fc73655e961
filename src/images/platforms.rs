//! How is an image for several platforms, or one of which something is said (`attest`), sent or saved? Each platform's as
//! any image, but without a name; then what is said of each, and a list of all (OCI image spec, image-index.md), which
//! has the name.

use std::collections::BTreeMap;

use serde_json::json;

use super::Image;
use super::attest::{self, Statement};
use super::manifest::{Descriptor, Platform};
use super::packed::Family;
use super::packing::Packing;
use super::push::{Progress, Push, PushError, Pushed};
use super::reference::Reference;
use super::registry::{Registries, Repository};
use super::save::{SaveError, Saved, To, write};
use crate::store::{Digest, Store};

/// An image and what it is for.
#[derive(Debug)]
pub struct ForPlatform {
    /// What the list says.
    pub platform: Platform,
    /// On no list of the store; its layers are claimed.
    pub image: Image,
    /// Of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// What is said of it.
    pub statements: Vec<Statement>,
}

/// Images of one name.
#[derive(Debug)]
pub struct List {
    /// One a platform.
    pub images: Vec<ForPlatform>,
    /// Whose names its parts have.
    pub family: Family,
    /// Of the list itself.
    pub annotations: BTreeMap<String, String>,
    /// What the images are called, for what is said of them.
    pub names: Vec<Reference>,
    /// The form of their layers.
    pub packing: Packing,
}

impl List {
    /// The document, once the images' manifests are known, and those of what is said of them.
    fn document(&self, manifests: Vec<Descriptor>, said: Vec<Descriptor>) -> Vec<u8> {
        let with_platform = |(image, manifest): (&ForPlatform, Descriptor)| Descriptor {
            platform: Some(image.platform.clone()),
            ..manifest
        };
        let manifests = self.images.iter().zip(manifests).map(with_platform);
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": self.family.with(self.packing).index(),
            "manifests": manifests.chain(said).collect::<Vec<_>>(),
        });
        if !self.annotations.is_empty() {
            document["annotations"] = json!(self.annotations);
        }
        document.to_string().into_bytes()
    }
}

/// Sends a list to the registry that `name` means, under its tag.
///
/// # Errors
/// See [`PushError`]. What was sent stays there, and the next push finds it.
pub fn push(
    store: &Store,
    list: &List,
    name: &Reference,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Pushed, PushError> {
    let repository = Repository::open(name, registries)?;
    let family = list.family.with(list.packing);
    let push = Push {
        store,
        repository: &repository,
        name,
        progress,
        family,
        packing: list.packing,
    };
    let (mut manifests, mut said) = (Vec::new(), Vec::new());
    for part in &list.images {
        let layers = push.parts(&part.image)?;
        let annotations = part.annotations.clone();
        let manifest = family.describe(&part.image, layers, annotations)?;
        let sent = push.manifest(&Digest::of(&manifest).to_string(), &manifest)?;
        let sent = Descriptor::new(sent.media_type, sent.digest, sent.size);
        if !part.statements.is_empty() {
            let made = attest::documents(&part.statements, &sent, &list.names, &part.platform)?;
            for (_, bytes) in &made.blobs {
                push.blob(&Digest::of(bytes), bytes)?;
            }
            push.manifest(&made.listed.digest.to_string(), &made.manifest)?;
            said.push(made.listed);
        }
        manifests.push(sent);
    }
    let document = list.document(manifests, said);
    push.document(name.tag().unwrap_or("latest"), family.index(), &document)
}

/// Writes a list into an archive of OCI's layout. Gives its descriptor.
///
/// # Errors
/// See [`SaveError`]. A file is as it was before; a directory has more blobs, and the same images.
pub fn save(store: &Store, list: &List, names: &[Reference], to: To<'_>) -> Result<Descriptor, SaveError> {
    write(store, to, &mut |writer| {
        writer.begin()?;
        let (mut manifests, mut said) = (Vec::new(), Vec::new());
        for part in &list.images {
            let saved = writer.image(&Saved {
                image: part.image.clone(),
                names: Vec::new(),
                tag: None,
                annotations: part.annotations.clone(),
                packing: list.packing,
            })?;
            if !part.statements.is_empty() {
                let made = attest::documents(&part.statements, &saved, &list.names, &part.platform)?;
                for (media_type, bytes) in &made.blobs {
                    writer.blob(media_type, bytes)?;
                }
                writer.blob(Family::Oci.manifest(), &made.manifest)?;
                said.push(made.listed);
            }
            manifests.push(saved);
        }
        let document = list.document(manifests, said);
        let made = writer.blob(Family::Oci.index(), &document)?;
        writer.list(vec![(made.clone(), names)])?;
        Ok(made)
    })
}
