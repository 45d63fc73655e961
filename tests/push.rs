//! `push`: what comes into a registry, and what is not sent because it is there. skopeo reads it back.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;

use common::hostile::{Answer, Blobs, Hostile, gzip, tar};
use common::{Bryo, Done, Mode, Podman, Registry, has_id_range, skopeo};

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
        "--no-tags",
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
    let archive = bryo.scratch("archive").display().to_string();
    let digest = format!("sha256:{}", "0".repeat(64));
    for (to, why) in [
        ("oci:".into(), "cannot push to oci:: it has no path"),
        (format!("oci:{archive}:a b"), "\"a b\" is no name"),
        (
            format!("docker-archive:{archive}:a@{digest}"),
            "has a digest, no tag",
        ),
        (format!("dir:{archive}"), "dir is no registry"),
        ("docker-daemon:a:1".into(), "`save IMAGE | docker load`"),
        (format!("docker://a:1@{digest}"), "either the tag 1 or the digest"),
    ] {
        let said = bryo.fails(125, ["push", &id, &to]);
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
    for (flags, why) in [
        (
            &["--format=v2s1"][..],
            "--format=v2s1 is not supported: nobody reads it",
        ),
        (
            &["--format=v2s2", "--compression-format=zstd"],
            "--format=v2s2 is not supported with zstd",
        ),
        (&["--sign-by", "me"], "--sign-by is not supported"),
        (
            &["--creds", "a:b"],
            "--creds is not supported: logins are those of",
        ),
        (&["-D"], "--disable-compression is not supported"),
    ] {
        let said = bryo.fails(125, [&["push"], flags, &[&id, "127.0.0.1:1/a"]].concat());
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
}

/// podman with an image that was sent; none where it cannot unpack one.
fn peer(bryo: &Bryo, name: &str) -> Option<Podman> {
    if !has_id_range() {
        println!("not compared: podman cannot unpack images with one id");
        return None;
    }
    let podman = Podman::beside(bryo);
    podman.pull(name);
    Some(podman)
}

/// How podman's push of these words ends.
fn pushes(podman: &Podman, words: &[&str]) -> Done {
    let mut command = podman.command();
    Done::of(command.args(["push", "-q", "--tls-verify=false"]).args(words))
}

/// The manifest gets no tag. It must be that one.
#[test]
fn an_image_is_sent_by_its_digest() {
    let (bryo, id) = built();
    let (_storage, registry) = writable();
    let name = registry.image("mine:1");
    bryo.ok(["push", "-q", &id, &name]);
    let sent = digest(&name);
    let at = |repository: &str, digest: &str| format!("{}/{repository}@{digest}", registry.address());
    let elsewhere = at("other", &sent);
    let said = bryo.ok(["push", &id, &format!("docker://{elsewhere}")]);
    assert!(said.contains(&format!("\ndigest: {sent} size: ")), "{said}");
    assert_eq!(digest(&elsewhere), sent);
    let tags = |repository: &str| {
        let place = format!("docker://{}/{repository}", registry.address());
        let done = skopeo(["list-tags", "--tls-verify=false", &place]);
        (done.status.success(), done.stdout.contains("\"1\""))
    };
    assert_eq!(tags("mine"), (true, true));
    assert!(!tags("other").1);
    // By the name that it came by.
    let other = Bryo::new();
    other.ok(["pull", "-q", &elsewhere]);
    assert!(other.ok(["push", &elsewhere]).contains(&sent));

    let wrong = format!("sha256:{}", "0".repeat(64));
    let line = bryo.fails(1, ["push", "-q", &id, &at("wrong", &wrong)]);
    let expected = format!(
        "bryo: cannot push to {}: the image's manifest is {sent} there",
        at("wrong", &wrong)
    );
    assert!(line.starts_with(&expected), "{line}");
    let done = skopeo([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{}", at("wrong", &sent)),
    ]);
    assert!(!done.status.success(), "{done}");
    // skopeo does the same. (podman 4.3 pushes by a digest only what it has in the form of the registry.)
    let copied = |to: &str| {
        let (from, to) = (format!("docker://{name}"), format!("docker://{to}"));
        let flags = ["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo([&flags[..], &[&from, &to]].concat())
    };
    let done = copied(&at("beside", &sent));
    assert!(done.status.success(), "{done}");
    assert_eq!(digest(&at("beside", &sent)), sent);
    assert!(!copied(&at("wrong", &wrong)).status.success());
}

/// `--digestfile`: as podman's, the digest and nothing behind it.
#[test]
fn a_digest_is_written_to_a_file() {
    let (bryo, id) = built();
    let (_storage, registry) = writable();
    let [own, peers, refused] = ["own:1", "peers:1", "refused:1"].map(|name| registry.image(name));
    let file = bryo.scratch("digest");
    let to = file.to_str().unwrap();
    bryo.ok(["push", "-q", "--digestfile", to, &id, &own]);
    assert_eq!(fs::read_to_string(&file).unwrap(), digest(&own));
    if let Some(podman) = peer(&bryo, &own) {
        let done = pushes(&podman, &["--digestfile", to, &own, &peers]);
        assert!(done.status.success(), "{done}");
        assert_eq!(fs::read_to_string(&file).unwrap(), digest(&peers));
    }
    // Of nothing that was not sent.
    fs::remove_file(&file).unwrap();
    drop(registry);
    bryo.fails(1, ["push", "-q", "--digestfile", to, &id, &refused]);
    assert!(!file.exists());
}

#[test]
fn all_tags_of_a_repository_are_sent() {
    let (bryo, id) = built();
    let (_storage, registry) = writable();
    let repository = format!("{}/many", registry.address());
    for tag in ["one", "two"] {
        bryo.ok(["tag", &id, &format!("{repository}:{tag}")]);
    }
    bryo.ok(["tag", &id, &format!("{}/other:three", registry.address())]);
    let said = bryo.ok(["push", "-a", &repository]);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("digest: ")).collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("one: ") && lines[1].starts_with("two: "),
        "{said}"
    );
    assert_eq!(said.matches("The push refers to").count(), 1, "{said}");
    let sent = digest(&format!("{repository}:one"));
    assert_eq!(digest(&format!("{repository}:two")), sent);
    assert_eq!(bryo.ok(["push", "-q", "--all-tags", &repository]), "");
    let line = bryo.fails(125, ["push", "-a", &format!("{repository}:one")]);
    assert_eq!(line, "bryo: tag can't be used with --all-tags/-a\n");
    let line = bryo.fails(1, ["push", "-a", &format!("{repository}-none")]);
    assert!(line.contains("does not exist locally"), "{line}");
}

