//! Does a start that stands still hold up others? Sixteen begin at once, one is stopped on its way.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use common::{Bryo, Done, images};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Commands that go on beside a start that stands still; each panics if it fails.
fn others(bryo: &Bryo, image: &str) {
    let archive = format!("oci-archive:{}", images().join("busybox.oci.tar").display());
    std::thread::scope(|threads| {
        for number in 0..15 {
            let mut run = bryo.command(["run", "--rm", "--network", "none", image, "echo", "up"]);
            threads.spawn(move || {
                let done = Done::of(&mut run);
                assert!(done.status.success() && done.stdout == "up\n", "{number}: {done}");
            });
        }
        threads.spawn(|| {
            bryo.ok(["pull", "-q", &archive]);
            assert!(bryo.ok(["images"]).contains("busybox"));
            bryo.ok(["rmi", "busybox:oci"]);
            bryo.ok(["image", "prune", "-f"]);
            bryo.ok(["ps", "-a"]);
        });
    });
}

#[test]
fn a_start_that_stands_still_holds_up_nobody() {
    let (bryo, image) = Bryo::with_image("odd");
    // The holder is there from the second round on; in the first its maker may be the one that stands still.
    for after in [0, 1, 2, 4, 6, 9, 12, 16, 22, 30, 50] {
        let mut command = bryo.command(["run", "--rm", "--network", "none", &image, "echo", "late"]);
        command.process_group(0).stdout(Stdio::piped());
        let victim = command.spawn().unwrap();
        let group = Pid::from_raw(victim.id().try_into().unwrap());
        std::thread::sleep(Duration::from_millis(after));
        killpg(group, Signal::SIGSTOP).unwrap();
        others(&bryo, &image);
        killpg(group, Signal::SIGCONT).unwrap();
        let output = victim.wait_with_output().unwrap();
        assert!(output.status.success(), "stopped after {after} ms: {output:?}");
        assert_eq!(output.stdout, b"late\n", "stopped after {after} ms");
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}
