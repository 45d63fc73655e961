//! `save` and `load`: what other tools read, what they write, and what is left when it goes wrong.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Bryo, Done, Podman, hostile, images, on_terminal, skopeo};

/// A store with busybox as `base:1` and `other:2`, and an image of one layer above it as `made`.
fn store() -> Bryo {
    let (bryo, base) = Bryo::with_image("busybox");
    bryo.ok(["tag", &base, "base:1"]);
    bryo.ok(["tag", &base, "localhost/base:2"]);
    let context = bryo.scratch("context");
    fs::create_dir(&context).unwrap();
    let text = "FROM base:1\nRUN echo made > /made\nHEALTHCHECK CMD test -e /made\nSHELL [\"/bin/sh\", \"-ec\"]\n\
        ONBUILD RUN true\n";
    fs::write(context.join("Dockerfile"), text).unwrap();
    bryo.ok(["build", "-q", "-t", "made", context.to_str().unwrap()]);
    bryo
}

fn id(bryo: &Bryo, name: &str) -> String {
    bryo.ok(["image", "inspect", "--format", "{{.Id}}", name])
        .trim()
        .into()
}

/// The names of the files in a tar.
fn names(archive: &Path) -> Vec<String> {
    let listed = Done::of(Command::new("tar").arg("-tf").arg(archive));
    assert!(listed.status.success(), "{listed}");
    listed.stdout.lines().map(Into::into).collect()
}

/// One file of a tar.
fn of_tar(archive: &Path, name: &str) -> serde_json::Value {
    let read = Done::of(Command::new("tar").args(["-xOf"]).arg(archive).arg(name));
    assert!(read.status.success(), "{read}");
    serde_json::from_str(&read.stdout).unwrap()
}

#[test]
fn what_is_saved_is_loaded_again() {
    let bryo = store();
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let file = bryo.scratch(format);
        let to = file.to_str().unwrap();
        assert_eq!(
            bryo.ok(["save", "--format", format, "-o", to, "made", "base:1"]),
            ""
        );
        let other = Bryo::new();
        assert_eq!(
            other.ok(["load", "-i", to]),
            "Loaded image: made:latest\nLoaded image: base:1\n",
            "{format}"
        );
        assert_eq!(id(&other, "made"), id(&bryo, "made"));
        assert_eq!(id(&other, "base:1"), id(&bryo, "base:1"));
        assert_eq!(other.sh("made", "cat /made"), "made\n");
        other.ok(["store", "check"]);
        // By name, a pull chooses one.
        let transport = format.replace("oci-dir", "oci");
        let third = Bryo::new();
        third.ok(["pull", "-q", &format!("{transport}:{to}:made:latest")]);
        assert_eq!(id(&third, "made"), id(&bryo, "made"));
        assert_eq!(third.ok(["images", "-q"]).lines().count(), 1);
        let line = third.fails(1, ["pull", "-q", &format!("{transport}:{to}")]);
        assert!(line.contains("several images: add :NAME"), "{line}");
    }
}

#[test]
fn the_fields_of_docker_are_kept_in_every_format() {
    let bryo = store();
    for format in ["docker-archive", "oci-archive"] {
        let file = bryo.scratch(format);
        bryo.ok(["save", "--format", format, "-o", file.to_str().unwrap(), "made"]);
        let done = skopeo([
            "inspect",
            "--config",
            "--raw",
            &format!("{format}:{}", file.display()),
        ]);
        assert!(done.status.success(), "{done}");
        let config: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(config["config"]["Healthcheck"]["Test"][1], "test -e /made");
        assert_eq!(config["config"]["Shell"][1], "-ec");
        assert_eq!(config["config"]["OnBuild"][0], "RUN true");
    }
}

