//! Health checks: who asks, what counts, and who sees it?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;

use common::{Bryo, Project, comm, field, parent, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A container `one` that waits, of whom this is asked every half second.
fn checked(check: &str, flags: &[&str]) -> (Bryo, String) {
    let (bryo, image) = Bryo::with_image("busybox");
    run(&bryo, &image, check, flags);
    (bryo, image)
}

fn run(bryo: &Bryo, image: &str, check: &str, flags: &[&str]) {
    let mut words = vec![
        "run",
        "-d",
        "--name",
        "one",
        "--health-cmd",
        check,
        "--health-interval",
        "500ms",
    ];
    words.extend(flags);
    words.extend([image, "sleep", "1000"]);
    bryo.ok(&words);
}

fn health(bryo: &Bryo) -> String {
    field(bryo, "one", "{{.State.Health.Status}}")
}

fn last(bryo: &Bryo, what: &str) -> String {
    let template = format!("{{{{range .State.Health.Log}}}}{{{{.{what}}}}}|{{{{end}}}}");
    let all = field(bryo, "one", &template);
    all.trim_end_matches('|').rsplit('|').next().unwrap().to_string()
}

/// The process that asks.
fn checker(bryo: &Bryo) -> Pid {
    let supervisor = parent(process(bryo, "one", "Pid"));
    let of = |pid: i32| comm(pid) == "bryo-health" && parent(Pid::from_raw(pid)) == supervisor;
    let mut found = None;
    until("a process that asks", || {
        let all = fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        found = pids
            .filter(|pid| fs::metadata(format!("/proc/{pid}")).is_ok())
            .find(|pid| of(*pid));
        found.is_some()
    });
    Pid::from_raw(found.unwrap())
}

#[test]
fn a_container_becomes_healthy_and_unhealthy_and_healthy_again() {
    let (bryo, _) = checked("echo seen by $(id -u); test -e /well", &["--health-retries", "2"]);
    assert_eq!(health(&bryo), "starting");
    let status = bryo.ok(["ps", "--format", "{{.Status}}"]);
    assert!(status.ends_with(" (health: starting)\n"), "{status}");
    bryo.ok(["exec", "one", "touch", "/well"]);
    assert_eq!(bryo.ok(["wait", "--condition", "healthy", "one"]), "-1\n");
    let status = bryo.ok(["ps", "--format", "{{.Status}}"]);
    assert!(status.ends_with(" (healthy)\n"), "{status}");
    assert_eq!(
        [last(&bryo, "ExitCode"), last(&bryo, "Output")],
        ["0", "seen by 0\n"]
    );
    bryo.ok(["exec", "one", "rm", "/well"]);
    assert_eq!(
        bryo.ok(["wait", "--condition", "unhealthy,exited", "one"]),
        "-1\n"
    );
    assert_eq!(
        bryo.ok(["ps", "--filter", "health=unhealthy", "--format", "{{.Names}}"]),
        "one\n"
    );
    assert_eq!(bryo.ok(["ps", "-q", "--filter", "health=healthy"]), "");
    let streak: u32 = field(&bryo, "one", "{{.State.Health.FailingStreak}}")
        .parse()
        .unwrap();
    assert!(streak >= 2, "{streak}");
    bryo.ok(["exec", "one", "touch", "/well"]);
    bryo.ok(["wait", "--condition", "healthy", "one"]);
    // Five are kept.
    until("five probes", || {
        field(&bryo, "one", "{{len .State.Health.Log}}") == "5"
    });
    let first = field(&bryo, "one", "{{(index .State.Health.Log 0).Start}}");
    until("another", || {
        field(&bryo, "one", "{{(index .State.Health.Log 0).Start}}") != first
    });
    assert_eq!(field(&bryo, "one", "{{len .State.Health.Log}}"), "5");
    // A run of its own begins anew.
    bryo.ok(["exec", "one", "rm", "/well"]);
    bryo.ok(["restart", "-t", "0", "one"]);
    assert_eq!(health(&bryo), "starting");
}

/// The check is within the container, with its user, directory and environment, and no more rights than it.
#[test]
fn a_check_is_as_a_command_of_the_container() {
    let (bryo, _) = checked(
        "cat /proc/1/status | grep CapEff; grep CapEff /proc/self/status; pwd; echo $A; ls /proc/self/fd | wc -l",
        &["-w", "/tmp", "-e", "A=1", "--cap-drop", "ALL"],
    );
    bryo.ok(["wait", "--condition", "healthy", "one"]);
    let output = last(&bryo, "Output");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2..], ["/tmp", "1", "4"]);
}

#[test]
fn a_check_that_hangs_or_cannot_run_fails() {
    let (bryo, image) = checked(
        "echo begun; sleep 998",
        &["--health-timeout", "1s", "--health-retries", "1"],
    );
    bryo.ok(["wait", "--condition", "unhealthy", "one"]);
    assert_eq!(last(&bryo, "ExitCode"), "-1");
    assert_eq!(
        last(&bryo, "Output"),
        "Health check exceeded timeout (1s): begun\n"
    );
    // It does not go on.
    until("its end", || {
        !bryo.ok(["exec", "one", "ps"]).contains("sleep 998")
    });
    bryo.ok(["rm", "-f", "one"]);
    run(
        &bryo,
        &image,
        r#"["CMD", "/nothere"]"#,
        &["--health-retries", "1"],
    );
    bryo.ok(["wait", "--condition", "unhealthy", "one"]);
    assert!(last(&bryo, "Output").contains("no such file or directory in the container"));
    // Output without end is cut.
    bryo.ok(["rm", "-f", "one"]);
    run(&bryo, &image, "yes | head -c 1000000", &[]);
    bryo.ok(["wait", "--condition", "healthy", "one"]);
    assert_eq!(last(&bryo, "Output").len(), 4096);
}

