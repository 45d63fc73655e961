//! What has a build used? Noted as it goes; workers tell what they note (`telling`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::steps::Told;
use crate::build::dockerfile::{Mount, MountKind};
use crate::build::remote::without_login;
use crate::build::solve::Build;
use crate::containers::spec::Network;
use crate::images::Image;
use crate::images::manifest::Platform;
use crate::images::purl::purl;
use crate::images::reference::Reference;
use crate::store::Digest;

/// Something from outside that the image was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Material {
    /// Where it is from: a package URL, or a URL without logins.
    pub uri: String,
    /// What it was.
    pub hash: Hash,
}

/// What something was, by its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hash {
    /// Of an image's manifest or list, or of a file.
    Sha256(String),
    /// A git commit.
    Commit(String),
}

impl Material {
    /// A file by URL.
    pub(in crate::build) fn file(url: &str, digest: &Digest) -> Material {
        Material {
            uri: without_login(url),
            hash: Hash::Sha256(digest.hex()),
        }
    }

    /// A git repository.
    pub(in crate::build) fn repository(address: &str, commit: &str) -> Material {
        Material {
            uri: without_login(address),
            hash: Hash::Commit(commit.into()),
        }
    }

    /// An image, by the name that was used, and whether a registry is known to have it; `None` if that is no name but an id.
    fn image(name: &str, platform: Option<&Platform>, image: &Image) -> Option<(Material, bool)> {
        let is_id = image.id.hex().starts_with(name.trim_start_matches("sha256:"));
        let name = Reference::parse(name).ok()?;
        // A name wins over the beginning of an id.
        if is_id && !image.names.contains(&name.clone().or_latest().to_string()) {
            return None;
        }
        let own = image.platform();
        // What registries know it by; of one that came from none, its manifest as it is here.
        let repository = format!("{}@", name.repository());
        let mut known = image.digests.iter();
        let known = known.find_map(|known| known.strip_prefix(&repository)?.parse().ok());
        let known = name.digest().copied().or(known);
        let material = Material {
            uri: purl(&name, platform.or(own.as_ref())),
            hash: Hash::Sha256(known.unwrap_or(image.manifest).hex()),
        };
        Some((material, known.is_some()))
    }
}

/// What one build (of one platform) has used.
#[derive(Debug, Clone, Default)]
pub(in crate::build) struct Noted {
    pub(super) materials: BTreeSet<Material>,
    /// An image went in that can be fetched from nowhere, as far as it is known.
    pub(super) incomplete: bool,
    /// Ids, and whether each can be left out.
    pub(super) secrets: BTreeMap<String, bool>,
    pub(super) agents: BTreeMap<String, bool>,
    /// A RUN could reach others.
    pub(super) network: bool,
    /// The steps, stage by stage.
    pub(super) steps: Vec<Told>,
    /// What the RUN that is carried out runs.
    pub(super) exec: Option<Value>,
}

impl Build<'_> {
    /// Notes, and tells the builder.
    pub(in crate::build) fn note(&self, material: Material) {
        self.progress.uses(&material);
        self.noted.borrow_mut().materials.insert(material);
    }

    pub(in crate::build) fn note_image(&self, name: &str, platform: Option<&Platform>, image: &Image) {
        let material = Material::image(name, platform, image);
        let is_known = material.as_ref().is_some_and(|(_, is_known)| *is_known);
        self.noted.borrow_mut().incomplete |= !is_known;
        if let Some((material, _)) = material {
            self.note(material);
        }
    }

    /// What a RUN may use.
    pub(in crate::build) fn note_run(&self, mounts: &[Mount], network: Network) {
        let mut noted = self.noted.borrow_mut();
        noted.network |= network != Network::None;
        for mount in mounts {
            let (all, id) = match mount.kind {
                MountKind::Secret => (&mut noted.secrets, mount.secret()),
                MountKind::Ssh => (&mut noted.agents, mount.agent()),
                _ => continue,
            };
            *all.entry(id).or_insert(true) &= !mount.required;
        }
    }
}
