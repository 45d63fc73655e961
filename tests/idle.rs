//! What does a container cost that does nothing? No processor time at all, and little memory.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::time::Duration;

use common::{Bryo, parent, process, until};
use nix::unistd::Pid;

/// How often all threads of these processes have run.
fn turns(processes: &[Pid]) -> Vec<(String, u64)> {
    let mut turns = Vec::new();
    for pid in processes {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
            let count = switches.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap());
            turns.push((status.lines().next().unwrap().to_owned(), count.sum()));
        }
    }
    turns.sort();
    turns
}

/// Its part of memory that no file has, in kB.
fn memory(pid: Pid) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let lines = rollup
        .lines()
        .filter(|line| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:"));
    lines
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn a_container_that_does_nothing_wakes_nobody() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "idle",
        "-p",
        "80",
        &image,
        "sh",
        "-c",
        "echo begun > /begun; exec sleep 1000",
    ]);
    let init = process(&bryo, "idle", "Pid");
    let supervisor = parent(init);
    let server = process(&bryo, "idle", "FilesystemPid");
    let all = [supervisor, server, process(&bryo, "idle", "NetworkPid")];
    // What it wrote is synced once, five seconds later; whatever ticks is seen by then.
    until("nobody wakes up for five seconds", || {
        let before = turns(&all);
        std::thread::sleep(Duration::from_secs(5));
        let after = turns(&all);
        if before != after {
            eprintln!("{before:?}\n{after:?}");
        }
        before == after
    });
    let kilobytes = memory(supervisor) + memory(server);
    assert!(kilobytes <= 8192, "supervisor and server have {kilobytes} kB");
}
