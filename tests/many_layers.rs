//! Does an image of 127 layers, as many as builders make, come from a registry as the tree that its layers describe?

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::collections::BTreeMap;

use common::hostile::{Blobs, digest, gzip};
use common::{Bryo, Mode, Registry, skopeo};

const LAYERS: usize = 127;

/// A directory, a file with its content, or a symlink with its target.
#[derive(Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File(String),
    Symlink(String),
}

/// The tree below `/t` by the rules of the OCI image spec, built beside the layers.
#[derive(Default)]
struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// What lies at the path goes, with all below it.
    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0
            .retain(|found, _| found != path && !found.starts_with(&below));
    }

    fn put(&mut self, path: &str, node: Node) {
        // A directory over a directory keeps what is in it; all else replaces.
        if node != Node::Directory || self.0.get(path) != Some(&Node::Directory) {
            self.remove(path);
        }
        self.0.insert(path.into(), node);
    }

    /// As the script in the container lists it.
    fn listing(&self) -> String {
        let lines = self.0.iter().map(|(path, node)| match node {
            Node::Directory => format!("{path} directory\n"),
            Node::File(content) => format!("{path} file {content}\n"),
            Node::Symlink(target) => format!("{path} symlink {target}\n"),
        });
        lines.collect()
    }
}

const LIST: &str = r#"cd /t; for path in $(find . -mindepth 1 | sort); do
    name=${path#./}
    if [ -L "$path" ]; then echo "$name symlink $(readlink "$path")"
    elif [ -d "$path" ]; then echo "$name directory"
    else echo "$name file $(cat "$path")"; fi
done"#;

/// One layer on its way, with the tree that changes by it.
struct Layer<'a> {
    tar: tar::Builder<Vec<u8>>,
    tree: &'a mut Tree,
}

impl Layer<'_> {
    fn entry(&mut self, kind: tar::EntryType, path: &str, target: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        match target {
            "" => self.tar.append_data(&mut header, path, content),
            target => self.tar.append_link(&mut header, path, target),
        }
        .unwrap();
    }

    fn put(&mut self, path: &str, node: Node) {
        let at = format!("t/{path}");
        match &node {
            Node::Directory => self.entry(tar::EntryType::Directory, &at, "", b""),
            Node::File(content) => self.entry(tar::EntryType::Regular, &at, "", content.as_bytes()),
            Node::Symlink(target) => self.entry(tar::EntryType::Symlink, &at, target, b""),
        }
        self.tree.put(path, node);
    }

    fn file(&mut self, path: &str, content: impl ToString) {
        self.put(path, Node::File(content.to_string()));
    }

    fn whiteout(&mut self, directory: &str, name: &str) {
        let at = format!("t/{directory}/.wh.{name}");
        self.entry(tar::EntryType::Regular, &at, "", b"");
        self.tree.remove(&format!("{directory}/{name}"));
    }

    /// Hides what the layers below have in the directory.
    fn opaque(&mut self, directory: &str) {
        self.put(directory, Node::Directory);
        let at = format!("t/{directory}/.wh..wh..opq");
        self.entry(tar::EntryType::Regular, &at, "", b"");
        self.tree.remove(directory);
        self.tree.put(directory, Node::Directory);
    }

    fn programs(&mut self) {
        self.tar
            .append_path_with_name("/bin/busybox", "bin/busybox")
            .unwrap();
        for name in ["sh", "find", "sort", "readlink", "cat"] {
            self.entry(tar::EntryType::Symlink, &format!("bin/{name}"), "busybox", b"");
        }
    }
}

/// The layer of this number: of each of what layers do, some.
fn layer(number: usize, tree: &mut Tree) -> (Vec<u8>, String) {
    let tar = tar::Builder::new(Vec::new());
    let mut layer = Layer { tar, tree };
    if number == 1 {
        layer.programs();
        for directory in ["own", "opaque", "deep", "links"] {
            layer.put(directory, Node::Directory);
        }
    }
    layer.file(&format!("own/{number}"), number);
    layer.file("overwritten", number);
    if number.is_multiple_of(3) {
        layer.whiteout("own", &(number - 1).to_string());
    }
    // Back after it was removed, by another layer.
    if number % 9 == 4 && number > 4 {
        layer.file(&format!("own/{}", number - 2), format!("again by {number}"));
    }
    if number.is_multiple_of(20) {
        layer.opaque("opaque");
    }
    layer.file(&format!("opaque/{number}"), number);
    match number % 10 {
        6 => layer.put("deep/turns", Node::Directory),
        7 => layer.file("deep/turns/inside", number),
        8 => layer.put("deep/turns", Node::Symlink(format!("../own/{number}"))),
        9 => layer.file("deep/turns", number),
        _ => {}
    }
    // A link within the layer to what a later layer overwrites.
    if number % 25 == 5 {
        layer.file("links/a", number);
        let at = format!("t/links/b-{number}");
        layer.entry(tar::EntryType::Link, &at, "t/links/a", b"");
        let node = Node::File(number.to_string());
        layer.tree.put(&format!("links/b-{number}"), node);
    }
    let tar = layer.tar.into_inner().unwrap();
    (gzip(&tar), digest(&tar))
}

#[test]
fn an_image_of_127_layers_is_the_tree_that_they_describe() {
    let mut tree = Tree::default();
    let layers: Vec<_> = (1..=LAYERS).map(|number| layer(number, &mut tree)).collect();
    let storage = tempfile::tempdir().unwrap();
    let layout = storage.path().join("layout");
    Blobs::of(&layers).write_layout(&layout, "many");
    let registry = Registry::serve(&storage.path().join("registry"), Mode::Writable);
    let image = registry.image("many:127");
    let pushed = skopeo([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--preserve-digests",
        "--dest-tls-verify=false",
        &format!("oci:{}:many", layout.display()),
        &format!("docker://{image}"),
    ]);
    assert!(pushed.status.success(), "{pushed}");
    let bryo = Bryo::new();
    bryo.ok(["pull", "-q", &image]);
    let format = "{{len .RootFS.Layers}}";
    assert_eq!(
        bryo.ok(["image", "inspect", "--format", format, &image]),
        format!("{LAYERS}\n")
    );
    let list = |words: &[&str]| bryo.ok(words.iter().chain(&[&*image, "sh", "-ec", LIST]));
    let shown = list(&["run", "--rm"]);
    // The shell sorts by bytes, and so does the map but for what is below a directory.
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&shown), sorted(&tree.listing()));
    assert!(tree.0.len() > 100, "a tree that says something");
    // What the container changes is over all of them.
    let script =
        "rm -r /t/own; echo new > /t/overwritten; ln -s x /t/own; cat /t/overwritten; readlink /t/own";
    assert_eq!(bryo.sh(&image, script), "new\nx\n");
    assert_eq!(list(&["run", "--rm", "--read-only"]), shown);
    let done = bryo.run(["store", "check"]);
    assert!(done.stdout.ends_with(": all whole\n"), "{done}");
}
