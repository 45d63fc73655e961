//! Events: is what happens told, to whom it is to be told, and does telling hold nobody up?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use common::{Bryo, Project, field, parent, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// All that is kept, as `TYPE ACTION NAME`.
fn told(bryo: &Bryo, filters: &[&str]) -> Vec<String> {
    let mut words = vec![
        "events",
        "--stream=false",
        "--format",
        "{{.Type}} {{.Action}} {{.Name}}",
    ];
    words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    bryo.ok(&words).lines().map(Into::into).collect()
}

/// Who reads no more (`| head`) leaves nobody behind that prints for ever, also where nothing happens that could be printed.
#[test]
fn who_prints_for_as_long_as_it_is_read_ends_with_its_reader() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        "echo x; sleep 1000",
    ]);
    until("its output", || bryo.ok(["logs", "one"]) == "x\n");
    for (words, reads) in [
        (&["stats"][..], true),
        (&["stats", "--format", "{{.Name}}", "one"], true),
        (&["events", "--since", "1h"], true),
        (&["events"], false),
        (&["logs", "-f", "one"], true),
    ] {
        let mut child = bryo.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut heard = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        if reads {
            heard.read_line(&mut line).unwrap();
            assert!(line.len() > 1, "{words:?}: {line}");
        }
        drop(heard);
        until(&format!("the end of {words:?}"), || {
            child.try_wait().unwrap().is_some()
        });
        assert!(child.wait().unwrap().success(), "{words:?}");
    }
}

#[test]
fn a_containers_life_is_told() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "run", "-d", "--name", "one", "-l", "role=web", &image, "sleep", "1000",
    ]);
    bryo.ok(["exec", "one", "echo", "x"]);
    bryo.run(["exec", "one", "sh", "-c", "exit 3"]);
    bryo.ok(["kill", "-s", "HUP", "one"]);
    bryo.ok(["rename", "one", "two"]);
    bryo.ok(["restart", "-t", "0", "two"]);
    bryo.ok(["stop", "-t", "0", "two"]);
    bryo.ok(["rm", "two"]);
    let actions: Vec<String> = told(&bryo, &["type=container"])
        .iter()
        .map(|line| line.strip_prefix("container ").unwrap().to_string())
        .collect();
    let expected = [
        "create one",
        "start one",
        "exec_create: echo x one",
        "exec_start: echo x one",
        "exec_die one",
        "exec_create: sh -c exit 3 one",
        "exec_start: sh -c exit 3 one",
        "exec_die one",
        "kill one",
        "rename two",
        // `sleep` as pid 1 hears no SIGTERM.
        "kill two",
        "kill two",
        "die two",
        "stop two",
        "start two",
        "restart two",
        "kill two",
        "kill two",
        "die two",
        "stop two",
        "destroy two",
    ];
    assert_eq!(actions, expected);
    let all = bryo.ok([
        "events",
        "--stream=false",
        "--format",
        "json",
        "--filter",
        "label=role=web",
    ]);
    let all: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(all.len(), expected.len());
    let of = |action: &str, attribute: &str| -> Vec<String> {
        all.iter()
            .filter(|event| event["Action"] == action)
            .map(|event| {
                event["Actor"]["Attributes"][attribute]
                    .as_str()
                    .unwrap()
                    .to_string()
            })
            .collect()
    };
    assert_eq!(of("exec_die", "exitCode"), ["0", "3"]);
    assert_eq!(of("die", "exitCode"), ["137", "137"]);
    assert_eq!(of("kill", "signal")[..3], ["1", "15", "9"]);
    assert_eq!(of("rename", "oldName"), ["one"]);
    assert_eq!(all[0]["from"], image.as_str());
    let (begin, end) = (
        all[0]["timeNano"].as_i64().unwrap(),
        all.last().unwrap()["timeNano"].as_i64().unwrap(),
    );
    assert!(begin < end && all[0]["time"].as_i64().unwrap() == begin / 1_000_000_000);
    // A part of it, by times.
    let at = |nanoseconds: i64| {
        format!(
            "{}.{:09}",
            nanoseconds / 1_000_000_000,
            nanoseconds % 1_000_000_000
        )
    };
    let part = bryo.ok([
        "events",
        "--since",
        &at(begin),
        "--until",
        &at(end - 1),
        "--filter",
        "type=container",
    ]);
    assert_eq!(part.lines().count(), expected.len() - 1);
    let line = part.lines().next().unwrap();
    assert!(
        line.contains(" container create ")
            && line.contains(&format!(" (image={image}, "))
            && line.ends_with(", name=one, role=web)"),
        "{line}"
    );
}

#[test]
fn what_a_supervisor_does_is_told_too() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        "--restart",
        "on-failure:1",
        &image,
        "false",
    ]);
    until("its end", || field(&bryo, "one", "{{.State.Status}}") == "exited");
    let lives = ["create", "start", "die", "start", "die"].map(|action| format!("container {action} one"));
    assert_eq!(told(&bryo, &["container=one"]), lives);
    bryo.ok(["run", "-d", "--name", "two", &image, "sleep", "1000"]);
    kill(parent(process(&bryo, "two", "Pid")), Signal::SIGKILL).unwrap();
    until("its end", || field(&bryo, "two", "{{.State.Status}}") == "exited");
    assert_eq!(
        told(&bryo, &["container=two", "event=die"]),
        ["container die two"]
    );
    bryo.ok([
        "run",
        "-d",
        "--name",
        "three",
        "--health-cmd",
        "test ! -e /ill",
        "--health-interval",
        "300ms",
        "--health-retries",
        "1",
        &image,
        "sleep",
        "1000",
    ]);
    bryo.ok(["wait", "--condition", "healthy", "three"]);
    bryo.ok(["exec", "three", "touch", "/ill"]);
    bryo.ok(["wait", "--condition", "unhealthy", "three"]);
    let seen = ["healthy", "unhealthy"].map(|status| format!("container health_status: {status} three"));
    until("both", || told(&bryo, &["event=health_status"]) == seen);
}

