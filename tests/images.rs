//! `images`, `rmi`, `tag`, `inspect`, `image prune`, `store check` as a user types them, and killed at every step.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Bryo, hostile};
use serde_json::Value;

/// A store with busybox of an archive, as `busybox:oci`.
fn with_busybox() -> Bryo {
    let bryo = Bryo::new();
    bryo.ok(["pull", "-q", &archive()]);
    bryo
}

fn archive() -> String {
    format!(
        "oci-archive:{}",
        common::images().join("busybox.oci.tar").display()
    )
}

fn id(bryo: &Bryo) -> String {
    bryo.ok(["images", "-q", "--no-trunc"])
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// All files of the image store but lists and locks, sorted.
fn objects(bryo: &Bryo) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["layers", "merged", "blobs/sha256", "tmp", "claims"] {
        let entries = fs::read_dir(bryo.root().join(directory)).unwrap();
        found.extend(entries.map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

fn tar(bryo: &Bryo) -> PathBuf {
    let is_tar = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "tar");
    objects(bryo).into_iter().find(is_tar).expect("a layer")
}

#[test]
fn images_lists_as_docker_does() {
    let bryo = with_busybox();
    bryo.ok(["tag", "busybox:oci", "quay.io/a/b"]);
    let table = bryo.ok(["images"]);
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    assert_eq!(
        title.split_whitespace().collect::<Vec<_>>().join(" "),
        "REPOSITORY TAG IMAGE ID CREATED SIZE"
    );
    assert!(
        table.contains("\nbusybox") && table.contains("\nquay.io/a/b"),
        "{table}"
    );
    let format = "{{.Repository}}:{{.Tag}}";
    assert_eq!(
        bryo.ok(["images", "--format", format]),
        "busybox:oci\nquay.io/a/b:latest\n"
    );
    assert_eq!(
        bryo.ok(["images", "busybox", "--format", format]),
        "busybox:oci\n"
    );
    assert_eq!(
        bryo.ok(["image", "ls", "--filter", "reference=*/*/b", "--format", format]),
        "quay.io/a/b:latest\n"
    );
    assert_eq!(bryo.ok(["images", "-q", "--filter", "label=nothing"]), "");
    assert_eq!(bryo.ok(["images", "-q", "--filter", "dangling=true"]), "");
    assert!(bryo.ok(["images", "--digests"]).contains("DIGEST"));
    let json: Value =
        serde_json::from_str(bryo.ok(["images", "busybox", "--format", "json"]).trim()).unwrap();
    assert_eq!(json["Tag"], "oci");
    assert!(
        bryo.ok(["images", "--format", "table {{.ID}}\\t{{.Size}}"])
            .starts_with("IMAGE ID       SIZE\n")
    );
    assert!(
        bryo.fails(1, ["images", "--filter", "colour=red"])
            .contains("invalid filter 'colour=red'")
    );
    assert!(
        bryo.fails(1, ["images", "--format", "{{.Nope}}"])
            .contains("Nope")
    );
    assert!(
        bryo.fails(125, ["images", "--nope"])
            .contains("unknown flag: --nope")
    );
}

#[test]
fn a_name_goes_first_and_the_image_with_its_last() {
    let bryo = with_busybox();
    bryo.ok(["tag", "busybox:oci", "other:1"]);
    assert_eq!(bryo.ok(["rmi", "other:1"]), "Untagged: other:1\n");
    bryo.ok(["tag", "busybox:oci", "other:1"]);
    let id = id(&bryo);
    let short = id
        .trim_start_matches("sha256:")
        .get(..12)
        .unwrap_or_default()
        .to_owned();
    let conflict = bryo.fails(1, ["rmi", &short]);
    let wanted =
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple");
    assert!(conflict.contains(&wanted), "{conflict}");
    let removed = bryo.ok(["rmi", "-f", &short]);
    assert!(
        removed.starts_with("Untagged: busybox:oci\nUntagged: other:1\n"),
        "{removed}"
    );
    assert!(removed.contains(&format!("Deleted: {id}\n")), "{removed}");
    assert_eq!(objects(&bryo), Vec::<PathBuf>::new());
    assert_eq!(
        bryo.fails(1, ["rmi", "other:1"]),
        "bryo: No such image: other:1\n"
    );
    bryo.ok(["rmi", "-f", "other:1"]);
}

#[test]
fn what_fails_does_not_keep_the_others() {
    let bryo = with_busybox();
    let done = bryo.run(["rmi", "nothing", "busybox:oci"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stdout.contains("Untagged: busybox:oci"), "{done}");
    assert!(done.stderr.contains("No such image: nothing"), "{done}");
}

#[test]
fn what_a_container_was_made_from_stays() {
    let bryo = with_busybox();
    let container = bryo.ok(["create", "--name", "web", "busybox:oci", "true"]);
    let short = container.get(..12).unwrap_or_default();
    let conflict = bryo.fails(1, ["rmi", "busybox:oci"]);
    let wanted = "conflict: unable to remove repository reference \"busybox:oci\" (must force) - container";
    assert!(
        conflict.contains(&format!("{wanted} {short} is using")),
        "{conflict}"
    );
    bryo.ok(["image", "prune", "-af"]);
    assert_eq!(bryo.ok(["rmi", "-f", "busybox:oci"]), "Untagged: busybox:oci\n");
    assert!(bryo.ok(["store", "check"]).starts_with("1 images"));
    assert_eq!(bryo.ok(["inspect", "--format", "{{.Name}}", "web"]), "/web\n");
    bryo.ok(["rm", "web"]);
    bryo.ok(["image", "prune", "-f"]);
    assert_eq!(objects(&bryo), Vec::<PathBuf>::new());
}

#[test]
fn inspect_prints_what_it_found_before_what_is_no_name() {
    let bryo = with_busybox();
    for command in [&["inspect"][..], &["image", "inspect"]] {
        let names = ["-f", "{{.Id}}", "busybox:oci", "B"];
        let done = bryo.run(command.iter().chain(&names));
        assert_eq!(done.status.code(), Some(1), "{done}");
        assert!(
            done.stdout.starts_with("sha256:") && done.stderr.contains("\"B\""),
            "{done}"
        );
    }
}

#[test]
fn a_damaged_config_does_not_keep_labels_from_being_listed() {
    let bryo = with_busybox();
    let config = bryo
        .root()
        .join("blobs/sha256")
        .join(id(&bryo).trim_start_matches("sha256:"));
    fs::write(config, "damaged").unwrap();
    for (args, wanted) in [
        (["--filter", "label=a"], ""),
        (["--format", "{{.Tag}} {{.Label \"a\"}}."], "oci .\n"),
    ] {
        let done = bryo.run(["images"].iter().chain(&args));
        assert!(done.status.success() && done.stdout.ends_with(wanted), "{done}");
        let said = done.stderr.trim_end();
        assert!(
            said.starts_with("bryo: warning: the image's labels cannot be read (")
                && said.lines().count() == 1,
            "{done}"
        );
    }
}

/// A store with images `localhost/NAME:1` made in these years with these labels.
fn with_images(images: &[(&str, u32, Value)]) -> Bryo {
    let bryo = Bryo::new();
    for (name, year, labels) in images {
        pull_made(&bryo, name, *year, labels);
    }
    bryo
}

/// Makes a layout and pulls it as `localhost/NAME:1`.
fn pull_made(bryo: &Bryo, name: &str, year: u32, labels: &Value) {
    let tar = hostile::tar("file", 10);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": format!("{year}-07-01T00:00:00Z"),
        "config": {"Labels": labels}, "rootfs": {"type": "layers", "diff_ids": [hostile::digest(&tar)]},
    });
    let layers = [(hostile::gzip(&tar), hostile::digest(&tar))];
    let layout = bryo.scratch(name);
    hostile::Blobs::with_config(config.to_string().into(), &layers).write_layout(&layout, "1");
    bryo.ok(["pull", "-q", &format!("oci:{}", layout.display())]);
}

/// What `images` lists under `filters`, sorted.
#[track_caller]
fn listed(bryo: &Bryo, filters: &[&str]) -> Vec<String> {
    let mut args = vec!["images", "--format", "{{.Repository}}"];
    args.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    let shown = bryo.ok(args);
    let mut names: Vec<_> = shown.lines().map(|line| line.replace("localhost/", "")).collect();
    names.sort();
    names
}

#[test]
fn filters_choose_by_label_and_by_date() {
    use serde_json::json;
    let bryo = with_images(&[
        ("old", 2001, json!({"kind": "tool", "size": "small"})),
        ("mid", 2011, json!({"kind": "tool", "size": "big"})),
        ("new", 2021, json!({"kind": "base"})),
    ]);
    for (filters, wanted) in [
        (&["label=kind"][..], &["mid", "new", "old"][..]),
        (&["label=kind=tool"], &["mid", "old"]),
        (&["label=kind=tool", "label=size=big"], &["mid"]),
        (&["label!=size"], &["new"]),
        (&["label!=kind=tool"], &["new"]),
        (&["label=kind", "label!=size=small"], &["mid", "new"]),
        (&["before=localhost/mid:1"], &["old"]),
        (&["since=localhost/mid:1"], &["new"]),
        (&["since=localhost/old:1", "before=localhost/new:1"], &["mid"]),
        // Of several the narrowest counts, wherever it stands.
        (&["since=localhost/mid:1", "since=localhost/old:1"], &["new"]),
        (&["since=localhost/old:1", "since=localhost/mid:1"], &["new"]),
        (&["before=localhost/mid:1", "before=localhost/new:1"], &["old"]),
        (&["until=2015-01-01T00:00:00Z"], &["mid", "old"]),
        (&["dangling=true"], &[]),
        (&["dangling=false"], &["mid", "new", "old"]),
    ] {
        assert_eq!(listed(&bryo, filters), wanted, "{filters:?}");
    }
    // The name goes to another image; the one before has none.
    pull_made(&bryo, "mid", 2012, &json!({"kind": "again"}));
    assert_eq!(listed(&bryo, &["dangling=true"]), ["<none>"]);
    assert_eq!(listed(&bryo, &["dangling=false"]), ["mid", "new", "old"]);
    assert_eq!(listed(&bryo, &["dangling=true", "label=kind=tool"]), ["<none>"]);
}

#[test]
fn a_prune_takes_what_its_filters_choose() {
    use serde_json::json;
    let bryo = with_images(&[
        ("old", 2001, json!({"keep": "yes"})),
        ("mid", 2011, json!({})),
        ("new", 2021, json!({"scrap": "yes"})),
    ]);
    let prune = |filter: &str| bryo.ok(["image", "prune", "-af", "--filter", filter]);
    prune("label=scrap=no");
    assert_eq!(listed(&bryo, &[]), ["mid", "new", "old"]);
    let pruned = prune("label=scrap");
    assert!(pruned.contains("untagged: localhost/new:1\n"), "{pruned}");
    assert_eq!(listed(&bryo, &[]), ["mid", "old"]);
    prune("label!=keep");
    assert_eq!(listed(&bryo, &[]), ["old"]);
    prune("until=2000-01-01T00:00:00Z");
    assert_eq!(listed(&bryo, &[]), ["old"]);
    prune("until=2002-01-01T00:00:00Z");
    assert_eq!(objects(&bryo), Vec::<PathBuf>::new());
}

#[test]
fn inspect_has_dockers_shape() {
    let bryo = with_busybox();
    let objects: Value = serde_json::from_str(&bryo.ok(["image", "inspect", "busybox:oci"])).unwrap();
    let object = &objects[0];
    assert_eq!(object["Id"], Value::from(id(&bryo)));
    assert_eq!(object["RepoTags"][0], "busybox:oci");
    assert_eq!(object["Os"], "linux");
    assert_eq!(object["RootFS"]["Type"], "layers");
    assert!(
        object["RootFS"]["Layers"][0]
            .as_str()
            .is_some_and(|layer| layer.starts_with("sha256:"))
    );
    assert!(
        object["Config"]["Env"][0]
            .as_str()
            .is_some_and(|variable| variable.starts_with("PATH="))
    );
    let format = "{{index .RepoTags 0}} {{json .Config.Cmd}} {{with .Config.Healthcheck}}x{{end}}{{.Config.Labels.no}}";
    let shown = bryo.ok(["inspect", "--type", "image", "--format", format, "busybox:oci"]);
    assert_eq!(shown, "busybox:oci [\"/bin/sh\"] <no value>\n");
    let done = bryo.run(["image", "inspect", "nothing"]);
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(1), "[]\n"),
        "{done}"
    );
    assert_eq!(done.stderr, "Error: No such image: nothing\n");
}

