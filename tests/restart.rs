//! Restart policies: who is started again, when, and what ends it?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::process::Stdio;

use common::{Bryo, Done, field, kills, parent, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

fn status(bryo: &Bryo, name: &str) -> String {
    field(
        bryo,
        name,
        "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}",
    )
}

fn pid_of_supervisor(bryo: &Bryo, file: &str) -> Pid {
    let text = std::fs::read_to_string(bryo.scratch(file)).unwrap();
    Pid::from_raw(text.parse().unwrap())
}

/// Starts `one`, with its supervisor's pid in a file.
fn start(bryo: &Bryo, image: &str, policy: &str, script: &str) -> Pid {
    let file = bryo.scratch("supervisor");
    let file = file.to_str().unwrap();
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        "--conmon-pidfile",
        file,
        "--restart",
        policy,
        image,
        "sh",
        "-c",
        script,
    ]);
    pid_of_supervisor(bryo, "supervisor")
}

/// Changes, log, name and supervisor are those of one container.
#[test]
fn a_failure_is_tried_again_so_many_times() {
    let (bryo, image) = busybox();
    let script = "echo x >> /runs; echo run $(wc -l < /runs); exit 3";
    let supervisor = start(&bryo, &image, "on-failure:3", script);
    until("the last run", || status(&bryo, "one") == "exited 3 3");
    assert_eq!(bryo.ok(["logs", "one"]), "run 1\nrun 2\nrun 3\nrun 4\n");
    assert_eq!(pid_of_supervisor(&bryo, "supervisor"), supervisor);
    assert_eq!(
        field(&bryo, "one", "{{json .HostConfig.RestartPolicy}}"),
        r#"{"Name":"on-failure","MaximumRetryCount":3}"#
    );
    // A start by hand begins anew. Who follows the log does so until the last run has ended.
    bryo.ok(["start", "one"]);
    let followed = bryo.ok(["logs", "-f", "one"]);
    assert!(followed.ends_with("run 8\n"), "{followed}");
    until("the last run", || {
        status(&bryo, "one") == "exited 3 3" && bryo.ok(["logs", "one"]).ends_with("run 8\n")
    });
    // One that does not fail is not.
    bryo.ok(["run", "--name", "two", "--restart", "on-failure", &image, "true"]);
    assert_eq!(status(&bryo, "two"), "exited 0 0");
}

