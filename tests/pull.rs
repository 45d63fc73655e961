//! What does `bryo pull` fetch, what does it refuse, and what is left of a pull that failed?

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::hostile::{Answer, Blobs, Hostile, Request, digest, gzip, tar};
use common::{Bryo, Done, Mode, Registry, images};
use sha2::{Digest, Sha256};

/// The store's layers, each hashed and compared with its name; nothing half done lies about.
#[track_caller]
fn layers(bryo: &Bryo) -> BTreeSet<String> {
    let left: Vec<_> = fs::read_dir(bryo.root().join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(bryo.root().join("layers")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            let mut hasher = Sha256::new();
            std::io::copy(&mut fs::File::open(&path).unwrap(), &mut Hasher(&mut hasher)).unwrap();
            let hex: String = hasher
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(path.file_stem().unwrap().to_str(), Some(hex.as_str()));
            assert!(path.with_extension("index").is_file());
            found.insert(format!("sha256:{hex}"));
        }
    }
    found
}

struct Hasher<'a>(&'a mut Sha256);

impl std::io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The diff ids that skopeo reads from an image's config.
fn diff_ids(image: &str) -> BTreeSet<String> {
    let done = common::skopeo([
        "inspect",
        "--config",
        "--tls-verify=false",
        &format!("docker://{image}"),
    ]);
    assert!(done.status.success(), "{done}");
    let config: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Pulls `image` from a registry that answers so; expects exit code 1, one line, and an empty store.
#[track_caller]
fn refused(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    refused_by_name("image", answer)
}

/// The same for `image:TAG` or `image@DIGEST`.
#[track_caller]
fn refused_by_name(name: &str, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    let (bryo, registry) = (Bryo::new(), Hostile::serve(answer));
    let line = bryo.fails(1, ["pull", &format!("{}/{name}", registry.address())]);
    assert!(
        line.starts_with("bryo: ") && line.trim_end().lines().count() == 1,
        "{line}"
    );
    assert_eq!(layers(&bryo), BTreeSet::new());
    assert!(!bryo.root().join("references.json").exists());
    assert_eq!(fs::read_dir(bryo.root().join("blobs/sha256")).unwrap().count(), 0);
    line
}

/// A layer's blob answered by `answer`, everything else as it should be.
fn with_layer(blobs: Blobs, answer: impl Fn(&Request, Vec<u8>) -> Answer) -> impl Fn(&Request) -> Answer {
    move |request| match blobs.is_layer(request) {
        true => answer(request, blobs.blobs[&blobs.layer].clone()),
        false => blobs.answer(request),
    }
}

/// Copies an image with skopeo, which must succeed.
#[track_caller]
fn skopeo(options: &[&str], from: &str, to: &str) {
    let copy = [
        "--insecure-policy",
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ];
    let done = common::skopeo(copy.iter().chain(options).chain(&[from, to]));
    assert!(done.status.success(), "{done}");
}

#[test]
fn every_form_of_an_image_gives_the_layers_of_its_config() {
    let (shared, storage) = (Registry::shared(), tempfile::tempdir().unwrap());
    let registry = Registry::serve(storage.path(), Mode::Writable);
    for name in ["busybox", "odd"] {
        let from = format!("docker://{}", shared.image(name));
        let file = |form: &str| {
            storage
                .path()
                .join(format!("{name}.{form}"))
                .display()
                .to_string()
        };
        let image = |form: &str| format!("{}:{form}", registry.image(name));
        skopeo(
            &["--format", "v2s2"],
            &from,
            &format!("docker://{}", image("v2s2")),
        );
        // By way of a fresh layout and with its digests kept: else skopeo finds the gzip layers and takes those.
        let layout = format!("oci:{}:latest", file("zstd"));
        skopeo(
            &["--dest-compress", "--dest-compress-format", "zstd"],
            &from,
            &layout,
        );
        skopeo(
            &["--preserve-digests"],
            &layout,
            &format!("docker://{}", image("zstd")),
        );
        let plain = format!("docker-archive:{}", file("plain"));
        skopeo(&[], &from, &format!("{plain}:{name}:latest"));
        let bryo = Bryo::new();
        for (source, form) in [
            (image("v2s2"), ".tar.gzip"),
            (image("zstd"), ".tar+zstd"),
            (plain, ".tar"),
        ] {
            // Each fetched by itself, so that none is spared by the one before.
            let alone = Bryo::new();
            alone.ok(["pull", "-q", &source]);
            assert_eq!(layers(&alone), diff_ids(&shared.image(name)), "{source}");
            only_form(&alone, form);
            bryo.ok(["pull", "-q", &source]);
        }
        assert_eq!(layers(&bryo), diff_ids(&shared.image(name)));
        // The others' blobs were not fetched: nobody knows whether they are these layers.
        only_form(&bryo, ".tar.gzip");
    }
}

/// Each layer of the store is known in one form, whose media type ends so.
#[track_caller]
fn only_form(bryo: &Bryo, ending: &str) {
    for layer in layers(bryo) {
        let file = format!("{}.forms.json", &layer[7..]);
        let notes = fs::read(bryo.root().join("layers").join(file)).unwrap();
        let notes: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&notes).unwrap();
        let known: Vec<_> = notes
            .values()
            .map(|form| form["mediaType"].as_str().unwrap())
            .collect();
        assert!(known.len() == 1 && known[0].ends_with(ending), "{known:?}");
    }
}

