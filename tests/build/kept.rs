//! What builds keep for later ones: does `builder du` tell it, and does `builder prune` remove what it was asked to?

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::begun;
use crate::common::Project;

/// Two steps of a megabyte, which cannot be told from each other by their size, and a cache.
const TEXT: &str = "FROM base\n\
    RUN head -c 1000000 /dev/urandom > /one\n\
    RUN --mount=type=cache,id=mine,target=/c head -c 1000000 /dev/urandom | tee /c/file > /two\n";

/// The rows of `builder du`, word by word, but for the hashes of the context's files.
fn du(project: &Project, flags: &[&str]) -> Vec<Vec<String>> {
    let said = project.bryo.ok([&["builder", "du"], flags].concat());
    let mut lines = said.lines();
    let title: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(title, ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"], "{said}");
    let rows = lines.filter(|line| line.ends_with(" ago"));
    rows.map(|row| row.split_whitespace().map(String::from).collect())
        .filter(|row: &Vec<String>| !row[0].contains('-'))
        .collect()
}

/// A total's value.
fn total(project: &Project, name: &str) -> String {
    let said = project.bryo.ok(["builder", "du"]);
    let mut lines = said.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("no {name}: {said}"))
        .1
        .trim()
        .to_string()
}

/// Prunes; gives the ids of what is gone, but for those hashes, and what was said of the space.
fn prune(project: &Project, flags: &[&str]) -> (Vec<String>, String) {
    let said = project.bryo.ok([&["builder", "prune", "-f"], flags].concat());
    let (list, space) = match said.split_once("\n\n") {
        Some((list, space)) => (
            list.strip_prefix("Deleted build cache objects:\n").expect(&said),
            space,
        ),
        None => ("", said.as_str()),
    };
    let space = space
        .strip_prefix("Total reclaimed space: ")
        .expect(&said)
        .trim_end();
    let list = list.lines().filter(|id| !id.contains('-')).map(String::from);
    (list.collect(), space.to_string())
}

/// The step that made this, as `--verbose` tells it.
fn id_of(project: &Project, part: &str) -> String {
    let said = project.bryo.ok(["builder", "du", "--verbose"]);
    let (before, _) = said.split_once(part).unwrap_or_else(|| panic!("{said}"));
    let id = before.rsplit_once("ID:").unwrap().1.lines().next().unwrap();
    id.trim().to_string()
}

/// Says that a step was used at another time.
fn used(project: &Project, part: &str, when: &str) {
    let id = id_of(project, part);
    let files = fs::read_dir(project.bryo.root().join("steps")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let file: PathBuf = files
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&id))
        .unwrap();
    let done = Command::new("touch").args(["-d", when]).arg(file).status();
    assert!(done.unwrap().success());
}

#[test]
fn du_tells_what_there_is() {
    let project = Project::new();
    assert_eq!(du(&project, &[]), Vec::<Vec<String>>::new());
    project.build(TEXT, &[]);
    let rows = du(&project, &[]);
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows.iter().all(|row| row[1] == "true"), "{rows:?}");
    // The steps are an image's, too; the cache changes in place.
    assert_eq!(
        rows.iter().filter(|row| row[2] == "1.01MB*").count(),
        2,
        "{rows:?}"
    );
    assert!(
        rows.iter().any(|row| row[0].ends_with('*') && row[2] == "1MB"),
        "{rows:?}"
    );
    assert_eq!(total(&project, "Shared"), "2.02MB");
    assert_eq!(total(&project, "Private"), "1MB");
    assert_eq!(total(&project, "Total"), "3.02MB");
    let said = project
        .bryo
        .ok(["builder", "du", "--verbose", "--filter", "type=regular"]);
    let (one, two) = (id_of(&project, "> /one"), id_of(&project, "> /two"));
    for part in [
        format!("ID:            {two}\nParent:        {one}\nCreated at:    20"),
        "Mutable:       false\nReclaimable:   true\nShared:        true\nSize:          1.01MB\n".into(),
        "Description:   RUN /bin/sh -c head -c 1000000 /dev/urandom > /one # buildkit\n".into(),
        "Type:          regular\n".into(),
    ] {
        assert!(said.contains(&part), "{part}\n{said}");
    }
    assert!(!said.contains("exec.cachemount"), "{said}");
    let cache = project
        .bryo
        .ok(["builder", "du", "--verbose", "--filter", "type=exec.cachemount"]);
    assert!(cache.contains("cache mount with id \"mine\""), "{cache}");
    assert_eq!(du(&project, &["--filter", &format!("id={one}")]).len(), 1);
    project.bryo.ok(["rmi", "made"]);
    assert_eq!(du(&project, &["--filter", "shared"]).len(), 0);
    project.is_clean();
}