#[test]
fn prune_takes_what_nobody_names_and_what_the_dead_left() {
    let bryo = with_busybox();
    fs::write(bryo.root().join("tmp/1-0"), [0; 1000]).unwrap();
    fs::write(
        bryo.root()
            .join("layers")
            .join(format!("{}.tar", "ab".repeat(32))),
        [0; 500],
    )
    .unwrap();
    let kept = objects(&bryo).len() - 2;
    assert_eq!(
        bryo.ok(["image", "prune", "-f"]),
        "Total reclaimed space: 1.5kB\n"
    );
    assert_eq!(objects(&bryo).len(), kept);
    assert!(bryo.fails(1, ["image", "prune"]).contains("cancelled"));
    assert_eq!(
        bryo.ok(["image", "prune", "-af", "--filter", "label=nothing"]),
        "Total reclaimed space: 0B\n"
    );
    let pruned = bryo.ok(["image", "prune", "-af"]);
    assert!(
        pruned.starts_with("Deleted Images:\nuntagged: busybox:oci\ndeleted: sha256:"),
        "{pruned}"
    );
    assert_eq!(objects(&bryo), Vec::<PathBuf>::new());
    assert_eq!(bryo.ok(["images", "-q"]), "");
}

#[test]
fn check_makes_indexes_again_and_names_what_is_lost() {
    let bryo = with_busybox();
    assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
    for (ending, byte) in [("index", 5000), ("index", 20)] {
        for path in objects(&bryo)
            .iter()
            .filter(|path| path.extension().is_some_and(|found| found == ending))
        {
            let mut bytes = fs::read(path).unwrap();
            bytes[byte] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        let repaired = bryo.ok(["store", "check"]);
        assert!(repaired.ends_with(": 2 repaired\n"), "{repaired}");
        assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
    }
    let tar = tar(&bryo);
    let mut bytes = fs::read(&tar).unwrap();
    bytes[1000] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let done = bryo.run(["store", "check"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stdout.contains("lost; what helps: bryo pull busybox:oci"),
        "{done}"
    );
    bryo.ok(["pull", "-q", &archive()]);
    assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
    assert!(bryo.ok(["image", "prune", "-f"]).contains("MB"));
}

#[test]
fn a_prune_beside_pulls_takes_nothing_from_them() {
    let bryo = Bryo::new();
    std::thread::scope(|scope| {
        let pulling = scope.spawn(|| {
            for _ in 0..10 {
                bryo.ok(["pull", "-q", &archive()]);
                bryo.run(["rmi", "busybox:oci"]);
            }
            bryo.ok(["pull", "-q", &archive()]);
        });
        while !pulling.is_finished() {
            bryo.ok(["image", "prune", "-f"]);
        }
    });
    assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
}

/// What is half there beside a removal or a pull is no damage.
#[test]
fn a_check_beside_pulls_and_removals_blames_nobody() {
    let bryo = Bryo::new();
    bryo.ok(["images"]);
    // Of two images with a layer in common, one stays: its merged index goes alone.
    let (shared, own) = (hostile::tar("shared", 3 << 20), hostile::tar("own", 3 << 20));
    let layer = |tar: &[u8]| (hostile::gzip(tar), hostile::digest(tar));
    let layout = bryo.scratch("layout");
    hostile::Blobs::of(&[layer(&shared), layer(&own)]).write_layout(&layout, "1");
    let both = format!("oci:{}", layout.display());
    let base = bryo.scratch("base");
    hostile::Blobs::of(&[layer(&shared)]).write_layout(&base, "1");
    bryo.ok(["pull", "-q", &format!("oci:{}", base.display())]);
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            for _ in 0..30 {
                bryo.ok(["pull", "-q", &both]);
                bryo.ok(["rmi", "localhost/layout:1"]);
            }
        });
        while !moving.is_finished() {
            let done = bryo.run(["store", "check"]);
            assert!(done.status.success() && done.stderr.is_empty(), "{done}");
            assert!(done.stdout.ends_with(": all whole\n"), "{done}");
        }
    });
    bryo.ok(["image", "prune", "-f"]);
    assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
}

