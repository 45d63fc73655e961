//! What a container wrote: is it kept, and shown as it was?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use common::{Bryo, field, parent, process, until};
use nix::sys::signal::{Signal, kill};

/// Runs `script` in the background until it ends.
fn ran(name: &str, flags: &[&str], script: &str) -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut words = vec!["run", "-d", "--name", name];
    words.extend(flags);
    words.extend([&image, "sh", "-c", script]);
    bryo.ok(&words);
    bryo.ok(["wait", name]);
    bryo
}

fn path(bryo: &Bryo, name: &str) -> PathBuf {
    field(bryo, name, "{{.LogPath}}").into()
}

#[test]
fn both_streams_are_shown_as_they_were_written() {
    let bryo = ran(
        "one",
        &[],
        "echo out; echo err >&2; printf '\\377\\0\\r\\n'; printf part; sleep 0.1; echo ' of a line'; printf end",
    );
    let mut command = bryo.command(["logs", "one"]);
    let output = command.output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"out\n\xff\0\r\npart of a line\nend");
    assert_eq!(output.stderr, b"err\n");
    // With times, of a fixed form, in their order; one a line.
    let shown = bryo.run(["logs", "-t", "one"]);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{shown}");
    let started = field(&bryo, "one", "{{.State.StartedAt}}");
    for line in &lines {
        let (time, _) = line.split_once(' ').unwrap();
        assert!(time.len() == started.len() && time >= &started[..19], "{line}");
    }
    assert!(
        lines[0].ends_with("Z out") && lines[2].ends_with(" part of a line"),
        "{shown}"
    );
    // A second run adds to it.
    bryo.ok(["start", "-a", "one"]);
    assert_eq!(bryo.run(["logs", "one"]).stderr, "err\nerr\n");
    bryo.ok(["rm", "one"]);
    assert_eq!(bryo.fails(1, ["logs", "one"]), "bryo: No such container: one\n");
}

#[test]
fn what_is_shown_in_the_foreground_is_kept_too() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["create", "--name", "silent", &image, "true"]);
    assert_eq!(bryo.ok(["logs", "silent"]), "", "never ran");
    let shown = bryo.run([
        "run",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        "echo out; echo err >&2",
    ]);
    let again = bryo.run(["logs", "one"]);
    assert_eq!((&again.stdout, &again.stderr), (&shown.stdout, &shown.stderr));
    // A terminal has one stream.
    bryo.ok([
        "run",
        "-dt",
        "--name",
        "two",
        &image,
        "sh",
        "-c",
        "echo out; echo err >&2",
    ]);
    bryo.ok(["wait", "two"]);
    let shown = bryo.run(["logs", "two"]);
    assert_eq!(
        (shown.stdout.as_str(), shown.stderr.as_str()),
        ("out\r\nerr\r\n", "")
    );
}

#[test]
fn a_part_is_chosen_by_number_or_time() {
    let bryo = ran(
        "one",
        &[],
        "for n in 1 2 3 4 5; do echo $n; done; sleep 1.2; echo 6",
    );
    let lines = |flags: &[&str]| {
        let all: Vec<&str> = ["logs"]
            .into_iter()
            .chain(flags.iter().copied())
            .chain(["one"])
            .collect();
        bryo.ok(all).replace('\n', " ")
    };
    assert_eq!(lines(&["--tail", "2"]), "5 6 ");
    assert_eq!(lines(&["-n0"]), "");
    assert_eq!(lines(&["-n", "100"]), "1 2 3 4 5 6 ");
    assert_eq!(
        [lines(&["--tail", "all"]), lines(&["--tail", "-1"])],
        ["1 2 3 4 5 6 ", "1 2 3 4 5 6 "]
    );
    let times = bryo.ok(["logs", "-t", "one"]);
    let last = times.lines().last().unwrap().split_once(' ').unwrap().0;
    assert_eq!(lines(&["--since", last]), "6 ");
    let fifth = times.lines().nth(4).unwrap().split_once(' ').unwrap().0;
    assert_eq!(lines(&["--until", fifth]), "1 2 3 4 5 ");
    assert_eq!(lines(&["--since", fifth, "--until", fifth, "-n", "2"]), "5 ");
}

