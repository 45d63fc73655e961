//! Where does an image come from? SLSA provenance, as BuildKit writes it (`docs/attestations/slsa-definitions.md`).
//!
//! No secret is in it. `mode=min` has neither arguments, labels nor the ids of secrets. With SOURCE_DATE_EPOCH it does not
//! say when and by which run it was made, so that equal builds are equal byte by byte.

use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::{Map, Value, json};

use std::path::Path;

use super::noted::{Hash, Material, Noted};
use crate::build::Error;
use crate::build::describe::base64;
use crate::build::order::{Cache, Named, Order};
use crate::build::workspace::io_error;
use crate::containers::spec::Network;
use crate::images::attest::Statement;
use crate::images::manifest::Platform;

/// What `--provenance` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// `mode`.
    pub detail: Detail,
    /// `version`.
    pub version: Version,
    /// `builder-id`.
    pub builder: String,
    /// `reproducible`: the user says so.
    pub reproducible: bool,
    /// `inline-only`: outputs that cannot have it go without.
    pub inline_only: bool,
}

/// `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// `min`: what leaks nothing of the build.
    Min,
    /// `max`.
    Max,
}

/// Of SLSA's specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `v0.2`.
    V02,
    /// `v1`.
    V1,
}

const TYPE_1: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const TYPE_02: &str = "https://mobyproject.org/buildkit@v1";
const FRONTEND: &str = "dockerfile.v0";

/// Which run it was.
#[derive(Debug)]
pub(in crate::build) struct Run {
    /// Drawn by lot.
    id: String,
    started: String,
}

impl Run {
    /// One that begins now; `None` for a build that shall be the same at any time.
    pub(in crate::build) fn begins(order: &Order) -> Result<Option<Run>, Error> {
        let mut bytes = [0; 16];
        // So few come whole (getrandom(2)).
        getrandom(&mut bytes, GetRandomFlags::empty())
            .map_err(|error| io_error("read", Path::new("random bytes"))(error.into()))?;
        let id = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(order.epoch.is_none().then(|| Run {
            id,
            started: jiff::Timestamp::now().to_string(),
        }))
    }
}

/// What is known when all is built.
pub(in crate::build) struct Made<'a> {
    pub(in crate::build) order: &'a Order,
    pub(in crate::build) noted: &'a Noted,
    pub(in crate::build) run: Option<&'a Run>,
}

