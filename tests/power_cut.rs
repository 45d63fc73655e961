//! The power goes at any moment of a pull, a tag, a removal, a load, a build and a commit: what is left of the image store?
//! And behind a create: what of the container?
//!
//! strace(1) records what the real binary does to the store's files (`trace`), and each beginning of that is played to a disk
//! that loses what was not flushed (`platter`). What it leaves must open; every image that a finished command has told of is
//! there and whole, before anybody checks it; and a check finds nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

#[path = "power_cut/platter.rs"]
mod platter;
#[path = "power_cut/trace.rs"]
mod trace;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use common::hostile::{Blobs, Hostile, digest, gzip, tar};
use common::{Bryo, Chance, kills};
use platter::{Platter, Tree};
use trace::{Event, watch};

/// The ids of images by their names.
type Names = BTreeMap<String, String>;

fn names(bryo: &Bryo) -> Names {
    let shown = bryo.ok([
        "images",
        "--no-trunc",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.ID}}",
    ]);
    let lines = shown.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
}

/// What somebody knows who has seen commands end.
#[derive(Clone)]
struct Told {
    /// So many events had happened.
    events: usize,
    names: Names,
}

/// Commands, one after the other, in one store.
struct Recording {
    bryo: Bryo,
    /// Files that are not the store's.
    aside: tempfile::TempDir,
    /// Of each command.
    events: Vec<Vec<Event>>,
    told: Vec<Told>,
    /// How each image looks, by its id.
    looks: BTreeMap<String, String>,
}

impl Recording {
    fn new() -> Recording {
        Recording {
            bryo: Bryo::new(),
            aside: tempfile::tempdir().unwrap(),
            events: Vec::new(),
            told: vec![Told {
                events: 0,
                names: Names::new(),
            }],
            looks: BTreeMap::new(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.aside.path().join(name)
    }

    fn ok(&mut self, args: &[&str]) {
        assert!(self.run(args, None), "{args:?} failed");
    }

    /// Runs a command, which is killed at a step of the store if one is given and it comes so far; says whether it succeeded.
    fn run(&mut self, args: &[&str], killed_at: Option<u32>) -> bool {
        let mut command = self.bryo.command(args);
        if let Some(step) = killed_at {
            command.env("BRYO_FAILPOINT", step.to_string());
        }
        let (done, events) = watch(&command, &self.bryo.root(), &self.file("trace"));
        let succeeded = done.status.success();
        assert!(succeeded || killed_at.is_some(), "{done}");
        self.events.push(events);
        let (events, names) = (self.events.iter().map(Vec::len).sum(), names(&self.bryo));
        for id in names.values() {
            if !self.looks.contains_key(id) {
                self.looks.insert(id.clone(), look(&self.bryo, id).unwrap());
            }
        }
        self.told.push(Told { events, names });
        succeeded
    }

    /// Was nothing missed? What was recorded makes the store that is there.
    fn is_complete(&self) {
        let mut platter = Platter::new(self.bryo.dir());
        for command in &self.events {
            platter.begin();
            command.iter().for_each(|event| platter.apply(event));
        }
        // What a killed command was writing at that moment may be there, or not, and is nobody's.
        let of_store = |tree: Tree| -> Tree {
            let counts = |path: &Path| path.starts_with("root") && !path.starts_with("root/tmp");
            tree.into_iter().filter(|(path, _)| counts(path)).collect()
        };
        let (played, there) = (of_store(platter.now()), of_store(platter::read(self.bryo.dir())));
        let differing: Vec<&PathBuf> = played
            .keys()
            .chain(there.keys())
            .filter(|path| played.get(*path) != there.get(*path))
            .collect();
        assert!(differing.is_empty(), "{differing:?}");
    }

    /// What was true for certain when so many events had happened, and what may have become true since.
    fn between(&self, events: usize) -> (&Told, &Told) {
        let before = self.told.iter().rfind(|told| told.events <= events).unwrap();
        let after = self.told.iter().find(|told| told.events >= events).unwrap();
        (before, after)
    }
}

/// Layers with the files of these names, each with bytes of its own.
fn image(files: &[&str]) -> Blobs {
    let layers: Vec<_> = files
        .iter()
        .map(|name| tar(name, 3000 + 700 * name.len()))
        .collect();
    let layers: Vec<_> = layers.iter().map(|layer| (gzip(layer), digest(layer))).collect();
    Blobs::of(&layers)
}

/// A registry of images `one` and `two`, which share a layer.
fn registry() -> Hostile {
    let (one, two) = (image(&["shared", "of-one"]), image(&["shared", "of-the-other"]));
    Hostile::serve(move |request| match request.path.contains("/two/") {
        true => two.answer(request),
        false => one.answer(request),
    })
}

/// A store in which the power has gone.
struct Left<'a> {
    bryo: &'a Bryo,
    /// How each image looks, by its id.
    looks: &'a BTreeMap<String, String>,
    when: String,
}

impl Left<'_> {
    fn put(&self, tree: &Tree) {
        for directory in [self.bryo.root(), self.bryo.state()] {
            if directory.exists() {
                fs::remove_dir_all(directory).unwrap();
            }
        }
        platter::write(self.bryo.dir(), tree);
    }

