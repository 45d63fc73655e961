//! Containers that share processes or memory with another one, or with the host: `--ipc`, `--pid`.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::Path;

use common::{Bryo, field, parent, process, until};
use nix::sys::signal::{Signal, kill};

fn words<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

/// Starts a container that stays.
fn stays(bryo: &Bryo, image: &str, name: &str, flags: &[&str], script: &str) {
    let run = ["run", "-d", "--name", name];
    bryo.ok(words(&[&run, flags, &[image, "sh", "-c", script]]));
}

/// What a script prints in a container that goes at once.
fn printed(bryo: &Bryo, image: &str, flags: &[&str], script: &str) -> String {
    bryo.ok(words(&[&["run", "--rm"], flags, &[image, "sh", "-c", script]]))
}

/// Why a container is not made.
fn refused(bryo: &Bryo, image: &str, flags: &[&str]) -> String {
    bryo.fails(125, words(&[&["run", "--rm"], flags, &[image, "true"]]))
}

/// The host's number of a process by its command line, which no other test has.
fn running(command: &str) -> Vec<i32> {
    let wanted = command.replace(' ', "\0") + "\0";
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        (line == wanted.as_bytes()).then_some(pid)
    })
    .collect()
}

#[test]
fn memory_of_another_container() {
    for flags in [&["--ipc", "shareable"][..], &["--ipc", "shareable", "--init"]] {
        let (bryo, image) = Bryo::with_image("busybox");
        stays(&bryo, &image, "one", flags, "exec sleep 1000");
        let script = "readlink /proc/self/ns/ipc; echo mine > /dev/shm/f; touch /dev/mqueue/q";
        let own = bryo.ok(["exec", "one", "readlink", "/proc/self/ns/ipc"]);
        let join = ["--ipc", "container:one"];
        assert_eq!(printed(&bryo, &image, &join, script), own);
        let seen = ["exec", "one", "sh", "-c", "cat /dev/shm/f; ls /dev/mqueue"];
        assert_eq!(bryo.ok(seen), "mine\nq\n");
        let (id, mode) = (field(&bryo, "one", "{{.Id}}"), "{{.HostConfig.IpcMode}}");
        stays(&bryo, &image, "two", &join, "cat /dev/shm/f; exec sleep 1000");
        assert_eq!(field(&bryo, "two", mode), format!("container:{id}"));
        until("it reads", || bryo.ok(["logs", "two"]) == "mine\n");
        // Another run, another memory.
        bryo.ok(["restart", "-t0", "one"]);
        bryo.ok(["restart", "-t0", "two"]);
        let own = bryo.ok(["exec", "one", "readlink", "/proc/self/ns/ipc"]);
        assert_eq!(bryo.ok(["exec", "two", "readlink", "/proc/self/ns/ipc"]), own);
        assert_eq!(bryo.ok(["exec", "two", "ls", "/dev/shm"]), "");
    }
}