#[test]
fn prune_keeps_what_images_have_unless_all_goes() {
    let project = Project::new();
    project.build(TEXT, &[]);
    let cache = id_of(&project, "cache mount");
    let (gone, space) = prune(&project, &[]);
    assert_eq!((gone, space.as_str()), (vec![cache], "1MB"));
    assert_eq!(project.build(TEXT, &[]).cached.len(), 2);
    let steps = [id_of(&project, "> /two"), id_of(&project, "> /one")];
    let (gone, space) = prune(&project, &["--all"]);
    assert_eq!(gone, steps);
    // On the disk their layers are as long as the image is; what goes is the index of the first step's stack.
    assert!(space.ends_with("kB"), "{space}");
    assert_eq!(project.build(TEXT, &[]).run.len(), 2);
    project.bryo.ok(["rmi", "made"]);
    let (gone, _) = prune(&project, &[]);
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert_eq!(prune(&project, &[]), (Vec::new(), "0B".into()));
    project.is_clean();
}

#[test]
fn what_was_used_lately_stays() {
    let project = Project::new();
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        let text = format!("FROM base\nRUN head -c 1000000 /dev/urandom > /{name}\nRUN echo {number}\n");
        project.build(&text, &[]);
        project.bryo.ok(["rmi", "made"]);
        if name == "a" {
            continue;
        }
        // The last step's use is its base's, too.
        used(&project, &format!("> /{name} "), "2 days ago");
        used(
            &project,
            &format!("echo {number} "),
            if name == "b" { "2 days ago" } else { "1 hour ago" },
        );
    }
    let b = [id_of(&project, "echo 2 "), id_of(&project, "> /b ")];
    let (gone, space) = prune(&project, &["--filter", "until=24h"]);
    assert_eq!(gone, b);
    assert!(space.starts_with("1.0") && space.ends_with("MB"), "{space}");
    // A hit is a use.
    used(&project, "> /c ", "2 days ago");
    used(&project, "echo 3 ", "2 days ago");
    let text = "FROM base\nRUN head -c 1000000 /dev/urandom > /c\nRUN echo 3\n";
    assert_eq!(project.build(text, &[]).cached.len(), 2);
    project.bryo.ok(["rmi", "made"]);
    assert_eq!(prune(&project, &["--filter", "until=24h"]).0.len(), 0);
    // Of two that are too large together, the one that was used last stays.
    used(&project, "> /c ", "3 hours ago");
    used(&project, "echo 3 ", "3 hours ago");
    let c = [id_of(&project, "echo 3 "), id_of(&project, "> /c ")];
    assert_eq!(prune(&project, &["--keep-storage", "10mb"]).0.len(), 0);
    assert_eq!(prune(&project, &["--max-used-space", "1500kb"]).0, c);
    assert_eq!(du(&project, &[]).len(), 2);
    project.is_clean();
}

