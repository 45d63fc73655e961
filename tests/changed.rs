//! What is changed of a container after it was made: its name, its restart policy; and waiting for what becomes of it.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};

use common::{Bryo, Done, field, kills, parent, process, until, until_it_waits};

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

#[test]
fn a_name_can_be_changed_whatever_the_container_does() {
    let (bryo, image) = busybox();
    bryo.ok(["run", "-d", "--name", "one", &image, "sleep", "1000"]);
    bryo.ok(["create", "--name", "taken", &image, "true"]);
    let id = field(&bryo, "one", "{{.Id}}");
    assert_eq!(bryo.ok(["rename", "one", "two"]), "");
    assert_eq!(field(&bryo, "two", "{{.Id}} {{.Name}}"), format!("{id} /two"));
    assert!(bryo.fails(1, ["stop", "one"]).contains("No such container: one"));
    // The old name is free; the other is not.
    bryo.ok(["create", "--name", "one", &image, "true"]);
    let taken = bryo.fails(1, ["rename", "two", "taken"]);
    assert!(taken.contains("is already in use by container"), "{taken}");
    let same = bryo.fails(1, ["rename", "two", "two"]);
    assert!(same.contains("is already in use by container"), "{same}");
    let bad = bryo.fails(1, ["rename", "two", "a/b"]);
    assert!(bad.contains("Invalid container name"), "{bad}");
    // Its supervisor, which knew the old name, does not bring it back.
    bryo.ok(["stop", "-t", "0", "two"]);
    assert_eq!(field(&bryo, "two", "{{.State.Status}} {{.Name}}"), "exited /two");
    bryo.ok(["start", "two"]);
    assert_eq!(bryo.ok(["ps", "--format", "{{.Names}}"]), "two\n");
    bryo.ok(["rm", "-f", "two"]);
    bryo.ok(["create", "--name", "two", &image, "true"]);
    // Also not of one that is removed at its end.
    bryo.ok(["run", "-d", "--rm", "--name", "short", &image, "sleep", "1000"]);
    bryo.ok(["rename", "short", "long"]);
    bryo.ok(["kill", "long"]);
    for name in ["short", "long"] {
        bryo.ok(["create", "--name", name, &image, "true"]);
    }
}

