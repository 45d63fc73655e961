//! What does a stage's image say of itself so far? The config document, which instructions change field by field.
//!
//! It is kept as JSON: a base's config has fields of Docker's (Healthcheck, Shell, OnBuild) and of others that the OCI
//! type does not know, and all are passed on. Keys keep the order in which they came, so that equal builds are equal bytes.

use fuse_overlay::index::DiffId;
use serde_json::{Map, Value, json};

use crate::images::Image;
use crate::images::cache::{self, INLINE};
use crate::images::manifest::Platform;
use crate::images::steps::Step;

/// What history entries say who made them; BuildKit's word, which other tools look for.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A config under way.
#[derive(Debug, Clone)]
pub(super) struct Config(Map<String, Value>);

impl Config {
    /// `FROM scratch`.
    pub(super) fn scratch(platform: &Platform) -> Config {
        let mut config = Config(Map::new());
        config.set_platform(platform);
        config.0.insert(
            "config".into(),
            json!({ "Env": [DEFAULT_PATH], "WorkingDir": "/" }),
        );
        config
            .0
            .insert("rootfs".into(), json!({ "type": "layers", "diff_ids": [] }));
        config
    }

    /// `FROM` an image. A config that is no object was refused when the image came.
    pub(super) fn of(image: &Image) -> Config {
        let parsed = serde_json::from_slice(&image.raw_config).unwrap_or(Value::Null);
        let mut config = Config(match parsed {
            Value::Object(document) => document,
            _ => Map::new(),
        });
        // What only the container knows that the image was once made from.
        for stale in ["container", "container_config", "docker_version", "id", "parent"] {
            config.0.remove(stale);
        }
        // It tells the steps of that image.
        config.0.remove(INLINE);
        if !config.0.get("config").is_some_and(Value::is_object) {
            config.0.insert("config".into(), json!({}));
        }
        let has_path = |line: &String| line.split('=').next() == Some("PATH");
        if !config.env().iter().any(has_path) {
            config.push("Env", json!(DEFAULT_PATH));
        }
        config
    }

    /// Says that the image is for this platform, whatever its base is for.
    pub(super) fn set_platform(&mut self, platform: &Platform) {
        self.0.insert("architecture".into(), json!(platform.architecture));
        self.0.insert("os".into(), json!(platform.os));
        match &platform.variant {
            Some(variant) => drop(self.0.insert("variant".into(), json!(variant))),
            None => drop(self.0.shift_remove("variant")),
        }
        // That of the base's system, which nobody asked for.
        self.0.shift_remove("os.version");
    }

    /// Tells which steps made the layers, for builds elsewhere.
    pub(super) fn tell_steps(&mut self, steps: &[Step], layers: &[DiffId]) {
        let told = cache::inline(steps, layers);
        self.0.insert(INLINE.into(), told);
    }

    /// Changes the inner config, which is an object: [`Config::of`] and [`Config::scratch`] see to it.
    fn change(&mut self, change: impl FnOnce(&mut Map<String, Value>)) {
        if let Some(Value::Object(settings)) = self.0.get_mut("config") {
            change(settings);
        }
    }

    fn setting(&self, key: &str) -> &Value {
        self.0
            .get("config")
            .and_then(|config| config.get(key))
            .unwrap_or(&Value::Null)
    }

