//! Where does an image come from? SLSA provenance, as BuildKit writes it (`docs/attestations/slsa-definitions.md`).
//!
//! No secret that is given as one is in it. `mode=min` has neither arguments, labels, the ids of secrets nor the values in URLs of
//! files; a token in the path of an URL stays. With SOURCE_DATE_EPOCH it does not
//! say when and by which run it was made, so that equal builds are equal byte by byte.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use super::noted::{Hash, Material, Noted};
use crate::build::Error;
use crate::build::describe::base64;
use crate::build::order::{Cache, Named, Order, Origin, Squash};
use crate::build::workspace::io_error;
use crate::containers::spec::Network;
use crate::images::archive;
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
    /// `min`: without the values that are given to the build.
    Min,
    /// `max`.
    Max,
}

impl Detail {
    /// Where something is from. The values in a file's URL may be tokens, by an ARG or of the user's.
    fn uri(self, material: &Material) -> String {
        let is_web = material.uri.starts_with("http://") || material.uri.starts_with("https://");
        let is_file = is_web && matches!(material.hash, Hash::Sha256(_));
        match material.uri.split_once('?') {
            Some((place, query)) if is_file && self == Detail::Min => {
                let names = query.split('&').map(|field| match field.split_once('=') {
                    Some((name, _)) => format!("{name}="),
                    None => String::new(),
                });
                format!("{place}?{}", names.collect::<Vec<_>>().join("&"))
            }
            _ => material.uri.clone(),
        }
    }
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
    pub(in crate::build) fn statement(&self, asked: &Provenance) -> Result<Statement, Error> {
        let graph = (asked.detail == Detail::Max).then(|| self.noted.graph());
        let (predicate_type, predicate) = match asked.version {
            Version::V1 => ("https://slsa.dev/provenance/v1", self.v1(asked, graph)),
            Version::V02 => ("https://slsa.dev/provenance/v0.2", self.v02(asked, graph)),
        };
        let unwritten = |error: serde_json::Error| io_error("write", Path::new("provenance"))(error.into());
        Ok(Statement {
            predicate_type: predicate_type.into(),
            predicate: to_raw_value(&predicate).map_err(unwritten)?,
            subjects: None,
        })
    }

