//! `--cache-to` and `--cache-from`: does another store find the steps of this one, and only what is whole?

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::at_once::{Running, let_go};
use crate::common::{Done, Mode, Project, Registry, skopeo};

/// Two stages; what the commands write is never the same again.
const TEXT: &str = "FROM base AS maker\n\
    RUN cat /proc/sys/kernel/random/uuid > /made\n\
    RUN cat /proc/sys/kernel/random/uuid > /more\n\
    FROM base\n\
    COPY file /file\n\
    COPY --from=maker /made /copied\n\
    RUN cat /proc/sys/kernel/random/uuid > /last\n\
    LABEL a=b\n";
const STEPS: usize = 5;
/// Those of them that the target's layers come from.
const LAST: usize = 3;

fn project() -> Project {
    let project = Project::new();
    project.write("file", "x");
    project
}

/// A directory that goes with the test, and the flags that write a cache there and read it.
fn directory() -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    let flags = (
        format!("type=local,dest={}", path.display()),
        format!("type=local,src={}", path.display()),
    );
    (directory, flags.0, flags.1)
}

fn counts(project: &Project, text: &str, flags: &[&str]) -> (usize, usize, String) {
    let built = project.build(text, flags);
    (built.cached.len(), built.run.len(), built.said)
}

/// All blobs of a cache's directory, but for documents.
fn layers(directory: &Path) -> Vec<PathBuf> {
    let blobs = fs::read_dir(directory.join("cache/blobs/sha256")).unwrap();
    let blobs = blobs.map(|entry| entry.unwrap().path());
    blobs
        .filter(|path| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]))
        .collect()
}

fn stored(project: &Project) -> usize {
    let files = fs::read_dir(project.bryo.root().join("layers")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".tar")).count()
}

#[test]
fn a_directory_takes_steps_to_another_store() {
    let (here, there) = (project(), project());
    let (directory, to, from) = directory();
    let to = format!("{to},mode=max");
    let text =
        TEXT.replacen("> /more", "> /more; : $TOKEN", 1)
            .replacen("AS maker", "AS maker\nARG TOKEN", 1);
    let text = text.as_str();
    let token = ["--build-arg", "TOKEN=marker-of-token"];
    let first = here.build(text, &[&["--cache-to", &to], &token[..]].concat());
    // Arguments of other stages are not told.
    for blob in fs::read_dir(directory.path().join("cache/blobs/sha256")).unwrap() {
        let bytes = fs::read(blob.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("marker-of-token"));
    }
    assert!(
        first.said.contains(" exporting cache to client directory\n"),
        "{}",
        first.said
    );
    assert_eq!(layers(directory.path()).len(), STEPS);
    let second = there.build(text, &[&["--cache-from", &from], &token[..]].concat());
    assert_eq!(
        (second.cached.len(), second.run.len()),
        (STEPS, 0),
        "{}",
        second.said
    );
    assert_eq!(second.id, first.id);
    let told = there.bryo.ok(["builder", "du", "--verbose"]);
    assert!(told.contains("> /more; : $TOKEN"), "{told}");
    let script = "cat /copied /last";
    assert_eq!(here.sh(script), there.sh(script));
    // It is the store's own then.
    fs::remove_dir_all(directory.path().join("cache")).unwrap();
    assert_eq!(counts(&there, text, &token).0, STEPS);
    there.is_clean();
    here.is_clean();
    // What depends on another context is made here; the rest comes from there.
    let (directory, to, from) = self::directory();
    here.build(TEXT, &["--cache-to", &format!("{to},mode=max")]);
    let other = project();
    other.write("file", "y");
    let (cached, run, said) = counts(&other, TEXT, &["--cache-from", &from]);
    assert_eq!((cached, run), (2, 3), "{said}");
    drop(directory);
}

