//! How does a container become an image? What it changed is one more layer above its image's; its settings are the new
//! image's, as Docker has it.

use oci_spec::runtime::Spec;
use serde_json::json;

use super::config::Config;
use super::solve::Stage;
use super::step::configure;
use super::variables::Scope;
use super::{Error, dockerfile};
use crate::containers::changes;
use crate::containers::record::{self, Base, Record};
use crate::images::commit::{Described, add_image, add_layer};
use crate::images::reference::Reference;
use crate::images::{self, Claim, Image};
use crate::store::Store;

/// What an image is to say of itself.
#[derive(Debug, Default)]
pub struct Commit {
    /// `-a`.
    pub author: Option<String>,
    /// `-m`.
    pub message: Option<String>,
    /// `-c`: instructions of a Dockerfile that change the config.
    pub changes: Vec<String>,
    /// What it is called.
    pub names: Vec<Reference>,
}

/// Variables that a container has from its start, not from its image or its user.
const OWN: [&str; 3] = ["HOSTNAME", "HOME", "TERM"];

/// Makes an image of a container as it is now. Of a running one, what was written until now is in it.
///
/// # Errors
/// Its image is gone, its writable layer cannot be read, or a change is none.
pub fn commit(store: &Store, record: &Record, order: &Commit) -> Result<Image, Error> {
    let Base::Image(id) = record.base else {
        return Err(Error::Unsupported(
            "commit of a container that stands on a directory".into(),
        ));
    };
    let image = images::find(store, &id.to_string())?;
    let image = image.ok_or_else(|| images::Error::NoSuchImage(id.to_string()))?;
    let below = Claim::new(store, &image.layers)?;
    let directory = store.container(&record.id);
    let mut stage = Stage {
        layers: image.layers.clone(),
        of_base: (image.layers.len(), 0),
        claim: None,
        config: settings(&image, record, &record::read_spec(&directory)?),
        scope: Scope::default(),
        has_command: true,
    };
    for change in &order.changes {
        let step = dockerfile::parse_trigger(change).map_err(Error::Parse)?;
        if configure(&mut stage, &step.instruction, '\\')?.is_none() {
            return Err(Error::NoChange(step.text));
        }
    }
    let tree = changes::frozen(store, record)?;
    let claim = add_layer(store, &image.layers, |out| tree.write_layer(out).map(|_out| ()))?;
    drop(below);
    if let Some(author) = &order.author {
        stage.config.set_author(author);
    }
    let now = record::now();
    let command = record.settings.command.join(" ");
    stage
        .config
        .record_commit(&command, &now, order.message.as_deref());
    let document = stage.config.document(claim.layers(), &now);
    let described = Described::default();
    Ok(add_image(store, claim, &document, &order.names, &described)?.0)
}

/// The image's settings, with what the container was started with in their place.
fn settings(image: &Image, record: &Record, spec: &Spec) -> Config {
    let mut config = Config::of(image);
    let settings = &record.settings;
    config.set("Cmd", json!(settings.command));
    match &settings.entrypoint {
        Some(entrypoint) => config.set("Entrypoint", json!(entrypoint)),
        None => config.unset("Entrypoint"),
    }
    if !settings.user.is_empty() {
        config.set("User", json!(settings.user));
    }
    if !settings.labels.is_empty() {
        config.set("Labels", json!(settings.labels));
    }
    if let Some(process) = spec.process() {
        config.set("WorkingDir", json!(process.cwd()));
        let of_image = config.env();
        let is_own = |line: &String| {
            let name = line.split('=').next();
            let has = |own: &&str| name == Some(*own);
            OWN.iter().any(has) && !of_image.iter().any(|line| line.split('=').next() == name)
        };
        let env = process.env().iter().flatten();
        let kept: Vec<&String> = env.filter(|line| !is_own(line)).collect();
        config.set("Env", json!(kept));
    }
    config
}