/// Also when it is gone by then, or runs again.
#[test]
fn the_exit_code_of_what_removes_itself_is_waited_for() {
    let (bryo, image) = busybox();
    bryo.ok([
        "run",
        "-d",
        "-i",
        "--rm",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        "read x; exit 7",
    ]);
    let wait = |name| {
        let mut wait = bryo.command(["wait", name]);
        wait.stdout(Stdio::piped()).spawn().unwrap()
    };
    let said = |wait: Child| String::from_utf8(wait.wait_with_output().unwrap().stdout).unwrap();
    let (first, second) = (wait("one"), wait("one"));
    until_it_waits(&first);
    until_it_waits(&second);
    let mut attach = bryo.command(["attach", "one"]);
    let mut attach = attach.stdin(Stdio::piped()).spawn().unwrap();
    attach.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert_eq!([said(first), said(second)], ["7\n", "7\n"]);
    assert_eq!(attach.wait().unwrap().code(), Some(7));
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// Killed at each of its steps, a rename leaves one container of one name, and the other name free.
#[test]
fn a_killed_rename_leaves_one_name() {
    let (bryo, image) = busybox();
    bryo.ok(["create", "--name", "one", &image, "true"]);
    let id = field(&bryo, "one", "{{.Id}}");
    for step in 1.. {
        let mut rename = bryo.command(["rename", "one", "two"]);
        let done = Done::of(rename.env("BRYO_FAILPOINT", step.to_string()));
        let names = bryo.ok(["ps", "-a", "--format", "{{.Names}}"]);
        let (has, other) = match names.trim_end() {
            "one" => ("one", "two"),
            "two" => ("two", "one"),
            names => panic!("{names} after step {step}"),
        };
        assert_eq!(field(&bryo, has, "{{.Id}}"), id, "step {step}");
        assert!(
            bryo.run(["inspect", other]).status.code() == Some(1),
            "step {step}"
        );
        bryo.ok(["create", "--name", other, &image, "true"]);
        bryo.ok(["rm", other]);
        if done.status.success() {
            assert_eq!(has, "two");
            return;
        }
        if has == "two" {
            bryo.ok(["rename", "two", "one"]);
        }
    }
}

#[test]
fn two_who_rename_at_once_leave_one_name() {
    let (bryo, image) = busybox();
    for _ in 0..kills(5) {
        bryo.ok(["create", "--name", "one", &image, "true"]);
        let tools: Vec<_> = ["aa", "bb", "cc"]
            .map(|name| {
                bryo.command(["rename", "one", name])
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .into_iter()
            .map(|mut tool| tool.wait().unwrap().success())
            .collect();
        assert!(tools.contains(&true));
        let name = bryo.ok(["ps", "-a", "--format", "{{.Names}}"]);
        bryo.ok(["rm", name.trim_end()]);
        for name in ["aa", "bb", "cc"] {
            bryo.ok(["create", "--name", name, &image, "true"]);
            bryo.ok(["rm", name]);
        }
    }
}

#[test]
fn a_policy_can_be_changed_while_it_runs() {
    let (bryo, image) = busybox();
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        "while [ ! -e /go ]; do sleep 0.1; done; rm /go; exit 4",
    ]);
    assert_eq!(bryo.ok(["update", "--restart", "on-failure:1", "one"]), "one\n");
    assert_eq!(
        field(&bryo, "one", "{{json .HostConfig.RestartPolicy}}"),
        r#"{"Name":"on-failure","MaximumRetryCount":1}"#
    );
    bryo.ok(["exec", "one", "touch", "/go"]);
    until("another run", || {
        field(&bryo, "one", "{{.State.Status}} {{.RestartCount}}") == "running 1"
    });
    bryo.ok(["update", "--restart", "no", "one"]);
    bryo.ok(["exec", "one", "touch", "/go"]);
    assert_eq!(bryo.ok(["wait", "one"]), "4\n");
    assert_eq!(
        field(&bryo, "one", "{{.State.Status}} {{.RestartCount}}"),
        "exited 1"
    );
    assert!(bryo.fails(1, ["update", "one"]).contains("one or more flags"));
    bryo.ok(["run", "-d", "--rm", "--name", "two", &image, "sleep", "1000"]);
    assert!(
        bryo.fails(1, ["update", "--restart", "always", "two"])
            .contains("--rm")
    );
    bryo.ok(["rm", "-f", "two"]);
}

#[test]
fn what_is_waited_for_is_said() {
    let (bryo, image) = busybox();
    bryo.ok([
        "create",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        "while [ ! -e /go ]; do sleep 0.1; done; rm /go; exit 4",
    ]);
    assert_eq!(bryo.ok(["wait", "--condition", "created", "one"]), "-1\n");
    let wait = |words: &[&str]| {
        let words = [&["wait"], words].concat();
        bryo.command(words).stdout(Stdio::piped()).spawn().unwrap()
    };
    let [running, ended] = [
        wait(&["--condition", "running", "one"]),
        wait(&["--condition=stopped", "--condition=healthy", "one"]),
    ];
    bryo.ok(["start", "one"]);
    let said =
        |tool: std::process::Child| String::from_utf8(tool.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said(running), "-1\n");
    bryo.ok(["exec", "one", "touch", "/go"]);
    assert_eq!(said(ended), "4\n");
    // Without a condition, for the end of a run, though another follows.
    bryo.ok(["update", "--restart", "always", "one"]);
    bryo.ok(["start", "one"]);
    let ended = wait(&["one"]);
    until_it_waits(&ended);
    bryo.ok(["exec", "one", "touch", "/go"]);
    assert_eq!(said(ended), "4\n");
    bryo.ok(["rm", "-f", "one"]);
    assert_eq!(bryo.ok(["wait", "--ignore", "one"]), "-1\n");
    assert!(bryo.fails(1, ["wait", "one"]).contains("No such container"));
    assert!(
        bryo.fails(125, ["wait", "--condition", "paid", "one"])
            .contains("created, running, stopped")
    );
}

/// Docker's conditions: `not-running` is what there is without one, `next-exit` waits for a run that is still to begin.
#[test]
fn what_docker_waits_for_is_waited_for() {
    let (bryo, image) = busybox();
    let script = "while [ ! -e /go ]; do sleep 0.1; done; rm /go; exit 4";
    bryo.ok(["create", "--name", "one", &image, "sh", "-c", script]);
    let wait = |condition: &str| {
        let words = ["wait", "--condition", condition, "one"];
        bryo.command(words).stdout(Stdio::piped()).spawn().unwrap()
    };
    let said =
        |tool: std::process::Child| String::from_utf8(tool.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said(wait("not-running")), "0\n");
    let [mut next, mut gone] = [wait("next-exit"), wait("removed")];
    until_it_waits(&next);
    until_it_waits(&gone);
    bryo.ok(["start", "one"]);
    let ended = wait("not-running");
    until_it_waits(&ended);
    assert!(next.try_wait().unwrap().is_none(), "nothing has ended");
    bryo.ok(["exec", "one", "touch", "/go"]);
    assert_eq!([said(next), said(ended)], ["4\n", "4\n"]);
    assert_eq!(said(wait("not-running")), "4\n");
    assert!(gone.try_wait().unwrap().is_none(), "it is still there");
    // The end before does not count.
    let mut next = wait("next-exit");
    until_it_waits(&next);
    assert!(next.try_wait().unwrap().is_none(), "no other run has ended");
    bryo.ok(["start", "one"]);
    bryo.ok(["rm", "-f", "one"]);
    assert_eq!([said(next), said(gone)], ["137\n", "137\n"]);
    // Never run.
    bryo.ok(["create", "--name", "one", &image, "true"]);
    let gone = wait("removed");
    until_it_waits(&gone);
    bryo.ok(["rm", "one"]);
    assert_eq!(said(gone), "0\n");
}

#[test]
fn a_container_says_how_long_its_stop_takes() {
    let (bryo, image) = busybox();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        "--stop-timeout",
        "0",
        &image,
        "sh",
        "-c",
        script,
    ]);
    until("its trap", || bryo.ok(["logs", "one"]) == "ready\n");
    assert_eq!(field(&bryo, "one", "{{.Config.StopTimeout}}"), "0");
    let before = std::time::Instant::now();
    bryo.ok(["stop", "one"]);
    assert!(
        before.elapsed().as_secs() < 9,
        "it was given the usual ten seconds"
    );
    assert_eq!(field(&bryo, "one", "{{.State.ExitCode}}"), "137");
}

