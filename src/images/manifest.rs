//! What do a manifest, an image index and a config say? The OCI image spec and Docker's schema 2, read with the
//! limits and refusals that bytes from outside need.

use std::fmt;
use std::str::FromStr;

use fuse_overlay::index::DiffId;
use oci_spec::image::ImageConfiguration;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::store::Digest;

/// The largest manifest or index in bytes (OCI distribution spec: registries need not take more).
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The largest config in bytes.
pub const MAX_CONFIG: u64 = 8 << 20;
/// The most layers of one image; builders stop at 127.
pub const MAX_LAYERS: usize = 1024;

/// The most values (texts, numbers, lists, objects) of one document: a list of two bytes can take two hundred in memory.
/// Configs have some hundreds.
pub const MAX_VALUES: usize = 100_000;

/// The media types that a pull asks for, best first.
pub const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Why a document is not an image that can be pulled.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not JSON, or not of the right shape.
    #[error("{what} is not valid JSON of its kind: {source}")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// Larger than the limit.
    #[error("{what} of {size} bytes is larger than the {limit} bytes that are accepted")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// What it claims or has.
        size: u64,
        /// What is accepted.
        limit: u64,
    },
    /// Of more parts than the limit.
    #[error("{what} has more than the {MAX_VALUES} values that are accepted")]
    TooMany {
        /// Which document.
        what: &'static str,
    },
    /// Both an index and a manifest (CVE-2021-41190).
    #[error("manifest is ambiguous: it has both \"manifests\" and \"layers\"")]
    Ambiguous,
    /// Docker's schema 1.
    #[error(
        "manifest is of Docker's schema 1, which nobody writes since 2017; push the image again with a newer tool"
    )]
    Schema1,
    /// Of a kind that is no image.
    #[error("{0:?} is not a container image that can be run")]
    NotAnImage(String),
    /// A layer that the registry does not hold, or that is encrypted.
    #[error("layer {digest} of type {media_type:?} cannot be pulled: {reason}")]
    Layer {
        /// The layer's blob.
        digest: Digest,
        /// As the manifest spells it.
        media_type: String,
        /// In words.
        reason: &'static str,
    },
    /// The index has nothing for the platform.
    #[error("no matching manifest for {wanted} in the manifest list entries (it has: {available})")]
    NoPlatform {
        /// What was looked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// Indexes within indexes.
    #[error("image index is nested too deeply")]
    Nested,
    /// Manifest and config disagree, or count too much.
    #[error("{0}")]
    Inconsistent(String),
}

/// A blob as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its name by content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For manifests in an index: what they are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free text; archives keep names here.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl Descriptor {
    /// One that says no more than what it is.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        }
    }
}

/// An operating system and a processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, in Go's spelling.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7` of arm, if it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A document that a registry serves under a name.
#[derive(Debug)]
pub enum Document {
    /// A choice of manifests by platform.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Box<Manifest>),
}

/// One image: its config and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2 in both specs.
    pub schema_version: u32,
    /// What it is, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The config's blob.
    pub config: Descriptor,
    /// The layers' blobs.
    pub layers: Vec<Descriptor>,
    /// Free text.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The fields that tell one kind of document from another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: Option<u32>,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads a manifest or an index; the document itself tells which, not a header beside it.
    pub fn parse(bytes: &[u8]) -> Result<Document, ManifestError> {
        check_size("manifest", bytes.len() as u64, MAX_MANIFEST)?;
        check_values("manifest", bytes)?;
        let json = |source| ManifestError::Json {
            what: "manifest",
            source,
        };
        let kind: Kind = serde_json::from_slice(bytes).map_err(json)?;
        if kind.fs_layers.is_some() || kind.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        match kind.manifests {
            Some(_) if kind.layers.is_some() || kind.config.is_some() => Err(ManifestError::Ambiguous),
            Some(manifests) => Ok(Document::Index(manifests)),
            None => {
                let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
                manifest.check()?;
                Ok(Document::Manifest(Box::new(manifest)))
            }
        }
    }
}

impl Manifest {
    fn check(&self) -> Result<(), ManifestError> {
        const CONFIGS: [&str; 3] = [
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
            // Very old registries said this of everything.
            "application/octet-stream",
        ];
        if !CONFIGS.contains(&self.config.media_type.as_str()) {
            return Err(ManifestError::NotAnImage(printable(&self.config.media_type)));
        }
        check_size("config", self.config.size, MAX_CONFIG)?;
        if self.layers.len() > MAX_LAYERS {
            return Err(ManifestError::Inconsistent(format!(
                "manifest has {} layers, more than the {MAX_LAYERS} that are accepted",
                self.layers.len()
            )));
        }
        self.layers.iter().try_for_each(check_layer)
    }

