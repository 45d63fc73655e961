//! What does an image say, whoever built it? Its tree, config and history as JSON that two builders' images can be
//! compared by: what differs by right (the time of a build, empty fields) is left out, and so is all that the base has.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::rc::Rc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

/// Times from here on (November 2023) are those of a build; the contexts of the cases have older ones.
const NOW: u64 = 1_700_000_000;

/// An image as its builder gave it.
pub(super) struct Image {
    config: Value,
    layers: Vec<Vec<u8>>,
}

/// A file, without its names.
type Node = Rc<String>;
type Tree = BTreeMap<String, Node>;

impl Image {
    /// Of its config, and its layers as tars, the lowest first.
    #[allow(dead_code)] // The recorder reads archives.
    pub(super) fn new(config: Value, layers: Vec<Vec<u8>>) -> Image {
        Image { config, layers }
    }

    /// What `docker save` writes.
    #[allow(dead_code)] // The tests read no archives.
    pub(super) fn of_docker_archive(bytes: &[u8]) -> Image {
        let mut files = BTreeMap::new();
        let mut links = Vec::new();
        for entry in Archive::new(bytes).entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let name = path(&entry);
            match entry.link_name().expect("a link") {
                // Layers that are equal are written once.
                Some(target) => links.push((name, target.to_str().expect("a name").to_owned())),
                None => drop(files.insert(name, content(&mut entry))),
            }
        }
        for (name, target) in links {
            let base = target.rsplit("../").next().expect("a part");
            let content = files[&format!("/{base}")].clone();
            files.insert(name, content);
        }
        let json = |name: &str| -> Value { serde_json::from_slice(&files[name]).expect("JSON") };
        let manifest = &json("/manifest.json")[0];
        let named = |name: &Value| format!("/{}", name.as_str().expect("a name"));
        let layers = manifest["Layers"].as_array().expect("layers");
        Image {
            config: json(&named(&manifest["Config"])),
            layers: layers.iter().map(|name| files[&named(name)].clone()).collect(),
        }
    }

    fn diff_ids(&self) -> &[Value] {
        list(&self.config["rootfs"]["diff_ids"])
    }

    /// What it says beyond its base, or all that it says, if it stands on another.
    pub(super) fn shown(&self, base: &Image) -> Value {
        let stands = self.diff_ids().starts_with(base.diff_ids());
        let history = list(&self.config["history"]);
        let known = if stands {
            list(&base.config["history"]).len()
        } else {
            0
        };
        let below = if stands { base.tree() } else { Tree::new() };
        json!({
            "config": self.settings(),
            "history": history.iter().skip(known).map(step).collect::<Vec<_>>(),
            "tree": names(&self.tree(), &below),
        })
    }

    /// The config's fields that say something.
    fn settings(&self) -> Value {
        let mut settings: Map<String, Value> = self.config["config"].as_object().cloned().unwrap_or_default();
        for field in ["architecture", "variant", "os", "author"] {
            settings.insert(field.into(), self.config[field].clone());
        }
        if let Some(Value::Object(labels)) = settings.get_mut("Labels") {
            labels.remove("io.buildah.version");
        }
        settings.retain(|_, value| !is_empty(value));
        Value::Object(settings)
    }

    /// What the layers show together.
    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for layer in &self.layers {
            remove_what_is_hidden(&mut tree, layer);
            add(&mut tree, layer);
        }
        tree.remove("/");
        tree
    }
}

/// Whiteouts hide only what lies below their own layer, wherever they stand in it.
fn remove_what_is_hidden(tree: &mut Tree, layer: &[u8]) {
    for entry in Archive::new(layer).entries().expect("a tar") {
        let path = path(&entry.expect("an entry"));
        let (above, name) = path.rsplit_once('/').expect("a directory");
        if name == ".wh..wh..opq" {
            remove_beneath(tree, above);
        } else if let Some(hidden) = name.strip_prefix(".wh.") {
            let hidden = format!("{above}/{hidden}");
            remove_beneath(tree, &hidden);
            tree.remove(&hidden);
        }
    }
}