#[test]
fn min_takes_the_target_alone_and_layers_come_when_they_are_wanted() {
    let (here, there) = (project(), project());
    let (directory, to, from) = directory();
    here.build(TEXT, &["--cache-to", &to]);
    assert_eq!(layers(directory.path()).len(), LAST);
    let (cached, run, said) = counts(&there, TEXT, &["--cache-from", &from]);
    // The maker's files are others now, so what comes after the copy of them is made again, too.
    assert_eq!((cached, run), (1, 4), "{said}");
    // Of a whole cache, one stage.
    here.build(TEXT, &["--cache-to", &format!("{to},mode=max,tag=all")]);
    let third = project();
    let before = stored(&third);
    let flags = ["--cache-from", &format!("{from},tag=all"), "--target", "maker"];
    assert_eq!(counts(&third, TEXT, &flags).0, 2);
    assert_eq!(stored(&third), before + 2);
    // Both tags are in the directory, and nothing is there twice.
    let index = fs::read_to_string(directory.path().join("cache/index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    assert_eq!(layers(directory.path()).len(), STEPS);
    assert_eq!(counts(&third, TEXT, &["--no-cache", "--cache-from", &from]).0, 0);
}

#[test]
fn what_is_damaged_or_missing_is_built() {
    let here = project();
    let (directory, to, from) = directory();
    here.build(TEXT, &["--cache-to", &format!("{to},mode=max")]);
    let cache = directory.path().join("cache");
    let blobs = layers(directory.path());
    let whole: Vec<Vec<u8>> = blobs.iter().map(|blob| fs::read(blob).unwrap()).collect();
    let told = |what: &str| {
        let there = project();
        let (cached, run, said) = counts(&there, TEXT, &["--cache-from", &from]);
        assert!(cached < STEPS && cached + run == STEPS, "{what}: {said}");
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("bryo: the cache "))
            .collect();
        assert!(
            !lines.is_empty() && lines.iter().all(|line| line.contains(" is not used: ")),
            "{what}: {said}"
        );
        assert_eq!(there.sh("wc -c < /copied"), "37\n");
        there.is_clean();
        lines[0].to_string()
    };
    for blob in &blobs {
        let mut bytes = fs::read(blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(blob, bytes).unwrap();
    }
    told("a flipped bit in each layer");
    // Who exports finds out, and writes them anew.
    here.build(TEXT, &["--cache-to", &format!("{to},mode=max")]);
    for (blob, whole) in blobs.iter().zip(&whole) {
        assert!(fs::read(blob).unwrap() == *whole);
        fs::remove_file(blob).unwrap();
    }
    told("no layers");
    here.build(TEXT, &["--cache-to", &format!("{to},mode=max")]);
    // Each layer is said to be another one.
    let index: Value = serde_json::from_str(&fs::read_to_string(cache.join("index.json")).unwrap()).unwrap();
    let blob = |digest: &Value| {
        cache
            .join("blobs")
            .join(digest.as_str().unwrap().replace(':', "/"))
    };
    let manifest = blob(&index["manifests"][0]["digest"]);
    let mut lying: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    lying["layers"].as_array_mut().unwrap().rotate_left(1);
    put(&cache, &lying);
    let line = told("layers that are others");
    assert!(line.contains("diff id"), "{line}");
    fs::write(manifest, "{}").unwrap();
    let mut index: Value =
        serde_json::from_str(&fs::read_to_string(cache.join("index.json")).unwrap()).unwrap();
    index["manifests"] = serde_json::json!([]);
    fs::write(cache.join("index.json"), index.to_string()).unwrap();
    told("no such tag");
    fs::remove_dir_all(&cache).unwrap();
    told("no directory");
}

/// Lists another manifest in a layout.
fn put(cache: &Path, manifest: &Value) {
    let bytes = manifest.to_string().into_bytes();
    let digest = crate::common::hostile::digest(&bytes);
    fs::write(cache.join("blobs").join(digest.replace(':', "/")), &bytes).unwrap();
    let path = cache.join("index.json");
    let mut index: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    index["manifests"][0]["digest"] = digest.into();
    index["manifests"][0]["size"] = bytes.len().into();
    fs::write(path, index.to_string()).unwrap();
}

#[test]
fn a_registry_takes_steps_to_another_store() {
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let (here, there) = (project(), project());
    let name = registry.image("some/cache:1");
    let missing = here.build(TEXT, &["--cache-from", &name]);
    assert!(
        missing
            .said
            .contains(&format!("bryo: the cache {name} is not used: ")),
        "{}",
        missing.said
    );
    let first = here.build(
        TEXT,
        &["--cache-to", &format!("type=registry,ref={name},mode=max")],
    );
    let second = there.build(TEXT, &["--cache-from", &format!("type=registry,ref={name}")]);
    assert_eq!(
        (second.cached.len(), second.run.len()),
        (STEPS, 0),
        "{}",
        second.said
    );
    assert_eq!(second.id, first.id);
    // An image without a cache is no failure, and a cache no image.
    here.bryo.ok(["push", "-q", "made", &registry.image("plain:1")]);
    let third = project();
    let (cached, _, said) = counts(
        &third,
        TEXT,
        &["--cache-from", &registry.image("plain:1"), "--cache-from", &name],
    );
    assert_eq!(cached, STEPS, "{said}");
    assert!(said.contains("the image holds no build cache"), "{said}");
    third.bryo.fails(1, ["pull", "-q", &name]);
    // Others can copy it.
    let copy = format!("oci:{}:x", storage.path().join("copy").display());
    let done = skopeo([
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{name}"),
        &copy,
    ]);
    assert!(done.status.success(), "{done}");
    third.is_clean();
}

#[test]
fn an_image_takes_its_own_steps_along() {
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let (here, there) = (project(), project());
    let text = "FROM base\nCOPY file /file\nRUN cat /proc/sys/kernel/random/uuid > /made\nRUN echo x > /x\n";
    let plain = here.build(text, &[]);
    let told = here.build(text, &["--cache-to", "type=inline"]);
    assert_ne!(plain.id, told.id);
    // The same again, byte for byte.
    assert_eq!(here.build(text, &["--cache-to", "type=inline"]).id, told.id);
    let name = registry.image("inline");
    here.bryo.ok(["push", "-q", "made", &name]);
    let (cached, run, said) = counts(&there, text, &["--cache-from", &name]);
    assert_eq!((cached, run), (3, 0), "{said}");
    assert_eq!(there.image("made", "{{.Id}}"), plain.id);
    let tar = format!("type=tar,dest={}", here.bryo.scratch("out.tar").display());
    let done = Done::of(&mut here.command(text, &["--cache-to", "type=inline", "--output", &tar]));
    assert!(
        done.status.success() && done.stderr.contains("no cache is exported inline"),
        "{done}"
    );
    // What is built on it tells its own steps, or none.
    here.bryo.ok(["tag", "made", "below"]);
    here.build("FROM below\nRUN echo y > /y\n", &[]);
    let config = here.bryo.root().join("blobs/sha256");
    let id = here.image("made", "{{.Id}}");
    let config = fs::read_to_string(config.join(id.trim_start_matches("sha256:"))).unwrap();
    assert!(!config.contains("bryo.cache"), "{config}");
}

#[test]
fn a_cache_that_cannot_be_written_fails_the_build_after_its_image() {
    let registry = Registry::shared();
    let project = project();
    let to = format!("type=registry,ref={}", registry.image("cache"));
    let said = project.fails(TEXT, &["--cache-to", &to]);
    let line = said.lines().last().unwrap();
    assert!(
        line.starts_with("bryo: failed to build: failed to solve: cannot export the cache to "),
        "{said}"
    );
    project.image("made", "{{.Id}}");
    let said = project
        .build(TEXT, &["--cache-to", &format!("{to},ignore-error=true")])
        .said;
    assert!(said.contains("bryo: cannot export the cache to "), "{said}");
    let file = project.bryo.scratch("file");
    fs::write(&file, "").unwrap();
    let said = project.fails(
        TEXT,
        &["--cache-to", &format!("type=local,dest={}", file.display())],
    );
    assert!(said.contains("cannot write "), "{said}");
    let done = Done::of(&mut project.command(TEXT, &["--cache-to", "type=gha"]));
    assert_eq!(done.status.code(), Some(125), "{done}");
    assert!(done.stderr.contains("type gha is not supported"), "{done}");
    project.is_clean();
}

#[test]
fn a_registry_that_goes_away_is_asked_once() {
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let (here, there) = (project(), project());
    let name = registry.image("cache");
    let stages = "FROM base AS one\nRUN echo 1 > /1\nFROM base AS two\nRUN echo 2 > /2\nFROM base AS three\n\
                  RUN echo 3 > /3\nFROM base\nCOPY --from=one /1 /\nCOPY --from=two /2 /\nCOPY --from=three /3 /\n";
    here.build(
        stages,
        &["--cache-to", &format!("type=registry,ref={name},mode=max")],
    );
    let first = "FROM base AS first\nRUN --mount=type=cache,target=/c echo here; until [ -e /c/go ]; do sleep 0.05; done\n";
    let text = format!("{first}{stages}COPY --from=first /etc/passwd /first\n");
    // One stage after the other: workers would each ask.
    let flags = ["--cache-from", &name, "--jobs", "1"];
    let mut build = Running::start(&there, &text, &flags);
    build.says(" here\n");
    drop(registry);
    let_go(&there);
    let said = build.succeeds();
    assert_eq!(said.matches(" is not used: ").count(), 1, "{said}");
    assert_eq!(there.sh("cat /1 /2 /3"), "1\n2\n3\n");
    there.is_clean();
}

#[test]
fn a_stage_built_anew_fetches_nothing() {
    let (here, there) = (project(), project());
    let (_directory, to, from) = directory();
    here.build(TEXT, &["--cache-to", &format!("{to},mode=max")]);
    let before = stored(&there);
    let flags = ["--cache-from", &from, "--target", "maker"];
    let anew = [&flags[..], &["--no-cache-filter", "maker"]].concat();
    let (cached, run, said) = counts(&there, TEXT, &anew);
    assert_eq!((cached, run), (0, 2), "{said}");
    assert_eq!(stored(&there), before + 2, "{said}");
}

#[test]
fn with_an_epoch_an_inline_cache_is_the_same_again() {
    let (here, there) = (Project::new(), Project::new());
    let text = "FROM base\nRUN true\n";
    here.build(text, &[]);
    let flags = ["--source-date-epoch", "1000", "--cache-to", "type=inline"];
    let (first, second) = (here.build(text, &flags), there.build(text, &flags));
    assert_eq!((first.cached.len(), second.cached.len()), (1, 0));
    assert_eq!(first.id, second.id);
}

/// A build that has all its steps and cannot go on before it is waited for: nobody reads its tar.
fn delivering(project: &Project, to: &str) -> Running {
    let mut build = Running::start(project, TEXT, &["-o", "-", "--cache-to", to]);
    build.says(" exporting to client tarball");
    build
}

#[test]
fn what_is_to_be_exported_stays_beside_a_prune() {
    let project = project();
    let (directory, to, _) = directory();
    let build = delivering(&project, &format!("{to},mode=max"));
    project.bryo.ok(["builder", "prune", "-f"]);
    let said = build.succeeds();
    assert_eq!(layers(directory.path()).len(), STEPS, "{said}");
    project.is_clean();
}

#[test]
fn an_export_that_lacks_steps_says_so() {
    let project = project();
    let tars = || -> Vec<PathBuf> {
        let files = fs::read_dir(project.bryo.root().join("layers")).unwrap();
        files.map(|entry| entry.unwrap().path()).collect()
    };
    let before = tars();
    project.build(TEXT, &["--target", "maker"]);
    let (directory, to, _) = directory();
    let maker: Vec<PathBuf> = tars().into_iter().filter(|path| !before.contains(path)).collect();
    let build = delivering(&project, &format!("{to},mode=max"));
    maker.iter().for_each(|path| fs::remove_file(path).unwrap());
    let said = build.succeeds();
    let cache = directory.path().join("cache");
    let told = format!("bryo: the cache {} lacks 2 steps: ", cache.display());
    assert!(said.contains(&told), "{said}");
    assert_eq!(layers(directory.path()).len(), STEPS - 2);
}