/// As `podman push IMAGE oci-archive:FILE` and its kin.
#[test]
fn an_image_is_pushed_to_where_no_registry_is() {
    let bryo = store();
    let place = |name: &str| bryo.scratch(name).display().to_string();
    let (digest, config) = (bryo.scratch("digest"), id(&bryo, "made"));
    let inspected = |from: &str, what: &str| {
        let done = skopeo(["inspect", what, from]);
        assert!(done.status.success(), "{done}");
        done.stdout
    };
    let [docker, archive, layout] = ["docker.tar", "oci.tar", "layout"].map(place);
    let zstd = ["--compression-format=zstd"];
    for (flags, to) in [
        (&[][..], format!("docker-archive:{docker}:sent:1")),
        (&[], format!("oci-archive:{archive}:v1")),
        // In place of what was there.
        (&[], format!("oci-archive:{archive}")),
        (&zstd, format!("oci:{layout}:some/name:v1")),
        // Beside it.
        (&[], format!("oci:{layout}:v2")),
    ] {
        let mut push = bryo.command([&["push"], flags, &["made", &to]].concat());
        let has_digest = !to.starts_with("docker");
        if has_digest {
            push.arg("--digestfile").arg(&digest);
        }
        let done = Done::of(&mut push);
        assert!(
            done.status.success() && done.stdout.is_empty() && done.stderr.is_empty(),
            "{done}"
        );
        let manifest: serde_json::Value = serde_json::from_str(&inspected(&to, "--raw")).unwrap();
        assert_eq!(manifest["config"]["digest"], *config, "{to}");
        let layer = manifest["layers"][0]["mediaType"].as_str().unwrap();
        assert_eq!(layer.ends_with("zstd"), flags == zstd, "{manifest}");
        if has_digest {
            let told = inspected(&to, "--format={{.Digest}}");
            assert_eq!(fs::read_to_string(&digest).unwrap(), told.trim());
        }
    }
    inspected(&format!("oci:{layout}:some/name:v1"), "--raw");
    // Its own name stays beside the one that was given.
    assert_eq!(
        of_tar(Path::new(&docker), "manifest.json")[0]["RepoTags"],
        serde_json::json!(["docker.io/library/sent:1", "docker.io/library/made:latest"])
    );
    // Without a name beside one of the same image that has some: both stay.
    bryo.ok(["push", "made", &format!("oci:{layout}")]);
    inspected(&format!("oci:{layout}:v2"), "--raw");
    let other = Bryo::new();
    for from in [
        format!("docker-archive:{docker}"),
        format!("oci-archive:{archive}"),
        format!("oci:{layout}:v2"),
    ] {
        let name = other.ok(["pull", "-q", &from]);
        let seen = other.ok(["run", "--rm", name.trim(), "cat", "/made"]);
        assert_eq!(seen, "made\n", "{from}");
    }
}

#[test]
fn what_a_place_that_is_no_registry_cannot_have_is_refused() {
    let bryo = store();
    let place = |name: &str| bryo.scratch(name).display().to_string();
    let [there, docker, layout] = ["docker.tar", "docker.tar.2", "layout"].map(place);
    bryo.ok(["push", "made", &format!("docker-archive:{there}:sent:1")]);
    for (flags, to, why) in [
        (
            &[][..],
            format!("docker-archive:{there}:sent:2"),
            "doesn't support modifying existing images",
        ),
        (
            &[],
            format!("docker-archive:{docker}:A"),
            "invalid reference format",
        ),
        (
            &["--format=oci"],
            format!("docker-archive:{docker}"),
            "--format=oci is not what a docker-archive has",
        ),
        (
            &["--compression-format=zstd"],
            format!("docker-archive:{docker}"),
            "plain layers",
        ),
        (
            &["--digestfile=/dev/null"],
            format!("docker-archive:{docker}"),
            "no manifest",
        ),
        (
            &["--format=v2s2"],
            format!("oci:{layout}"),
            "--format=v2s2 is not what OCI's layout has",
        ),
        (
            &[],
            format!("oci-archive:{}/none/a.tar", bryo.dir().display()),
            "No such file or directory",
        ),
    ] {
        let done = bryo.run([&["push"], flags, &["made", &to]].concat());
        assert!(
            !done.status.success() && done.stderr.contains(why) && done.stderr.lines().count() == 1,
            "{done}"
        );
    }
    assert!(!Path::new(&docker).exists());
}

