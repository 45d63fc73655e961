//! What runs in a container, what it uses, how large it is: `top`, `stats`, `ps --size`.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use common::{Bryo, Project, has_id_range, process, until};

fn waiting(flags: &[&str], command: &[&str]) -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut words = vec!["run", "-d", "--name", "one"];
    words.extend(flags);
    words.push(&image);
    words.extend(command);
    bryo.ok(&words);
    bryo
}

#[test]
fn top_shows_its_processes_and_no_others() {
    let bryo = waiting(&[], &["sh", "-c", "sleep 701 & wait"]);
    bryo.ok(["exec", "-d", "one", "sleep", "702"]);
    let other = ["run", "-d", "--name", "two", "busybox", "sleep", "703"];
    let image = bryo.ok(["inspect", "-f", "{{.Config.Image}}", "one"]);
    let mut words = other.map(str::to_string);
    words[4] = image.trim().into();
    bryo.ok(&words);
    until("all run", || bryo.ok(["top", "one"]).lines().count() == 4);
    let shown = bryo.ok(["top", "one"]);
    let mut lines = shown.lines();
    let title: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(title, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let pid = process(&bryo, "one", "Pid").to_string();
    let first: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!((first[0], first[1]), ("root", pid.as_str()));
    for text in ["sh -c sleep 701", "sleep 701", "sleep 702"] {
        assert!(
            shown
                .lines()
                .any(|line| line.ends_with(text) || line.contains(text)),
            "{text}: {shown}"
        );
    }
    assert!(!shown.contains("703"), "{shown}");
    let columns = bryo.ok(["top", "one", "-o", "nspid,comm"]);
    assert!(
        columns.starts_with("NSPID     COMMAND\n1         sh\n"),
        "{columns}"
    );
    assert_eq!(bryo.ok(["top", "one", "nspid,comm"]), columns);
    assert!(bryo.ok(["top", "one", "aux"]).starts_with("USER "));
    let error = bryo.fails(1, ["top", "one", "--forest"]);
    assert!(error.contains("--forest"), "{error}");
    bryo.ok(["stop", "-t0", "one"]);
    let error = bryo.fails(1, ["top", "one"]);
    assert!(error.contains("container one is not running"), "{error}");
    bryo.fails(1, ["top", "nosuch"]);
}

/// CVE-2022-1227: nothing of the container is run; what it calls itself does nothing to the terminal.
#[test]
fn a_hostile_container_is_only_looked_at() {
    let script = "printf '#!/bin/sh\\ntouch /ran\\n' > /bin/ps; chmod +x /bin/ps
        ln -s /bin/busybox \"$(printf 'a\\033[2Jb')\"; cp /bin/busybox /tmp/sleep
        exec /tmp/sleep 700";
    let bryo = waiting(&["-e", "PATH=/bin"], &["sh", "-c", script]);
    until("it sleeps", || bryo.ok(["top", "one"]).contains("/tmp/sleep 700"));
    assert_eq!(bryo.run(["exec", "one", "ls", "/ran"]).status.code(), Some(1));
    bryo.ok([
        "exec",
        "-d",
        "one",
        "sh",
        "-c",
        "exec -a \"$(printf 'x\\033[31my')\" sleep 5",
    ]);
    let shown = bryo.ok(["top", "one"]);
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

/// An image's command and labels are its maker's.
#[test]
fn what_an_image_says_steers_no_terminal() {
    let project = Project::new();
    let bryo = &project.bryo;
    project.build(
        "FROM base\nENTRYPOINT [\"/\\u001b[2J\\n\\tno\", \"a b\"]\nCMD [\"c\\\"defgh\"]\n",
        &[],
    );
    bryo.ok(["create", "--name", "one", "-l", "esc=a\x1b[2Jb\nc\td", "made"]);
    let words = "ps -a --no-trunc --format {{.Command}}";
    assert_eq!(
        bryo.ok(words.split(' ')),
        "\"/\\x1b[2J\\n\\tno 'a b' c\\\"defgh\"\n"
    );
    // Shortened before it is quoted, as Docker does.
    assert_eq!(
        bryo.ok(["ps", "-a", "--format", "{{.Command}}"]),
        "\"/\\x1b[2J\\n\\tno 'a b' c\\\"d…\"\n"
    );
    let clean = |text: &str| !text.chars().any(|c| c != '\n' && c.is_control());
    for words in [
        &["ps", "-a"][..],
        &[
            "ps",
            "-a",
            "--format",
            "table {{.Names}}\t{{.Labels}}\t{{.Label \"esc\"}}",
        ],
    ] {
        let shown = bryo.ok(words);
        assert!(clean(&shown) && shown.lines().count() == 2, "{shown:?}");
    }
    for words in [
        &["system", "df", "-v"][..],
        &["history", "made"],
        &["history", "--no-trunc", "made"],
    ] {
        let shown = bryo.ok(words);
        assert!(clean(&shown), "{shown:?}");
    }
    // Nor does the line that says why it does not run.
    for words in [
        &["start", "one"][..],
        &["start", "-a", "one"],
        &["run", "--rm", "made"],
        &["run", "-d", "made"],
    ] {
        let done = bryo.run(words);
        let line = done.stderr.trim_end();
        assert!(done.stderr.starts_with("bryo: exec /?[2J ?no: "), "{done}");
        assert!(
            !done.status.success() && clean(line) && line.lines().count() == 1,
            "{done}"
        );
    }
}

#[test]
fn users_are_the_containers() {
    if !has_id_range() {
        return;
    }
    let bryo = waiting(&["-u", "33"], &["sleep", "700"]);
    let shown = bryo.ok(["top", "one", "-o", "user,uid,comm"]);
    assert_eq!(shown, "USER      UID       COMMAND\n33        33        sleep\n");
}

#[test]
fn stats_are_of_its_processes() {
    let bryo = waiting(&[], &["sh", "-c", "while :; do :; done"]);
    let image = bryo.ok(["inspect", "-f", "{{.Config.Image}}", "one"]);
    bryo.ok(["run", "-d", "--name", "idle", image.trim(), "sleep", "700"]);
    bryo.ok(["create", "--name", "made", image.trim(), "true"]);
    let of = |name: &str, field: &str| {
        let format = format!("{{{{.{field}}}}}");
        bryo.ok(["stats", "--no-stream", "--format", &format, name])
    };
    let percent = |name: &str| {
        of(name, "CPUPerc")
            .trim()
            .trim_end_matches('%')
            .parse::<f64>()
            .unwrap()
    };
    assert!(percent("one") > 1.0);
    assert!(percent("idle") < percent("one"));
    assert_eq!(of("one", "PIDs"), "1\n");
    let memory = of("one", "MemUsage");
    assert!(memory.contains("iB / ") && !memory.starts_with("0B"), "{memory}");
    assert_eq!(of("made", "MemUsage"), "--\n");
    // What it sends to its gateway went out, whoever answers; what its loopback carries did not.
    let ping = ["exec", "idle", "ping", "-c1", "-W1", "-s4000"];
    let sent = || of("idle", "NetIO").trim().split_once(" / ").unwrap().1.to_owned();
    assert!(bryo.run(ping.iter().chain(&["127.0.0.1"])).status.success());
    assert!(!sent().contains("kB"), "{}", sent());
    let gateway = "{{.NetworkSettings.Inside.Gateway}}";
    let gateway = bryo.ok(["inspect", "-f", gateway, "idle"]);
    bryo.run(ping.iter().chain(&[gateway.trim()]));
    assert!(sent().contains("kB"), "{}", sent());
    let table = bryo.ok(["stats", "--no-stream"]);
    let title = "CONTAINER ID   NAME      CPU %";
    assert!(table.starts_with(title), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert_eq!(bryo.ok(["stats", "-a", "--no-stream"]).lines().count(), 4);
    bryo.fails(1, ["stats", "--no-stream", "nosuch"]);
    // Without --no-stream it goes on.
    let mut child = bryo
        .command(["stats", "--format", "{{.Name}}", "one"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert_eq!(lines.next().unwrap().unwrap(), "one");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// As Docker has it: by any of the image's names, by digest and id; and containers of images that stand on it.
#[test]
fn containers_are_found_by_the_image_they_stand_on() {
    let bryo = waiting(&[], &["sleep", "700"]);
    let image = bryo.ok(["inspect", "-f", "{{.Config.Image}}", "one"]);
    let image = image.trim();
    bryo.ok(["exec", "one", "touch", "/more"]);
    bryo.ok(["commit", "one", "child"]);
    bryo.ok(["tag", image, "other:v1"]);
    bryo.ok(["create", "--name", "two", "child", "true"]);
    let found = |filter: &str| bryo.ok(["ps", "-a", "--format", "{{.Names}}", "--filter", filter]);
    let of = |ancestor: &str| found(&format!("ancestor={ancestor}"));
    let inspected = |format| {
        bryo.ok(["image", "inspect", "-f", format, image])
            .trim()
            .to_owned()
    };
    let id = inspected("{{.Id}}");
    let hex = id.trim_start_matches("sha256:");
    let digest = inspected("{{index .RepoDigests 0}}");
    for name in [
        image,
        "other:v1",
        "docker.io/library/other:v1",
        &id,
        hex,
        &hex[..12],
        &digest,
    ] {
        assert_eq!(of(name), "two\none\n", "{name}");
    }
    assert_eq!(of("child"), "two\n");
    assert_eq!(of("localhost/child:latest"), "");
    assert_eq!(of("other"), "");
    // There are no swarms, and no Windows.
    assert_eq!(found("is-task=true"), "");
    assert_eq!(found("is-task=false"), "two\none\n");
    assert_eq!(found("isolation=default"), "two\none\n");
    bryo.fails(125, ["ps", "--filter", "is-task=maybe"]);
}

#[test]
fn sizes_are_those_of_changed_files() {
    let bryo = waiting(&[], &["sleep", "700"]);
    let size = |name: &str| {
        bryo.ok([
            "ps",
            "-a",
            "--filter",
            &format!("name={name}"),
            "--format",
            "{{.Size}}",
        ])
    };
    assert!(size("one").starts_with("0B (virtual "), "{}", size("one"));
    let script = "dd if=/dev/zero of=/f bs=1000 count=5000 2>/dev/null; ln /f /g; rm /etc/group; sync";
    bryo.ok(["exec", "one", "sh", "-c", script]);
    assert!(size("one").starts_with("5MB (virtual "), "{}", size("one"));
    let table = bryo.ok(["ps", "-s"]);
    assert!(table.lines().next().unwrap().ends_with("SIZE"), "{table}");
    let sizes = bryo.ok(["inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "one"]);
    let numbers: Vec<u64> = sizes
        .split_whitespace()
        .map(|text| text.parse().unwrap())
        .collect();
    assert_eq!(numbers[0], 5_000_000);
    assert!(numbers[1] > 5_000_000);
    assert!(!bryo.ok(["inspect", "one"]).contains("SizeRw"));
}