#[test]
fn the_lines_are_dockers() {
    let blobs = Blobs::small(10);
    let (bryo, registry) = (
        Bryo::new(),
        Hostile::serve({
            let blobs = blobs.clone();
            move |request| blobs.answer(request)
        }),
    );
    let name = format!("{}/team/image", registry.address());
    let (short, manifest) = (&blobs.layer[7..19], digest(&blobs.manifest));
    let lines = |state: &str, status: &str| {
        format!(
            "Using default tag: latest\nlatest: Pulling from team/image\n{short}: Pulling fs layer\n{short}: {state}\n\
             Digest: {manifest}\nStatus: {status} for {name}:latest\n{name}:latest\n"
        )
    };
    assert_eq!(
        bryo.ok(["pull", &name]),
        lines("Pull complete", "Downloaded newer image")
    );
    assert_eq!(
        bryo.ok(["pull", &name]),
        lines("Already exists", "Image is up to date")
    );
    assert_eq!(
        registry.seen(&blobs.layer).len(),
        1,
        "a layer that is there is not fetched"
    );
    assert_eq!(bryo.ok(["pull", "-q", &name]), format!("{name}:latest\n"));
    assert_eq!(
        bryo.ok(["pull", "-q", &format!("{name}@{manifest}")]),
        format!("{name}@{manifest}\n")
    );
    assert_eq!(layers(&bryo), blobs.diff_ids.into_iter().collect());
}

#[test]
fn names_that_are_none_and_options_that_are_not_there_are_refused() {
    let bryo = Bryo::new();
    assert!(
        bryo.fails(1, ["pull", "Debian"])
            .contains("repository name (library/Debian) must be lowercase")
    );
    assert!(
        bryo.fails(1, ["pull", "a b"])
            .contains("invalid reference format")
    );
    assert!(
        bryo.fails(125, ["pull", "-a", "debian"])
            .contains("not supported")
    );
    assert!(
        bryo.fails(125, ["pull", "--platform", "linux", "debian"])
            .contains("not a platform")
    );
}

#[test]
fn the_platform_that_is_asked_for_comes() {
    let (bryo, registry) = (Bryo::new(), Registry::shared());
    let image = registry.image("platforms");
    let made_for = |bryo: &Bryo| {
        let list: serde_json::Value =
            serde_json::from_slice(&fs::read(bryo.root().join("references.json")).unwrap()).unwrap();
        let image = list["images"]
            .as_array()
            .unwrap()
            .iter()
            .find(|i| !i["names"].as_array().unwrap().is_empty());
        let id = image.unwrap()["id"].as_str().unwrap()[7..].to_owned();
        let config = fs::read_to_string(bryo.root().join("blobs/sha256").join(id)).unwrap();
        ["arm64", "amd64"]
            .into_iter()
            .find(|arch| config.contains(&format!("MADE_FOR={arch}")))
            .unwrap()
    };
    bryo.ok(["pull", "-q", &image]);
    assert_eq!(made_for(&bryo), "amd64");
    bryo.ok(["pull", "-q", "--platform", "linux/arm64", &image]);
    assert_eq!(made_for(&bryo), "arm64");
    let line = bryo.fails(1, ["pull", "--platform", "linux/s390x", &image]);
    assert!(
        line.contains("no matching manifest for linux/s390x") && line.contains("linux/arm64"),
        "{line}"
    );
    let line = bryo.fails(
        1,
        ["pull", "--platform", "linux/s390x", &registry.image("busybox")],
    );
    assert!(line.contains("wanted linux/s390x, actual: linux/amd64"), "{line}");
}