#[test]
fn skopeo_and_podman_read_it() {
    let bryo = store();
    let podman = Podman::beside(&bryo);
    let wanted = id(&bryo, "made");
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let file = bryo.scratch(format);
        bryo.ok(["save", "--format", format, "-o", file.to_str().unwrap(), "made"]);
        let copy = bryo.scratch("copy");
        let transport = format.replace("oci-dir", "oci");
        let from = format!("{transport}:{}", file.display());
        let done = skopeo(["copy", &from, &format!("dir:{}", copy.display())]);
        assert!(done.status.success(), "{done}");
        let manifest = fs::read(copy.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], *wanted, "{format}");
        if format == "oci-dir" {
            continue;
        }
        let loaded = Done::of(podman.command().args(["load", "-q", "-i"]).arg(&file));
        assert!(loaded.status.success(), "{loaded}");
        assert!(
            loaded.stdout.contains("docker.io/library/made:latest"),
            "{format}: {loaded}"
        );
        let listed = Done::of(podman.command().args(["images", "--no-trunc", "-q"]));
        assert!(listed.stdout.contains(&wanted), "{format}: {listed}");
        let removed = Done::of(podman.command().args(["rmi", "-f", "made"]));
        assert!(removed.status.success(), "{removed}");
    }
    let several = bryo.scratch("several");
    bryo.ok(["save", "-o", several.to_str().unwrap(), "made", "base:1"]);
    let loaded = Done::of(podman.command().args(["load", "-q", "-i"]).arg(&several));
    assert!(loaded.stdout.contains("library/base:1"), "{loaded}");
}

#[test]
fn what_others_wrote_is_loaded() {
    for name in ["busybox.docker.tar", "busybox.oci.tar", "busybox.oci"] {
        let bryo = Bryo::new();
        let said = bryo.ok(["load", "-i", images().join(name).to_str().unwrap()]);
        assert!(
            said.starts_with("Loaded image: ") && said.lines().count() == 1,
            "{said}"
        );
        bryo.ok(["store", "check"]);
    }
    // Podman's own, of two images.
    let bryo = store();
    let podman = Podman::beside(&bryo);
    let file = bryo.scratch("saved");
    bryo.ok(["save", "-o", file.to_str().unwrap(), "made", "base:1"]);
    let loaded = Done::of(podman.command().args(["load", "-q", "-i"]).arg(&file));
    assert!(loaded.status.success(), "{loaded}");
    let theirs = bryo.scratch("theirs");
    let mut save = podman.command();
    save.args(["save", "-q", "-m", "-o"])
        .arg(&theirs)
        .args(["made", "base:1"]);
    let saved = Done::of(&mut save);
    assert!(saved.status.success(), "{saved}");
    let other = Bryo::new();
    let said = other.ok(["load", "-i", theirs.to_str().unwrap()]);
    assert!(
        said.contains("Loaded image: made:latest\n") && said.contains("Loaded image: base:1\n"),
        "{said}"
    );
    assert_eq!(other.sh("made", "cat /made"), "made\n");
}