/// A damaged layer that was pulled again before the check could set it aside: the new one stays.
#[test]
fn a_check_sets_aside_the_layer_that_it_saw() {
    let bryo = with_busybox();
    let tar = tar(&bryo);
    let whole = fs::read(&tar).unwrap();
    let (mut damaged, aside) = (whole.clone(), bryo.root().join("tmp/1-0"));
    damaged[1000] ^= 1;
    fs::write(&tar, damaged).unwrap();
    let name = format!("layer-{}", tar.file_stem().unwrap().display());
    let lock = fs::File::create(bryo.root().join("locks").join(name)).unwrap();
    lock.lock().unwrap();
    let check = bryo
        .command(["store", "check"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    waits_for_a_lock(check.id());
    fs::write(&aside, whole).unwrap();
    fs::rename(&aside, &tar).unwrap();
    drop(lock);
    let checked = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success() && said.ends_with(": all whole\n"),
        "{said}"
    );
    assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
    bryo.sh("busybox:oci", "true");
}

/// Returns when the process waits for a lock of flock(2).
fn waits_for_a_lock(pid: u32) {
    let end = Instant::now() + Duration::from_secs(120);
    let waits = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("-> FLOCK") && line.contains(&format!(" {pid} ")))
    };
    while !waits() {
        assert!(Instant::now() < end, "waited in vain: {pid} waits for no lock");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills `args` before each of its steps in turn, until it gets through. After each kill the store must be whole, and
/// `again` makes it as it was before.
fn killed_at_every_step(bryo: &Bryo, args: &[&str], again: &dyn Fn(&Bryo)) {
    for step in 1.. {
        let done = common::Done::of(bryo.command(args).env("BRYO_FAILPOINT", step.to_string()));
        let check = bryo.run(["store", "check"]);
        assert!(check.status.success(), "{args:?} killed at step {step}: {check}");
        assert!(
            !check.stdout.contains("lost"),
            "{args:?} killed at step {step}: {check}"
        );
        if done.status.success() {
            assert!(
                step > 3,
                "{args:?} has only {step} steps: are there no failpoints in this build?"
            );
            return;
        }
        assert!(done.status.code().is_none(), "{done}");
        again(bryo);
    }
}

#[test]
fn killed_anywhere_the_store_stays_whole_and_work_goes_on() {
    let bryo = Bryo::new();
    let pull = ["pull", "-q", &archive()];
    killed_at_every_step(&bryo, &pull, &|bryo| {
        bryo.run(["rmi", "-f", "busybox:oci"]);
    });
    let present = |bryo: &Bryo| {
        bryo.ok(["pull", "-q", &archive()]);
    };
    killed_at_every_step(&bryo, &["tag", "busybox:oci", "other:1"], &|bryo| {
        bryo.run(["rmi", "other:1"]);
    });
    bryo.ok(["rmi", "other:1"]);
    killed_at_every_step(&bryo, &["rmi", "busybox:oci"], &present);
    present(&bryo);
    killed_at_every_step(&bryo, &["image", "prune", "-af"], &present);
    assert_eq!(objects(&bryo), Vec::<PathBuf>::new());
}

#[test]
fn version_and_info_answer_templates() {
    let bryo = Bryo::new();
    let version = bryo.ok(["version", "--format", "{{.Client.Version}}"]);
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
    let root = bryo.ok(["info", "-f", "{{.DockerRootDir}}"]);
    assert_eq!(root.trim(), bryo.root().display().to_string());
    assert!(bryo.ok(["image"]).contains("prune"));
}