#[test]
fn what_always_runs_is_ended_by_who_wants_it_to_end() {
    let (bryo, image) = busybox();
    start(&bryo, &image, "always", "sleep 1000");
    let first = process(&bryo, "one", "Pid");
    kill(first, Signal::SIGKILL).unwrap();
    until("another run", || {
        status(&bryo, "one") == "running 0 1" && process(&bryo, "one", "Pid") != first
    });
    bryo.ok(["exec", "one", "true"]);
    assert_eq!(bryo.ok(["stop", "-t", "0", "one"]), "one\n");
    assert_eq!(status(&bryo, "one"), "exited 137 1");
    bryo.ok(["start", "one"]);
    assert_eq!(status(&bryo, "one"), "running 0 0");
    assert_eq!(bryo.ok(["kill", "one"]), "one\n");
    assert_eq!(status(&bryo, "one"), "exited 137 0");
    bryo.ok(["start", "one"]);
    bryo.ok(["restart", "-t", "0", "one"]);
    assert_eq!(status(&bryo, "one"), "running 0 0");
    bryo.ok(["rm", "-f", "one"]);
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// Waits until it waits for long enough to look at it: the sixth pause is one of three seconds.
fn waiting(bryo: &Bryo) {
    until("a long pause", || {
        let state = status(bryo, "one");
        state.starts_with("restarting 1 ")
            && !["1", "2", "3", "4", "5"]
                .iter()
                .any(|n| state.ends_with(&format!(" {n}")))
    });
}

#[test]
fn one_that_waits_is_shown_and_can_be_ended() {
    let (bryo, image) = busybox();
    let supervisor = start(&bryo, &image, "unless-stopped", "exit 1");
    waiting(&bryo);
    let line = bryo.ok([
        "ps",
        "--filter",
        "status=restarting",
        "--format",
        "{{.Names}} {{.Status}}",
    ]);
    assert!(
        line.starts_with("one Restarting (1) ") && line.ends_with(" ago\n"),
        "{line}"
    );
    assert_eq!(
        field(
            &bryo,
            "one",
            "{{.State.Running}} {{.State.Restarting}} {{.State.Pid}}"
        ),
        "true true 0"
    );
    let error = bryo.fails(1, ["rm", "one"]);
    assert!(error.contains("container is restarting"), "{error}");
    assert!(bryo.fails(1, ["exec", "one", "true"]).contains("is not running"));
    assert_eq!(bryo.ok(["start", "one"]), "one\n");
    assert_eq!(bryo.ok(["stop", "one"]), "one\n");
    let ended = field(
        &bryo,
        "one",
        "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
    );
    assert_eq!(ended, "exited 1");
    let program = format!("/proc/{supervisor}/exe");
    until("the end of its supervisor", || {
        std::fs::read_link(&program).is_err()
    });
    bryo.ok(["start", "one"]);
    waiting(&bryo);
    bryo.ok(["kill", "one"]);
    until("its end", || status(&bryo, "one").starts_with("exited 1 "));
    bryo.ok(["start", "one"]);
    waiting(&bryo);
    bryo.ok(["rm", "-f", "one"]);
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// There is no daemon: a killed supervisor restarts nothing.
#[test]
fn a_killed_supervisor_is_not_followed() {
    let (bryo, image) = busybox();
    let supervisor = start(&bryo, &image, "always", "exit 1");
    waiting(&bryo);
    kill(supervisor, Signal::SIGKILL).unwrap();
    until("its end", || status(&bryo, "one").starts_with("exited 1 "));
    assert_eq!(
        field(&bryo, "one", "{{.State.Error}}"),
        "the supervisor was killed"
    );
    bryo.ok(["rm", "one"]);
    let supervisor = start(&bryo, &image, "always", "sleep 1000");
    kill(supervisor, Signal::SIGKILL).unwrap();
    until("its end", || status(&bryo, "one") == "exited 137 0");
}

/// By SIGTERM, as at the end of a session, a supervisor ends its container as it wants to be ended.
#[test]
fn a_supervisor_passes_on_that_it_is_to_end() {
    let (bryo, image) = busybox();
    let script = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let supervisor = start(&bryo, &image, "always", script);
    until("its trap", || bryo.ok(["logs", "one"]) == "ready\n");
    kill(supervisor, Signal::SIGTERM).unwrap();
    until("its end", || status(&bryo, "one") == "exited 9 0");
    assert_eq!(bryo.ok(["logs", "one"]), "ready\nbye\n");
}

/// The user's streams are those of the first run.
#[test]
fn who_waits_in_the_foreground_waits_for_one_run() {
    let (bryo, image) = busybox();
    let mut tool = bryo.command([
        "run",
        "-i",
        "--name",
        "one",
        "--restart",
        "always",
        &image,
        "sh",
        "-c",
        "read line; echo got $line; exit 5",
    ]);
    let mut tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(tool.stdin.as_mut().unwrap(), b"this\n").unwrap();
    // The pipe stays open: nobody but the first run may read from it.
    let input = tool.stdin.take();
    let output = tool.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(5), &b"got this\n"[..])
    );
    drop(input);
    until("another run", || {
        field(&bryo, "one", "{{.State.Status}} {{.RestartCount}}") == "running 1"
    });
    let done = Done::of(&mut bryo.command([
        "run",
        "--name",
        "two",
        "--restart",
        "always",
        &image,
        "sh",
        "-c",
        "exit 6",
    ]));
    assert_eq!(done.status.code(), Some(6), "{done}");
    bryo.ok(["rm", "-f", "two"]);
    // A signal that ends a program, passed by the tool, is the user's wish. (Before the tool has heard that the command
    // runs, it would be for the tool.)
    let mut tool = bryo.command([
        "run",
        "--name",
        "two",
        "--restart",
        "always",
        &image,
        "sh",
        "-c",
        "trap 'exit 7' INT; sleep 2; echo ready; while :; do sleep 0.1; done",
    ]);
    let mut tool = tool.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(tool.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    kill(Pid::from_raw(tool.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(tool.wait().unwrap().code(), Some(7));
    assert_eq!(status(&bryo, "two"), "exited 7 0");
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let (bryo, image) = busybox();
    for (flags, why) in [
        (vec!["--restart", "sometimes"], "unknown policy 'sometimes'"),
        (
            vec!["--restart", "always:3"],
            "maximum retry count cannot be used",
        ),
        (
            vec!["--rm", "--restart", "always"],
            "cannot specify both --restart and --rm",
        ),
        (vec!["--sdnotify", "healthy"], "requires a healthcheck to be set"),
        (vec!["--sdnotify", "none"], "container, conmon, healthy or ignore"),
    ] {
        let words = [vec!["run"], flags, vec![&image, "true"]].concat();
        let error = bryo.fails(125, words);
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
    // A command that is not there is not tried again.
    bryo.fails(
        127,
        [
            "run",
            "-d",
            "--name",
            "one",
            "--restart",
            "always",
            &image,
            "nothere",
        ],
    );
    assert_eq!(
        field(&bryo, "one", "{{.State.Status}} {{.RestartCount}}"),
        "created 0"
    );
}

/// Two commands at once, in any order, on a container that is always started again: what is left is one container, whole.
#[test]
fn commands_at_once_leave_a_whole_container() {
    let (bryo, image) = busybox();
    let pairs = [
        [vec!["stop", "-t", "0", "one"], vec!["kill", "one"]],
        [vec!["restart", "-t", "0", "one"], vec!["stop", "-t", "0", "one"]],
        [vec!["start", "one"], vec!["start", "one"]],
        [vec!["rm", "-f", "one"], vec!["rm", "-f", "one"]],
        [vec!["rm", "-f", "one"], vec!["restart", "-t", "0", "one"]],
        [
            vec!["update", "--restart", "no", "one"],
            vec!["stop", "-t", "0", "one"],
        ],
    ];
    for script in ["sleep 1000", "exit 1"] {
        for pair in &pairs {
            start(&bryo, &image, "always", script);
            let tools: Vec<_> = pair
                .iter()
                .map(|words| {
                    bryo.command(words)
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .unwrap()
                })
                .collect();
            for mut tool in tools {
                tool.wait().unwrap();
            }
            // Whatever it is by now, it obeys.
            let there = bryo.run(["start", "one"]).status.success();
            assert_eq!(
                bryo.ok(["ps", "-aq"]).lines().count(),
                usize::from(there),
                "{pair:?}"
            );
            if there {
                bryo.ok(["stop", "-t", "0", "one"]);
                assert!(status(&bryo, "one").starts_with("exited "), "{pair:?}");
            }
            bryo.ok(["rm", "-f", "one"]);
            assert_eq!(bryo.ok(["ps", "-aq"]), "");
        }
    }
}

/// Whichever of its processes is killed, and when: it runs, is started again, or has ended; and it can be started.
#[test]
fn whatever_is_killed_leaves_a_whole_container() {
    let (bryo, image) = busybox();
    let file = bryo.scratch("supervisor");
    let flags = [
        "--health-cmd",
        "true",
        "--health-interval",
        "50ms",
        "--restart",
        "always",
        "--conmon-pidfile",
        file.to_str().unwrap(),
    ];
    let script = "echo x >> /runs; sleep 0.2; exit 1";
    bryo.ok([
        vec!["run", "-d", "--name", "one"],
        flags.to_vec(),
        vec![&image, "sh", "-c", script],
    ]
    .concat());
    for round in 0..kills(12) {
        std::thread::sleep(std::time::Duration::from_millis(round * 37 % 300));
        let template = match round % 3 {
            0 => "{{.State.Pid}}",
            1 => "{{.State.FilesystemPid}}",
            _ => "",
        };
        let victim = match template {
            "" => pid_of_supervisor(&bryo, "supervisor").as_raw(),
            template => field(&bryo, "one", template).parse().unwrap(),
        };
        // It may be between two runs, or gone.
        if victim > 0 {
            let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        }
        let state = field(&bryo, "one", "{{.State.Status}}");
        assert!(
            ["running", "restarting", "exited"].contains(&state.as_str()),
            "{state}"
        );
        bryo.ok(["start", "one"]);
    }
    bryo.ok(["stop", "-t", "0", "one"]);
    assert!(status(&bryo, "one").starts_with("exited "));
    bryo.ok(["update", "--restart", "no", "one"]);
    assert!(bryo.ok(["diff", "one"]).contains("A /runs"));
}

/// What cannot be started again has ended, and says why.
#[test]
fn a_restart_that_fails_is_the_end() {
    let (bryo, image) = busybox();
    let supervisor = start(&bryo, &image, "always", "rm /bin/sh; exit 1");
    until("its end", || status(&bryo, "one") == "exited 127 1");
    let why = field(&bryo, "one", "{{.State.Error}}");
    assert!(why.contains("executable file not found"), "{why}");
    let program = format!("/proc/{supervisor}/exe");
    until("the end of its supervisor", || {
        std::fs::read_link(&program).is_err()
    });
    // Nor can one whose image's layers are gone.
    bryo.ok(["rm", "one"]);
    start(&bryo, &image, "always", "sleep 1000");
    std::fs::rename(bryo.root().join("layers"), bryo.root().join("away")).unwrap();
    kill(process(&bryo, "one", "Pid"), Signal::SIGKILL).unwrap();
    until("its end", || status(&bryo, "one") == "exited 125 1");
    assert_ne!(field(&bryo, "one", "{{.State.Error}}"), "");
    std::fs::rename(bryo.root().join("away"), bryo.root().join("layers")).unwrap();
    bryo.ok(["start", "one"]);
}

/// As podman-restart.service does it after a reboot: every process of the containers is gone then.
#[test]
fn what_ran_is_started_again_with_the_machine() {
    let (bryo, image) = busybox();
    for (name, policy) in [
        ("no", "no"),
        ("failure", "on-failure"),
        ("always", "always"),
        ("ran", "unless-stopped"),
        ("stopped", "unless-stopped"),
        ("down", "unless-stopped"),
        ("later", "no"),
    ] {
        bryo.ok([
            "run",
            "-d",
            "--name",
            name,
            "--restart",
            policy,
            &image,
            "sh",
            "-c",
            "trap 'exit 0' TERM; while :; do sleep 0.05; done",
        ]);
    }
    bryo.ok(["stop", "always", "stopped", "later"]);
    // It counts for a policy that is given afterwards.
    bryo.ok(["update", "--restart", "unless-stopped", "later"]);
    // A machine that goes down ends all by SIGTERM.
    kill(parent(process(&bryo, "down", "Pid")), Signal::SIGTERM).unwrap();
    until("its end", || status(&bryo, "down").starts_with("exited"));
    for name in ["no", "failure", "ran"] {
        kill(parent(process(&bryo, name, "Pid")), Signal::SIGKILL).unwrap();
    }
    until("the end of all", || bryo.ok(["ps", "-q"]).is_empty());
    let said = bryo.ok(["start", "--all", "--filter", "restart-policy=always"]);
    assert_eq!(said, "always\n");
    let said = bryo.ok(["start", "--filter", "should-start-on-boot=true"]);
    assert_eq!(said, "always\nran\ndown\n");
    let running = bryo.ok(["ps", "--format", "{{.Names}}"]);
    assert_eq!(running, "down\nran\nalways\n");
    // Started by somebody, it is stopped no more.
    bryo.ok(["start", "stopped"]);
    kill(parent(process(&bryo, "stopped", "Pid")), Signal::SIGKILL).unwrap();
    until("its end", || status(&bryo, "stopped").starts_with("exited"));
    assert_eq!(
        bryo.ok([
            "start",
            "--filter",
            "should-start-on-boot=true",
            "-f",
            "name=stop"
        ]),
        "stopped\n"
    );
    assert_eq!(bryo.ok(["start", "--all"]).lines().count(), 7);
    assert!(
        bryo.fails(125, ["start", "--filter", "restart-policy=often"])
            .contains("invalid filter")
    );
    bryo.fails(125, ["start", "--all", "no"]);
    bryo.fails(1, ["start"]);
}

/// A lock of a script is free when the script is over, whatever containers it has left.
#[test]
fn what_a_script_had_open_is_nobodys() {
    let (bryo, image) = busybox();
    let lock = bryo.scratch("lock");
    let script = "exec 9>\"$0\"; flock 9; \"$@\" >/dev/null";
    let tool = |words: &[&str]| {
        let mut command = bryo.command_of("sh", ["-c", script, lock.to_str().unwrap()]);
        let own = bryo.command(words);
        command.arg(own.get_program()).args(own.get_args());
        let done = Done::of(&mut command);
        assert!(done.status.success(), "{done}");
    };
    tool(&[
        "run",
        "-d",
        "--name",
        "one",
        "--restart",
        "always",
        &image,
        "sleep",
        "1000",
    ]);
    tool(&["exec", "-d", "one", "sleep", "1000"]);
    let free = std::process::Command::new("flock")
        .arg("-n")
        .arg(&lock)
        .arg("true")
        .status();
    assert!(free.unwrap().success());
    assert_eq!(status(&bryo, "one"), "running 0 0");
}