    /// Reads the config and pairs it with the manifest: the diff ids, lowest first.
    pub fn read_config(&self, bytes: &[u8]) -> Result<(ImageConfiguration, Vec<DiffId>), ManifestError> {
        check_size("config", bytes.len() as u64, MAX_CONFIG)?;
        check_values("config", bytes)?;
        let json = |source| ManifestError::Json {
            what: "config",
            source,
        };
        let config = parse_config(bytes).map_err(json)?;
        let layers = config.rootfs().diff_ids();
        if layers.len() != self.layers.len() {
            return Err(ManifestError::Inconsistent(format!(
                "manifest has {} layers, but its config has {} diff ids",
                self.layers.len(),
                layers.len()
            )));
        }
        let diff_ids = layers.iter().map(|id| id.parse::<Digest>().map(DiffId::from));
        let diff_ids = diff_ids
            .collect::<Result<_, _>>()
            .map_err(|bad| ManifestError::Inconsistent(format!("config: diff id {bad}")))?;
        Ok((config, diff_ids))
    }
}

/// Reads a config. Docker leaves the diff ids out where there are none, and other programs in Go say `null`.
pub(super) fn parse_config(bytes: &[u8]) -> serde_json::Result<ImageConfiguration> {
    let failure = match serde_json::from_slice(bytes) {
        Ok(config) => return Ok(config),
        Err(failure) => failure,
    };
    let mut document: Value = serde_json::from_slice(bytes)?;
    match document.get_mut("rootfs").and_then(Value::as_object_mut) {
        Some(rootfs) if rootfs.get("diff_ids").is_none_or(Value::is_null) => {
            rootfs.insert("diff_ids".into(), Value::Array(Vec::new()));
            serde_json::from_value(document)
        }
        _ => Err(failure),
    }
}

fn check_layer(layer: &Descriptor) -> Result<(), ManifestError> {
    let media_type = layer.media_type.as_str();
    let reason = if media_type.contains("nondistributable") || media_type.contains("foreign") {
        "it is not distributable, so registries do not hold it"
    } else if media_type.ends_with("+encrypted") {
        "it is encrypted"
    } else if media_type.contains("tar") || media_type == "application/octet-stream" {
        return Ok(());
    } else {
        "it is not a tar layer"
    };
    Err(ManifestError::Layer {
        digest: layer.digest,
        media_type: printable(media_type),
        reason,
    })
}

fn check_size(what: &'static str, size: u64, limit: u64) -> Result<(), ManifestError> {
    if size > limit {
        return Err(ManifestError::TooLarge { what, size, limit });
    }
    Ok(())
}

fn check_values(what: &'static str, bytes: &[u8]) -> Result<(), ManifestError> {
    match values(bytes) > MAX_VALUES {
        true => Err(ManifestError::TooMany { what }),
        false => Ok(()),
    }
}

/// How many values a document of JSON has at most: each but the first follows a comma or a bracket that is in no text, or
/// a name, which follows one. Nothing is made of them, unlike by a parser.
pub(super) fn values(bytes: &[u8]) -> usize {
    let (mut count, mut in_text, mut is_escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

/// Text from outside for one line of a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl Platform {
    /// This machine's.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: None,
        }
    }

    /// How well `offered` serves: smaller is better, `None` is not at all.
    fn distance(&self, offered: &Platform) -> Option<u32> {
        let (wanted, offered) = (self.normal(), offered.normal());
        if wanted.os != offered.os || wanted.architecture != offered.architecture {
            return None;
        }
        match (level(&wanted), level(&offered)) {
            // A newer processor runs what was built for an older one.
            (wanted, offered) if offered <= wanted => Some(wanted - offered),
            _ => None,
        }
    }

    /// Whether an image for `offered` runs where this is wanted.
    pub fn accepts(&self, offered: &Platform) -> bool {
        self.distance(offered).is_some()
    }

    /// Aliases resolved, as containerd's platforms package does.
    fn normal(&self) -> Platform {
        let lower = |text: &str| text.to_ascii_lowercase();
        let architecture = match lower(&self.architecture).as_str() {
            "x86_64" | "x86-64" => "amd64".into(),
            "aarch64" => "arm64".into(),
            "i386" => "386".into(),
            "armhf" | "armel" => "arm".into(),
            other => other.to_owned(),
        };
        let os = if lower(&self.os) == "macos" {
            "darwin".into()
        } else {
            lower(&self.os)
        };
        let variant = self.variant.as_deref().map(lower).filter(|v| !v.is_empty());
        Platform {
            architecture,
            os,
            variant,
        }
    }
}

