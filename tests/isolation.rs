//! What must not get out of a container, and what must not get in: old holes of other tools, each tried.
//! `tests/HOLES.md` says which test is of which hole.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

#[path = "isolation/image.rs"]
mod image;
#[path = "isolation/listening.rs"]
mod listening;
#[path = "isolation/races.rs"]
mod races;
#[path = "isolation/reach.rs"]
mod reach;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::sandbox::within;
use common::{Bryo, Done, copy_program, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn sha256(path: &Path) -> String {
    let done = Done::of(Command::new("sha256sum").arg("--").arg(path));
    assert!(done.status.success(), "{done}");
    done.stdout.split(' ').next().unwrap().to_owned()
}

/// Content hashes of every layer file.
fn layers(bryo: &Bryo) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(bryo.root().join("layers"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.display().to_string(), sha256(&path)))
        .collect()
}

#[test]
fn the_image_stays_as_it_was() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let before = layers(&bryo);
    assert!(before.keys().any(|name| name.ends_with(".tar")), "{before:?}");
    bryo.sh(&image, "echo x >> /etc/passwd; chmod -R 700 /usr/share; rm -rf /var/lib /opt; mv /usr/share /share; truncate -s 1 /etc/debian_version");
    bryo.sh(
        &image,
        "test -d /var/lib/dpkg; test -d /usr/share; ! grep -x x /etc/passwd; grep -q 12 /etc/debian_version",
    );
    assert_eq!(layers(&bryo), before);
    bryo.ok(["store", "check"]);
}

/// One for each core that it may use, at least two: the first has no name of its own.
#[test]
fn the_filesystem_server_has_a_thread_for_each_core() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--name", "long", &image, "sleep", "1000"]);
    let server = process(&bryo, "long", "FilesystemPid");
    let others = std::thread::available_parallelism().unwrap().get().clamp(2, 16) - 1;
    let wanted: Vec<String> = (1..=others).map(|number| format!("fuse-{number}\n")).collect();
    until("its threads", || {
        let tasks = std::fs::read_dir(format!("/proc/{server}/task")).unwrap();
        let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
        let mut named: Vec<String> = names
            .filter(|name| name.starts_with("fuse-") && name != "fuse-sync\n")
            .collect();
        named.sort_by_key(|name| (name.len(), name.clone()));
        named == wanted
    });
}

/// What a fault in the filesystem server is worth to whoever finds it: every thread of it, and of the one that follows it,
/// is under a filter and gains no privileges. (What the filter and Landlock refuse: `supervisor/confine.rs`.)
#[test]
fn the_filesystem_server_is_confined() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--name", "long", &image, "sleep", "1000"]);
    let server = || process(&bryo, "long", "FilesystemPid");
    let first = server();
    let threads = |server: Pid| -> Vec<_> {
        let tasks = std::fs::read_dir(format!("/proc/{server}/task")).unwrap();
        tasks.map(|task| task.unwrap().path()).collect()
    };
    let confined = |server: Pid| {
        until("its threads", || threads(server).len() > 2);
        for thread in threads(server) {
            let status = std::fs::read_to_string(thread.join("status")).unwrap();
            assert!(
                status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"),
                "{status}"
            );
        }
    };
    confined(first);
    kill(first, Signal::SIGKILL).unwrap();
    until("a successor", || server() != first);
    confined(server());
    bryo.ok(["rm", "-f", "long"]);
}

/// CVE-2019-5736: the runtime's binary, reached over /proc/…/exe, overwritten from inside. The binary belongs to the
/// user here, so only Bryo itself stands in the way.
#[test]
fn a_container_cannot_overwrite_the_binary() {
    let (bryo, image) = Bryo::with_image("busybox");
    let own = bryo.scratch("bryo-of-the-user");
    assert!(copy_program(bryo.command([""]).get_program(), &own));
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
    let before = sha256(&own);
    let attack = "for exe in /proc/[0-9]*/exe /proc/self/exe; do
            case $(readlink $exe) in */busybox) continue;; esac
            (echo overwritten > $exe) 2> /dev/null && echo wrote $exe
            (exec 9<> $exe) 2> /dev/null && echo opened $exe
        done; true";
    for init in [&["--init"][..], &[]] {
        let mut command = bryo.command_of(&own, ["run", "--rm"]);
        command.args(init).args([&image, "sh", "-c", attack]);
        let done = Done::of(&mut command);
        assert!(done.status.success(), "{done}");
        assert_eq!(done.stdout, "");
        assert_eq!(sha256(&own), before);
    }
}

