//! Which signals come to a container's command, by which names, and what becomes of a tool that passes none on?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Bryo, Project, field, on_terminal, parent, process, until, until_it_waits};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The script says what it hears, and ends by 37, SIGRTMIN+3.
const HEARS: &str = "trap \"echo got 35\" 35; trap \"echo got TERM\" TERM; trap \"exit 7\" 37
    echo ready; while :; do sleep 0.05; done";

/// Waits until a line is in the log so many times.
fn logged(bryo: &Bryo, name: &str, line: &str, times: usize) {
    until(line, || {
        let log = bryo.run(["logs", name]).stdout;
        log.lines().filter(|logged| *logged == line).count() == times
    });
}

fn started(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn send(child: &Child, number: &str) {
    let status = Command::new("kill")
        .args(["-s", number, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn code_of(mut child: Child) -> Option<i32> {
    until("its end", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code()
}

fn status(bryo: &Bryo, name: &str) -> String {
    field(bryo, name, "{{.State.Status}} {{.State.ExitCode}}")
}

/// The numbers that were sent to a container's command, as events tell: but SIGKILL, which may be sent to what has just ended.
fn sent(bryo: &Bryo, name: &str) -> String {
    let words = "events --stream=false --filter event=kill --format {{.Actor.Attributes.signal}} --filter";
    let filter = format!("container={name}");
    let words: Vec<&str> = words.split(' ').chain([filter.as_str()]).collect();
    let told = bryo.ok(words);
    let numbers = told.lines().filter(|number| *number != "9");
    numbers.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_container_is_stopped_by_a_real_time_signal() {
    let (bryo, image) = Bryo::with_image("busybox");
    let run = "run -d --stop-timeout 60 --stop-signal";
    for (name, signal, flag) in [
        ("one", "RTMIN+3", None),
        ("two", "37", None),
        ("three", "sigrtmax-27", Some("--init")),
    ] {
        let mut words: Vec<&str> = run.split(' ').chain([signal, "--name", name]).collect();
        words.extend(flag);
        words.extend([image.as_str(), "sh", "-c", HEARS]);
        bryo.ok(words);
        logged(&bryo, name, "ready", 1);
        bryo.ok(["stop", name]);
        assert_eq!(status(&bryo, name), "exited 7", "{signal}");
        assert_eq!(sent(&bryo, name), "37", "{signal}");
    }
    // By a flag of the command that stops, by its supervisor, which is told to, and beside other ways to end.
    bryo.ok(["start", "one"]);
    logged(&bryo, "one", "ready", 2);
    bryo.ok(["restart", "-s", "RTMIN+1", "-t", "0", "one"]);
    assert_eq!(sent(&bryo, "one"), "37 35");
    logged(&bryo, "one", "ready", 3);
    let supervisor = parent(process(&bryo, "one", "Pid"));
    kill(supervisor, Signal::SIGTERM).unwrap();
    until("its end", || status(&bryo, "one") == "exited 7");
}

#[test]
fn an_image_names_a_real_time_signal() {
    let project = Project::new();
    let bryo = &project.bryo;
    project.build("FROM base\nARG MORE=3\nSTOPSIGNAL SIGRTMIN+$MORE\n", &[]);
    assert_eq!(project.config()["StopSignal"], "SIGRTMIN+3");
    let error = project.fails("FROM base\nSTOPSIGNAL SIGRTMIN+99\n", &[]);
    assert!(error.contains("SIGRTMIN+99"), "{error}");
    for name in ["stopped", "removed", "restarted"] {
        let run = "run -d --stop-timeout 60 --name";
        let words: Vec<&str> = run.split(' ').chain([name, "made", "sh", "-c", HEARS]).collect();
        bryo.ok(words);
        logged(bryo, name, "ready", 1);
    }
    bryo.ok(["stop", "stopped"]);
    assert_eq!(status(bryo, "stopped"), "exited 7");
    bryo.ok(["rm", "-f", "-t", "60", "removed"]);
    assert_eq!(sent(bryo, "removed"), "37");
    bryo.ok(["restart", "restarted"]);
    assert_eq!(sent(bryo, "restarted"), "37");
}

#[test]
fn kill_sends_any_signal() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--name", "one", &image, "sh", "-c", HEARS]);
    logged(&bryo, "one", "ready", 1);
    for (nth, signal) in ["35", "RTMIN+1", "SIGRTMAX-29"].into_iter().enumerate() {
        assert_eq!(bryo.ok(["kill", "-s", signal, "one"]), "one\n");
        logged(&bryo, "one", "got 35", nth + 1);
    }
    for unknown in ["0", "65", "RTMIN-1", "RTMAX+1"] {
        let error = bryo.fails(1, ["kill", "-s", unknown, "one"]);
        assert!(error.contains("Invalid signal"), "{error}");
    }
    bryo.ok(["kill", "-s", "RTMIN+3", "one"]);
    assert_eq!(bryo.ok(["wait", "one"]), "7\n");
}

/// Changes the config of the one image of an OCI layout.
fn with_config(layout: &Path, change: impl FnOnce(&mut Value)) {
    let path_of = |digest: &Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        layout.join("blobs/sha256").join(hex)
    };
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let stored = |descriptor: &mut Value, document: &Value| {
        let text = document.to_string();
        let digest = Sha256::digest(&text);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        descriptor["digest"] = format!("sha256:{hex}").into();
        descriptor["size"] = text.len().into();
        fs::write(path_of(&descriptor["digest"]), text).unwrap();
    };
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&path_of(&index["manifests"][0]["digest"]));
    let mut config = read(&path_of(&manifest["config"]["digest"]));
    change(&mut config);
    stored(&mut manifest["config"], &config);
    stored(&mut index["manifests"][0], &manifest);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// Docker's way: a stop signal that nobody knows is no reason for a container not to run, or not to end.
#[test]
fn an_unknown_stop_signal_of_an_image_is_the_usual_one() {
    let (bryo, image) = Bryo::with_image("busybox");
    let layout = bryo.scratch("layout");
    bryo.ok(["tag", &image, "odd"]);
    bryo.ok([
        "save",
        "--format",
        "oci-dir",
        "-o",
        layout.to_str().unwrap(),
        "odd",
    ]);
    with_config(&layout, |config| {
        config["config"]["StopSignal"] = "SIG\u{1b}ODD".into()
    });
    bryo.ok(["rmi", "odd"]);
    let image = bryo.ok(["pull", "-q", &format!("oci:{}", layout.display())]);
    let script = "trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done";
    for name in ["stopped", "removed"] {
        let run = "run -d --stop-timeout 60 --name";
        let words: Vec<&str> = run
            .split(' ')
            .chain([name, image.trim_end(), "sh", "-c", script])
            .collect();
        let done = bryo.run(words);
        let expected = "bryo: the image's STOPSIGNAL: Invalid signal: SIG?ODD; stop sends SIGTERM\n";
        assert!(done.status.success() && done.stderr.contains(expected), "{done}");
        logged(&bryo, name, "ready", 1);
    }
    bryo.ok(["stop", "stopped"]);
    assert_eq!(status(&bryo, "stopped"), "exited 8");
    bryo.ok(["rm", "-f", "-t", "60", "removed"]);
    assert_eq!(sent(&bryo, "removed"), "15");
}

/// Of the tool's signals all go to the command.
#[test]
fn a_tool_passes_real_time_signals() {
    let (bryo, image) = Bryo::with_image("busybox");
    for init in [None, Some("--init")] {
        let mut words = vec!["run", "--name", "one"];
        words.extend(init);
        words.extend([image.as_str(), "sh", "-c", HEARS]);
        let run = started(&mut bryo.command(&words));
        logged(&bryo, "one", "ready", 1);
        send(&run, "35");
        logged(&bryo, "one", "got 35", 1);
        let attach = started(&mut bryo.command(["attach", "one"]));
        let exec = started(&mut bryo.command(["exec", "one", "sh", "-c", "echo $$ > /pid; exec sleep 1000"]));
        until("it runs", || {
            bryo.run(["exec", "one", "test", "-s", "/pid"]).status.success()
        });
        until_it_waits(&exec);
        // Whoever does not know what to do with one dies by it.
        send(&exec, "40");
        assert_eq!(code_of(exec), Some(128 + 40));
        until_it_waits(&attach);
        send(&attach, "37");
        assert_eq!(code_of(attach), Some(7));
        assert_eq!(code_of(run), Some(7));
        bryo.ok(["rm", "one"]);
    }
    // A command below pid 1 may die by one, too.
    let run = ["run", "--rm", "--init", &image, "sh", "-c", "kill -40 $$"];
    assert_eq!(bryo.run(run).status.code(), Some(128 + 40));
    // And what nobody else reaps: it is no reason for pid 1 to end, or to stay.
    let script = "(sh -c 'kill -40 $$' &) ; sleep 0.2; exit 3";
    assert_eq!(
        bryo.run(["run", "--rm", "--init", &image, "sh", "-c", script])
            .status
            .code(),
        Some(3)
    );
}

/// With `--sig-proxy=false` what ends programs ends the tool, and the container goes on; Docker's and podman's way.
#[test]
fn a_tool_that_passes_nothing_ends_alone() {
    let (bryo, image) = Bryo::with_image("busybox");
    for (number, code) in [("TERM", 143), ("INT", 130), ("HUP", 129), ("QUIT", 131)] {
        let run = "run --rm --sig-proxy=false --name ran";
        let run: Vec<&str> = run
            .split(' ')
            .chain([image.as_str(), "sh", "-c", HEARS])
            .collect();
        bryo.ok(["create", "--name", "begun", &image, "sh", "-c", HEARS]);
        for (name, words) in [
            ("ran", &run[..]),
            ("begun", &["start", "-a", "--sig-proxy=false", "begun"][..]),
        ] {
            let tool = started(&mut bryo.command(words));
            logged(&bryo, name, "ready", 1);
            // Of no meaning to the tool.
            send(&tool, "USR1");
            send(&tool, number);
            assert_eq!(code_of(tool), Some(code), "{name} {number}");
            assert_eq!(status(&bryo, name), "running 0", "{name} {number}");
            bryo.ok(["exec", name, "true"]);
            assert_eq!(bryo.ok(["logs", name]), "ready\n");
            bryo.ok(["kill", "-s", "37", name]);
        }
        // What was to go at its end does so, without its tool.
        until("all have ended", || {
            bryo.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]) == "begun exited\n"
        });
        assert_eq!(status(&bryo, "begun"), "exited 7");
        bryo.ok(["rm", "begun"]);
    }
}

/// Docker's, since 19.03: `run -t` passes signals, `start -a` and `attach` do not where the container has a terminal.
#[test]
fn signals_are_for_who_started_a_terminals_command() {
    let (bryo, image) = Bryo::with_image("busybox");
    let on_terminal = |words: &[&str]| started(&mut on_terminal(&bryo.command(words)));
    // The supervisor is its child.
    let tool = || parent(parent(process(&bryo, "one", "Pid")));
    let count = |text: &str| bryo.run(["logs", "one"]).stdout.matches(text).count();
    let run = on_terminal(&["run", "-t", "--name", "one", &image, "sh", "-c", HEARS]);
    until("it runs", || count("ready") == 1);
    kill(tool(), Signal::SIGTERM).unwrap();
    until("it hears", || count("got TERM") == 1);
    bryo.ok(["kill", "-s", "37", "one"]);
    assert_eq!(code_of(run), Some(7));
    let start = on_terminal(&["start", "-a", "one"]);
    until("it runs", || count("ready") == 2);
    kill(tool(), Signal::SIGTERM).unwrap();
    assert_eq!(code_of(start), Some(143));
    assert_eq!(status(&bryo, "one"), "running 0");
    assert_eq!(count("got TERM"), 1);
}