    /// Sets a field of the inner config (`Cmd`, `User` …).
    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.change(|settings| {
            settings.insert(key.into(), value);
        });
    }

    /// Takes a field away.
    pub(super) fn unset(&mut self, key: &str) {
        self.change(|settings| {
            settings.remove(key);
        });
    }

    /// Adds to a field that is an object (`Labels`, `Volumes`, `ExposedPorts`).
    pub(super) fn add(&mut self, key: &str, name: &str, value: Value) {
        self.change(|settings| match settings.get_mut(key) {
            Some(Value::Object(field)) => {
                field.insert(name.into(), value);
            }
            _ => {
                settings.insert(key.into(), json!({ name: value }));
            }
        });
    }

    /// Takes one out of a field that is an object.
    pub(super) fn take_out(&mut self, key: &str, name: &str) {
        self.change(|settings| {
            if let Some(Value::Object(field)) = settings.get_mut(key) {
                field.shift_remove(name);
            }
        });
    }

    /// Appends to a field that is a list.
    pub(super) fn push(&mut self, key: &str, value: Value) {
        self.change(|settings| match settings.get_mut(key) {
            Some(Value::Array(list)) => list.push(value),
            _ => {
                settings.insert(key.into(), json!([value]));
            }
        });
    }

    /// A list of texts; empty if there is none.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let list = self
            .setting(key)
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(String::from).collect()
    }

    /// A text; empty if there is none.
    pub(super) fn text(&self, key: &str) -> String {
        self.setting(key).as_str().unwrap_or_default().into()
    }

    /// The environment as `NAME=value`.
    pub(super) fn env(&self) -> Vec<String> {
        self.list("Env")
    }

    /// Sets a variable, in the place that it has.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.env();
        let line = format!("{name}={value}");
        match env.iter_mut().find(|line| line.split('=').next() == Some(name)) {
            Some(found) => *found = line,
            None => env.push(line),
        }
        self.set("Env", json!(env));
    }

    /// Takes a variable away.
    pub(super) fn unset_env(&mut self, name: &str) {
        let mut env = self.env();
        env.retain(|line| line.split('=').next() != Some(name));
        self.set("Env", json!(env));
    }

    /// The shell of `RUN`, `CMD` and `ENTRYPOINT` in shell form.
    pub(super) fn shell(&self) -> Vec<String> {
        let shell = self.list("Shell");
        match shell.is_empty() {
            true => vec!["/bin/sh".into(), "-c".into()],
            false => shell,
        }
    }

    /// Where commands run.
    pub(super) fn workdir(&self) -> String {
        let directory = self.text("WorkingDir");
        if directory.is_empty() {
            "/".into()
        } else {
            directory
        }
    }

    /// MAINTAINER.
    pub(super) fn set_author(&mut self, name: &str) {
        self.0.insert("author".into(), json!(name));
    }

    /// Adds a layer to the history, made at this time.
    pub(super) fn record_layer(&mut self, text: &str, created: &str) {
        self.record(json!({ "created": created, "created_by": text, "comment": COMMENT }));
    }

    /// Adds an instruction that made no layer. It is as old as what it follows: so a build that takes all its layers from
    /// the cache gives the same image, as BuildKit's does.
    pub(super) fn record_setting(&mut self, text: &str, now: &str) {
        let created = self.created().unwrap_or(now);
        let entry =
            json!({ "created": created, "created_by": text, "comment": COMMENT, "empty_layer": true });
        self.record(entry);
    }

    /// Adds the layer of a container: its command, and what the user says of it.
    pub(super) fn record_commit(&mut self, command: &str, now: &str, message: Option<&str>) {
        let mut entry = json!({ "created": now, "created_by": command });
        if let (Some(message), Some(fields)) = (message, entry.as_object_mut()) {
            fields.insert("comment".into(), json!(message));
        }
        self.record(entry);
    }

    /// How many entries the history has.
    pub(super) fn history(&self) -> usize {
        self.0
            .get("history")
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    }

    /// The layers of all entries but the first `kept` became one, which has an entry of its own, as Docker has it.
    pub(super) fn record_squash(&mut self, kept: usize, now: &str) {
        let created = self.created().unwrap_or(now).to_string();
        if let Some(Value::Array(history)) = self.0.get_mut("history") {
            let entries = history.iter_mut().skip(kept).filter_map(Value::as_object_mut);
            entries.for_each(|entry| drop(entry.insert("empty_layer".into(), json!(true))));
        }
        self.record(json!({ "created": created, "comment": "squash" }));
    }

    fn record(&mut self, entry: Value) {
        match self.0.get_mut("history") {
            Some(Value::Array(history)) => history.push(entry),
            _ => drop(self.0.insert("history".into(), json!([entry]))),
        }
    }

    /// When the last part of it was made.
    fn created(&self) -> Option<&str> {
        let last = self
            .0
            .get("history")
            .and_then(|history| history.as_array()?.last()?.get("created"));
        last.or_else(|| self.0.get("created"))?.as_str()
    }

    /// The document's bytes, naming these layers, lowest first. `now` is when it was made if nothing in it says so.
    pub(super) fn document(&self, layers: &[DiffId], now: &str) -> Vec<u8> {
        let created = self.created().unwrap_or(now).to_string();
        let mut document = self.0.clone();
        let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{layer}")).collect();
        document.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": ids }));
        document.insert("created".into(), json!(created));
        // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

/// Docker's PATH where an image has none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