/// CVE-2024-21626: a working directory that names a descriptor of the runtime.
#[test]
fn no_descriptor_of_the_runtime_is_a_way_out() {
    let (bryo, image) = Bryo::with_image("busybox");
    for number in 3..=24 {
        let directory = format!("/proc/self/fd/{number}");
        let done = bryo.run(["run", "--rm", "-w", &directory, &image, "ls", "."]);
        assert!(
            !done.status.success(),
            "{directory} is a working directory: {done}"
        );
    }
}

#[test]
fn only_the_three_standard_descriptors_reach_the_command() {
    let (bryo, image) = Bryo::with_image("busybox");
    let secret = bryo.scratch("secret");
    std::fs::write(&secret, "secret").unwrap();
    // The caller leaks one too.
    let prepared = bryo.command(["run", "--rm", &image, "sh", "-c", "ls /proc/$$/fd; true"]);
    let leak = [
        "sh",
        "-c",
        "exec 7< \"$0\"; exec \"$@\"",
        secret.to_str().unwrap(),
    ];
    let done = Done::of(&mut within(&leak, &prepared));
    assert!(done.status.success(), "{done}");
    let open: Vec<&str> = done.stdout.split_whitespace().collect();
    assert_eq!(open, ["0", "1", "2"], "{done}");
}

#[test]
fn the_tree_is_unreachable_from_outside() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut child = bryo
        .command(["run", "--rm", "--name", "inside", &image, "sleep", "60"])
        .spawn()
        .unwrap();
    let pid = running_pid(&bryo, "inside");
    for path in ["etc/passwd", "bin", ""] {
        let path = Path::new("/proc").join(&pid).join("root").join(path);
        let seen = std::fs::symlink_metadata(&path)
            .and_then(|_| std::fs::read_dir(&path).map(|mut dir| dir.next().is_some()));
        assert!(seen.is_err(), "{} can be read from outside", path.display());
    }
    bryo.ok(["rm", "-f", "inside"]);
    child.wait().unwrap();
}

#[test]
fn nobody_else_can_enter_the_store() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.sh(&image, "true");
    for directory in [bryo.root(), bryo.state(), bryo.dir().join("run")] {
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", directory.display());
    }
}

/// No lock of the store is held across a start, and a start writes nothing there.
#[test]
fn sixteen_starts_at_once_leave_the_image_store_alone() {
    let (bryo, image) = Bryo::with_image("busybox");
    let state = || {
        let mut find = Command::new("find");
        Done::of(
            find.arg(bryo.root())
                .args(["-type", "f", "-printf", "%p %s %T@ %C@\n"]),
        )
        .stdout
    };
    bryo.sh(&image, "true");
    let before = state();
    let started: Vec<_> = (0..16)
        .map(|n| {
            bryo.command(["run", "--rm", &image, "sh", "-c", &format!("exit {n}")])
                .spawn()
                .unwrap()
        })
        .collect();
    for (n, mut child) in started.into_iter().enumerate() {
        assert_eq!(child.wait().unwrap().code(), Some(i32::try_from(n).unwrap()));
    }
    assert_eq!(state(), before);
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// The host's pid of a container's first process, once it runs.
fn running_pid(bryo: &Bryo, name: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let done = bryo.run(["inspect", "--format", "{{.State.Status}} {{.State.Pid}}", name]);
        if let Some(pid) = done.stdout.trim().strip_prefix("running ") {
            return pid.to_owned();
        }
        assert!(
            Instant::now() < deadline,
            "waited in vain: the container does not start: {done}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
