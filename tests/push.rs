//! `push`: what comes into a registry, and what is not sent because it is there. skopeo reads it back.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;

use common::hostile::{Answer, Hostile};
use common::{Bryo, Mode, Registry, skopeo};

/// A registry that takes pushes, with its storage.
fn writable() -> (tempfile::TempDir, Registry) {
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    (storage, registry)
}

/// An image of two layers above busybox's, built here.
fn built() -> (Bryo, String) {
    let (bryo, base) = Bryo::with_image("busybox");
    let context = bryo.scratch("context");
    fs::create_dir(&context).unwrap();
    let text = format!("FROM {base}\nRUN echo made > /made\nCOPY Dockerfile /\nLABEL a=b\n");
    fs::write(context.join("Dockerfile"), text).unwrap();
    let id = bryo.ok(["build", "-q", context.to_str().unwrap()]);
    (bryo, id.trim().to_owned())
}

fn manifest(image: &str) -> serde_json::Value {
    let done = skopeo([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{image}"),
    ]);
    assert!(done.status.success(), "{done}");
    serde_json::from_str(&done.stdout).unwrap()
}

fn digest(image: &str) -> String {
    let format = "{{.Digest}}";
    let done = skopeo([
        "inspect",
        "--format",
        format,
        "--tls-verify=false",
        &format!("docker://{image}"),
    ]);
    assert!(done.status.success(), "{done}");
    done.stdout.trim().to_owned()
}

#[test]
fn what_was_built_is_read_back_whole() {
    let (bryo, id) = built();
    let (_storage, registry) = writable();
    let name = registry.image("mine:1");
    let said = bryo.ok(["push", &id, &name]);
    let (repository, _) = name.rsplit_once(':').unwrap();
    assert!(
        said.starts_with(&format!("The push refers to repository [{repository}]\n")),
        "{said}"
    );
    assert_eq!(said.matches(": Pushed\n").count(), 3, "{said}");
    let told = digest(&name);
    assert!(said.contains(&format!("1: digest: {told} size: ")), "{said}");

    // skopeo checks every digest on the way; the diff ids are those of the config.
    let copy = bryo.scratch("copy");
    let (from, to) = (format!("docker://{name}"), format!("oci:{}:x", copy.display()));
    let done = skopeo(["copy", "--src-tls-verify=false", &from, &to]);
    assert!(done.status.success(), "{done}");
    assert_eq!(manifest(&name)["config"]["digest"], id.as_str());

    // Another store has the same image, and runs it.
    let other = Bryo::new();
    other.ok(["pull", "-q", &name]);
    assert_eq!(other.ok(["images", "-q", "--no-trunc"]).trim(), id);
    assert_eq!(other.sh(&name, "cat /made"), "made\n");
}

#[test]
fn what_is_there_is_not_sent_again() {
    let (bryo, id) = built();
    let (_storage, registry) = writable();
    let name = registry.image("mine:1");
    bryo.ok(["push", &id, &name]);
    let before = digest(&name);
    let again = bryo.ok(["push", &id, &name]);
    assert_eq!(again.matches(": Layer already exists\n").count(), 3, "{again}");
    let elsewhere = registry.image("other:2");
    let said = bryo.ok(["push", &id, &elsewhere]);
    assert_eq!(said.matches(": Mounted from mine\n").count(), 3, "{said}");
    assert_eq!(digest(&elsewhere), before, "compressed alike");
    assert_eq!(bryo.ok(["push", "-q", &id, &elsewhere]), "");
}

#[test]
fn another_machine_compresses_to_the_same_bytes() {
    let (bryo, id) = built();
    let ((_one, first), (_two, second)) = (writable(), writable());
    let names = [first.image("a:1"), second.image("a:1")];
    bryo.ok(["push", "-q", &id, &names[0]]);
    for entry in fs::read_dir(bryo.root().join("layers")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".forms.json") {
            fs::remove_file(path).unwrap();
        }
    }
    bryo.ok(["push", "-q", &id, &names[1]]);
    assert_eq!(digest(&names[0]), digest(&names[1]));
}

#[test]
fn an_image_that_was_pulled_keeps_its_digest_where_its_blobs_are() {
    let (_storage, registry) = writable();
    let shared = Registry::shared();
    for tag in ["latest", "oci", "zstd"] {
        let name = registry.image(&format!("busybox:{tag}"));
        let from = format!("docker://{}", shared.image(&format!("busybox:{tag}")));
        let to = format!("docker://{name}");
        let done = skopeo([
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &from,
            &to,
        ]);
        assert!(done.status.success(), "{done}");
        let bryo = Bryo::new();
        bryo.ok(["pull", "-q", &name]);
        let moved = registry.image(&format!("moved-{tag}:1"));
        let said = bryo.ok(["push", &name, &moved]);
        assert!(said.contains("Mounted from busybox"), "{said}");
        assert_eq!(digest(&moved), digest(&name), "{tag}");
    }
}