    fn ok(&self, args: &[&str]) -> String {
        let done = self.bryo.run(args);
        assert!(done.status.success(), "{}: {done}", self.when);
        done.stdout
    }

    /// What was told is true, and nothing is there that nobody asked for.
    fn has(&self, before: &Names, after: &Names) -> Names {
        let names = names(self.bryo);
        for (name, id) in before {
            let is_kept = after.get(name) == Some(id);
            assert!(
                !is_kept || names.get(name) == Some(id),
                "{}: {name} is lost: {names:?}",
                self.when
            );
        }
        for (name, id) in &names {
            let is_known = [before, after].iter().any(|known| known.get(name) == Some(id));
            assert!(is_known, "{}: {name}, {id} is there", self.when);
        }
        names
    }

    /// An image can be read at once, whatever of it was derived.
    fn looks(&self, id: &str) {
        let seen = look(self.bryo, id).unwrap_or_else(|why| panic!("{}: {why}", self.when));
        assert_eq!(seen, self.looks[id], "{}: image {id}", self.when);
    }

    fn checks(&self) {
        let checked = self.ok(&["store", "check"]);
        let is_repaired = checked.ends_with(" repaired\n");
        assert!(
            is_repaired || checked.ends_with(": all whole\n"),
            "{}: {checked}",
            self.when
        );
        if is_repaired {
            let again = self.ok(&["store", "check"]);
            assert!(again.ends_with(": all whole\n"), "{}: {again}", self.when);
        }
    }

