//! Bad input costs itself: one line with the cause and a proper exit code, and the store is as it was before, with the image
//! that has the name already.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::Bryo;
use common::hostile::{Answer, Blobs, Hostile, Request, digest, gzip, tar};

type Answers = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A registry that changes its mind.
struct Fickle {
    server: Hostile,
    answers: Arc<Mutex<Answers>>,
}

impl Fickle {
    fn new(first: Answers) -> Fickle {
        let answers = Arc::new(Mutex::new(first));
        let now = Arc::clone(&answers);
        let server = Hostile::serve(move |request| (now.lock().unwrap())(request));
        Fickle { server, answers }
    }

    fn answers(&self, with: Answers) {
        *self.answers.lock().unwrap() = with;
    }
}

/// What an honest registry has.
fn honest(blobs: Blobs) -> Answers {
    Box::new(move |request| blobs.answer(request))
}

/// One that has everything but the layer as it should be.
fn with_layer(answer: impl Fn(Vec<u8>) -> Answer + Send + Sync + 'static) -> Answers {
    let blobs = Blobs::small(50_000);
    Box::new(move |request| match blobs.is_layer(request) {
        true => answer(blobs.blobs[&blobs.layer].clone()),
        false => blobs.answer(request),
    })
}

/// An image of this layer, whose digests are right.
fn of_layer(tar: &[u8]) -> Answers {
    honest(Blobs::of(&[(gzip(tar), digest(tar))]))
}

/// A tar of one empty file with this name, whatever it is, which claims this size.
fn tar_of(name: &str, claims: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(claims);
    header.set_mode(0o644);
    header.set_cksum();
    [&header.as_bytes()[..], &[0; 1024]].concat()
}

/// A tar whose root is a link (CVE-2021-29136).
fn tar_of_a_linked_root(name: &str, to: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let fields = header.as_ustar_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..to.len()].copy_from_slice(to.as_bytes());
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    header.set_cksum();
    [&header.as_bytes()[..], &[0; 1024]].concat()
}

/// An image whose manifest is changed, which its digest follows.
fn with_manifest(change: impl FnOnce(&mut serde_json::Value)) -> Answers {
    let mut blobs = Blobs::small(10);
    let mut manifest = serde_json::from_slice(&blobs.manifest).unwrap();
    change(&mut manifest);
    blobs.manifest = manifest.to_string().into();
    honest(blobs)
}