#[test]
fn what_cannot_be_sent_is_said_in_a_line() {
    let (bryo, id) = built();
    let said = bryo.fails(1, ["push", "no-such-image"]);
    assert_eq!(
        said,
        "bryo: An image does not exist locally with the tag: no-such-image\n"
    );
    let readonly = Registry::shared();
    let said = bryo.fails(1, ["push", "-q", &id, &readonly.image("mine:1")]);
    assert!(
        said.starts_with("bryo: registry 127.0.0.1:") && said.lines().count() == 1,
        "{said}"
    );
    let closed = Hostile::serve(|_| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""));
    let said = bryo.fails(1, ["push", "-q", &id, &format!("{}/mine:1", closed.address())]);
    assert!(
        said.starts_with("bryo: push access denied for 127.0.0.1:") && said.lines().count() == 1,
        "{said}"
    );
    let by_digest = format!("a@sha256:{}", "0".repeat(64));
    assert!(
        bryo.fails(1, ["push", &id, &by_digest])
            .contains("cannot push a digest reference")
    );
}

/// A registry whose tokens allow what was asked for, which has all blobs, and lets nobody read another repository.
#[test]
fn a_token_that_is_enough_to_look_is_changed_for_one_to_write() {
    let (bryo, id) = built();
    let registry = Hostile::serve(|request| {
        let own = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            let right = if request.path.contains("push") {
                "push"
            } else {
                "pull"
            };
            return Answer::new(200, format!("{{\"token\": \"{right}\"}}"));
        }
        let (wanted, scope) = match request.method.as_str() {
            "HEAD" => ("pull", "repository:mine:pull"),
            _ => ("push", "repository:mine:pull,push"),
        };
        let proof = request.header("authorization").unwrap_or_default();
        if proof != "Bearer push" && proof != format!("Bearer {wanted}") {
            let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"s\",scope=\"{scope}\"");
            return Answer::new(401, "").header("WWW-Authenticate", challenge);
        }
        match request.method.as_str() {
            "HEAD" => Answer::new(200, ""),
            "PUT" if request.path.starts_with("/v2/mine/manifests/") => Answer::new(201, ""),
            _ => Answer::new(404, ""),
        }
    });
    bryo.ok(["push", &id, &format!("{}/mine:1", registry.address())]);
    assert_eq!(
        registry.seen("/v2/mine/manifests/1").len(),
        2,
        "refused, then taken"
    );
}

/// Where a blob may not be read, it cannot be taken from there: it is sent.
#[test]
fn a_refused_mount_is_an_upload() {
    let (bryo, id) = built();
    let registry = Hostile::serve(|request| match (request.method.as_str(), request.path.as_str()) {
        ("HEAD", _) => Answer::new(404, ""),
        ("POST", path) if path.contains("mount=") => Answer::new(403, ""),
        ("POST", _) => Answer::new(202, "").header("Location", "/upload"),
        ("PUT", _) => Answer::new(201, ""),
        _ => Answer::new(404, ""),
    });
    let name = |repository: &str| format!("{}/{repository}:1", registry.address());
    bryo.ok(["push", &id, &name("first")]);
    let said = bryo.ok(["push", &id, &name("second")]);
    assert_eq!(said.matches(": Pushed\n").count(), 3, "{said}");
    assert!(!registry.seen("mount=").is_empty());
}

/// The media types of the layers that a registry's image has.
fn forms(image: &str) -> Vec<String> {
    let manifest = manifest(image);
    let layers = manifest["layers"].as_array().unwrap().iter();
    let types = layers.map(|layer| layer["mediaType"].as_str().unwrap());
    types
        .map(|kind| kind.rsplit('.').next().unwrap().to_owned())
        .collect()
}

#[test]
fn layers_have_the_form_that_is_asked_for() {
    let (bryo, id) = built();
    let (_storage, registry) = writable();
    let [plain, zstd, kept, back] =
        ["plain:1", "zstd:1", "kept:1", "back:1"].map(|name| registry.image(name));
    bryo.ok(["push", &id, &plain]);
    assert_eq!(forms(&plain), ["tar+gzip"; 3]);
    bryo.ok([
        "push",
        "--compression-format=zstd",
        "--compression-level=3",
        &id,
        &zstd,
    ]);
    assert_eq!(forms(&zstd), ["tar+zstd"; 3]);
    // What is there is used, in whatever form, unless one is asked for.
    let said = bryo.ok([
        "push",
        "--compression-format=zstd",
        "--force-compression=false",
        &id,
        &kept,
    ]);
    assert!(!said.contains("Pushed"), "{said}");
    let said = bryo.ok(["push", &id, &back]);
    assert!(!said.contains("Pushed"), "{said}");
    assert_eq!(
        (forms(&back), digest(&back)),
        (vec!["tar+gzip".to_owned(); 3], digest(&plain))
    );
    // Others read it.
    let (other, _) = Bryo::with_image("busybox");
    assert_eq!(other.ok(["run", "--rm", &zstd, "cat", "/made"]), "made\n");
    let to = format!("dir:{}", other.scratch("copied").display());
    let done = skopeo([
        "copy",
        "-q",
        "--src-tls-verify=false",
        &format!("docker://{zstd}"),
        &to,
    ]);
    assert!(done.status.success(), "{done}");
    for (flags, why) in [
        (&["--compression-level=10"][..], "levels of gzip are 0 to 9"),
        (
            &["--compression-format=zstd", "--compression-level=30"],
            "levels of zstd are 0 to 22",
        ),
        (&["--compression-format=zstd:chunked"], "zstd:chunked"),
    ] {
        let said = bryo.fails(125, [&["push"], flags, &[&id, &plain]].concat());
        assert!(said.contains(why), "{said}");
    }
}