    /// Nothing that is left is in the way, or stays for ever.
    fn goes(&self) {
        self.ok(&["builder", "prune", "-af"]);
        self.ok(&["image", "prune", "-af"]);
        for directory in ["layers", "merged", "blobs/sha256", "tmp", "claims"] {
            let left = fs::read_dir(self.bryo.root().join(directory)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{}: {directory}", self.when);
        }
    }
}

/// The tree of an image: a digest of what `export` gives of a container of it.
fn look(bryo: &Bryo, id: &str) -> Result<String, String> {
    let run = |args: &[&str]| {
        let done = bryo.run(args);
        if done.status.success() {
            Ok(done.stdout)
        } else {
            Err(done.to_string())
        }
    };
    run(&["create", "--name", "looked-at", id, "sh"])?;
    let tar = bryo.scratch("exported.tar");
    run(&["export", "-o", tar.to_str().unwrap(), "looked-at"])?;
    let seen = digest(&fs::read(tar).unwrap());
    run(&["rm", "looked-at"])?;
    Ok(seen)
}

fn hash(tree: &Tree) -> u64 {
    let mut hasher = DefaultHasher::new();
    tree.hash(&mut hasher);
    hasher.finish()
}

/// Each way by which images come, are named and go.
fn record() -> Recording {
    let registry = registry();
    let at = |image: &str| format!("{}/{image}:1", registry.address());
    let (one, two) = (at("one"), at("two"));
    let mut recording = Recording::new();
    let archive = recording.file("archive.tar");
    let archive = archive.to_str().unwrap();
    save_two(archive);
    let context = recording.file("context");
    fs::create_dir(&context).unwrap();
    fs::write(
        context.join("Dockerfile"),
        format!("FROM {two}\nCOPY Dockerfile /\nCOPY added /\n"),
    )
    .unwrap();
    fs::write(context.join("added"), [7; 5000]).unwrap();

    recording.ok(&["pull", "-q", &one]);
    recording.ok(&["tag", &one, "other:1"]);
    // What a killed one has brought, and told nobody of, the next finds there.
    let mut steps = (10..).step_by(9);
    while !recording.run(&["pull", "-q", &two], steps.next()) {}
    recording.ok(&["rmi", &one]);
    recording.ok(&["build", "-q", "-t", "built:1", context.to_str().unwrap()]);
    recording.ok(&["load", "-q", "-i", archive]);
    recording.ok(&["rmi", "other:1"]);
    recording.bryo.ok(["create", "--name", "changed", &two, "sh"]);
    recording
        .bryo
        .ok(["cp", context.join("added").to_str().unwrap(), "changed:/changed"]);
    recording.ok(&["commit", "changed", "committed:1"]);
    recording.bryo.ok(["rm", "changed"]);
    recording.ok(&["tag", "built:1", "committed:1"]);
    recording.ok(&["image", "prune", "-f"]);
    recording
}

/// An archive of two images of one layer each.
fn save_two(archive: &str) {
    let bryo = Bryo::new();
    for name in ["three", "four"] {
        let layout = bryo.scratch(name);
        image(&[name]).write_layout(&layout, "1");
        bryo.ok(["pull", "-q", &format!("oci:{}", layout.display())]);
    }
    bryo.ok([
        "save",
        "-q",
        "-o",
        archive,
        "localhost/three:1",
        "localhost/four:1",
    ]);
}

/// Loses the power after each event: nothing is left that was not flushed, or all, or some of it.
fn lose_power(recording: &Recording) {
    let bryo = Bryo::new();
    let mut platter = Platter::new(recording.bryo.dir());
    let (mut seen, mut events) = (HashSet::new(), 0);
    // `scripts/soak.sh` asks for more.
    let chances = kills(1);
    let mut meet = |tree: Tree, events: usize, how: &str| {
        let (before, after) = recording.between(events);
        // What is on the disk decides, and who was told what.
        if !seen.insert((hash(&tree), before.events, after.events)) {
            return;
        }
        let left = Left {
            bryo: &bryo,
            looks: &recording.looks,
            when: format!("after {events} events, {how}"),
        };
        left.put(&tree);
        let names = left.has(&before.names, &after.names);
        let ids: Vec<&String> = names.values().collect();
        if let Some(id) = ids.get(seen.len() % ids.len().max(1)) {
            left.looks(id);
        }
        left.checks();
        if seen.len().is_multiple_of(8) {
            left.goes();
        }
    };
    for command in &recording.events {
        platter.begin();
        for event in command {
            platter.apply(event);
            events += 1;
            if matches!(event, Event::Opened { creates: false, .. } | Event::Flushing(..)) {
                continue;
            }
            meet(
                platter.after_loss(&mut |_| 0),
                events,
                "what was not flushed is lost",
            );
            // A killed process leaves the same: `images.rs` looks at each of those.
            if events.is_multiple_of(8) {
                meet(platter.now(), events, "all is there");
            }
            for seed in (0..chances).filter(|seed| (events as u64 + seed).is_multiple_of(4) || chances > 1) {
                let mut chance = Chance(events as u64 * 1000 + seed);
                meet(
                    platter.after_loss(&mut |states| chance.below(states)),
                    events,
                    &format!("by chance {seed}"),
                );
            }
        }
    }
}

#[test]
fn what_a_finished_command_has_told_outlives_a_loss_of_power() {
    let recording = record();
    recording.is_complete();
    lose_power(&recording);
}

/// What a container needs that is to stay, the files bound into it among it, is on the disk when `create` has told of it.
#[test]
fn a_container_that_was_created_is_all_there() {
    let registry = registry();
    let (bryo, aside) = (Bryo::new(), tempfile::tempdir().unwrap());
    fs::create_dir_all(bryo.dir()).unwrap();
    let image = format!("{}/one:1", registry.address());
    let zone = ["--tz", "local"];
    let create = ["create", "--name", "kept", "--add-host", "far:192.0.2.1"];
    let mut platter = Platter::new(bryo.dir());
    for args in [
        vec!["pull", "-q", &image],
        [&create[..], &zone, &[&image, "sh"]].concat(),
    ] {
        let (done, events) = watch(&bryo.command(args), bryo.dir(), &aside.path().join("trace"));
        assert!(done.status.success(), "{done}");
        platter.begin();
        // The directory above all is flushed as well, and is none of this disk.
        let mut above = HashSet::new();
        for event in &events {
            match event {
                Event::Opened { path, .. } if !path.starts_with(bryo.dir()) => continue,
                Event::Flushing(path, number) if !path.starts_with(bryo.dir()) => {
                    above.insert(*number);
                }
                Event::Flushed(number) if above.contains(number) => {}
                event => platter.apply(event),
            }
        }
    }
    let id = bryo.ok(["inspect", "-f", "{{.Id}}", "kept"]);
    let place = Path::new("state/containers").join(id.trim());
    let of_container = |tree: Tree| -> Tree {
        let name = Path::new("state/names/kept");
        tree.into_iter()
            .filter(|(path, _)| path.starts_with(&place) || path == name)
            .collect()
    };
    let told = of_container(platter::read(bryo.dir()));
    for file in [
        "record.json",
        "config.json",
        "hosts",
        "hostname",
        "resolv.conf",
        "localtime",
    ] {
        assert!(told.contains_key(&place.join(file)), "{file}: {:?}", told.keys());
    }
    let is_there = |tree: Tree, when: &str| {
        let tree = of_container(tree);
        let differing: Vec<&PathBuf> = told
            .keys()
            .chain(tree.keys())
            .filter(|path| told.get(*path) != tree.get(*path))
            .collect();
        assert!(differing.is_empty(), "{when}: {differing:?}");
    };
    is_there(platter.now(), "all was recorded");
    is_there(platter.after_loss(&mut |_| 0), "what was not flushed is lost");
    for seed in 0..20 {
        let mut chance = Chance(seed);
        let left = platter.after_loss(&mut |states| chance.below(states));
        is_there(left, &format!("by chance {seed}"));
    }
}