#[test]
fn archives_come_through_pipes_and_compressed() {
    let bryo = store();
    let plain = bryo.scratch("plain.tar");
    let piped = bryo
        .command(["save", "made"])
        .stdout(File::create(&plain).unwrap())
        .status();
    assert!(piped.unwrap().success());
    let with = |program: &str| -> PathBuf {
        let file = bryo.scratch(program);
        let done = Command::new(program)
            .stdin(File::open(&plain).unwrap())
            .stdout(File::create(&file).unwrap())
            .status();
        assert!(done.unwrap().success(), "{program}");
        file
    };
    let compressed = ["gzip", "bzip2", "xz"].map(with);
    let pipe = |file: &Path| {
        let mut cat = Command::new("cat")
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let other = Bryo::new();
        let done = Done::of(other.command(["load"]).stdin(cat.stdout.take().unwrap()));
        // Of what is refused, not all is read.
        cat.wait().unwrap();
        (other, done)
    };
    for file in compressed.iter().chain([&plain]) {
        let (other, done) = pipe(file);
        assert_eq!(done.stdout, "Loaded image: made:latest\n", "{done}");
        assert_eq!(fs::read_dir(other.root().join("tmp")).unwrap().count(), 0);
        let other = Bryo::new();
        let done = Done::of(other.command(["load"]).stdin(File::open(file).unwrap()));
        assert_eq!(done.stdout, "Loaded image: made:latest\n", "{done}");
        let other = Bryo::new();
        other.ok(["load", "-q", "-i", file.to_str().unwrap()]);
        assert_eq!(id(&other, "made"), id(&bryo, "made"));
    }
    let damaged = fs::read(&compressed[2]).unwrap();
    fs::write(bryo.scratch("damaged"), &damaged[..damaged.len() / 2]).unwrap();
    let (_other, done) = pipe(&bryo.scratch("damaged"));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stderr.contains("standard input") && done.stderr.contains("xz"),
        "{done}"
    );
}

#[test]
fn a_repository_means_its_tags_and_an_id_no_name() {
    let bryo = store();
    bryo.ok(["tag", "made", "base:3"]);
    let file = bryo.scratch("saved");
    let to = file.to_str().unwrap();
    bryo.ok(["save", "-o", to, "base", &id(&bryo, "made")]);
    let mut tags: Vec<_> = of_tar(&file, "manifest.json").as_array().unwrap().clone();
    tags.sort_by_key(|image| image["RepoTags"].to_string());
    let tags: Vec<_> = tags.iter().map(|image| image["RepoTags"].to_string()).collect();
    assert_eq!(
        tags,
        [
            r#"["docker.io/library/base:1"]"#,
            r#"["docker.io/library/base:3"]"#
        ]
    );
    bryo.ok(["save", "-o", to, &id(&bryo, "made")]);
    assert_eq!(of_tar(&file, "manifest.json")[0]["RepoTags"].to_string(), "[]");
    let other = Bryo::new();
    assert_eq!(
        other.ok(["load", "-i", to]),
        format!("Loaded image ID: {}\n", id(&bryo, "made"))
    );
    // A layer that two images have is there once.
    bryo.ok(["save", "-o", to, "made", "base:1"]);
    let mut found = names(&file);
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count);
}

#[test]
fn the_same_image_is_saved_to_the_same_bytes() {
    let bryo = store();
    for format in ["docker-archive", "oci-archive"] {
        let files = ["one", "two"].map(|name| bryo.scratch(name));
        for file in &files {
            bryo.ok(["save", "--format", format, "-o", file.to_str().unwrap(), "made"]);
        }
        assert!(
            fs::read(&files[0]).unwrap() == fs::read(&files[1]).unwrap(),
            "{format}"
        );
    }
}