#[test]
fn archives_are_read_in_place() {
    let registry = Registry::shared();
    let expected = diff_ids(&registry.image("busybox"));
    let cache = images();
    let at = |name: &str| cache.join(name).display().to_string();
    for (source, name) in [
        (
            format!("docker-archive:{}", at("busybox.docker.tar")),
            "docker.io/library/busybox:latest",
        ),
        (
            format!("docker-archive:{}:busybox", at("busybox.docker.tar")),
            "docker.io/library/busybox:latest",
        ),
        (
            format!("oci-archive:{}", at("busybox.oci.tar")),
            "docker.io/library/busybox:oci",
        ),
        (
            format!("oci:{}:latest", at("busybox.oci")),
            "localhost/busybox:latest",
        ),
    ] {
        let bryo = Bryo::new();
        assert_eq!(bryo.ok(["pull", "-q", &source]), format!("{name}\n"), "{source}");
        assert_eq!(layers(&bryo), expected, "{source}");
    }
    let line = Bryo::new().fails(1, ["pull", &format!("oci:{}:other", at("busybox.oci"))]);
    assert!(
        line.contains("no image \"other\"") && line.contains("latest"),
        "{line}"
    );
    assert!(
        Bryo::new()
            .fails(1, ["pull", "oci-archive:/nowhere.tar"])
            .contains("/nowhere.tar")
    );
}

#[test]
fn an_archive_cut_short_is_refused() {
    let whole = fs::read(images().join("busybox.docker.tar")).unwrap();
    let bryo = Bryo::new();
    fs::create_dir_all(bryo.dir()).unwrap();
    let file = bryo.scratch("cut.tar");
    for length in [0, 100, 1000, whole.len() / 2] {
        fs::write(&file, &whole[..length]).unwrap();
        bryo.fails(1, ["pull", &format!("docker-archive:{}", file.display())]);
        assert_eq!(layers(&bryo), BTreeSet::new());
    }
}

#[test]
fn content_that_is_not_what_its_name_says_is_refused() {
    let wrong = refused(with_layer(Blobs::small(100_000), |_, mut body| {
        let middle = body.len() / 2;
        body[middle] ^= 1;
        Answer::new(200, body)
    }));
    assert!(wrong.contains("digest") || wrong.contains("damaged"), "{wrong}");
    let longer = refused(with_layer(Blobs::small(10), |_, body| {
        Answer::new(200, [body, vec![0]].concat())
    }));
    assert!(longer.contains("bytes instead of the"), "{longer}");
    let manifest = refused(|_| Answer::new(200, "not JSON"));
    assert!(manifest.contains("manifest is not valid JSON"), "{manifest}");
    let config = Blobs::with_config(b"not JSON".to_vec(), &[]);
    assert!(refused(move |request| config.answer(request)).contains("config is not valid JSON"));
    let tar = tar("file", 10);
    let other = Blobs::of(&[(gzip(&tar), digest(b"something else"))]);
    let line = refused(move |request| other.answer(request));
    assert!(
        line.contains("diff id") && line.contains("whoever made it"),
        "{line}"
    );
    let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    assert!(refused(move |_| Answer::new(200, both)).contains("ambiguous"));
}

#[test]
fn a_manifest_of_other_bytes_than_its_digest_is_refused() {
    let blobs = Blobs::small(10);
    let other = [blobs.manifest.as_slice(), b"\n"].concat();
    let (asked, found) = (digest(&blobs.manifest), digest(&other));
    let line = refused_by_name(&format!("image@{asked}"), {
        let mut blobs = blobs.clone();
        blobs.manifest = other.clone();
        move |request| blobs.answer(request)
    });
    assert!(
        line.contains(&format!("image@{asked}: its digest is {found}")),
        "{line}"
    );
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": asked, "size": blobs.manifest.len(),
        "platform": {"architecture": "amd64", "os": "linux"},
    }]});
    let line = refused(move |request| match request.path.contains("/manifests/sha256:") {
        true => Answer::new(200, other.clone()),
        false if request.path.contains("/manifests/") => Answer::new(200, index.to_string()),
        false => blobs.answer(request),
    });
    assert!(
        line.contains(&format!("image@{asked}: its digest is {found}")),
        "{line}"
    );
}

#[test]
fn a_config_of_its_size_but_of_other_bytes_is_refused() {
    let mut blobs = Blobs::small(10);
    let (name, config) = blobs
        .blobs
        .iter_mut()
        .find(|(_, blob)| blob.starts_with(b"{"))
        .unwrap();
    let wanted = name.clone();
    // As good a config as the one before.
    *config = String::from_utf8_lossy(config).replace("amd64", "arm64").into();
    let line = refused(move |request| blobs.answer(request));
    assert!(
        line.contains(&format!("blob {wanted} has another content")),
        "{line}"
    );
}

#[test]
fn an_uncompressed_layer_with_a_flipped_bit_is_refused_by_its_digest() {
    let tar = tar("file", 100_000);
    // Within the file's data: it is a good tar still.
    let mut other = tar.clone();
    other[50_000] ^= 1;
    let found = digest(&other);
    let blobs = Blobs::of(&[(tar.clone(), digest(&tar))]);
    let line = refused(with_layer(blobs, move |_, _| Answer::new(200, other.clone())));
    let wanted = format!("blob {} has another content: its digest is {found}", digest(&tar));
    assert!(line.contains(&wanted), "{line}");
}