#[test]
fn images_are_told_of_and_steps_of_builds_are_not() {
    let project = Project::new();
    let bryo = &project.bryo;
    project.build("FROM base\nRUN echo x > /x\n", &[]);
    bryo.ok(["tag", "made", "other:1"]);
    bryo.ok(["rmi", "other:1"]);
    bryo.ok(["rmi", "made"]);
    let lines = told(bryo, &["type=image"]);
    assert!(
        lines[0].starts_with("image pull 127.0.0.1:") && lines[0].ends_with("/busybox:latest"),
        "{lines:?}"
    );
    let id = lines
        .last()
        .unwrap()
        .strip_prefix("image delete sha256:")
        .unwrap();
    assert_eq!(id.len(), 64);
    assert_eq!(
        lines[1..lines.len() - 1],
        [
            "tag base:latest",
            "tag made:latest",
            "tag other:1",
            "untag other:1",
            "untag made:latest"
        ]
        .map(|line| format!("image {line}"))
    );
    assert_eq!(told(bryo, &["type=container"]), [""; 0]);
}

/// Followed across a change of the file, and ended by its time.
#[test]
fn who_follows_sees_all_that_comes() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["create", "--name", "before", &image, "true"]);
    let mut tool = bryo.command([
        "events",
        "--format",
        "{{.Action}} {{.Name}}",
        "--filter",
        "type=container",
    ]);
    let mut tool = tool.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
    // It has begun when it sees one.
    let mut number = 0;
    let (tell, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            let _ = tell.send(line);
        }
    });
    let first = loop {
        number += 1;
        let name = format!("try{number}");
        bryo.ok(["create", "--name", &name, &image, "true"]);
        if let Ok(line) = heard.recv_timeout(std::time::Duration::from_secs(1)) {
            break line;
        }
    };
    assert!(first.starts_with("create try"), "{first}");
    while heard.recv_timeout(std::time::Duration::from_millis(100)).is_ok() {}
    // A full file makes room.
    let path = bryo.state().join("events");
    let mut full = fs::read(&path).unwrap();
    full.resize(1 << 20, b'\n');
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(full.len() as u64)
        .unwrap();
    bryo.ok(["rename", "before", "after"]);
    bryo.ok(["rm", "after"]);
    let next = || heard.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    assert_eq!([next(), next()], ["rename after", "destroy after"]);
    assert!(fs::metadata(path.with_extension("1")).unwrap().len() >= 1 << 20);
    // Not SIGINT, which is ignored by what a shell has started in the background.
    kill(Pid::from_raw(tool.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(!tool.wait().unwrap().success());
    reader.join().unwrap();
    // What was before is still known.
    assert!(told(&bryo, &[]).contains(&"container create before".to_string()));
    assert_eq!(bryo.ok(["events", "--until", "1s", "--filter", "event=none"]), "");
}

/// Events are no reason for anything to fail.
#[test]
fn where_nothing_can_be_written_all_goes_on() {
    let (bryo, image) = Bryo::with_image("busybox");
    let path = bryo.state().join("events");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(bryo.ok(["run", "--rm", &image, "echo", "x"]), "x\n");
    fs::remove_dir(&path).unwrap();
    // One that is stopped with the lock on it.
    bryo.ok(["run", "--rm", &image, "true"]);
    let held = fs::File::open(&path).unwrap();
    held.lock().unwrap();
    assert_eq!(
        bryo.ok(["run", "--rm", "--name", "one", &image, "echo", "x"]),
        "x\n"
    );
    assert_eq!(
        told(&bryo, &["container=one", "event=destroy"]),
        ["container destroy one"]
    );
    assert!(
        bryo.fails(1, ["events", "--filter", "colour=red"])
            .contains("invalid filter")
    );
    assert!(
        bryo.fails(1, ["events", "--since", "soon"])
            .contains("is no time")
    );
}

#[test]
fn what_becomes_of_volumes_is_told() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["volume", "create", "vol"]);
    bryo.ok(["volume", "create", "vol"]);
    bryo.ok(["run", "--rm", "-v", "vol:/v", "-v", "/own", &image, "true"]);
    let own = told(&bryo, &["type=volume"]);
    assert_eq!(own.len(), 3, "{own:?}");
    bryo.ok(["volume", "rm", "vol"]);
    let ids = bryo.ok([
        "events",
        "--stream=false",
        "--filter",
        "volume=vol",
        "--format",
        "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.driver}}",
    ]);
    assert_eq!(ids, "create vol local\ndestroy vol local\n");
    let filtered = told(&bryo, &["type=volume", "event=destroy"]);
    assert_eq!(filtered.len(), 2, "{filtered:?}");
}
