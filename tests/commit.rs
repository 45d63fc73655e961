//! `commit`: a container becomes an image, running or not.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::sandbox::watched;
use common::{Bryo, process, until};
use nix::sys::signal::{Signal, kill};

#[test]
fn what_a_container_changed_is_in_the_image() {
    let (bryo, base) = Bryo::with_image("busybox");
    let script = "echo new > /new; rm /etc/passwd; mkdir -p /d/e; ln -s ../new /d/l; chmod 4711 /bin/busybox";
    bryo.ok([
        "run", "--name", "box", "-e", "A=b", "-w", "/d", &base, "sh", "-c", script,
    ]);
    let id = bryo.ok(["commit", "-m", "said", "-a", "me", "box", "made:1"]);
    assert_eq!(bryo.ok(["images", "-q", "--no-trunc", "made:1"]), id);
    let seen = bryo.sh(
        "made:1",
        "cat /new /d/l; test ! -e /etc/passwd; stat -c %a /bin/busybox; pwd; echo $A",
    );
    assert_eq!(seen, "new\nnew\n4711\n/d\nb\n");
    let history = bryo.ok([
        "history",
        "--format",
        "{{.CreatedBy}} {{.Comment}}",
        "--no-trunc",
        "made:1",
    ]);
    assert_eq!(history.lines().next().unwrap(), format!("sh -c {script} said"));
    // The base stays as it was.
    assert_eq!(
        bryo.sh(&base, "test ! -e /new; test -e /etc/passwd; echo same"),
        "same\n"
    );
}