#[test]
fn failures_while_it_starts_do_not_count() {
    let (bryo, _) = checked(
        "false",
        &[
            "--health-retries",
            "1",
            "--health-start-period",
            "1h",
            "--health-start-interval",
            "200ms",
        ],
    );
    until("two probes", || {
        field(&bryo, "one", "{{len .State.Health.Log}}") == "2"
    });
    assert_eq!(
        field(
            &bryo,
            "one",
            "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"
        ),
        "starting 0"
    );
}

/// HEALTHCHECK of an image, and what flags make of it.
#[test]
fn the_images_check_counts_unless_asked_otherwise() {
    let project = Project::new();
    project.build(
        "FROM base\nHEALTHCHECK --interval=700ms --retries=2 CMD test -e /well || (echo ill; exit 1)\nRUN touch /well\nCMD sleep 1000\n",
        &[],
    );
    let bryo = &project.bryo;
    bryo.ok(["run", "-d", "--name", "one", "made"]);
    bryo.ok(["wait", "--condition", "healthy", "one"]);
    let check = field(bryo, "one", "{{json .Config.Healthcheck}}");
    // An image has it no more often than once a second.
    assert_eq!(
        check,
        r#"{"Test":["CMD-SHELL","test -e /well || (echo ill; exit 1)"],"Interval":1000000000,"Retries":2}"#
    );
    bryo.ok(["rm", "-f", "one"]);
    bryo.ok(["run", "-d", "--name", "one", "--health-retries", "7", "made"]);
    assert_eq!(field(bryo, "one", "{{.Config.Healthcheck.Retries}}"), "7");
    bryo.ok(["rm", "-f", "one"]);
    for none in [["--no-healthcheck", "--init=false"], ["--health-cmd", "none"]] {
        let flags: Vec<&str> = none.into_iter().filter(|flag| *flag != "--init=false").collect();
        bryo.ok([vec!["run", "-d", "--name", "one"], flags, vec!["made"]].concat());
        let shown = field(bryo, "one", "{{json .State}} {{json .Config}}");
        assert!(!shown.contains("Health"), "{shown}");
        assert_eq!(
            bryo.ok(["ps", "--filter", "health=none", "--format", "{{.Names}}"]),
            "one\n"
        );
        // Nobody is there to ask.
        let supervisor = parent(process(bryo, "one", "Pid"));
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        for child in children.split_whitespace() {
            // One may be gone by now.
            assert_ne!(comm(child), "bryo-health");
        }
        bryo.ok(["rm", "-f", "one"]);
    }
    let both = bryo.fails(125, ["run", "--no-healthcheck", "--health-cmd", "true", "made"]);
    assert!(
        both.contains("--no-healthcheck conflicts with --health-* options"),
        "{both}"
    );
    let alone = bryo.fails(125, ["run", "--health-interval", "1s", "base", "true"]);
    assert!(alone.contains("--health-cmd defines one"), "{alone}");
    let short = bryo.fails(
        125,
        [
            "run",
            "--health-cmd",
            "true",
            "--health-interval",
            "1us",
            "base",
            "true",
        ],
    );
    assert!(short.contains("cannot be less than 1ms"), "{short}");
}

/// Whoever asks may be killed: another goes on, and knows what the first knew. Its command goes with it.
#[test]
fn a_killed_process_that_asks_is_followed() {
    let (bryo, _) = checked(
        "test -e /hang && exec sleep 999; true",
        &["--health-timeout", "1h"],
    );
    bryo.ok(["wait", "--condition", "healthy", "one"]);
    let first = checker(&bryo);
    kill(first, Signal::SIGKILL).unwrap();
    until("another", || {
        checker(&bryo) != first && field(&bryo, "one", "{{len .State.Health.Log}}") != "1"
    });
    assert_eq!(health(&bryo), "healthy");
    bryo.ok(["exec", "one", "touch", "/hang"]);
    let hangs = || bryo.ok(["exec", "one", "ps"]).contains("sleep 999");
    until("a check that hangs", hangs);
    let second = checker(&bryo);
    bryo.ok(["exec", "one", "rm", "/hang"]);
    kill(second, Signal::SIGKILL).unwrap();
    until("its end", || !hangs());
    // Stop is not held up by one.
    bryo.ok(["exec", "one", "touch", "/hang"]);
    until("a check that hangs", hangs);
    let third = checker(&bryo);
    bryo.ok(["stop", "-t", "0", "one"]);
    assert_eq!(field(&bryo, "one", "{{.State.Status}}"), "exited");
    assert!(fs::read_link(format!("/proc/{third}/exe")).is_err());
    // With the supervisor, all goes.
    bryo.ok(["start", "one"]);
    let (fourth, init) = (checker(&bryo), process(&bryo, "one", "Pid"));
    kill(parent(init), Signal::SIGKILL).unwrap();
    until("the end of all", || {
        [fourth, init]
            .iter()
            .all(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_err())
    });
    // Not before the last thread of the supervisor is gone.
    until("its record", || {
        field(&bryo, "one", "{{.State.ExitCode}}") == "137"
    });
}