#[test]
fn times_that_are_none_are_refused() {
    let bryo = ran("one", &[], "echo 1");
    assert_eq!(bryo.ok(["logs", "--since", "1h", "one"]), "1\n");
    assert_eq!(bryo.ok(["logs", "--until", "1h", "one"]), "");
    assert_eq!(
        bryo.ok([
            "logs",
            "--since",
            "2000-01-01",
            "--until",
            "2999-01-01T10:00",
            "one"
        ]),
        "1\n"
    );
    let error = bryo.fails(1, ["logs", "--since", "yesterday", "one"]);
    assert!(error.contains("since") && error.contains("yesterday"), "{error}");
}

#[test]
fn following_goes_on_until_the_end() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "echo 1; while [ ! -e /go/2 ]; do sleep 0.05; done; echo 2; while [ ! -e /go/3 ]; do sleep 0.05; done; echo 3";
    let go = bryo.scratch("go");
    fs::create_dir(&go).unwrap();
    let volume = format!("{}:/go", go.display());
    // Small files, so that they are renamed while somebody reads.
    let flags = ["--log-opt", "max-size=80", "--log-opt", "max-file=9"];
    let words = ["run", "-d", "--name", "one", "-v", &volume]
        .into_iter()
        .chain(flags);
    bryo.ok(words.chain([image.as_str(), "sh", "-c", script]));
    let mut follower = bryo.command(["logs", "-f", "one"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "1");
    fs::write(go.join("2"), "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "2");
    fs::write(go.join("3"), "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "3");
    assert!(lines.next().is_none());
    assert!(follower.wait().unwrap().success());
    assert_eq!(bryo.ok(["logs", "-f", "one"]), "1\n2\n3\n", "of a stopped one");
    assert_eq!(bryo.ok(["logs", "-n", "2", "one"]), "2\n3\n");
    let kept = path(&bryo, "one");
    assert!(kept.with_extension("1").exists() && !kept.with_extension("8").exists());
}

#[test]
fn limits_and_drivers_are_heeded_or_refused() {
    let flags = [
        "--log-driver",
        "json-file",
        "--log-opt",
        "max-size=2k",
        "--log-opt",
        "max-file=3",
    ];
    let bryo = ran("one", &flags, "for n in $(seq 1000); do echo line $n; done");
    let directory = path(&bryo, "one").parent().unwrap().to_owned();
    let mut sizes = Vec::new();
    for entry in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_str().unwrap().starts_with("log") {
            sizes.push(entry.metadata().unwrap().len());
        }
    }
    assert!(
        sizes.len() <= 3 && sizes.iter().all(|size| *size <= 2048) && sizes.iter().sum::<u64>() > 2048,
        "{sizes:?}"
    );
    assert!(bryo.ok(["logs", "one"]).ends_with("line 999\nline 1000\n"));
    let bryo = ran("none", &["--log-driver", "none"], "echo 1");
    assert_eq!(path(&bryo, "none").as_os_str(), "");
    assert_eq!(
        bryo.fails(1, ["logs", "none"]),
        "bryo: container none keeps no log: it was made with --log-driver none\n"
    );
    let (bryo, image) = Bryo::with_image("busybox");
    for flags in [
        ["--log-driver", "journald"],
        ["--log-opt", "compress=true"],
        ["--log-opt", "max-size=big"],
    ] {
        let error = bryo.fails(125, ["run", flags[0], flags[1], &image, "true"]);
        assert!(
            error.contains(flags[0]) && error.contains("not supported"),
            "{error}"
        );
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// As Docker's driver json-file keeps them.
#[test]
fn lines_have_the_attributes_that_were_asked_for() {
    let flags = "--log-driver json-file --log-opt tag={{.Name}}/{{.ID}} --log-opt labels=team,none --log-opt env=LEVEL \
        --log-opt env-regex=^APP_ --log-opt labels-regex=^z -l team=a,b -l other=c -l zone=x -e LEVEL=1=2 -e APP_X=y -e NOT=z";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let bryo = ran("one", &flags, "echo line; printf more");
    let id = field(&bryo, "one", "{{slice .Id 0 12}}");
    let details = format!("APP_X=y,LEVEL=1%3D2,tag=one%2F{id},team=a%2Cb,zone=x");
    let expected = format!("{details} line\n{details} more");
    assert_eq!(bryo.ok(["logs", "--details", "one"]), expected);
    let timed = bryo.ok(["logs", "--details", "-t", "one"]);
    assert!(
        timed.lines().all(|line| line.split(' ').nth(1) == Some(&details)),
        "{timed}"
    );
    assert_eq!(bryo.ok(["logs", "one"]), "line\nmore");
    let kept = field(
        &bryo,
        "one",
        "{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config \"labels\"}}",
    );
    assert_eq!(kept, "json-file team,none");
    let bryo = ran("two", &["--log-opt", "tag="], "echo line");
    let id = field(&bryo, "two", "{{slice .Id 0 12}}");
    assert_eq!(bryo.ok(["logs", "--details", "two"]), format!("tag={id} line\n"));
    let bryo = ran("three", &[], "echo line");
    assert_eq!(bryo.ok(["logs", "--details", "three"]), " line\n");
    let image = field(&bryo, "three", "{{.Config.Image}}");
    for option in ["tag={{", "env-regex=("] {
        let error = bryo.fails(125, ["run", "--log-opt", option, &image, "true"]);
        assert!(error.contains(option) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_log_survives_who_wrote_it() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        "echo kept; sleep 1000",
    ]);
    until("its output", || bryo.ok(["logs", "one"]) == "kept\n");
    // Somebody tidied up. What follows is kept.
    fs::remove_file(path(&bryo, "one")).unwrap();
    assert_eq!(bryo.ok(["logs", "one"]), "");
    kill(parent(process(&bryo, "one", "Pid")), Signal::SIGKILL).unwrap();
    until("its end", || field(&bryo, "one", "{{.State.Status}}") == "exited");
    bryo.ok(["start", "one"]);
    until("its output", || bryo.ok(["logs", "one"]) == "kept\n");
    kill(parent(process(&bryo, "one", "Pid")), Signal::SIGKILL).unwrap();
    until("its end", || field(&bryo, "one", "{{.State.Status}}") == "exited");
    assert_eq!(bryo.ok(["logs", "one"]), "kept\n");
}

#[test]
fn the_tools_death_loses_no_output() {
    let (bryo, image) = Bryo::with_image("busybox");
    let go = bryo.scratch("go");
    fs::create_dir(&go).unwrap();
    let volume = format!("{}:/go", go.display());
    let script = "n=0; while [ $n -lt 50 ]; do n=$((n + 1)); echo $n; [ $n != 25 ] || until [ -e /go/on ]; do sleep 0.02; done; done";
    let mut tool = bryo.command(["run", "--name", "one", "-v", &volume, &image, "sh", "-c", script]);
    let mut tool = tool.stdout(Stdio::null()).spawn().unwrap();
    until("the first half", || {
        bryo.run(["logs", "one"]).stdout.ends_with("\n25\n")
    });
    tool.kill().unwrap();
    tool.wait().unwrap();
    fs::write(go.join("on"), "").unwrap();
    bryo.ok(["wait", "one"]);
    let numbers: Vec<String> = (1..=50).map(|n| format!("{n}\n")).collect();
    assert_eq!(bryo.ok(["logs", "one"]), numbers.concat());
}