#[test]
fn a_directory_keeps_its_other_images() {
    let bryo = store();
    let layout = bryo.scratch("layout");
    let to = layout.to_str().unwrap();
    let tagged = format!("oci:{to}:latest");
    let from = format!("oci:{}:latest", images().join("busybox.oci").display());
    let done = skopeo(["copy", &from, &tagged]);
    assert!(done.status.success(), "{done}");
    for name in ["base:1", "made", "made", "localhost/base:2"] {
        bryo.ok(["save", "--format", "oci-dir", "-o", to, name]);
    }
    let index = fs::read(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    // By its tag, skopeo finds the image that came last.
    let raw: serde_json::Value = serde_json::from_str(&skopeo(["inspect", "--raw", &tagged]).stdout).unwrap();
    assert_eq!(raw["config"]["digest"], id(&bryo, "made"));
    let other = Bryo::new();
    other.ok(["load", "-i", to]);
    assert_eq!(id(&other, "made"), id(&bryo, "made"));
    assert_eq!(id(&other, "localhost/base:2"), id(&bryo, "base:1"));
}

#[test]
fn what_goes_wrong_is_a_line_and_leaves_nothing() {
    let bryo = store();
    let file = bryo.scratch("archive");
    fs::write(&file, "mine").unwrap();
    let to = file.to_str().unwrap();
    let line = bryo.fails(1, ["save", "-o", to, "made", "no-such-image"]);
    assert_eq!(line, "bryo: No such image: no-such-image\n");
    let line = bryo.fails(1, ["save", "-o", "/dev/full", "made"]);
    assert!(
        line.starts_with("bryo: cannot write /dev/full: No space left"),
        "{line}"
    );
    let line = bryo.fails(1, ["save", "-o", "/nowhere/archive", "made"]);
    assert!(
        line.starts_with("bryo: cannot write /nowhere/archive: No such file"),
        "{line}"
    );
    let line = bryo.fails(125, ["save", "--format", "oci-dir", "made"]);
    assert!(line.contains("--output DIRECTORY"), "{line}");
    bryo.fails(125, ["save", "--format", "docker-dir", "made"]);
    // A layer that is not what it was does not leave the store.
    let layers = fs::read_dir(bryo.root().join("layers")).unwrap();
    let mut tars = layers.map(|entry| entry.unwrap().path());
    let tar = tars
        .find(|path| path.extension().is_some_and(|kind| kind == "tar"))
        .unwrap();
    let mut bytes = fs::read(&tar).unwrap();
    bytes[700] ^= 1;
    fs::write(&tar, bytes).unwrap();
    for format in ["docker-archive", "oci-archive"] {
        let line = bryo.fails(1, ["save", "--format", format, "-o", to, "made"]);
        assert!(line.contains("is damaged") && line.lines().count() == 1, "{line}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let beside = fs::read_dir(bryo.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let beside: Vec<_> = beside
        .filter(|name| name.to_str().unwrap().contains("archive"))
        .collect();
    assert_eq!(beside, ["archive"]);

    let empty = Done::of(bryo.command(["load"]).stdin(Stdio::null()));
    assert_eq!(empty.status.code(), Some(1), "{empty}");
    let line = bryo.fails(1, ["load", "-i", "/nowhere.tar"]);
    assert!(
        line.starts_with("bryo: cannot read /nowhere.tar: No such file"),
        "{line}"
    );
    let line = bryo.fails(1, ["load", "-i", file.to_str().unwrap()]);
    assert!(
        line.starts_with(&format!("bryo: {to}: ")) && line.lines().count() == 1,
        "{line}"
    );
}

#[test]
fn a_terminal_gets_no_archive_and_gives_none() {
    let bryo = store();
    let done = Done::of(&mut on_terminal(&bryo.command(["save", "made"])));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stdout.contains("cowardly refusing to save to a terminal"),
        "{done}"
    );
    let done = Done::of(&mut on_terminal(&bryo.command(["load"])));
    assert_eq!(done.status.code(), Some(1), "{done}");
}

#[test]
fn two_at_once_are_both_in_a_directory() {
    let bryo = store();
    let layout = bryo.scratch("layout");
    let names = ["made", "base:1", "localhost/base:2"];
    let save = |name: &&str| {
        let words = [
            "save",
            "--format",
            "oci-dir",
            "-o",
            layout.to_str().unwrap(),
            name,
        ];
        bryo.command(words).spawn().unwrap()
    };
    let children: Vec<_> = names.iter().map(save).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let said = Bryo::new().ok(["load", "-i", layout.to_str().unwrap()]);
    assert_eq!(said.lines().count(), 3, "{said}");
}

/// A directory whose list leads out of it is no way to the files of its reader.
#[test]
fn a_list_leads_nowhere_else() {
    let bryo = store();
    let secret = bryo.scratch("secret");
    fs::write(&secret, "{}").unwrap();
    let hostile = bryo.scratch("hostile");
    fs::create_dir(&hostile).unwrap();
    fs::write(
        hostile.join("manifest.json"),
        r#"[{"Config": "../secret", "RepoTags": [], "Layers": ["../secret"]}]"#,
    )
    .unwrap();
    let line = bryo.fails(1, ["load", "-i", hostile.to_str().unwrap()]);
    assert!(line.contains("index.json"), "{line}");
    let tar = bryo.scratch("hostile.tar");
    let made = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&hostile)
        .arg("manifest.json")
        .status();
    assert!(made.unwrap().success());
    let line = bryo.fails(1, ["load", "-i", tar.to_str().unwrap()]);
    assert!(line.contains("../secret: "), "{line}");
}

/// Layers are hashed before anything of an image is known, so there are no more than an image may have.
#[test]
fn a_layer_that_is_listed_many_times_is_hashed_once_if_at_all() {
    let bryo = store();
    let layer = hostile::tar("file", 10 << 20);
    let pack = |times: usize| {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": vec![hostile::digest(&layer); times]},
        });
        let list = serde_json::json!([
            {"Config": "config.json", "RepoTags": ["many:1"], "Layers": vec!["layer.tar"; times]},
        ]);
        let path = bryo.scratch("many.tar");
        let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
        for (name, bytes) in [
            ("layer.tar", layer.as_slice()),
            ("config.json", config.to_string().as_bytes()),
            ("manifest.json", list.to_string().as_bytes()),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        }
        archive.finish().unwrap();
        path
    };
    let line = bryo.fails(1, ["load", "-i", pack(5000).to_str().unwrap()]);
    assert!(
        line.contains("it lists an image of 5000 layers, more than the 1024"),
        "{line}"
    );
    bryo.ok(["load", "-i", pack(100).to_str().unwrap()]);
    let layers = bryo.ok(["image", "inspect", "--format", "{{len .RootFS.Layers}}", "many:1"]);
    assert_eq!(layers.trim(), "100");
}