#[test]
fn layers_that_are_truncated_or_no_tar_are_refused() {
    let tar = tar("file", 100_000);
    let id = digest(&tar);
    let cut = gzip(&tar)[..50_000].to_vec();
    let cut = Blobs::of(&[(cut, id.clone())]);
    assert!(refused(move |request| cut.answer(request)).contains("gzip data is truncated"));
    let garbage = Blobs::of(&[([gzip(&tar), b"garbage behind it".to_vec()].concat(), id)]);
    assert!(refused(move |request| garbage.answer(request)).contains("gzip data is damaged"));
    let no_tar = Blobs::of(&[(vec![7; 5000], digest(&[7; 5000]))]);
    refused(move |request| no_tar.answer(request));
    let half = tar[..60_000].to_vec();
    let half = Blobs::of(&[(gzip(&half), digest(&half))]);
    refused(move |request| half.answer(request));
}

/// CVE-2021-20291: whoever unpacks gives up in the middle, while there is more to come than all pipes hold, of this layer and
/// of others.
#[test]
fn a_bad_layer_among_many_ends_the_pull() {
    const LARGE: usize = 6 << 20;
    let no_tar = tar("inner", LARGE)[512..].to_vec();
    for place in 0..4 {
        let mut layers: Vec<_> = (0..4)
            .map(|number| tar(&format!("file-{number}"), LARGE))
            .map(|tar| (gzip(&tar), digest(&tar)))
            .collect();
        layers[place] = (gzip(&no_tar), digest(&no_tar));
        let blobs = Blobs::of(&layers);
        let (bryo, registry) = (Bryo::new(), Hostile::serve(move |request| blobs.answer(request)));
        let line = bryo.fails(1, ["pull", &format!("{}/image", registry.address())]);
        assert!(!bryo.root().join("references.json").exists(), "{place}: {line}");
        assert!(line.contains("not a tar header"), "{place}: {line}");
    }
}

#[test]
fn a_manifest_without_end_is_not_read_to_its_end() {
    let line = refused(|_| Answer::new(200, vec![b' '; 1000]).claiming(100 << 20));
    assert!(line.contains("manifest of 104857600 bytes is larger"), "{line}");
    // 100 MB and no word of it before: four megabytes and a byte are read.
    let line = refused(|_| Answer::new(200, vec![b' '; 100 << 20]).without_length());
    assert!(line.contains("manifest of 4194305 bytes is larger"), "{line}");
}

#[test]
fn sizes_that_are_not_true_are_refused() {
    const HUGE: u64 = 10 << 30;
    let line = refused(with_layer(Blobs::small(10), |_, body| {
        Answer::new(200, body).claiming(HUGE)
    }));
    assert!(
        line.contains("10737418240 bytes instead of the") && line.contains("that the manifest says"),
        "{line}"
    );
    let claims = |part: &'static str| {
        let mut blobs = Blobs::small(10);
        let mut manifest: serde_json::Value = serde_json::from_slice(&blobs.manifest).unwrap();
        *manifest.pointer_mut(part).unwrap() = HUGE.into();
        blobs.manifest = manifest.to_string().into();
        refused(move |request| blobs.answer(request))
    };
    let line = claims("/layers/0/size");
    assert!(
        line.contains("bytes instead of the 10737418240 that the manifest says"),
        "{line}"
    );
    let line = claims("/config/size");
    assert!(line.contains("config of 10737418240 bytes is larger"), "{line}");
}

#[test]
fn redirects_without_end_are_given_up() {
    let registry = Hostile::serve(|request| Answer::new(307, "").header("Location", request.path.clone()));
    let bryo = Bryo::new();
    let line = bryo.fails(1, ["pull", &format!("{}/image", registry.address())]);
    assert!(line.contains("too many redirects"), "{line}");
    assert!(registry.seen("").len() < 15, "{}", registry.seen("").len());
    assert_eq!(layers(&bryo), BTreeSet::new());
}