/// Everything that is stored; locks are nothing.
fn stored(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for directory in ["layers", "merged", "blobs/sha256", "tmp", "claims", ""] {
        for entry in fs::read_dir(root.join(directory)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                found.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

#[test]
fn what_is_refused_leaves_the_image_that_has_the_name() {
    const HUGE: u64 = 10 << 30;
    let good = Blobs::small(10);
    let registry = Fickle::new(honest(good.clone()));
    let (bryo, image) = (Bryo::new(), format!("{}/image", registry.server.address()));
    bryo.ok(["pull", "-q", &image]);
    let before = stored(&bryo.root());
    let refuses = |what: &str, name: &str, says: &[&str]| {
        let line = bryo.fails(1, ["pull", name]);
        let is_one = line.starts_with("bryo: ") && line.trim_end().lines().count() == 1;
        assert!(
            is_one && says.iter().all(|words| line.contains(words)),
            "{what}: {line}"
        );
        assert!(stored(&bryo.root()) == before, "{what} has changed the store");
    };
    let status = |status: u16| -> Answers { Box::new(move |_| Answer::new(status, "")) };
    let bad: Vec<(&str, Answers, &[&str])> = vec![
        (
            "a wrong digest",
            with_layer(|mut body| {
                let last = body.len() - 1;
                body[last - 20_000] ^= 1;
                Answer::new(200, body)
            }),
            &["has another content", "nothing of it was kept"],
        ),
        (
            "a layer that is another than the config says",
            honest(Blobs::of(&[(gzip(&tar("file", 10)), digest(b"other"))])),
            &["diff id"],
        ),
        (
            "truncated gzip",
            honest(Blobs::of(&[(
                gzip(&tar("file", 50_000))[..20_000].to_vec(),
                digest(b""),
            )])),
            &["gzip data is truncated", "nothing of it was kept"],
        ),
        (
            "a tar with ..",
            of_layer(&tar_of("../../outside", 0)),
            &["\"..\""],
        ),
        (
            "a tar with .. within",
            of_layer(&tar_of("a/../../outside", 0)),
            &["\"..\""],
        ),
        (
            "a size beyond the tar",
            of_layer(&tar_of("file", 4096)),
            &["layer"],
        ),
        (
            "a small tar that claims 10 GB",
            of_layer(&tar_of("file", HUGE)),
            &["layer"],
        ),
        (
            "a small body that claims 10 GB",
            with_layer(|body| Answer::new(200, body).claiming(HUGE)),
            &["10737418240 bytes instead of the"],
        ),
        (
            "a manifest of 100 MB",
            Box::new(|_| Answer::new(200, vec![b' '; 100 << 20])),
            &["manifest of 104857600 bytes is larger"],
        ),
        (
            "a config that is not JSON",
            honest(Blobs::with_config(b"not JSON".to_vec(), &[])),
            &["config is not valid JSON"],
        ),
        (
            "a root that is a link",
            of_layer(&tar_of_a_linked_root("./", "/")),
            &["root"],
        ),
        (
            "a root by another name",
            of_layer(&tar_of_a_linked_root("a/..", "/")),
            &["\"..\""],
        ),
        (
            "CVE-2021-41190: a manifest that is an index, too",
            with_manifest(|manifest| manifest["manifests"] = serde_json::json!([])),
            &["ambiguous", "\"manifests\" and \"layers\""],
        ),
        (
            "an index that is a manifest, too",
            with_manifest(|manifest| {
                manifest["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
                manifest["manifests"] = serde_json::json!([manifest["config"].clone()]);
            }),
            &["ambiguous"],
        ),
        (
            "CVE-2024-3727: a layer's digest that is a path",
            with_manifest(|manifest| manifest["layers"][0]["digest"] = "sha256:../../../../outside".into()),
            &["manifest", "digest"],
        ),
        (
            "a config's digest that is a path",
            with_manifest(|manifest| manifest["config"]["digest"] = "sha256:/../../outside".into()),
            &["manifest", "digest"],
        ),
        (
            "a digest without its algorithm",
            with_manifest(|manifest| manifest["layers"][0]["digest"] = "0".repeat(64).into()),
            &["manifest", "digest"],
        ),
        (
            "a diff id that is a path",
            honest(Blobs::of(&[(
                gzip(&tar("file", 10)),
                "sha256:../../../../outside".into(),
            )])),
            &["config", "digest"],
        ),
        (
            "401",
            status(401),
            &["pull access denied", "needs a login", "docker login"],
        ),
        ("404", status(404), &["manifest for", "not found in registry"]),
        ("500", status(500), &["answered 500", "try again later"]),
    ];
    for (what, answers, says) in bad {
        registry.answers(answers);
        refuses(what, &image, says);
    }
    registry.answers(honest(good));
    bryo.ok(["pull", "-q", &image]);
    assert!(stored(&bryo.root()) == before);
    assert!(bryo.ok(["store", "check"]).starts_with("1 images, 1 layers"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    refuses(
        "down",
        &format!("{nobody}/image"),
        &["connection refused", "the registry running"],
    );
}

/// As tar(1) and Docker read them.
#[test]
fn absolute_names_lie_below_the_containers_root() {
    let name = "/absolute/of-this-test";
    let registry = Fickle::new(of_layer(&tar_of(name, 0)));
    let (bryo, image) = (Bryo::new(), format!("{}/image", registry.server.address()));
    bryo.ok(["pull", "-q", &image]);
    bryo.ok(["create", "--name", "inside", &image, "sh"]);
    let exported = bryo.scratch("exported.tar");
    bryo.ok(["export", "-o", exported.to_str().unwrap(), "inside"]);
    let mut archive = tar::Archive::new(fs::File::open(exported).unwrap());
    let names = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().into_owned());
    let names: Vec<_> = names.collect();
    let inside = Path::new(name).strip_prefix("/").unwrap().as_os_str().as_bytes();
    assert!(names.iter().any(|name| name == inside), "{names:?}");
    assert!(!Path::new(name).exists());
}
