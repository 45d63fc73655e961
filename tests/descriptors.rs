//! Which descriptors of the caller reach a command in a container? Those that `--preserve-fds` asks for, and none else.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::process::Command;

use common::{Bryo, Done};

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

/// The tool with these words, started by a shell that has opened more before.
fn with_open<'a>(bryo: &Bryo, opens: &str, words: impl IntoIterator<Item = &'a str>) -> Done {
    let tool = bryo.command(words);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("exec {opens}; exec \"$@\""), "sh"])
        .arg(tool.get_program())
        .args(tool.get_args())
        .envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Done::of(&mut command)
}

/// What the shell has open, in one line.
const LISTS: &str = "for fd in /proc/$$/fd/*; do [ -L $fd ] && printf '%s ' ${fd##*/}; done; true";

#[test]
fn they_reach_the_command_under_their_numbers_and_no_others() {
    let (bryo, image) = busybox();
    let (from, to) = (bryo.scratch("from"), bryo.scratch("to"));
    fs::write(&from, "word\n").unwrap();
    let opens = format!(
        "3< {} 4> {} 5< /etc/passwd 9< /etc/passwd",
        from.display(),
        to.display()
    );
    let script = format!("cat <&3; echo said >&4; {LISTS}");
    bryo.ok(["run", "-d", "--name", "there", &image, "sleep", "1000"]);
    bryo.ok(["run", "-d", "--init", "--name", "init", &image, "sleep", "1000"]);
    let run = ["run", "--rm", "--preserve-fds", "2"];
    let exec = ["exec", "--preserve-fds=2"];
    for (command, flags, place) in [
        (&run[..], &[][..], &image[..]),
        (&run, &["-i"], &image),
        (&run, &["--init"], &image),
        (&run, &["--pid", "host"], &image),
        (&exec, &[], "there"),
        (&exec, &["-i", "--privileged"], "there"),
        (&exec, &["-u", "1:1"], "init"),
    ] {
        if flags.contains(&"1:1") && !common::has_id_range() {
            continue;
        }
        let inside = [place, "sh", "-c", &script];
        let done = with_open(&bryo, &opens, command.iter().chain(flags).chain(&inside).copied());
        assert_eq!(done.stdout, "word\n0 1 2 3 4 ", "{done}");
        assert_eq!(fs::read_to_string(&to).unwrap(), "said\n");
    }
    for words in [&["run", "--rm", &image][..], &["exec", "there"]] {
        let done = with_open(&bryo, &opens, words.iter().chain(&["sh", "-c", LISTS]).copied());
        assert_eq!(done.stdout, "0 1 2 ", "{done}");
    }
}

/// A reader waits until all who can write have closed: with the command, nobody is left.
#[test]
fn nobody_beside_the_command_keeps_them() {
    let (bryo, image) = busybox();
    let script = "echo word >&3; exec 3>&-; exec sleep 1000";
    bryo.ok(["run", "-d", "--name", "there", &image, "sleep", "1000"]);
    for words in [
        &["run", "-d", "--preserve-fds", "1", &image][..],
        &["run", "-d", "--init", "--preserve-fds", "1", &image],
        &[
            "run",
            "-d",
            "--restart",
            "always",
            "-p",
            "80",
            "--preserve-fds",
            "1",
            &image,
        ],
        &["exec", "-d", "--preserve-fds", "1", "there"],
    ] {
        // Descriptor 3 is what the test reads to its end.
        let done = with_open(
            &bryo,
            "3>&1 > /dev/null",
            words.iter().chain(&["sh", "-c", script]).copied(),
        );
        assert_eq!(done.stdout, "word\n", "{done}");
        assert!(done.status.success(), "{done}");
    }
}

#[test]
fn one_that_is_not_there_is_an_error() {
    let (bryo, image) = busybox();
    bryo.ok(["run", "-d", "--name", "there", &image, "sleep", "1000"]);
    for words in [
        &["run", "--preserve-fds", "2", &image][..],
        &["exec", "--preserve-fds", "2", "there"],
    ] {
        let done = with_open(
            &bryo,
            "3< /dev/null 4<&- 5< /dev/null",
            words.iter().chain(&["true"]).copied(),
        );
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(
            done.stderr.contains("file descriptor 4 is not available"),
            "{done}"
        );
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
    }
    assert_eq!(bryo.ok(["ps", "-aq"]).lines().count(), 1);
}
