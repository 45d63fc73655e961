//! Which steps are carried out again when something changed? Exactly those that depend on it: each kind of change that
//! must be seen stands beside one that must not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::common::sandbox::within;
use crate::common::{Built, Project, mode};

/// What each RUN writes is never the same again, so whatever follows a step that ran must run, too.
const TEXT: &str = "FROM base
ARG EARLY=1
ENV COLOUR=red
WORKDIR /w
RUN cat /proc/sys/kernel/random/uuid > one
COPY first ./
RUN cat /proc/sys/kernel/random/uuid > two
ARG LATE=1
COPY --chown=user dir second* dir/
RUN cat /proc/sys/kernel/random/uuid > three
CMD [\"true\"]
";

/// Steps of it that change files.
const STEPS: usize = 6;

fn project() -> Project {
    let project = Project::new();
    for name in [
        "first",
        "dir/x",
        "dir/y",
        "second1",
        "not-copied",
        "dir/ignored.log",
    ] {
        project.write(name, name);
    }
    symlink("x", project.path("dir/link")).unwrap();
    project.write(".dockerignore", "**/*.log\n");
    project
}

/// Builds, and expects that just the first `cached` steps come from the cache.
#[track_caller]
fn expect(project: &Project, what: &str, text: &str, flags: &[&str], cached: usize) -> String {
    let built = project.build(text, flags);
    assert_eq!(
        (built.cached.len(), built.run.len()),
        (cached, STEPS - cached),
        "{what}\n{}",
        built.said
    );
    built.id
}

#[test]
fn a_change_of_the_dockerfile_or_the_flags_is_seen_where_it_counts() {
    let project = project();
    let id = expect(&project, "the first build", TEXT, &[], 0);
    for (what, old, new, cached) in [
        ("a comment", "COPY first", "# comment\nCOPY first", STEPS),
        ("a label", "COPY first", "LABEL a=b\nCOPY first", STEPS),
        ("another command", "CMD [\"true\"]", "CMD [\"false\"]", STEPS),
        (
            "an argument that comes after all",
            "CMD",
            "ARG COLOUR=blue\nCMD",
            STEPS,
        ),
        (
            "the owner's number for its name",
            "--chown=user",
            "--chown=1000:1000",
            STEPS,
        ),
        (
            "white space between words",
            "COPY first ./",
            "COPY   first   ./",
            STEPS,
        ),
        (
            "the same place by another name",
            "COPY first ./",
            "COPY first /w/",
            STEPS,
        ),
        ("ENV", "red", "blue", 1),
        (
            "an ENV that was not there",
            "RUN cat /proc/sys/kernel/random/uuid > two",
            "ENV A=1\nRUN cat /proc/sys/kernel/random/uuid > two",
            3,
        ),
        ("the default of an argument", "EARLY=1", "EARLY=2", 1),
        ("WORKDIR", "/w", "/v", 0),
        ("USER", "COPY --chown", "USER 0\nCOPY --chown", 5),
        (
            "SHELL",
            "COPY --chown",
            "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nCOPY --chown",
            5,
        ),
        ("a command's text", "> two", "> 2", 3),
        (
            "a command's network",
            "RUN cat /proc/sys/kernel/random/uuid > two",
            "RUN --network=none cat /proc/sys/kernel/random/uuid > two",
            3,
        ),
        ("the owner", "--chown=user", "--chown=12:34", 4),
        ("the group", "--chown=user", "--chown=user:extra", 4),
        ("the mode", "--chown=user", "--chown=user --chmod=700", 4),
        ("the place", " dir/\n", " directory/\n", 4),
        ("one source less", "dir second*", "dir", 4),
        ("what is excluded", "--chown=user", "--chown=user --exclude=x", 4),
    ] {
        let text = TEXT.replacen(old, new, 1);
        assert_ne!(text, TEXT, "{what}");
        expect(&project, what, &text, &[], cached);
    }
    for (what, flags, cached) in [
        (
            "an argument that nobody declares",
            ["--build-arg", "OTHER=1"],
            STEPS,
        ),
        ("a proxy", ["--build-arg", "HTTP_PROXY=http://a"], STEPS),
        ("a label", ["--label", "a=b"], STEPS),
        ("another name", ["-t", "other"], STEPS),
        ("the argument that it has", ["--build-arg", "EARLY=1"], STEPS),
        ("an argument", ["--build-arg", "EARLY=3"], 1),
        ("a late argument", ["--build-arg", "LATE=3"], 5),
        ("the network", ["--network", "none"], 1),
        ("a host's name", ["--add-host", "a:10.0.0.1"], 1),
        ("the size of /dev/shm", ["--shm-size", "3m"], 1),
    ] {
        expect(&project, what, TEXT, &flags, cached);
    }
    assert_eq!(expect(&project, "nothing", TEXT, &[], STEPS), id);
    assert_ne!(expect(&project, "--no-cache", TEXT, &["--no-cache"], 0), id);
}

#[test]
fn a_change_of_the_context_is_seen_where_it_counts() {
    let project = project();
    let id = expect(&project, "the first build", TEXT, &[], 0);
    let same = |what: &str| assert_eq!(expect(&project, what, TEXT, &[], STEPS), id, "{what}");
    let other = |what: &str, cached| assert_ne!(expect(&project, what, TEXT, &[], cached), id, "{what}");
    let touch = |path: PathBuf| {
        assert!(
            Command::new("touch")
                .args(["-hd", "@1"])
                .arg(path)
                .status()
                .unwrap()
                .success()
        )
    };
    for path in ["first", "dir", "dir/x", "dir/link"] {
        touch(project.path(path));
        same("a time");
    }
    project.write("not-copied", "changed");
    same("a file that nobody copies");
    project.write("dir/ignored.log", "changed");
    same("an ignored file");
    fs::write(project.path("copy"), "first").unwrap();
    fs::rename(project.path("copy"), project.path("first")).unwrap();
    mode(&project.path("first"), 0o644);
    same("the same file anew");

    project.write("dir/x", "dir/X");
    other("content of the same length", 4);
    project.write("dir/x", "dir/x");
    same("the old content");
    mode(&project.path("dir/x"), 0o600);
    other("a file's mode", 4);
    mode(&project.path("dir/x"), 0o644);
    fs::rename(project.path("dir/x"), project.path("dir/z")).unwrap();
    other("a file's name", 4);
    fs::rename(project.path("dir/z"), project.path("dir/x")).unwrap();
    fs::write(project.path("dir/more"), "").unwrap();
    other("a new file", 4);
    fs::remove_file(project.path("dir/more")).unwrap();
    fs::create_dir(project.path("dir/sub")).unwrap();
    other("an empty directory", 4);
    mode(&project.path("dir/sub"), 0o700);
    other("a directory's mode", 4);
    fs::remove_dir(project.path("dir/sub")).unwrap();
    fs::remove_file(project.path("dir/y")).unwrap();
    other("a file less", 4);
    project.write("dir/y", "dir/y");
    fs::remove_file(project.path("dir/link")).unwrap();
    symlink("y", project.path("dir/link")).unwrap();
    other("where a link leads", 4);
    fs::remove_file(project.path("dir/link")).unwrap();
    fs::write(project.path("dir/link"), "x").unwrap();
    other("a file in place of a link", 4);
    fs::remove_file(project.path("dir/link")).unwrap();
    symlink("x", project.path("dir/link")).unwrap();
    fs::rename(project.path("second1"), project.path("second2")).unwrap();
    other("what a pattern means", 4);
    fs::rename(project.path("second2"), project.path("second1")).unwrap();
    // The end of one file's content is not the beginning of the next one's.
    project.write("dir/x", "dir/xd");
    project.write("dir/y", "ir/y");
    other("bytes moved from file to file", 4);
    project.write("dir/x", "dir/x");
    project.write("dir/y", "dir/y");
    project.write(".dockerignore", "**/*.log\ndir/x\n");
    other("what is ignored", 4);
    project.write(".dockerignore", "**/*.log\n# the same\n");
    same("a comment in the list of what is ignored");
    project.write("first", "changed");
    other("the first file", 2);
}

#[test]
fn a_remembered_hash_is_not_that_of_a_changed_file() {
    let project = project();
    let set = |time: &str| {
        let done = Command::new("touch")
            .args(["-d", time])
            .arg(project.path("first"))
            .status();
        assert!(done.unwrap().success());
    };
    set("@1000000000");
    // What changed a moment ago is not remembered at all.
    std::thread::sleep(Duration::from_millis(2500));
    expect(&project, "the first build", TEXT, &[], 0);
    let id = expect(&project, "nothing", TEXT, &[], STEPS);
    assert!(fs::read_dir(project.bryo.state().join("hashes")).unwrap().count() > 0);
    project.write("first", "FIRST");
    set("@1000000000");
    assert_ne!(expect(&project, "the same size and time", TEXT, &[], 2), id);
    fs::write(project.path("aside"), "First").unwrap();
    mode(&project.path("aside"), 0o644);
    fs::rename(project.path("aside"), project.path("first")).unwrap();
    set("@1000000000");
    assert_ne!(
        expect(&project, "another file of the same size and time", TEXT, &[], 2),
        id
    );
    project.write("first", "first");
    assert_eq!(expect(&project, "the old content", TEXT, &[], STEPS), id);
}

/// The files of the context that a build opens to read them, as strace(1) sees it.
fn opened(project: &Project, text: &str) -> (Built, BTreeSet<String>) {
    let log = project.bryo.scratch("trace");
    let watch = ["strace", "-f", "-q", "-y", "-e", "signal=none"];
    let calls = ["-e", "trace=open,openat,openat2", "-o", log.to_str().unwrap()];
    let mut command = project.command(text, &[]);
    // As in all builds here; and it is there to be passed on.
    command.env("SOURCE_DATE_EPOCH", EPOCH);
    let built = project.built(&mut within(&[&watch[..], &calls].concat(), &command));
    let lines = fs::read_to_string(log).unwrap();
    let opened = lines.lines().filter_map(|line| {
        let (_, rest) = line.split_once("/context>, \"")?;
        let (name, how) = rest.split_once('"')?;
        let is_read = !how.contains("O_PATH") && !how.contains("O_DIRECTORY");
        (is_read && name != ".dockerignore").then(|| name.to_owned())
    });
    (built, opened.collect())
}

const EPOCH: &str = "1700000000";

#[test]
fn files_that_have_not_changed_are_not_read_again() {
    let project = project();
    // Each COPY alone, so that none is made anew for another's sake.
    let text = "FROM base AS one\nCOPY first /\nFROM base AS two\nCOPY dir second1 /\n\
        FROM base\nCOPY --from=one /first /f/\nCOPY --from=two /x /f/\n";
    // What changed a moment ago is not remembered.
    std::thread::sleep(Duration::from_millis(2500));
    project.built(project.command(text, &[]).env("SOURCE_DATE_EPOCH", EPOCH));
    let (built, read) = opened(&project, text);
    assert_eq!((built.run.len(), built.cached.len()), (0, 4), "{}", built.said);
    assert_eq!(read, BTreeSet::new());
    project.write("first", "changed");
    let (built, read) = opened(&project, text);
    assert_eq!(
        built.run,
        [
            "COPY first /",
            "COPY --from=one /first /f/",
            "COPY --from=two /x /f/"
        ],
        "{}",
        built.said
    );
    assert_eq!(read, BTreeSet::from(["first".to_owned()]));
}

#[test]
fn another_base_under_the_same_name_is_seen() {
    let project = project();
    project.bryo.ok(["tag", "base", "old"]);
    let id = expect(&project, "the first build", TEXT, &[], 0);
    project.build("FROM base\nRUN echo new > /new\n", &["-t", "new"]);
    project.bryo.ok(["tag", "new", "base"]);
    expect(&project, "another base", TEXT, &[], 0);
    project.bryo.ok(["tag", "old", "base"]);
    assert_eq!(expect(&project, "the old base", TEXT, &[], STEPS), id);
}

#[test]
fn copies_from_a_stage_depend_on_what_they_copy() {
    let project = project();
    let text = "FROM base AS stage\nCOPY --chown=user first /a/file\nCOPY second1 /b\nFROM base\nCOPY --from=stage /a /new/\n";
    project.build(text, &[]);
    project.write("second1", "changed");
    let built = project.build(text, &[]);
    assert_eq!(built.run, ["COPY second1 /b"]);
    project.write("first", "changed");
    assert_eq!(project.build(text, &[]).run.len(), 3);
    // The file has this owner either way, the directory that is made for it has not.
    let owners = || [project.owner("new"), project.owner("new/file")];
    assert_eq!(owners(), ["0/0", "1000/1000"]);
    let owned = text.replace("--from=stage", "--from=stage --chown=user");
    assert_eq!(project.build(&owned, &[]).run.len(), 1);
    assert_eq!(owners(), ["1000/1000", "1000/1000"]);
}

#[test]
fn a_damaged_cache_is_not_believed() {
    let project = project();
    let id = expect(&project, "the first build", TEXT, &[], 0);
    let steps = || -> Vec<PathBuf> {
        let mut steps: Vec<_> = fs::read_dir(project.bryo.root().join("steps"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        steps.sort();
        steps
    };
    assert_eq!(steps().len(), STEPS);
    type Damage = fn(&str) -> String;
    let damages: [(&str, Damage); 4] = [
        ("cut", |text| text[..text.len() / 2].into()),
        ("emptied", |_| String::new()),
        ("zeros", |text| "\0".repeat(text.len())),
        ("said to be older", |text| {
            text.replace("\"created\": \"2", "\"created\": \"1")
        }),
    ];
    for (what, damage) in damages {
        let whole: Vec<(PathBuf, String)> = steps()
            .into_iter()
            .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
            .collect();
        for (path, text) in &whole {
            assert_ne!(&damage(text), text, "{what}");
            fs::write(path, damage(text)).unwrap();
        }
        assert_ne!(expect(&project, what, TEXT, &[], 0), id);
        whole
            .iter()
            .for_each(|(path, text)| fs::write(path, text).unwrap());
        assert_eq!(expect(&project, "mended", TEXT, &[], STEPS), id);
    }
    // Each step's file under the name of the next one.
    let files = steps();
    let texts: Vec<String> = files
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for (path, text) in files.iter().zip(texts.iter().cycle().skip(1)) {
        fs::write(path, text).unwrap();
    }
    assert_ne!(expect(&project, "exchanged", TEXT, &[], 0), id);
    // A layer that is gone.
    let layers = project.image("made", "{{json .RootFS.Layers}}");
    let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
    let third = layers[layers.len() - STEPS + 2]
        .trim_start_matches("sha256:")
        .to_string();
    fs::remove_file(project.bryo.root().join("layers").join(format!("{third}.tar"))).unwrap();
    let built = project.build(TEXT, &[]);
    assert_eq!(built.cached.len(), 2, "{}", built.said);
    project.sh("cat /w/one /w/first /w/three");
}

/// Of a gigabyte that is copied from a stage, a build that finds all reads nothing: what is there may even be destroyed.
#[test]
fn a_cached_copy_from_a_stage_reads_none_of_its_bytes() {
    const MARK: &[u8] = b"the bytes of the stage";
    let project = Project::new();
    let text = "FROM base AS other\nRUN echo 'the bytes of the stage' > /file\n\
        FROM base\nCOPY --from=other /file /copy\nRUN --mount=from=other,target=/m cat /m/file > /read\n";
    project.build(text, &[]);
    let mut found = 0;
    for entry in fs::read_dir(project.bryo.root().join("layers")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> = bytes
            .windows(MARK.len())
            .enumerate()
            .filter_map(|(at, part)| (part == MARK).then_some(at))
            .collect();
        if places.is_empty() {
            continue;
        }
        found += places.len();
        places.iter().for_each(|at| bytes[*at] ^= 1);
        mode(&path, 0o644);
        fs::write(&path, bytes).unwrap();
    }
    assert!(found >= 3, "{found}");
    let again = project.build(text, &[]);
    assert_eq!((again.run.len(), again.cached.len()), (0, 3), "{again:?}");
}

/// What only the cache has is checked like an image's, and a step whose layer is damaged is carried out again.
#[test]
fn a_damaged_layer_of_a_step_is_found_and_not_used_again() {
    let project = Project::new();
    let text = "FROM base\nRUN echo what was made > /made\n";
    let layers = || -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(project.bryo.root().join("layers")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "tar"))
            .collect()
    };
    let before = layers();
    assert_eq!(project.build(text, &[]).run.len(), 1);
    let own: Vec<PathBuf> = layers().difference(&before).cloned().collect();
    project.bryo.ok(["rmi", "made"]);
    assert_eq!(layers().len(), before.len() + 1, "the cache keeps it");
    assert!(project.bryo.ok(["store", "check"]).ends_with(": all whole\n"));

    let mut bytes = fs::read(&own[0]).unwrap();
    let at = bytes.windows(8).position(|found| found == b"what was").unwrap();
    bytes[at] ^= 1;
    fs::write(&own[0], bytes).unwrap();
    let done = project.bryo.run(["store", "check"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stdout.contains("lost; the next build makes it again"),
        "{done}"
    );
    // It is aside by now, and a step without its layer is nothing to complain of.
    assert!(project.bryo.ok(["store", "check"]).ends_with(": all whole\n"));
    assert_eq!(project.build(text, &[]).run.len(), 1, "not from the cache");
    assert_eq!(project.sh("cat /made"), "what was made\n");
    assert!(project.bryo.ok(["store", "check"]).ends_with(": all whole\n"));
}

/// The merged index of a stack that only the cache has is made again like any other.
#[test]
fn a_damaged_index_of_a_step_is_made_again() {
    let project = Project::new();
    project.build("FROM base\nRUN echo one > /one\nRUN echo two > /two\n", &[]);
    project.bryo.ok(["rmi", "made"]);
    let mut damaged = 0;
    for entry in fs::read_dir(project.bryo.root().join("merged")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[5000] ^= 1;
        fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 1, "one of the base, and those of the steps");
    let said = project.bryo.ok(["store", "check"]);
    assert!(said.ends_with(&format!(": {damaged} repaired\n")), "{said}");
    assert!(project.bryo.ok(["store", "check"]).ends_with(": all whole\n"));
}