    fn v1(&self, asked: &Provenance, graph: Option<(Value, Value)>) -> Value {
        let (request, complete) = self.request(asked.detail);
        let (config, locations) = graph.unzip();
        let mut internal = Map::new();
        internal.insert("builderPlatform".into(), json!(Platform::host().to_string()));
        internal.extend(config.map(|config| ("buildConfig".into(), config)));
        let mut metadata = self.times("invocationId", "startedOn", "finishedOn");
        metadata.insert("buildkit_metadata".into(), self.metadata(locations));
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
                "externalParameters": { "configSource": self.source("path", asked.detail), "request": request },
                "internalParameters": internal,
                "resolvedDependencies": self.materials(asked.detail),
            },
            "runDetails": { "builder": { "id": asked.builder }, "metadata": metadata },
        })
    }

    fn v02(&self, asked: &Provenance, graph: Option<(Value, Value)>) -> Value {
        let (request, complete) = self.request(asked.detail);
        let (config, locations) = graph.unzip();
        let mut metadata = self.times("buildInvocationID", "buildStartedOn", "buildFinishedOn");
        metadata.insert(
            "completeness".into(),
            json!({ "parameters": complete, "environment": true, "materials": self.is_remote() }),
        );
        metadata.insert("reproducible".into(), json!(asked.reproducible));
        metadata.insert(format!("{TYPE_02}#metadata"), self.metadata(locations));
        if self.is_hermetic() {
            metadata.insert(format!("{TYPE_02}#hermetic"), json!(true));
        }
        let mut predicate = json!({
            "builder": { "id": asked.builder },
            "buildType": TYPE_02,
            "materials": self.materials(asked.detail),
            "invocation": {
                "configSource": self.source("entryPoint", asked.detail),
                "parameters": request,
                "environment": { "platform": Platform::host().to_string() },
            },
            "metadata": metadata,
        });
        if let Some(config) = config {
            predicate["buildConfig"] = config;
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
        // What a volume has, nobody knows.
        locals(self.order).is_empty() && self.order.volumes.is_empty() && !self.noted.incomplete
    }

    fn is_hermetic(&self) -> bool {
        self.is_remote() && !self.noted.network
    }

    /// The Dockerfile, and the repository or archive that has it.
    fn source(&self, path: &str, detail: Detail) -> Value {
        let mut source = Map::new();
        if let Some(origin) = &self.order.origin.dockerfile {
            source.insert("uri".into(), json!(detail.uri(origin)));
            source.insert("digest".into(), digest(&origin.hash));
        }
        source.insert(path.into(), json!(self.order.name));
        source.into()
    }

    fn materials(&self, detail: Detail) -> Vec<Value> {
        let Origin { dockerfile, context } = &self.order.origin;
        let all = self.noted.materials.iter().chain(dockerfile).chain(context);
        let mut all: Vec<&Material> = all.collect();
        // Images first, as BuildKit has them.
        all.sort_by_key(|material| (!material.uri.starts_with("pkg:"), *material));
        all.dedup();
        let told =
            |material: &&Material| json!({ "uri": detail.uri(material), "digest": digest(&material.hash) });
        all.iter().map(told).collect()
    }

    /// What was asked for, and whether that is all of it.
    fn request(&self, detail: Detail) -> (Value, bool) {
        let is_told = |name: &str| {
            detail == Detail::Max || !(name.starts_with("build-arg:") || name.starts_with("label:"))
        };
        let all = arguments(self.order, detail);
        let told = all.iter().filter(|(name, _)| is_told(name));
        let args: Map<String, Value> = told.map(|(name, value)| (name.clone(), json!(value))).collect();
        let (secrets, agents) = (&self.noted.secrets, &self.noted.agents);
        let all_told =
            detail == Detail::Max || args.len() == all.len() && secrets.is_empty() && agents.is_empty();
        let complete = all_told && !has_more(self.order);
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
    fn metadata(&self, locations: Option<Value>) -> Value {
        let Some(locations) = locations else {
            return json!({});
        };
        json!({
            "source": {
                "locations": locations,
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
    let origin = &order.origin;
    names.extend((order.context.is_some() && origin.context.is_none()).then_some("context"));
    names.extend(origin.dockerfile.is_none().then_some("dockerfile"));
    let named = order.contexts.iter();
    names.extend(
        named.filter_map(|(name, named)| matches!(named, Named::Files(_, None)).then_some(name.as_str())),
    );
    names
}

/// Are there flags that the build heeds, and BuildKit's frontend has no name for?
fn has_more(order: &Order) -> bool {
    !order.unset_env.is_empty()
        || !order.unset_labels.is_empty()
        || !order.host_names.hosts.is_empty()
        || !order.env.is_empty()
        || !order.volumes.is_empty()
        || !order.ulimits.is_empty()
        || order.first_base.is_some()
        || order.squash != Squash::No
}

/// The flags, by the names that BuildKit's frontend has for them.
/// Of what is given twice the last counts, as it does for the build.
fn arguments(order: &Order, detail: Detail) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        all.insert(name.to_string(), value);
    };
    for (name, value) in &order.args {
        put(&format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &order.labels {
        put(&format!("label:{name}"), value.clone());
    }
    for (name, named) in &order.contexts {
        let Named::Image(image) = named else { continue };
        // A place of the user's machine, as directories are.
        if archive::is_layout(image) {
            continue;
        }
        put(&format!("context:{name}"), format!("docker-image://{image}"));
    }
    if let (Some(context), None) = (&order.origin.context, &order.origin.dockerfile) {
        put("context", detail.uri(context));
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
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    #[test]
    fn the_least_has_no_values_of_urls() {
        let file = |url: &str| Material::file(url, &Digest([0; 32]));
        for (url, shown) in [
            ("https://h/f?token=s3cret&X-Sig=a=b", "https://h/f?token=&X-Sig="),
            ("https://h/f?s3cret", "https://h/f?"),
            ("https://h/f?a=s3cret#?b", "https://h/f?a="),
            ("https://h/f", "https://h/f"),
        ] {
            assert_eq!(Detail::Min.uri(&file(url)), shown);
            assert_eq!(Detail::Max.uri(&file(url)), url);
        }
        // What says which tree it is stays.
        let repository = Material::repository("https://h/r.git?branch=main", "abc");
        assert_eq!(Detail::Min.uri(&repository), "https://h/r.git?branch=main");
    }
}