fn remove_beneath(tree: &mut Tree, directory: &str) {
    let prefix = format!("{directory}/");
    tree.retain(|path, _| !path.starts_with(&prefix));
}

fn add(tree: &mut Tree, layer: &[u8]) {
    for entry in Archive::new(layer).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = path(&entry);
        if path
            .rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with(".wh."))
        {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind != EntryType::Directory {
            remove_beneath(tree, &path);
        }
        let node = if kind == EntryType::Link {
            let target = entry.link_name_bytes().expect("a target");
            Rc::clone(&tree[&absolute(&String::from_utf8_lossy(&target))])
        } else {
            Rc::new(node(&mut entry))
        };
        tree.insert(path, node);
    }
}

/// Kind, mode, owner, time, and what is in it.
fn node(entry: &mut Entry<'_, impl Read>) -> String {
    let attributes = attributes(entry);
    let header = entry.header().clone();
    let mode = header.mode().expect("a mode") & 0o7777;
    let owner = format!(
        "{}:{}",
        header.uid().expect("an owner"),
        header.gid().expect("a group")
    );
    let time = match header.mtime().expect("a time") {
        NOW.. => "now".to_owned(),
        old => old.to_string(),
    };
    let target = || String::from_utf8_lossy(&entry.link_name_bytes().expect("a target")).into_owned();
    let shown = match header.entry_type() {
        EntryType::Directory => format!("d {mode:04o} {owner} {time}"),
        EntryType::Symlink => format!("l {owner} {time} -> {}", target()),
        EntryType::Fifo => format!("p {mode:04o} {owner} {time}"),
        EntryType::Char => format!("c {mode:04o} {owner} {time}"),
        EntryType::Block => format!("b {mode:04o} {owner} {time}"),
        _ => format!("f {mode:04o} {owner} {time} {}", text(content(entry))),
    };
    shown + &attributes
}

fn attributes(entry: &mut Entry<'_, impl Read>) -> String {
    let mut shown = String::new();
    for extension in entry.pax_extensions().expect("PAX fields").into_iter().flatten() {
        let extension = extension.expect("a PAX field");
        if let Some(name) = extension.key().expect("its name").strip_prefix("SCHILY.xattr.") {
            shown += &format!(" {name}={}", text(extension.value_bytes().to_vec()));
        }
    }
    shown
}

/// Short texts as they are, so that a difference can be read; else size and hash.
fn text(bytes: Vec<u8>) -> String {
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.len() < 200 => format!("{text:?}"),
        _ => {
            let hash = Sha256::digest(&bytes);
            let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes {hash}", bytes.len())
        }
    }
}

/// What is other than in `below`; of a file with several names, the later ones say which is the first.
fn names(tree: &Tree, below: &Tree) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut first: Vec<(&Node, &str)> = Vec::new();
    for (path, node) in tree {
        let known = first.iter().find(|(other, _)| Rc::ptr_eq(other, node));
        let line = match known {
            Some((_, name)) => format!("{node} = {name}"),
            None => node.to_string(),
        };
        if known.is_none() && Rc::strong_count(node) > 1 {
            first.push((node, path));
        }
        if below.get(path).is_none_or(|old| **old != *line) {
            shown.insert(path.clone(), json!(line));
        }
    }
    let gone = below.keys().filter(|path| !tree.contains_key(*path));
    shown.extend(gone.map(|path| (path.clone(), json!("gone"))));
    shown
}

/// One entry of the history.
fn step(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let Value::Object(fields) = &mut entry {
        fields.remove("created");
        fields.retain(|_, value| !is_empty(value));
    }
    entry
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn path(entry: &Entry<'_, impl Read>) -> String {
    absolute(&String::from_utf8_lossy(&entry.path_bytes()))
}

/// `/a/b`; the root is `/`.
fn absolute(name: &str) -> String {
    format!("/{}", name.trim_start_matches("./").trim_matches('/'))
}

fn content(entry: &mut impl Read) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    std::io::copy(entry, &mut bytes).expect("its content");
    bytes.into_inner()
}