#[test]
fn changes_are_a_dockerfiles() {
    let (bryo, base) = Bryo::with_image("busybox");
    bryo.ok(["create", "--name", "box", &base, "true"]);
    bryo.ok([
        "commit",
        "-c",
        "CMD [\"echo\", \"from cmd\"]",
        "-c",
        "ENV X=\"a b\"",
        "-c",
        "LABEL l=1",
        "box",
        "made",
    ]);
    assert_eq!(bryo.ok(["run", "--rm", "made"]), "from cmd\n");
    let config = bryo.ok([
        "image",
        "inspect",
        "--format",
        "{{json .Config.Env}} {{json .Config.Labels}}",
        "made",
    ]);
    assert!(
        config.contains("\"X=a b\"") && config.contains("\"l\":\"1\""),
        "{config}"
    );
    for (change, why) in [
        ("RUN true", "is no change of a config"),
        ("NONSENSE", "unknown instruction"),
    ] {
        let said = bryo.fails(1, ["commit", "-c", change, "box"]);
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
    assert!(
        bryo.fails(1, ["commit", "nobody"])
            .contains("No such container: nobody")
    );
}

/// Whatever it writes meanwhile, in place and anew, all files are as they were at one moment: of two that are always written one
/// after the other, none is ahead by more than that. (`/old` is replaced by one rename, so it is there at each moment.)
#[test]
fn of_a_running_container_all_files_are_of_one_moment() {
    let (bryo, base) = Bryo::with_image("busybox");
    let script = "head -c 30000000 /dev/urandom > /m; head -c 8192 /dev/zero > /a; cp /a /z; i=0
        while :; do i=$((i + 1))
            echo $i | dd of=/a bs=4096 conv=notrunc,fsync 2>/dev/null
            echo $i | dd of=/new conv=fsync 2>/dev/null; mv -f /new /old
            echo $i | dd of=/z bs=4096 conv=notrunc,fsync 2>/dev/null
        done";
    bryo.ok(["run", "-d", "--name", "box", &base, "sh", "-c", script]);
    until("the container goes on", || {
        bryo.ok(["diff", "box"]).contains("A /old")
    });
    for round in 0..5 {
        bryo.ok(["commit", "box", "made"]);
        let seen = bryo.sh("made", "head -n1 /a; head -n1 /z; cat /old; wc -c < /a");
        let numbers: Vec<u64> = seen.lines().map(|line| line.parse().unwrap_or(0)).collect();
        let [first, last, old, 8192] = numbers[..] else {
            panic!("{round}: {seen}")
        };
        assert!(
            first > 0 && (first == last || first == last + 1),
            "{round}: {seen}"
        );
        assert!(old == first || old + 1 == first, "{round}: {seen}");
    }
    bryo.ok(["rm", "-f", "box"]);
}

#[test]
fn of_a_running_container_all_that_was_written_is_in_it() {
    let (bryo, base) = Bryo::with_image("busybox");
    let script = "head -c 3000000 /dev/zero | tr '\\0' x > /big; echo done > /done; sleep 1000";
    bryo.ok(["run", "-d", "--name", "box", &base, "sh", "-c", script]);
    until("the container has written", || {
        bryo.ok(["diff", "box"]).contains("A /done")
    });
    bryo.ok(["commit", "box", "made"]);
    let seen = bryo.sh("made", "wc -c < /big; tr -d x < /big | wc -c; cat /done");
    assert_eq!(seen, "3000000\n0\ndone\n");
    bryo.ok(["rm", "-f", "box"]);
}

/// Closing a file waits for the kernel to write its pages out; this one stays open, and the server takes its time.
#[test]
fn what_is_written_to_a_file_that_stays_open_is_in_it() {
    let (bryo, base) = Bryo::with_image("busybox");
    // No process that ends, and no `>` that does: each would close a descriptor of it.
    let script = "exec > /db; n=0; while [ $((n += 1)) -le 3000 ]; do echo xxxxxxxxx; done; exec sleep 1000";
    bryo.ok(["run", "-d", "--name", "box", &base, "sh", "-c", script]);
    until("the container has written", || {
        bryo.ok(["top", "box"]).contains("sleep 1000")
    });
    let server = process(&bryo, "box", "FilesystemPid");
    let mut commit = bryo.command(["commit", "box", "made"]);
    let mut commit = commit.stdout(Stdio::null()).spawn().unwrap();
    while commit.try_wait().unwrap().is_none() {
        kill(server, Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        kill(server, Signal::SIGCONT).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(commit.wait().unwrap().success());
    let seen = bryo.sh("made", "wc -l < /db; grep -vc x /db || true");
    assert_eq!(seen, "3000\n0\n");
    bryo.ok(["rm", "-f", "box"]);
}

/// sync(2) would wait for every filesystem of the machine: a dead server's NFS, others' gigabytes.
#[test]
fn what_the_kernel_holds_of_other_filesystems_is_not_waited_for() {
    let (bryo, base) = Bryo::with_image("busybox");
    let rests = "exec sleep 1000";
    let leaves = "cp /bin/busybox /tmp/sleep; echo changed > /file; exec chroot /tmp /sleep 1000";
    for (name, flag, script) in [
        ("box", "--tty", rests),
        ("init", "--init", rests),
        ("ro", "--read-only", rests),
        ("host", "--pid=host", rests),
        ("elsewhere", "--tmpfs=/tmp:exec", leaves),
    ] {
        bryo.ok(["run", "-d", "--name", name, flag, &base, "sh", "-c", script]);
    }
    until("its root is another", || {
        bryo.ok(["top", "elsewhere"]).contains("/sleep 1000")
    });
    let archive = bryo.scratch("tree.tar");
    let out = archive.to_str().unwrap();
    for (name, calls) in [
        ("box", "syncfs"),
        ("init", "syncfs"),
        ("ro", "syncfs"),
        ("host", "syncfs"),
        ("elsewhere", "sync"),
    ] {
        for words in [&["commit", name, "made"][..], &["export", "-o", out, name]] {
            assert_eq!(syncs(&bryo, words), [calls], "{words:?}");
        }
        bryo.ok(["rm", "-f", name]);
    }
}

/// Which of the calls that wait for filesystems a command makes.
fn syncs(bryo: &Bryo, words: &[&str]) -> Vec<String> {
    let (done, log) = watched("trace=sync,syncfs", &bryo.command(words), &bryo.scratch("strace"));
    assert!(done.status.success(), "{done}");
    let calls = log
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
    calls.map(|(call, _)| call.to_owned()).collect()
}