/// The variant as a number; without one, the architecture's usual baseline.
fn level(platform: &Platform) -> u32 {
    let baseline = match platform.architecture.as_str() {
        "arm" => 7,
        "arm64" => 8,
        _ => 1,
    };
    let number = platform
        .variant
        .as_deref()
        .and_then(|v| v.strip_prefix('v'))
        .and_then(|v| v.parse().ok());
    number.unwrap_or(baseline)
}

/// Chooses the manifest for `wanted` among an index's `entries`.
pub fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, ManifestError> {
    let scored = entries.iter().filter_map(|entry| {
        // An entry that names no platform is for whoever finds nothing better; its config is checked later.
        let distance = entry
            .platform
            .as_ref()
            .map_or(Some(u32::MAX), |offered| wanted.distance(offered))?;
        Some((distance, entry))
    });
    scored
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, entry)| entry)
        .ok_or_else(|| {
            let available: Vec<_> = entries
                .iter()
                .filter_map(|e| e.platform.as_ref())
                .map(|p| p.to_string())
                .collect();
            ManifestError::NoPlatform {
                wanted: wanted.to_string(),
                available: printable(&available.join(", ")),
            }
        })
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A config's fields are any text.
        let (os, architecture) = (self.os.to_string(), self.architecture.to_string());
        write!(f, "{}/{}", printable(&os), printable(&architecture))?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{}", printable(variant)))
    }
}

/// Not of the form `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a platform such as linux/amd64 or linux/arm/v7")]
pub struct BadPlatform(String);

impl FromStr for Platform {
    type Err = BadPlatform;