#[test]
fn what_a_build_uses_stays() {
    let project = Project::new();
    let text = "FROM base\nRUN echo first > /first\nRUN --mount=type=cache,target=/c echo x > /c/x; echo here; \
                until [ -e /c/go ]; do sleep 0.05; done; cat /c/x > /x\n";
    let (mut builder, said) = begun(&mut project.command(text, &[]), 1);
    let rows = du(&project, &[]);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row[1] == "false"), "{rows:?}");
    assert_eq!(total(&project, "Reclaimable"), "0B");
    assert_eq!(prune(&project, &["-a"]).0.len(), 0);
    let caches = fs::read_dir(project.bryo.state().join("caches")).unwrap();
    let mut caches = caches.map(|entry| entry.unwrap().path());
    let cache = caches.find(|path| path.is_dir()).unwrap();
    fs::write(cache.join("go"), "").unwrap();
    let rest = std::io::read_to_string(said).unwrap();
    assert!(builder.wait().unwrap().success(), "{rest}");
    assert_eq!(project.sh("cat /first /x"), "first\nx\n");
    assert_eq!(prune(&project, &["-a"]).0.len(), 3);
    assert_eq!(
        fs::read_dir(project.bryo.state().join("caches")).unwrap().count(),
        0
    );
    project.is_clean();
}

#[test]
fn damaged_steps_go_and_wrong_flags_are_refused() {
    let project = Project::new();
    project.build("FROM base\nRUN true\n", &[]);
    let steps = project.bryo.root().join("steps");
    fs::write(steps.join("0".repeat(64) + ".json"), "damaged").unwrap();
    assert_eq!(du(&project, &[]).len(), 1);
    prune(&project, &[]);
    assert_eq!(fs::read_dir(steps).unwrap().count(), 1);
    let line = project
        .bryo
        .fails(1, ["builder", "prune", "-f", "--filter", "colour=red"]);
    assert!(line.contains("invalid filter 'colour=red'"), "{line}");
    let line = project
        .bryo
        .fails(125, ["builder", "prune", "-f", "--keep-storage", "much"]);
    assert!(
        line.contains("invalid argument \"much\" for \"--keep-storage\""),
        "{line}"
    );
}

/// `from` and `source` of a cache mount: what it begins with. As in BuildKit, another beginning is another cache.
#[test]
fn caches_begin_with_the_files_of_a_stage() {
    let project = Project::new();
    let text = |seed: &str, ends: &str| {
        format!(
            "FROM base AS seed\nRUN mkdir -p /s/sub && echo {seed} > /s/sub/file\n\
             FROM base\n\
             RUN --mount=type=cache,id=c,from=seed,source=/s,target=/c cat /c/sub/file >> /c/log; cp /c/log /{ends}\n\
             RUN --mount=type=cache,id=d,from=seed,source=s/sub,mode=750,target=/d stat -c '%a %n' /d /d/file > /d-{ends}\n\
             RUN --mount=type=cache,id=c,target=/c ls -A /c > /empty-{ends}\n"
        )
    };
    project.build(&text("one", "a"), &[]);
    assert_eq!(project.sh("cat /a /d-a /empty-a"), "one\n750 /d\n644 /d/file\n");
    project.build(&text("one", "b"), &[]);
    assert_eq!(project.sh("cat /b"), "one\none\n", "what was written is kept");
    let cached = project.build(&text("one", "b"), &[]);
    assert!(cached.run.is_empty(), "{:?}", cached.run);
    project.build(&text("two", "b"), &[]);
    assert_eq!(
        project.sh("cat /b"),
        "two\n",
        "another beginning, another cache, and the step is run again"
    );
    for (mount, why) in [
        (
            "from=seed,source=/s/sub/file",
            "which is no directory: \"/s/sub/file\"",
        ),
        ("from=seed,source=/none", "\"/none\": not found"),
        ("source=/s", "which begins empty without from=: \"/s\""),
    ] {
        let text = text("one", "a") + &format!("RUN --mount=type=cache,{mount},target=/c true\n");
        let said = project.fails(&text, &[]);
        assert!(said.contains(why), "{said}");
    }
    project.is_clean();
}