#[test]
fn pids_are_written_where_they_are_looked_for() {
    let (bryo, image) = busybox();
    let (one, other) = (bryo.scratch("pid"), bryo.scratch("conmon.pid"));
    let flags = [
        "--pidfile",
        one.to_str().unwrap(),
        "--conmon-pidfile",
        other.to_str().unwrap(),
    ];
    bryo.ok([
        vec!["run", "-d", "--name", "one"],
        flags.to_vec(),
        vec![&image, "sleep", "1000"],
    ]
    .concat());
    let read = |path| fs::read_to_string(path).unwrap();
    let pid = process(&bryo, "one", "Pid");
    assert_eq!(
        [read(&one), read(&other)],
        [pid, parent(pid)].map(|pid| pid.to_string())
    );
    // Those of the next run are other ones.
    bryo.ok(["restart", "-t", "0", "one"]);
    let next = process(&bryo, "one", "Pid");
    assert!(next != pid && read(&one) == next.to_string());
    // Where there can be no file, nothing runs.
    let made = bryo.scratch("made");
    fs::create_dir(&made).unwrap();
    let volume = format!("{}:/made", made.display());
    let words = ["run", "--name", "two", "-v", &volume, "--pidfile", "/proc/none"];
    let error = bryo.fails(125, [&words[..], &[&image, "touch", "/made/it"]].concat());
    assert!(error.contains("cannot write the pid file /proc/none"), "{error}");
    assert_eq!(fs::read_dir(&made).unwrap().count(), 0);
    // Nor does it go on where the pid cannot be written.
    let words = [
        "run",
        "--name",
        "three",
        "--pidfile",
        "/dev/full",
        &image,
        "sleep",
        "1000",
    ];
    let error = bryo.fails(125, words);
    assert!(error.contains("cannot write the pid file /dev/full"), "{error}");
}

/// Type=notify of systemd, stood in for by a socket.
#[test]
fn systemd_is_told_when_it_is_ready() {
    let (bryo, image) = busybox();
    let path = bryo.scratch("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut tool = bryo.command([
        "run",
        "-d",
        "--name",
        "one",
        "--sdnotify",
        "conmon",
        &image,
        "sleep",
        "1000",
    ]);
    let done = Done::of(tool.env("NOTIFY_SOCKET", &path));
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    let mut message = [0; 256];
    let length = socket.recv(&mut message).unwrap();
    let supervisor = parent(process(&bryo, "one", "Pid"));
    assert_eq!(
        std::str::from_utf8(&message[..length]).unwrap(),
        format!("MAINPID={supervisor}\nREADY=1")
    );
    // Unasked, nobody is told.
    socket.set_nonblocking(true).unwrap();
    let mut tool = bryo.command(["run", "--rm", &image, "sh", "-c", "echo $NOTIFY_SOCKET"]);
    assert_eq!(Done::of(tool.env("NOTIFY_SOCKET", &path)).stdout, "\n");
    assert!(socket.recv(&mut message).is_err());
}

/// Whoever looks at a container that writes may meet a record that is half written: nothing to warn of.
#[test]
fn who_looks_at_a_container_that_writes_is_not_warned() {
    let (bryo, image) = busybox();
    let script = "while :; do echo x > /n; rm /n; echo x > /m; done";
    bryo.ok([
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "busy",
        &image,
        "sh",
        "-c",
        script,
    ]);
    for _ in 0..60 {
        let done = Done::of(&mut bryo.command(["diff", "busy"]));
        assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    }
    bryo.ok(["rm", "-f", "busy"]);
}