    /// `linux/arm64`, `linux/arm/v7`, or an architecture alone.
    fn from_str(text: &str) -> Result<Self, BadPlatform> {
        let parts: Vec<_> = text.split('/').collect();
        let good = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        let (os, architecture, variant) = match parts.as_slice() {
            _ if !parts.iter().all(good) => return Err(BadPlatform(printable(text))),
            [architecture] if *architecture != "linux" => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return Err(BadPlatform(printable(text))),
        };
        Ok(Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
        .normal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn manifest(layer_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{ZEROS}","size":2}},
               "layers":[{{"mediaType":"{layer_type}","digest":"{ZEROS}","size":3}}]}}"#
        )
    }

    fn refusal(text: &str) -> String {
        Document::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn both_specs_are_read() {
        for layer_type in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            let Document::Manifest(read) = Document::parse(manifest(layer_type).as_bytes()).unwrap() else {
                panic!("not a manifest")
            };
            assert_eq!((read.layers[0].size, read.config.size), (3, 2));
        }
    }

    #[test]
    fn what_must_not_be_pulled_is_refused_with_its_reason() {
        assert!(refusal("{").contains("not valid JSON"));
        assert!(refusal("[]").contains("not valid JSON"));
        assert!(refusal(r#"{"schemaVersion":2}"#).contains("not valid JSON"));
        assert!(refusal(r#"{"schemaVersion":1,"fsLayers":[]}"#).contains("schema 1"));
        assert!(refusal(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#).contains("ambiguous"));
        assert!(
            refusal(&manifest(
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            ))
            .contains("distributable")
        );
        assert!(
            refusal(&manifest(
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            ))
            .contains("distributable")
        );
        assert!(refusal(&manifest("text/plain")).contains("not a tar layer"));
        assert!(
            refusal(&manifest("x").replace("image.config", "helm.config")).contains("not a container image")
        );
        let path = manifest("application/vnd.oci.image.layer.v1.tar")
            .replace(ZEROS, "sha256:../../../../etc/passwd");
        assert!(refusal(&path).contains("not a digest"));
        let negative =
            manifest("application/vnd.oci.image.layer.v1.tar").replace("\"size\":3", "\"size\":-3");
        assert!(refusal(&negative).contains("not valid JSON"));
        assert!(refusal(&" ".repeat(MAX_MANIFEST as usize + 1)).contains("larger than"));
        let many = format!(r#"{{"schemaVersion":2,"layers":[{}0]}}"#, "0,".repeat(MAX_VALUES));
        assert!(refusal(&many).contains("more than the 100000 values"));
        let huge =
            manifest("application/vnd.oci.image.layer.v1.tar").replace("\"size\":2", "\"size\":99999999");
        assert!(refusal(&huge).contains("config of 99999999 bytes"));
    }

    #[test]
    fn config_and_manifest_must_agree() {
        let Document::Manifest(read) =
            Document::parse(manifest("application/vnd.oci.image.layer.v1.tar").as_bytes()).unwrap()
        else {
            panic!("not a manifest")
        };
        let config = |ids: &str| {
            format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
            )
        };
        assert_eq!(
            read.read_config(config(&format!("\"{ZEROS}\"")).as_bytes())
                .unwrap()
                .1,
            [DiffId([0; 32])]
        );
        assert!(
            read.read_config(config("").as_bytes())
                .unwrap_err()
                .to_string()
                .contains("0 diff ids")
        );
        assert!(read.read_config(config("\"sha256:x\"").as_bytes()).is_err());
        assert!(
            read.read_config(b"not json")
                .unwrap_err()
                .to_string()
                .contains("config is not valid JSON")
        );
    }

    #[test]
    fn values_are_counted_and_texts_are_not_looked_into() {
        fn are_in(value: &Value) -> usize {
            1 + match value {
                Value::Array(list) => list.iter().map(are_in).sum(),
                Value::Object(fields) => fields.values().map(are_in).sum(),
                _ => 0,
            }
        }
        for (text, most) in [
            ("1", 1),
            (r#""a,b[c{d""#, 1),
            (r#""a\",\\""#, 1),
            ("[]", 2),
            (r#"["\\",2]"#, 3),
            (r#"{"a":1,"b":[{},{}]}"#, 7),
        ] {
            assert_eq!(values(text.as_bytes()), most, "{text}");
            assert!(are_in(&serde_json::from_str(text).unwrap()) <= most, "{text}");
        }
    }

    #[test]
    fn an_image_without_layers_may_leave_out_their_list() {
        for rootfs in [
            r#"{"type":"layers"}"#,
            r#"{"type":"layers","diff_ids":null}"#,
            r#"{"type":"layers","diff_ids":[]}"#,
        ] {
            let text = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{rootfs}}}"#);
            let config = parse_config(text.as_bytes()).unwrap();
            assert!(config.rootfs().diff_ids().is_empty(), "{rootfs}");
        }
        for wrong in [
            r#"{"type":"layers","diff_ids":7}"#,
            r#"{"type":"layers","diff_ids":{}}"#,
            "{}",
            "[]",
        ] {
            let text = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{wrong}}}"#);
            assert!(parse_config(text.as_bytes()).is_err(), "{wrong}");
        }
    }

    fn entry(platform: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest([0; 32]),
            size: 0,
            platform: platform.map(|p| p.parse().unwrap()),
            annotations: Default::default(),
        }
    }

    #[test]
    fn the_nearest_platform_is_chosen() {
        let chosen = |offered: &[Option<&str>], wanted: &str| {
            let entries: Vec<_> = offered.iter().map(|p| entry(*p)).collect();
            let wanted = wanted.parse().unwrap();
            choose(&entries, &wanted)
                .ok()
                .map(|c| c.platform.as_ref().map_or("none".into(), Platform::to_string))
        };
        let some = |text: &str| Some(text.to_string());
        let list = [
            Some("linux/arm/v5"),
            Some("linux/arm/v7"),
            Some("linux/amd64"),
            Some("unknown/unknown"),
        ];
        assert_eq!(chosen(&list, "linux/amd64"), some("linux/amd64"));
        assert_eq!(chosen(&list, "x86_64"), some("linux/amd64"));
        assert_eq!(chosen(&list, "linux/arm"), some("linux/arm/v7"));
        assert_eq!(chosen(&list, "linux/arm/v6"), some("linux/arm/v5"));
        assert_eq!(chosen(&list, "linux/s390x"), None);
        assert_eq!(chosen(&[None], "linux/s390x"), some("none"));
        assert_eq!(
            chosen(&[Some("linux/amd64/v3"), Some("linux/amd64")], "linux/amd64"),
            some("linux/amd64")
        );
        assert_eq!(
            chosen(&[Some("linux/arm64/v8")], "linux/arm64"),
            some("linux/arm64/v8")
        );
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/../x", "a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
