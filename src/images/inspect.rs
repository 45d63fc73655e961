//! What is known of an image, in the shape of Docker's `image inspect`; and how it was made (`history`).

use serde_json::{Map, Value, json};

use super::reference::Reference;
use super::{Error, Image, layers};
use crate::store::Store;

/// A field's name, and its value while it is not set.
type Field = (&'static str, fn() -> Value);

/// Fields that Docker's config always shows, with the value of one that is not set. Those of a container only (Hostname,
/// AttachStdin, …) newer Dockers leave out of images too.
const CONFIG_FIELDS: [Field; 7] = [
    ("User", || json!("")),
    ("Env", || Value::Null),
    ("Cmd", || Value::Null),
    ("Volumes", || Value::Null),
    ("WorkingDir", || json!("")),
    ("Entrypoint", || Value::Null),
    ("Labels", || Value::Null),
];

/// Fields of the config that are shown only where set, but that a template may ask for.
const CONFIG_OPTIONAL: [Field; 7] = [
    ("ExposedPorts", || Value::Null),
    ("Healthcheck", || Value::Null),
    ("OnBuild", || Value::Null),
    ("Shell", || Value::Null),
    ("StopSignal", || json!("")),
    ("StopTimeout", || Value::Null),
    ("ArgsEscaped", || json!(false)),
];

/// Which fields an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Those that Docker prints.
    Shown,
    /// Also those that Docker leaves out while they are empty: a template that asks for one is no mistake.
    All,
}

/// Docker's JSON of an image. All of the config's own fields are kept as they came, HEALTHCHECK and the like too.
pub fn inspect(image: &Image, fields: Fields) -> Result<Value, Error> {
    let raw: Map<String, Value> =
        serde_json::from_slice(&image.raw_config).map_err(|source| Error::Config { id: image.id, source })?;
    let text = |name: &str| raw.get(name).cloned().unwrap_or_else(|| json!(""));
    let familiar = |names: &[String]| -> Vec<String> {
        let parse =
            |name: &String| Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
        names.iter().map(parse).collect()
    };
    let mut shown = json!({
        "Id": image.id.to_string(),
        "RepoTags": familiar(&image.names),
        "RepoDigests": familiar(&image.digests),
        "Parent": "",
        "Comment": comment(&raw),
        "Created": text("created"),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": config(&raw, fields),
        "Architecture": text("architecture"),
        "Os": text("os"),
        "Size": image.size,
        "GraphDriver": { "Data": null, "Name": "bryo" },
        "RootFS": {
            "Type": "layers",
            "Layers": image.layers.iter().map(|layer| format!("{layer:?}")).collect::<Vec<_>>(),
        },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    });
    for (field, source) in [("Variant", "variant"), ("OsVersion", "os.version")] {
        if raw.contains_key(source) || fields == Fields::All {
            shown[field] = text(source);
        }
    }
    Ok(shown)
}

fn config(raw: &Map<String, Value>, fields: Fields) -> Value {
    let mut own = raw
        .get("config")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let mut config = Map::new();
    for (field, unset) in CONFIG_FIELDS {
        config.insert(field.into(), own.shift_remove(field).unwrap_or_else(unset));
    }
    config.append(&mut own);
    if fields == Fields::All {
        for (field, unset) in CONFIG_OPTIONAL {
            config.entry(field).or_insert_with(unset);
        }
    }
    // Go sorts the keys of maps.
    for map in ["Labels", "Volumes", "ExposedPorts"] {
        if let Some(Value::Object(map)) = config.get_mut(map) {
            map.sort_keys();
        }
    }
    Value::Object(config)
}

/// The comment of the last step, as Docker shows it.
fn comment(raw: &Map<String, Value>) -> Value {
    let last = raw
        .get("history")
        .and_then(Value::as_array)
        .and_then(|steps| steps.last());
    last.and_then(|step| step.get("comment"))
        .cloned()
        .unwrap_or_else(|| json!(""))
}

/// A step by which an image was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, as RFC 3339.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// What its maker noted.
    pub comment: String,
    /// Bytes of its layer's tar; 0 if it made none.
    pub size: u64,
}

/// The steps of an image, the last first. A config may tell less of them than there are layers.
pub fn history(store: &Store, image: &Image) -> Result<Vec<Step>, Error> {
    let mut layers = image.layers.iter();
    let mut steps = Vec::new();
    for step in image.config.history().iter().flatten() {
        let layer = if step.empty_layer().unwrap_or(false) {
            None
        } else {
            layers.next()
        };
        steps.push(Step {
            created: step.created().clone(),
            created_by: step.created_by().clone().unwrap_or_default(),
            comment: step.comment().clone().unwrap_or_default(),
            size: layer.map_or(Ok(0), |layer| layers::size(store, layer))?,
        });
    }
    steps.reverse();
    Ok(steps)
}
