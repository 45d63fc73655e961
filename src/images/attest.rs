//! What is said of an image, and where does it lie? In statements (in-toto.io/Statement/v1), which are the layers of a
//! manifest of their own, beside the image's on a list, as BuildKit stores them (`docs/attestations/attestation-storage.md`).

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::Error;
use super::manifest::{Descriptor, Manifest, Platform};
use super::packed::Family;
use super::purl::purl;
use super::reference::Reference;
use crate::store::Digest;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// What no machine runs.
const UNKNOWN: &str = "unknown";

/// A statement. Of what others say the JSON stays as it came, byte by byte: read, it would take many times the room, and
/// large numbers could change.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Of which kind it is, by a URI.
    pub predicate_type: String,
    /// What it says.
    pub predicate: Box<RawValue>,
    /// What it is about; `None`: the image.
    pub subjects: Option<Box<RawValue>>,
}

/// As it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    predicate_type: &'a str,
    subject: &'a RawValue,
    predicate: &'a RawValue,
}

/// The documents that statements lie in.
pub(super) struct Documents {
    /// Media types and bytes: the statements, then the config.
    pub(super) blobs: Vec<(&'static str, Vec<u8>)>,
    pub(super) manifest: Vec<u8>,
    /// How a list names the manifest.
    pub(super) listed: Descriptor,
}

/// Makes the documents of what is said of the image that `target` names.
///
/// # Errors
/// They cannot be written as JSON.
pub(super) fn documents(
    statements: &[Statement],
    target: &Descriptor,
    names: &[Reference],
    platform: &Platform,
) -> Result<Documents, Error> {
    let family = Family::Oci;
    let hashes = |digest: &Digest| json!({ "sha256": digest.hex() });
    let mut subjects: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": purl(name, Some(platform)), "digest": hashes(&target.digest) }))
        .collect();
    if subjects.is_empty() {
        subjects.push(json!({ "name": "_", "digest": hashes(&target.digest) }));
    }
    let (mut blobs, mut layers) = (Vec::new(), Vec::new());
    let unwritten = |source| Error::Config {
        id: target.digest,
        source,
    };
    let subjects = to_raw_value(&subjects).map_err(unwritten)?;
    for statement in statements {
        let document = Document {
            kind: STATEMENT,
            predicate_type: &statement.predicate_type,
            subject: statement.subjects.as_ref().unwrap_or(&subjects),
            predicate: &statement.predicate,
        };
        let bytes = serde_json::to_vec(&document).map_err(unwritten)?;
        let mut layer = Descriptor::new(MEDIA_TYPE, Digest::of(&bytes), bytes.len() as u64);
        let kind = (PREDICATE_TYPE.to_string(), statement.predicate_type.clone());
        layer.annotations.extend([kind]);
        layers.push(layer);
        blobs.push((MEDIA_TYPE, bytes));
    }
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = json!({
        "architecture": UNKNOWN,
        "os": UNKNOWN,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = config.to_string().into_bytes();
    let id = Digest::of(&config);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(family.manifest().into()),
        config: Descriptor::new(family.config(), id, config.len() as u64),
        layers,
        annotations: Default::default(),
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|source| Error::Config { id, source })?;
    blobs.push((family.config(), config));
    let size = manifest.len() as u64;
    let mut listed = Descriptor::new(family.manifest(), Digest::of(&manifest), size);
    listed.platform = Some(Platform {
        architecture: UNKNOWN.into(),
        os: UNKNOWN.into(),
        variant: None,
    });
    listed.annotations.extend([
        (REFERENCE_DIGEST.to_string(), target.digest.to_string()),
        (REFERENCE_TYPE.to_string(), "attestation-manifest".into()),
    ]);
    Ok(Documents {
        blobs,
        manifest,
        listed,
    })
}