#[test]
fn memory_that_cannot_be_shared() {
    let (bryo, image) = Bryo::with_image("busybox");
    stays(&bryo, &image, "own", &[], "exec sleep 1000");
    stays(&bryo, &image, "hosts", &["--ipc", "host"], "exec sleep 1000");
    bryo.ok(["create", "--name", "ended", "--ipc", "shareable", &image, "true"]);
    for (name, why) in [
        ("own", "non-shareable IPC"),
        ("ended", "cannot join IPC of a non running container: ended"),
        ("nosuch", "No such container: nosuch"),
    ] {
        let error = refused(&bryo, &image, &["--ipc", &format!("container:{name}")]);
        assert!(error.contains(why), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let join = ["--ipc", "container:hosts"];
    let host = fs::read_link("/proc/self/ns/ipc").unwrap();
    let found = printed(&bryo, &image, &join, "readlink /proc/self/ns/ipc");
    assert_eq!(Path::new(found.trim()), host);
    let join = ["--ipc", "container:hosts", "--sysctl", "kernel.msgmax=9000"];
    assert!(refused(&bryo, &image, &join).contains("kernel.msgmax"));
    assert_eq!(bryo.ok(["ps", "-q"]).lines().count(), 2);
}

/// A container with --init can be joined as any other.
#[test]
fn the_network_of_one_whose_first_process_is_ours() {
    let (bryo, image) = Bryo::with_image("busybox");
    stays(&bryo, &image, "one", &["--init"], "exec sleep 1000");
    let own = bryo.ok(["exec", "one", "readlink", "/proc/self/ns/net"]);
    let join = ["--network", "container:one"];
    assert_eq!(printed(&bryo, &image, &join, "readlink /proc/self/ns/net"), own);
}

#[test]
fn processes_of_another_container() {
    for flags in [&[][..], &["--init"]] {
        let (bryo, image) = Bryo::with_image("busybox");
        stays(&bryo, &image, "one", flags, "sleep 5001 & sleep 5002; wait");
        let id = field(&bryo, "one", "{{.Id}}");
        let join = ["--pid", "container:one"];
        stays(&bryo, &image, "two", &join, "sleep 5003; true");
        let mode = field(&bryo, "two", "{{.HostConfig.PidMode}}");
        assert_eq!(mode, format!("container:{id}"));
        until("both see all", || {
            let ps = |name| bryo.ok(["exec", name, "ps"]);
            ["5001", "5002", "5003"]
                .iter()
                .all(|text| ps("one").contains(text) && ps("two").contains(text))
        });
        // `top` tells whose they are.
        let top = bryo.ok(["top", "two"]);
        assert!(top.contains("5003") && !top.contains("5001"), "{top}");
        // They can be signalled, and what a container leaves ends with it, and no more.
        let script = "kill $(pidof sleep | tr ' ' '\\n' | while read p; do grep -q 5002 /proc/$p/cmdline && echo $p; done); \
            setsid sleep 5004 & exit 7";
        let words = [
            "run",
            "--rm",
            "--pid",
            "container:one",
            &image,
            "sh",
            "-c",
            script,
        ];
        bryo.fails(7, words);
        assert_eq!(running("sleep 5004"), Vec::<i32>::new());
        until("it is gone", || running("sleep 5002").is_empty());
        assert_eq!(running("sleep 5001").len(), 1);
        // The kernel ends all with the first process.
        bryo.ok(["kill", "one"]);
        until("both have ended", || bryo.ok(["ps", "-q"]).is_empty());
        assert_eq!(field(&bryo, "two", "{{.State.ExitCode}}"), "137");
        let error = bryo.fails(1, ["start", "two"]);
        assert!(
            error.contains("cannot join PID of a non running container: one"),
            "{error}"
        );
    }
}

#[test]
fn processes_of_the_host() {
    let (bryo, image) = Bryo::with_image("busybox");
    let own = std::process::id();
    let script = format!(
        "readlink /proc/self/ns/pid; tr '\\0' '\\n' < /proc/{own}/cmdline | head -n1 | grep -o neighbours; \
         cat /proc/{own}/environ 2>&1; ls /proc/{own}/root/ 2>&1; wc -c < /proc/keys; \
         echo 1 > /proc/sys/vm/swappiness"
    );
    let words = ["run", "--rm", "--pid", "host", &image, "sh", "-c", &script];
    let done = bryo.run(words);
    let lines: Vec<&str> = done.stdout.lines().collect();
    let host = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(Path::new(lines[0]), host, "{done}");
    assert_eq!(lines[1], "neighbours", "{done}");
    // It sees that they are there, and no more of them.
    assert!(lines[2].ends_with("Permission denied"), "{done}");
    assert!(lines[3].ends_with("Permission denied"), "{done}");
    assert_eq!(lines[4], "0", "{done}");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    let also = ["--pid", "host", "--init"];
    assert_eq!(
        printed(&bryo, &image, &also, "exec readlink /proc/self/ns/pid"),
        lines[0].to_owned() + "\n"
    );
    let error = bryo.fails(125, ["run", "--join", "ranks", "--pid", "host", &image, "true"]);
    assert!(error.contains("--join and the PID mode"), "{error}");
}

/// No kernel ends what a first process leaves where it is no pid 1.
#[test]
fn what_is_left_among_the_hosts_processes_ends_with_its_container() {
    let (bryo, image) = Bryo::with_image("busybox");
    let host = ["--pid", "host"];
    let script = "setsid sleep 5101 & (setsid sleep 5102 &) ; exit 3";
    let words = ["run", "--rm", "--pid", "host", &image, "sh", "-c", script];
    bryo.fails(3, words);
    assert_eq!(running("sleep 5101"), Vec::<i32>::new());
    assert_eq!(running("sleep 5102"), Vec::<i32>::new());
    let script = "(setsid sleep 5103 &) ; exec sleep 5104";
    stays(&bryo, &image, "one", &host, script);
    bryo.ok(["exec", "-d", "one", "sleep", "5105"]);
    let all = ["sleep 5103", "sleep 5104", "sleep 5105"];
    until("all run", || all.iter().all(|line| running(line).len() == 1));
    let top = bryo.ok(["top", "one"]);
    assert!(all.iter().all(|line| top.contains(line)), "{top}");
    assert_eq!(top.lines().count(), 4, "{top}");
    bryo.ok(["stop", "-t0", "one"]);
    assert!(all.iter().all(|line| running(line).is_empty()));
    // Nor if nobody is beside it any more.
    bryo.ok(["start", "one"]);
    until("it runs", || all[..2].iter().all(|line| running(line).len() == 1));
    let supervisor = parent(process(&bryo, "one", "Pid"));
    kill(supervisor, Signal::SIGKILL).unwrap();
    until("all have ended", || {
        all.iter().all(|line| running(line).is_empty())
    });
    assert_eq!(field(&bryo, "one", "{{.State.ExitCode}}"), "137");
    bryo.ok(["start", "one"]);
    bryo.ok(["rm", "-f", "one"]);
    assert!(all.iter().all(|line| running(line).is_empty()));
}

/// Then nobody is left who would end them at once; the next command does, whatever it is.
#[test]
fn what_two_kills_leave_among_the_hosts_processes_ends_with_the_next_command() {
    let (bryo, image) = Bryo::with_image("busybox");
    let left = ["sleep 5112", "sleep 5113", "sleep 5114"];
    let script = "(setsid sleep 5112 &); (setsid sh -c 'sleep 5113; true' &); exec sleep 5111";
    for rm in [&[][..], &["--rm"]] {
        let words = ["--pid", "host", "--name", "one", &image, "sh", "-c", script];
        bryo.ok(["run", "-d"].iter().chain(rm).chain(&words));
        bryo.ok(["exec", "-d", "one", "sh", "-c", "sleep 5114; true"]);
        until("all run", || left.iter().all(|line| running(line).len() == 1));
        let init = process(&bryo, "one", "Pid");
        let supervisor = parent(init);
        let warden = warden(supervisor);
        for pid in [warden, supervisor] {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        until("its first process has ended", || running("sleep 5111").is_empty());
        assert!(
            left.iter().any(|line| !running(line).is_empty()),
            "they ended by themselves"
        );
        // The filesystem server, which syncs a moment longer, holds the container's lock meanwhile.
        until("a command ends them", || {
            let listed = bryo.ok(["ps", "-aq"]).lines().count();
            listed == usize::from(rm.is_empty()) && left.iter().all(|line| running(line).is_empty())
        });
        if rm.is_empty() {
            assert_eq!(field(&bryo, "one", "{{.State.ExitCode}}"), "137");
            bryo.ok(["rm", "one"]);
        }
    }
}

/// The process that ends a container's others if its supervisor is killed.
fn warden(supervisor: nix::unistd::Pid) -> nix::unistd::Pid {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(children).unwrap();
    let is_warden = |pid: &&str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"bryo-warden\0")
    };
    let found = children.split_whitespace().find(is_warden).unwrap();
    nix::unistd::Pid::from_raw(found.parse().unwrap())
}