#[test]
fn a_registry_that_fails_is_named_with_its_words() {
    let line = refused(|_| Answer::new(500, r#"{"errors":[{"message":"disk on fire"}]}"#));
    assert!(
        line.contains("answered 500") && line.contains("disk on fire") && line.contains("try again later"),
        "{line}"
    );
    let line = refused(|_| Answer::new(404, ""));
    assert!(
        line.contains("manifest for") && line.contains("not found"),
        "{line}"
    );
    let line = refused(|_| Answer::new(403, ""));
    assert!(line.contains("pull access denied"), "{line}");
    let line = refused(with_layer(Blobs::small(10), |_, _| Answer::new(404, "")));
    assert!(
        line.contains("blob sha256:") && line.contains("not found"),
        "{line}"
    );
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let line = Bryo::new().fails(1, ["pull", &format!("{nobody}/image")]);
    assert!(line.contains("connection refused"), "{line}");
    let line = Bryo::new().fails(1, ["pull", "no-such-host.invalid/image"]);
    assert!(line.contains("no such host"), "{line}");
}

#[test]
fn failures_that_pass_are_waited_for() {
    let blobs = Blobs::small(10);
    let failures = AtomicUsize::new(0);
    let registry = Hostile::serve(move |request| match failures.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::new(503, ""),
        1 => Answer::new(429, "").header("Retry-After", "0"),
        _ => blobs.answer(request),
    });
    Bryo::new().ok(["pull", "-q", &format!("{}/image", registry.address())]);
}

#[test]
fn a_registry_that_says_nothing_is_given_up() {
    let bryo = Bryo::new();
    let slow = Blobs::small(100_000);
    let registry = Hostile::serve(with_layer(slow, |_, body| {
        Answer::new(200, body).waiting(Duration::from_secs(60))
    }));
    let mut command = bryo.command(["pull", &format!("{}/image", registry.address())]);
    let done = Done::of(command.env("BRYO_NETWORK_TIMEOUT", "1"));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains("broke off"), "{done}");
    assert_eq!(layers(&bryo), BTreeSet::new());
}

/// As Docker writes `FROM scratch` with nothing but settings.
#[test]
fn an_image_without_layers_is_pulled_and_built_on() {
    for diff_ids in ["", r#","diff_ids":null"#] {
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"a":"b"}}}},"rootfs":{{"type":"layers"{diff_ids}}}}}"#
        );
        let blobs = Blobs::with_config(config.into_bytes(), &[]);
        let registry = Hostile::serve(move |request| blobs.answer(request));
        let (bryo, image) = (Bryo::new(), format!("{}/image", registry.address()));
        bryo.ok(["pull", "-q", &image]);
        let format = "{{.Config.Labels.a}} {{len .RootFS.Layers}}";
        assert_eq!(bryo.ok(["image", "inspect", "--format", format, &image]), "b 0\n");
        let context = bryo.scratch("context");
        fs::create_dir(&context).unwrap();
        fs::write(
            context.join("Dockerfile"),
            format!("FROM {image}\nCOPY Dockerfile /\n"),
        )
        .unwrap();
        bryo.ok(["build", "-q", "-t", "made", context.to_str().unwrap()]);
        assert_eq!(bryo.ok(["image", "inspect", "--format", format, "made"]), "b 1\n");
        bryo.ok(["store", "check"]);
    }
}

