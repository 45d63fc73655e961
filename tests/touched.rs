//! Is what a command touches first remembered, and touched beside init at the next start? Strace shows by whom a byte is asked
//! for ahead of its reader (fadvise64): by nobody else.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::PathBuf;

use common::sandbox::watched;
use common::{Bryo, Done, field, parent, process, until};

/// Notes that are kept.
fn notes(bryo: &Bryo) -> Vec<PathBuf> {
    let entries = fs::read_dir(bryo.state().join("touched")).into_iter().flatten();
    let all = entries.map(|entry| entry.unwrap().path());
    all.filter(|path| path.is_file()).collect()
}

/// The calls by which a start touches something ahead.
fn touches<'a>(bryo: &Bryo, words: impl IntoIterator<Item = &'a str>) -> (Done, String) {
    let calls = "trace=openat2,fadvise64,readlinkat";
    watched(calls, &bryo.command(words), &bryo.scratch("strace"))
}

/// Notes for the next start, in place of those that a start has taken.
fn plant(bryo: &Bryo, text: &[u8]) {
    let notes = notes(bryo);
    assert_eq!(notes.len(), 1);
    fs::write(&notes[0], text).unwrap();
}

#[test]
fn the_second_start_has_ready_what_the_first_touched() {
    let (bryo, image) = Bryo::with_image("busybox");
    let run = ["run", "--rm", &image, "cat", "/etc/passwd"];
    let (first, calls) = touches(&bryo, run);
    assert!(first.status.success(), "{first}");
    assert!(!calls.contains("fadvise64"), "{calls}");
    until("its notes", || notes(&bryo).len() == 1);
    let noted = fs::read_to_string(&notes(&bryo)[0]).unwrap();
    for name in ["busybox\n", " passwd\n"] {
        assert!(
            noted.lines().any(|line| line.starts_with("n ")) && noted.contains(name),
            "{noted}"
        );
    }
    let (second, calls) = touches(&bryo, run);
    assert_eq!(second.stdout, first.stdout);
    assert!(calls.contains("fadvise64"), "{calls}");
    assert_eq!(fs::read_to_string(&notes(&bryo)[0]).unwrap(), noted);
    // Another program is another matter.
    let (other, calls) = touches(&bryo, ["run", "--rm", &image, "true"]);
    assert!(other.status.success() && !calls.contains("fadvise64"), "{calls}");
    until("its notes", || notes(&bryo).len() == 2);
}

/// It is one of the supervisor's children for moments only.
#[test]
fn who_touches_comes_to_an_end() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut beside = None;
    for _ in 0..2 {
        bryo.ok(["run", "-d", "--name", "one", &image, "sleep", "1000"]);
        let supervisor = parent(process(&bryo, "one", "FilesystemPid"));
        let children = format!("/proc/{supervisor}/task/{supervisor}/children");
        let count = || fs::read_to_string(&children).unwrap().split_whitespace().count();
        let usual = *beside.get_or_insert_with(count);
        until("as few as without notes", || count() == usual);
        bryo.ok(["rm", "-f", "one"]);
        until("its notes", || notes(&bryo).len() == 1);
    }
}

/// Of notes nothing is taken but names in the container's own tree.
#[test]
fn notes_lead_nowhere_else_and_need_not_be_true() {
    let (bryo, image) = Bryo::with_image("busybox");
    let bound = bryo.scratch("bound");
    fs::create_dir(&bound).unwrap();
    fs::write(bound.join("secret"), "x").unwrap();
    let bind = format!("{}:/mnt", bound.display());
    let run = ["run", "--rm", "-v", &bind, &image, "sleep", "0.2"];
    bryo.ok(run);
    until("its notes", || notes(&bryo).len() == 1);
    for text in [
        &b"n 1 2 ..\nn 2 3 etc\nn 3 4 passwd\nr 4 0 10\n"[..],
        b"n 1 2 none\nn 2 3 of\nr 3 0 99999999999999\n",
        b"n 1 2 bin\nr 2 0 4096\nl 2\nn 1 3 etc\nn 3 4 passwd\nr 4 18446744073709551615 18446744073709551615\n",
        b"\xff\xfe\n\n r\nn\nl\nr 1 2\n",
    ] {
        plant(&bryo, text);
        let done = bryo.run(run);
        assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    }
    plant(&bryo, b"n 1 2 mnt\nn 2 3 secret\nr 3 0 10\n");
    let (done, calls) = touches(&bryo, run);
    assert!(done.status.success(), "{done}");
    assert!(!calls.contains("fadvise64"), "{calls}");
}

/// What is not the image's own, or is seen by others, is not touched beside init.
#[test]
fn no_notes_are_taken_where_they_would_not_help() {
    let (bryo, image) = Bryo::with_image("busybox");
    let project = bryo.scratch("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("Dockerfile"), format!("FROM {image}\nRUN true\n")).unwrap();
    bryo.ok(["build", "-q", project.to_str().unwrap()]);
    assert_eq!(notes(&bryo), Vec::<PathBuf>::new());
    let run = [
        "run", "-d", "--name", "one", "--pid", "host", &image, "sleep", "0.1",
    ];
    for _ in 0..2 {
        let (done, calls) = touches(&bryo, run);
        assert!(
            done.status.success() && !calls.contains("fadvise64"),
            "{done}\n{calls}"
        );
        until("its end", || field(&bryo, "one", "{{.State.Running}}") == "false");
        bryo.ok(["rm", "one"]);
    }
}

/// A start that failed has touched nothing that would tell of one that does not.
#[test]
fn a_start_that_failed_leaves_no_notes() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.fails(127, ["run", "--rm", &image, "not-there"]);
    assert_eq!(notes(&bryo), Vec::<PathBuf>::new());
    bryo.ok(["run", "--rm", &image, "true"]);
    assert_eq!(notes(&bryo).len(), 1);
    // Empty ones, as a loss of power leaves, are taken anew.
    plant(&bryo, b"");
    bryo.ok(["run", "--rm", &image, "true"]);
    assert!(!fs::read(&notes(&bryo)[0]).unwrap().is_empty());
}