impl Made<'_> {
    pub(in crate::build) fn statement(&self, asked: &Provenance) -> Statement {
        let (predicate_type, predicate) = match asked.version {
            Version::V1 => ("https://slsa.dev/provenance/v1", self.v1(asked)),
            Version::V02 => ("https://slsa.dev/provenance/v0.2", self.v02(asked)),
        };
        Statement {
            predicate_type: predicate_type.into(),
            predicate,
            subjects: Vec::new(),
        }
    }

    fn v1(&self, asked: &Provenance) -> Value {
        let (request, complete) = self.request(asked.detail);
        let mut internal = Map::new();
        internal.insert("builderPlatform".into(), json!(Platform::host().to_string()));
        if asked.detail == Detail::Max {
            internal.insert("buildConfig".into(), self.noted.graph().0);
        }
        let mut metadata = self.times("invocationId", "startedOn", "finishedOn");
        metadata.insert("buildkit_metadata".into(), self.metadata(asked.detail));
        if self.is_hermetic() {
            metadata.insert("buildkit_hermetic".into(), json!(true));
        }
        metadata.insert(
            "buildkit_completeness".into(),
            json!({ "request": complete, "resolvedDependencies": self.is_remote() }),
        );
        if asked.reproducible {
            metadata.insert("buildkit_reproducible".into(), json!(true));
        }
        json!({
            "buildDefinition": {
                "buildType": TYPE_1,
                "externalParameters": { "configSource": self.source("path"), "request": request },
                "internalParameters": internal,
                "resolvedDependencies": self.materials(),
            },
            "runDetails": { "builder": { "id": asked.builder }, "metadata": metadata },
        })
    }

    fn v02(&self, asked: &Provenance) -> Value {
        let (request, complete) = self.request(asked.detail);
        let mut metadata = self.times("buildInvocationID", "buildStartedOn", "buildFinishedOn");
        metadata.insert(
            "completeness".into(),
            json!({ "parameters": complete, "environment": true, "materials": self.is_remote() }),
        );
        metadata.insert("reproducible".into(), json!(asked.reproducible));
        metadata.insert(format!("{TYPE_02}#metadata"), self.metadata(asked.detail));
        if self.is_hermetic() {
            metadata.insert(format!("{TYPE_02}#hermetic"), json!(true));
        }
        let mut predicate = json!({
            "builder": { "id": asked.builder },
            "buildType": TYPE_02,
            "materials": self.materials(),
            "invocation": {
                "configSource": self.source("entryPoint"),
                "parameters": request,
                "environment": { "platform": Platform::host().to_string() },
            },
            "metadata": metadata,
        });
        if asked.detail == Detail::Max {
            predicate["buildConfig"] = self.noted.graph().0;
        }
        predicate
    }

    /// When it was made, under the names that the version has.
    fn times(&self, id: &str, started: &str, finished: &str) -> Map<String, Value> {
        let mut times = Map::new();
        if let Some(run) = self.run {
            times.insert(id.into(), json!(run.id));
            times.insert(started.into(), json!(run.started));
            times.insert(finished.into(), json!(jiff::Timestamp::now().to_string()));
        }
        times
    }

    /// Was all fetched from where it can be fetched again?
    fn is_remote(&self) -> bool {
        let local = |named: &Named| matches!(named, Named::Files(_, None));
        self.order.origin.is_some() && !self.order.contexts.iter().any(|(_, named)| local(named))
    }

    fn is_hermetic(&self) -> bool {
        self.is_remote() && !self.noted.network
    }

    /// The Dockerfile, and the repository or archive that has it.
    fn source(&self, path: &str) -> Value {
        let mut source = Map::new();
        if let Some(origin) = &self.order.origin {
            source.insert("uri".into(), json!(origin.uri));
            source.insert("digest".into(), digest(&origin.hash));
        }
        source.insert(path.into(), json!(self.order.name));
        source.into()
    }

    fn materials(&self) -> Vec<Value> {
        let all = self.noted.materials.iter().chain(&self.order.origin);
        let mut all: Vec<&Material> = all.collect();
        // Images first, as BuildKit has them.
        all.sort_by_key(|material| (!material.uri.starts_with("pkg:"), *material));
        all.dedup();
        let told = |material: &&Material| json!({ "uri": material.uri, "digest": digest(&material.hash) });
        all.iter().map(told).collect()
    }

    /// What was asked for, and whether that is all of it.
    fn request(&self, detail: Detail) -> (Value, bool) {
        let is_told = |name: &String| {
            detail == Detail::Max || !(name.starts_with("build-arg:") || name.starts_with("label:"))
        };
        let all = arguments(self.order);
        let args: Map<String, Value> = all
            .iter()
            .filter(|(name, _)| is_told(name))
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let (secrets, agents) = (&self.noted.secrets, &self.noted.agents);
        let complete =
            detail == Detail::Max || args.len() == all.len() && secrets.is_empty() && agents.is_empty();
        let mut request = json!({ "frontend": FRONTEND, "args": args });
        if detail == Detail::Max {
            for (key, ids) in [("secrets", secrets), ("ssh", agents)] {
                let told = ids.iter().map(|(id, optional)| match optional {
                    true => json!({ "id": id, "optional": true }),
                    false => json!({ "id": id }),
                });
                if !ids.is_empty() {
                    request[key] = told.collect();
                }
            }
        }
        let locals = locals(self.order);
        if !locals.is_empty() {
            request["locals"] = locals.iter().map(|name| json!({ "name": name })).collect();
        }
        (request, complete)
    }

    /// The Dockerfile, and where in it the steps stand.
    fn metadata(&self, detail: Detail) -> Value {
        if detail == Detail::Min {
            return json!({});
        }
        json!({
            "source": {
                "locations": self.noted.graph().1,
                "infos": [{
                    "filename": self.order.name,
                    "language": "Dockerfile",
                    "data": base64(&self.order.dockerfile),
                }],
            },
        })
    }
}

fn digest(hash: &Hash) -> Value {
    match hash {
        Hash::Sha256(hex) => json!({ "sha256": hex }),
        Hash::Commit(id) if id.len() == 64 => json!({ "sha256": id }),
        Hash::Commit(id) => json!({ "sha1": id }),
    }
}

/// What comes from the user's own directories, under BuildKit's names.
fn locals(order: &Order) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    if order.origin.is_none() {
        names.extend(order.context.as_ref().map(|_| "context"));
        names.push("dockerfile");
    }
    let named = order.contexts.iter();
    names.extend(
        named.filter_map(|(name, named)| matches!(named, Named::Files(_, None)).then_some(name.as_str())),
    );
    names
}

/// The flags, by the names that BuildKit's frontend has for them.
fn arguments(order: &Order) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| all.push((name.into(), value));
    for (name, value) in &order.args {
        put(&format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &order.labels {
        put(&format!("label:{name}"), value.clone());
    }
    for (name, named) in &order.contexts {
        let Named::Image(image) = named else { continue };
        put(&format!("context:{name}"), format!("docker-image://{image}"));
    }
    if let Some(target) = &order.target {
        put("target", target.clone());
    }
    match (order.cache, order.anew.is_empty()) {
        (Cache::Ignore, _) => put("no-cache", String::new()),
        (Cache::Use, false) => put("no-cache", order.anew.join(",")),
        (Cache::Use, true) => {}
    }
    match order.network {
        Network::None => put("force-network-mode", "none".into()),
        Network::Host => put("force-network-mode", "host".into()),
        _ => {}
    }
    if let Some(size) = order.shm_size {
        put("shm-size", size.to_string());
    }
    all.sort();
    all.dedup_by(|later, first| later.0 == first.0);
    all
}
