//! Commands on several containers: each is done, what fails has its line; and podman's ways to name them.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use common::{Bryo, Done};

fn made(names: &[&str], command: &[&str]) -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    for name in names {
        let mut words = vec!["create", "--name", name, "--stop-timeout", "0", &image];
        words.extend(command);
        bryo.ok(&words);
    }
    bryo
}

/// Exit code, output, and how many lines of errors.
fn answer(bryo: &Bryo, line: &str) -> (i32, String, usize) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let done = Done::of(&mut bryo.command(words));
    (
        done.status.code().unwrap(),
        done.stdout,
        done.stderr.lines().count(),
    )
}

fn states(bryo: &Bryo) -> String {
    let shown = bryo.ok(["ps", "-a", "--format", "{{.Names}}={{.State}}"]);
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    lines.join(" ")
}

#[test]
fn what_fails_does_not_keep_the_others() {
    let bryo = made(&["a1", "b2"], &["sleep", "1000"]);
    let said = |code: i32, output: &str, errors: usize| (code, output.to_owned(), errors);
    for (line, expected) in [
        ("start b2 nosuch", said(1, "b2\n", 1)),
        ("start b2 b2", said(0, "b2\nb2\n", 0)),
        ("kill nosuch b2 none", said(1, "b2\n", 2)),
        ("wait nosuch b2", said(1, "137\n", 1)),
        ("restart -t 0 nosuch b2", said(1, "b2\n", 1)),
        ("stop nosuch b2", said(1, "b2\n", 1)),
        ("stop --ignore nosuch b2", said(0, "b2\n", 0)),
        ("pause nosuch b2", said(1, "", 2)),
        ("start b2", said(0, "b2\n", 0)),
        ("rm nosuch b2 none", said(1, "", 3)),
        ("rm -f nosuch", said(0, "", 0)),
        ("rm --ignore nosuch", said(0, "", 0)),
        ("rm --force --volumes --time 0 nosuch b2", said(0, "b2\n", 0)),
        ("rm b2", said(1, "", 1)),
    ] {
        assert_eq!(answer(&bryo, line), expected, "{line}");
    }
}

#[test]
fn all_the_latest_and_those_of_files() {
    let bryo = made(&["one", "two", "three"], &["sleep", "1000"]);
    bryo.ok(["start", "one", "two"]);
    assert_eq!(answer(&bryo, "stop --all").1.lines().count(), 2);
    assert_eq!(states(&bryo), "one=exited three=created two=exited");
    bryo.ok(["start", "one"]);
    assert_eq!(answer(&bryo, "restart -t 0 --all --running").1.lines().count(), 1);
    assert_eq!(states(&bryo), "one=running three=created two=exited");
    bryo.ok(["kill", "--all"]);
    bryo.ok(["wait", "one"]);
    let id = bryo.ok(["inspect", "-f", "{{.Id}}", "one"]);
    let file = bryo.scratch("cid");
    std::fs::write(&file, &id).unwrap();
    let file = file.to_str().unwrap();
    bryo.ok(["start", "one"]);
    assert_eq!(bryo.ok(["stop", "--cidfile", file]), id);
    assert_eq!(bryo.ok(["rm", "--cidfile", file]), id);
    bryo.fails(1, ["rm", "--cidfile", "/not/there"]);
    bryo.ok(["rm", "--ignore", "--cidfile", "/not/there"]);
    bryo.ok(["rm", "--latest"]);
    assert_eq!(states(&bryo), "two=exited");
    bryo.fails(125, ["rm", "--all", "two"]);
    bryo.ok(["rm", "--filter", "name=nosuch"]);
    assert_eq!(states(&bryo), "two=exited");
    bryo.ok(["rm", "--all"]);
    assert_eq!(states(&bryo), "");
    bryo.ok(["rm", "--all"]);
    bryo.fails(1, ["rm", "--latest"]);
}

/// Of seventeen ids two begin with the same digit.
#[test]
fn the_beginning_of_several_ids_is_none() {
    let bryo = made(&[], &[]);
    let image = bryo.ok(["images", "-q"]);
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..17 {
        let words = ["create", "--stop-timeout", "0", image.trim(), "sleep", "1000"];
        ids.push(bryo.ok(words).trim().to_owned());
    }
    let count = |digits: &str| ids.iter().filter(|id| id.starts_with(digits)).count();
    let several = ids
        .iter()
        .map(|id| &id[..1])
        .find(|digits| count(digits) > 1)
        .unwrap();
    for command in ["inspect", "start", "logs", "rm"] {
        let error = bryo.fails(1, [command, several]);
        let expected = format!("several containers' ids begin with {several}: give more digits");
        assert!(error.contains(&expected) && error.lines().count() == 1, "{error}");
    }
    let states = bryo.ok(["ps", "-a", "--format", "{{.State}}"]);
    assert_eq!(states, "created\n".repeat(17));
    let longer = (1..64)
        .map(|length| &ids[0][..length])
        .find(|digits| count(digits) == 1);
    bryo.ok(["rm", longer.unwrap()]);
    assert_eq!(bryo.ok(["ps", "-aq"]).lines().count(), 16);
}