/// CVE-2020-1702, CVE-2023-25153: documents of any size, in an archive of which nothing is to be believed, are not read into
/// memory; nor is a digest in one a path (CVE-2024-3727).
#[test]
fn documents_of_archives_are_bounded_and_name_no_paths() {
    let bryo = store();
    let hostile = bryo.scratch("hostile");
    fs::create_dir_all(hostile.join("blobs/sha256")).unwrap();
    fs::write(hostile.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    fs::write(bryo.scratch("secret"), "{}").unwrap();
    let load = |what: &str, says: &[&str]| {
        let tar = bryo.scratch("hostile.tar");
        let mut pack = Command::new("tar");
        let done = Done::of(pack.arg("-cf").arg(&tar).arg("-C").arg(&hostile).arg("."));
        assert!(done.status.success(), "{done}");
        for place in [&hostile, &tar] {
            let line = bryo.fails(1, ["load", "-i", place.to_str().unwrap()]);
            assert!(
                line.lines().count() == 1 && says.iter().any(|words| line.contains(words)),
                "{what}: {line}"
            );
        }
        fs::remove_file(tar).unwrap();
    };
    let large = |name: &str| {
        let file = fs::File::create(hostile.join(name)).unwrap();
        file.set_len(64 << 20).unwrap();
    };
    large("index.json");
    load("index.json", &["67108864 bytes is larger"]);
    fs::remove_file(hostile.join("index.json")).unwrap();
    // As Docker's archives have it; of directories only OCI's layout is read.
    large("manifest.json");
    load("manifest.json", &["67108864 bytes is larger", "index.json"]);
    let text = r#"[{"Config": "config.json", "RepoTags": ["a:1"], "Layers": []}]"#;
    fs::write(hostile.join("manifest.json"), text).unwrap();
    large("config.json");
    load("config.json", &["67108864 bytes is larger", "index.json"]);
    fs::remove_file(hostile.join("manifest.json")).unwrap();
    for digest in [
        "sha256:../../../secret",
        "sha256:/etc/passwd",
        "../../secret",
        "sha512:../x",
    ] {
        let index = format!(
            r#"{{"schemaVersion": 2, "manifests": [{{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{digest}", "size": 2}}]}}"#
        );
        fs::write(hostile.join("index.json"), index).unwrap();
        load(digest, &["digest"]);
    }
}