/// `--format`: the same layers and config under the other family's names, as podman has them.
#[test]
fn a_manifest_has_the_format_that_is_asked_for() {
    let (bryo, id) = built();
    let (_storage, registry) = writable();
    let [oci, docker, back, peers] =
        ["oci:1", "docker:1", "back:1", "peers:1"].map(|name| registry.image(name));
    bryo.ok(["push", "-q", &id, &oci]);
    bryo.ok(["push", "-q", "--format=v2s2", &id, &docker]);
    let kinds = |name: &str| {
        let manifest = manifest(name);
        let of = |part: &serde_json::Value| part["mediaType"].as_str().unwrap_or_default().to_owned();
        let layers = manifest["layers"].as_array().unwrap().iter();
        [of(&manifest), of(&manifest["config"])]
            .into_iter()
            .chain(layers.map(of))
            .collect::<Vec<_>>()
    };
    if let Some(podman) = peer(&bryo, &oci) {
        let done = pushes(&podman, &["--format=v2s2", &oci, &peers]);
        assert!(done.status.success(), "{done}");
        assert_eq!(kinds(&docker), kinds(&peers));
    }
    assert!(kinds(&docker).iter().all(|kind| kind.contains("docker")));
    assert!(kinds(&oci).iter().all(|kind| kind.contains("oci")));
    // What came so is sent so, unless it is to be otherwise.
    let other = Bryo::new();
    other.ok(["pull", "-q", &docker]);
    other.ok(["push", "-q", &docker, &registry.image("again:1")]);
    assert_eq!(digest(&registry.image("again:1")), digest(&docker));
    other.ok(["push", "-q", "-f", "oci", &docker, &back]);
    assert_eq!(kinds(&back), kinds(&oci));
    assert_eq!(other.sh(&docker, "cat /made"), "made\n");
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

/// CVE-2020-15157, the other way: where the registry has its uploads taken, nobody is shown its login.
#[test]
fn a_login_is_shown_to_the_registry_alone() {
    // user:secret
    const LOGIN: &str = "Basic dXNlcjpzZWNyZXQ=";
    let (bryo, id) = built();
    // It asks for a login, too, which is not its to have.
    let elsewhere = Hostile::serve(|request| match request.path.contains("/open") {
        true => Answer::new(201, ""),
        false => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    for (place, is_taken) in [("/open", true), ("/closed", false)] {
        let target = format!("http://{}{place}", elsewhere.address());
        let registry = Hostile::serve(move |request| {
            if request.header("authorization") != Some(LOGIN) {
                return Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"");
            }
            match request.method.as_str() {
                "POST" => Answer::new(202, "").header("Location", &target),
                "PUT" => Answer::new(201, ""),
                _ => Answer::new(404, ""),
            }
        });
        let logins = bryo.scratch("auth.json");
        let host = registry.address();
        let text = format!(r#"{{"auths": {{"{host}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#);
        fs::write(&logins, text).unwrap();
        let mut push = bryo.command(["push", "-q", &id, &format!("{host}/mine:1")]);
        let done = Done::of(push.env("REGISTRY_AUTH_FILE", logins));
        assert_eq!(done.status.success(), is_taken, "{done}");
        let sent = elsewhere.seen(place);
        assert!(
            !sent.is_empty()
                && sent
                    .iter()
                    .all(|request| request.header("authorization").is_none()),
            "{sent:?}"
        );
        assert!(!registry.seen("").is_empty());
    }
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

/// A manifest may name any blob for a layer that its reader has, and that is not fetched then.
#[test]
fn a_blob_that_nobody_hashed_is_never_pushed_for_a_layer() {
    let (dir, (_storage, registry)) = (tempfile::tempdir().unwrap(), writable());
    let whole = Blobs::small(1000);
    // A push tries what it knows in the digests' order.
    let others = (1..).map(|size| gzip(&tar("other", size)));
    let mut before = others.filter(|blob| common::hostile::digest(blob) < whole.layer);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": whole.diff_ids},
    });
    let false_layer = (before.next().unwrap(), whole.diff_ids[0].clone());
    let hostile = Blobs::with_config(serde_json::to_vec(&config).unwrap(), &[false_layer]);
    for (name, blobs) in [("whole", &whole), ("hostile", &hostile)] {
        let layout = dir.path().join(name);
        blobs.write_layout(&layout, "x");
        let (from, to) = (format!("oci:{}:x", layout.display()), registry.image(name));
        let copy = ["copy", "--preserve-digests", "--dest-tls-verify=false"];
        let done = skopeo(copy.iter().chain(&[from.as_str(), &format!("docker://{to}")]));
        assert!(done.status.success(), "{done}");
    }
    let bryo = Bryo::new();
    bryo.ok(["pull", "-q", &registry.image("whole")]);
    bryo.ok(["pull", "-q", &registry.image("hostile")]);
    let mine = registry.image("mine:1");
    let said = bryo.ok(["push", &registry.image("whole"), &mine]);
    assert!(said.contains("Mounted from whole"), "{said}");
    Bryo::new().ok(["pull", "-q", &mine]);
}
