//! More ports than a process may usually have descriptors.

use std::process::Command;

use super::busybox;
use super::common::sandbox::within;
use super::common::{Bryo, Done};
use super::pages::{answers, is_free, serves};

/// The tool under a limit of open files.
fn limited(limit: &str, bryo: &Bryo, words: &[&str]) -> Done {
    let mut command: Command = within(&["prlimit", limit], &bryo.command(words));
    Done::of(&mut command)
}

/// The first of so many ports that are free at the moment, below those that the kernel gives to clients.
fn free_range(count: u16) -> u16 {
    (12_000..30_000)
        .step_by(count.into())
        .find(|first| (*first..first + count).all(is_free))
        .unwrap()
}

#[test]
fn more_ports_than_descriptors() {
    let (bryo, image) = busybox();
    let first = free_range(300);
    let range = format!("127.0.0.1:{first}-{}:8000-8299", first + 299);
    let script = format!("ulimit -Sn; {}", serves(8299, "last"));
    let words = [
        "run", "-d", "--name", "many", "-p", &range, &image, "sh", "-c", &script,
    ];
    let done = limited("--nofile=256:4096", &bryo, &words);
    assert!(done.status.success(), "{done}");
    answers(([127, 0, 0, 1], first + 299), "last");
    // The command has the user's limit.
    assert_eq!(bryo.ok(["logs", "many"]), "256\n");
    bryo.ok(["rm", "-f", "many"]);

    let words = ["run", "--rm", "-p", &range, &image, "true"];
    let done = limited("--nofile=128:128", &bryo, &words);
    assert_eq!(done.status.code(), Some(125), "{done}");
    assert!(
        done.stderr.contains("ulimit -Hn") && done.stderr.lines().count() == 1,
        "{done}"
    );
}
