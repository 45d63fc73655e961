//! A layout that a build wrote, with what is said of its image.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{Done, Project};

pub(crate) fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// A layout's documents.
pub(crate) struct Layout(pub(crate) PathBuf);

impl Layout {
    pub(crate) fn blob(&self, digest: &Value) -> Vec<u8> {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        fs::read(self.0.join("blobs/sha256").join(hex)).unwrap()
    }

    pub(crate) fn document(&self, digest: &Value) -> Value {
        parsed(&self.blob(digest))
    }

    /// The list that the layout names.
    pub(crate) fn list(&self) -> Value {
        let index = parsed(&fs::read(self.0.join("index.json")).unwrap());
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
        self.document(&index["manifests"][0]["digest"])
    }

    /// What is said of the list's first image: checked against the storage specification.
    #[track_caller]
    pub(crate) fn statements(&self) -> Vec<Value> {
        let list = self.list();
        let manifests = list["manifests"].as_array().unwrap();
        let [image, said] = &manifests[..] else {
            panic!("{list}")
        };
        assert_eq!(image["platform"]["os"], "linux");
        assert_eq!(
            said["platform"],
            json!({ "architecture": "unknown", "os": "unknown" })
        );
        assert_eq!(
            said["annotations"],
            json!({
                "vnd.docker.reference.digest": image["digest"],
                "vnd.docker.reference.type": "attestation-manifest",
            })
        );
        let manifest = self.document(&said["digest"]);
        assert_eq!(
            manifest["mediaType"],
            "application/vnd.oci.image.manifest.v1+json"
        );
        let config = self.document(&manifest["config"]["digest"]);
        assert_eq!(
            (&config["os"], &config["architecture"]),
            (&json!("unknown"), &json!("unknown"))
        );
        let layers = manifest["layers"].as_array().unwrap();
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        assert_eq!(config["rootfs"]["diff_ids"], json!(digests));
        let statement = |layer: &Value| {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            let statement = self.document(&layer["digest"]);
            assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
            let kind = &layer["annotations"]["in-toto.io/predicate-type"];
            assert_eq!(&statement["predicateType"], kind);
            let digest = image["digest"].as_str().unwrap().strip_prefix("sha256:");
            assert_eq!(statement["subject"][0]["digest"]["sha256"].as_str(), digest);
            statement
        };
        layers.iter().map(statement).collect()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        let blobs = fs::read_dir(self.0.join("blobs/sha256")).unwrap();
        let holds = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(text.len()).any(|part| part == text.as_bytes())
        };
        blobs.map(|entry| entry.unwrap().path()).any(|path| holds(&path))
    }
}

/// Builds into a layout.
#[track_caller]
pub(crate) fn built(project: &Project, dockerfile: &str, flags: &[&str], env: &[(&str, &str)]) -> Layout {
    let to = project.bryo.scratch("layout");
    let _ = fs::remove_dir_all(&to);
    let output = format!("--output=type=oci,tar=false,dest={}", to.display());
    let mut command = project.command(dockerfile, &[&[output.as_str()], flags].concat());
    let done = Done::of(command.envs(env.iter().copied()));
    assert!(done.status.success(), "{done}");
    Layout(to)
}