/// A byte now and then is as good as none, whatever is asked for, and whoever is.
#[test]
fn a_registry_that_drips_is_given_up() {
    let drip = |answer: Answer| answer.dripping(Duration::from_millis(500));
    let wants_login = |request: &Request| {
        let realm = format!("http://{}/token", request.header("host").unwrap());
        Answer::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
    };
    let blobs = Blobs::small(1000);
    type Answering = Box<dyn Fn(&Blobs, &Request) -> Answer + Send + Sync>;
    let what: [(&str, Answering); 5] = [
        (
            "/manifests/",
            Box::new(move |blobs, request| drip(blobs.answer(request))),
        ),
        // What is said beside a refusal.
        (
            "/manifests/",
            Box::new(move |_, _| drip(Answer::new(403, [b'x'; 1000]))),
        ),
        (
            "/token",
            Box::new(move |_, request| match request.path.starts_with("/token") {
                true => drip(Answer::new(200, format!("{:1000}", r#"{"token": "good"}"#))),
                false => wants_login(request),
            }),
        ),
        (
            "/blobs/",
            Box::new(move |blobs, request| match blobs.is_layer(request) {
                true => drip(blobs.answer(request)),
                false => blobs.answer(request),
            }),
        ),
        // The part that was there before, of a server that knows no ranges.
        (
            "/blobs/",
            Box::new({
                let first = AtomicUsize::new(0);
                move |blobs, request| match blobs.is_layer(request) {
                    true if first.fetch_add(1, Ordering::SeqCst) == 0 => blobs.answer(request).cut_after(900),
                    true => drip(blobs.answer(request)),
                    false => blobs.answer(request),
                }
            }),
        ),
    ];
    std::thread::scope(|threads| {
        for (path, answer) in what {
            let blobs = blobs.clone();
            threads.spawn(move || {
                let registry = Hostile::serve(move |request| answer(&blobs, request));
                let bryo = Bryo::new();
                let mut command = bryo.command(["pull", &format!("{}/image", registry.address())]);
                let done = Done::of(command.env("BRYO_NETWORK_TIMEOUT", "1"));
                assert_eq!(done.status.code(), Some(1), "{path}: {done}");
                let is_said = done.stderr.contains("too slow") || done.stderr.contains("pull access denied");
                assert!(is_said, "{path}: {done}");
                assert!(!registry.seen(path).is_empty());
                assert_eq!(layers(&bryo), BTreeSet::new());
            });
        }
    });
}

/// Cuts the first three connections to the layer; `resumes` says whether the server knows ranges.
fn broken_off(resumes: bool) -> Vec<Request> {
    let blobs = Blobs::small(4 << 20);
    let (layer, expected) = (blobs.layer.clone(), blobs.diff_ids.iter().cloned().collect());
    let times = AtomicUsize::new(0);
    let registry = Hostile::serve(with_layer(blobs, move |request, body| {
        let total = body.len();
        let range = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let first = range
            .filter(|_| resumes)
            .map(|first| first.parse::<usize>().unwrap());
        let answer = match first {
            Some(first) => {
                let range = format!("bytes {first}-{}/{total}", total - 1);
                Answer::new(206, &body[first..]).header("Content-Range", range)
            }
            None => Answer::new(200, body),
        };
        match times.fetch_add(1, Ordering::SeqCst) {
            time @ 0..3 => answer.cut_after((1 << 20) * (time + 1)),
            _ => answer,
        }
    }));
    let bryo = Bryo::new();
    bryo.ok(["pull", "-q", &format!("{}/image", registry.address())]);
    assert_eq!(layers(&bryo), expected);
    registry.seen(&layer)
}

#[test]
fn a_blob_that_breaks_off_is_taken_up_where_it_broke() {
    let requests = broken_off(true);
    assert!(requests.len() > 1);
    assert!(
        requests[1..]
            .iter()
            .all(|request| request.header("range").is_some())
    );
}

#[test]
fn a_blob_that_breaks_off_is_begun_again_where_ranges_are_unknown() {
    assert!(broken_off(false).len() > 1);
}

#[test]
fn an_image_whose_config_is_damaged_or_lost_is_repaired_by_a_pull() {
    let registry = Registry::shared();
    let (bryo, image) = (Bryo::new(), registry.image("busybox"));
    bryo.ok(["pull", "-q", &image]);
    let id = bryo
        .ok(["images", "-q", "--no-trunc"])
        .trim()
        .replace("sha256:", "");
    let config = bryo.root().join("blobs/sha256").join(&id);
    let whole = fs::read(&config).unwrap();
    fs::write(&config, "damaged").unwrap();
    bryo.ok(["pull", "-q", &image]);
    assert_eq!(fs::read(&config).unwrap(), whole);
    fs::remove_file(&config).unwrap();
    bryo.ok(["pull", "-q", &image]);
    assert_eq!(fs::read(&config).unwrap(), whole);
}

#[test]
fn names_without_a_registry_come_from_the_mirrors_of_docker_hub() {
    let blobs = Blobs::small(10);
    let broken = Hostile::serve(|_| Answer::new(404, ""));
    let mirror = Hostile::serve(move |request| blobs.answer(request));
    let bryo = Bryo::new();
    fs::create_dir_all(bryo.dir()).unwrap();
    let settings = bryo.scratch("registries.toml");
    let text = format!(
        "[[registry]]\nprefix = 'docker.io'\n[[registry.mirror]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}/hub'\n",
        broken.address(),
        mirror.address()
    );
    fs::write(&settings, text).unwrap();
    let done = Done::of(
        bryo.command(["pull", "-q", "nginx"])
            .env("BRYO_REGISTRIES", &settings),
    );
    assert_eq!(done.stdout, "docker.io/library/nginx:latest\n", "{done}");
    assert_eq!(broken.seen("/v2/library/nginx/manifests/latest").len(), 1);
    assert_eq!(mirror.seen("/v2/hub/library/nginx/manifests/latest").len(), 1);
}

#[test]
fn two_pulls_of_one_layer_fetch_it_once() {
    let blobs = Blobs::small(1 << 20);
    let layer = blobs.layer.clone();
    let registry = Hostile::serve(with_layer(blobs, |_, body| {
        Answer::new(200, body).waiting(Duration::from_secs(1))
    }));
    let bryo = Bryo::new();
    let image = format!("{}/image", registry.address());
    let pull = || Done::of(&mut bryo.command(["pull", "-q", &image]));
    std::thread::scope(|threads| {
        let all: Vec<_> = (0..3).map(|_| threads.spawn(pull)).collect();
        for done in all {
            let done = done.join().unwrap();
            assert!(done.status.success(), "{done}");
        }
    });
    assert_eq!(registry.seen(&layer).len(), 1);
}

/// Two images of which each has a layer of its own and one that the other has as well.
fn with_one_layer_in_common() -> [Blobs; 2] {
    let layer = |name: &str, size: usize| {
        let tar = tar(name, size);
        (gzip(&tar), digest(&tar))
    };
    let common = layer("common", 1 << 20);
    [("one", 1000), ("two", 2000)].map(|(name, size)| Blobs::of(&[common.clone(), layer(name, size)]))
}

#[test]
fn two_pulls_at_once_fetch_what_both_have_once() {
    let images = with_one_layer_in_common();
    let all: BTreeSet<String> = images.iter().flat_map(|image| image.diff_ids.clone()).collect();
    let layers_of: BTreeSet<String> = images
        .iter()
        .flat_map(|image| image.blobs.iter().filter(|(_, blob)| !blob.starts_with(b"{")))
        .map(|(digest, _)| digest.clone())
        .collect();
    let registry = Hostile::serve(move |request| {
        let image = &images[usize::from(request.path.starts_with("/v2/two/"))];
        let answer = image.answer(request);
        match image.is_layer(request) {
            true => answer.waiting(Duration::from_secs(1)),
            false => answer,
        }
    });
    let bryo = Bryo::new();
    std::thread::scope(|threads| {
        for name in ["one", "two"] {
            let mut pull = bryo.command(["pull", "-q", &format!("{}/{name}", registry.address())]);
            threads.spawn(move || {
                let done = Done::of(&mut pull);
                assert!(done.status.success(), "{done}");
            });
        }
    });
    assert_eq!(layers(&bryo), all);
    assert_eq!(layers_of.len(), 3);
    for blob in layers_of {
        assert_eq!(registry.seen(&blob).len(), 1, "{blob}");
    }
}

#[test]
fn a_pull_that_is_killed_does_not_hold_up_who_waits_for_its_layer() {
    let [one, two] = with_one_layer_in_common();
    let (common, expected) = (one.layer.clone(), two.diff_ids.iter().cloned().collect());
    let asked = AtomicUsize::new(0);
    let registry = Hostile::serve(move |request| {
        let image = if request.path.starts_with("/v2/two/") {
            &two
        } else {
            &one
        };
        let answer = image.answer(request);
        // Who asks first would wait for an hour.
        match image.is_layer(request) && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            true => answer.waiting(Duration::from_secs(3600)),
            false => answer,
        }
    });
    let bryo = Bryo::new();
    let pull = |name: &str| {
        let mut command = bryo.command(["pull", &format!("{}/{name}", registry.address())]);
        command.env("BRYO_NETWORK_TIMEOUT", "3600");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut first = pull("one").spawn().unwrap();
    common::until("the first pull's layer", || registry.seen(&common).len() == 1);
    let mut second = pull("two").spawn().unwrap();
    // Its own layer is there, and only the other's is missing.
    common::until("the second pull's own layer", || {
        let entries = fs::read_dir(bryo.root().join("layers")).unwrap();
        let tars = entries.filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension().is_some_and(|extension| extension == "tar")
        });
        tars.count() >= 2
    });
    assert!(second.try_wait().unwrap().is_none(), "it waits for the first");
    assert_eq!(registry.seen(&common).len(), 1);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(registry.seen(&common).len(), 2);
    bryo.ok(["image", "prune", "-f"]);
    assert_eq!(layers(&bryo), expected);
}

#[test]
fn a_pull_that_fails_waits_for_nobody_elses_layer() {
    let [one, two] = with_one_layer_in_common();
    let (common, own) = (one.layer.clone(), digest(&gzip(&tar("two", 2000))));
    let (answered, is_one_asked) = (own.clone(), Arc::new(AtomicBool::new(false)));
    let asked = is_one_asked.clone();
    let registry = Hostile::serve(move |request| {
        let image = if request.path.starts_with("/v2/two/") {
            &two
        } else {
            &one
        };
        let answer = image.answer(request);
        if image.is_layer(request) {
            asked.store(true, Ordering::SeqCst);
            return answer.waiting(Duration::from_secs(3600));
        }
        match request.path.ends_with(&answered) {
            true => Answer::new(200, vec![0; image.blobs[&answered].len()]),
            false => answer,
        }
    });
    let bryo = Bryo::new();
    let pull = |name: &str| {
        let mut command = bryo.command(["pull", &format!("{}/{name}", registry.address())]);
        command.env("BRYO_NETWORK_TIMEOUT", "3600");
        command
    };
    let mut first = pull("one")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    common::until("the first pull's layer", || is_one_asked.load(Ordering::SeqCst));
    let done = Done::of(&mut pull("two"));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains(&own), "{done}");
    assert!(first.try_wait().unwrap().is_none(), "the first still waits");
    assert_eq!(registry.seen(&common).len(), 1);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn documents_that_break_off_are_asked_for_again() {
    let blobs = Blobs::small(10);
    let times = AtomicUsize::new(0);
    let registry = Hostile::serve(move |request| {
        let answer = blobs.answer(request);
        // The manifest twice, then the config.
        match blobs.is_layer(request) || times.fetch_add(1, Ordering::SeqCst) % 4 == 2 {
            true => answer,
            false => answer.cut_after(20),
        }
    });
    Bryo::new().ok(["pull", "-q", &format!("{}/image", registry.address())]);
    assert!(registry.seen("/manifests/").len() == 3, "{:?}", registry.seen(""));
}

#[test]
fn a_token_server_that_is_busy_is_asked_again_when_it_says() {
    let blobs = Blobs::small(10);
    let times = AtomicUsize::new(0);
    let registry = Hostile::serve(move |request| {
        if request.path.starts_with("/token") {
            return match times.fetch_add(1, Ordering::SeqCst) {
                0 => Answer::new(429, "").header("Retry-After", "0"),
                1 => Answer::new(503, ""),
                _ => Answer::new(200, r#"{"access_token": "good"}"#),
            };
        }
        match request.header("authorization") {
            Some("Bearer good") => blobs.answer(request),
            _ => {
                let realm = format!("http://{}/token", request.header("host").unwrap());
                Answer::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
            }
        }
    });
    Bryo::new().ok(["pull", "-q", &format!("{}/image", registry.address())]);
    assert_eq!(registry.seen("/token").len(), 3);
}

/// After a killed pull: no layer has a name that its bytes do not have, and the next pull succeeds.
#[track_caller]
fn recovers(bryo: &Bryo, image: &str, expected: &BTreeSet<String>) {
    bryo.ok(["store", "check"]);
    bryo.ok(["pull", "-q", image]);
    bryo.ok(["store", "check"]);
    for entry in fs::read_dir(bryo.root().join("tmp")).unwrap() {
        // Left by the dead; prune removes them.
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(layers(bryo), *expected);
}

#[test]
fn killed_at_any_step_of_the_store_a_pull_leaves_it_whole() {
    let (first, second) = (tar("first", 100_000), tar("second", 100));
    let blobs = Blobs::of(&[(gzip(&first), digest(&first)), (gzip(&second), digest(&second))]);
    let expected = blobs.diff_ids.iter().cloned().collect();
    let registry = Hostile::serve(move |request| blobs.answer(request));
    let image = format!("{}/image", registry.address());
    for step in 1.. {
        let bryo = Bryo::new();
        let done = Done::of(
            bryo.command(["pull", "-q", &image])
                .env("BRYO_FAILPOINT", step.to_string()),
        );
        if done.status.success() {
            assert!(step > 10, "the store has steps to be killed at");
            break;
        }
        assert_eq!(done.status.code(), None, "killed, not failed: {done}");
        recovers(&bryo, &image, &expected);
    }
}

#[test]
fn killed_at_any_time_a_pull_leaves_the_store_whole() {
    let blobs = Blobs::small(8 << 20);
    let expected = blobs.diff_ids.iter().cloned().collect();
    let registry = Hostile::serve(move |request| blobs.answer(request));
    let image = format!("{}/image", registry.address());
    let bryo = Bryo::new();
    for round in 0..15 {
        let mut child = bryo
            .command(["pull", "-q", &image])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(7 * round));
        // It may be done already.
        drop(child.kill());
        child.wait().unwrap();
        if round % 5 == 4 {
            recovers(&bryo, &image, &expected);
            fs::remove_dir_all(bryo.root()).unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_half_is_left() {
    let blobs = Blobs::small(8 << 20);
    let registry = Hostile::serve(move |request| blobs.answer(request));
    let bryo = Bryo::new();
    let root = bryo.root();
    fs::create_dir_all(&root).unwrap();
    // A disk of 2 MB in a namespace of our own.
    let script = r#"mount -t tmpfs -o size=2m tmpfs "$1" || exit 99
        "$2" pull "$3"; code=$?
        echo "left: $(ls "$1/tmp" "$1/layers" | grep -v :)"
        exit $code"#;
    let bryo_command = bryo.command::<&str>([]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command
        .arg(&root)
        .arg(bryo_command.get_program())
        .arg(format!("{}/image", registry.address()));
    for (name, value) in bryo_command.get_envs() {
        command.env(name, value.unwrap_or(Path::new("").as_os_str()));
    }
    let done = Done::of(command.env("BRYO_STATE", bryo.state()));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stderr.contains("No space left on device") && done.stderr.contains("prune"),
        "{done}"
    );
    assert!(done.stdout.ends_with("left: \n"), "{done}");
}
