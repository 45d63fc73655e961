//! Limits and pauses where the user may make no cgroups; and what needs none.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;

use common::Bryo;

/// Whether these tests are where the user may make groups, as in a systemd user session: then all that is refused here is
/// done, and `tests/limits.rs` says how.
fn is_delegated() -> bool {
    let bryo = Bryo::with_image("busybox");
    let done = bryo
        .0
        .run(["run", "--rm", "--pids-limit", "100", &bryo.1, "true"]);
    assert!(done.status.success(), "{done}");
    done.stderr.is_empty()
}

#[test]
fn one_warning_names_what_is_not_limited_and_what_would_help() {
    if is_delegated() {
        return;
    }
    let (bryo, image) = Bryo::with_image("busybox");
    let flags = [
        "run",
        "-d",
        "--name",
        "one",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "100",
        &image,
        "sleep",
        "600",
    ];
    let done = bryo.run(flags);
    assert!(done.status.success(), "{done}");
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{done}");
    assert!(
        lines[0].starts_with("bryo: --memory, --cpus and --pids-limit have no effect: "),
        "{done}"
    );
    assert!(
        lines[0].contains("version 2") || lines[0].contains("systemd-run --user --scope"),
        "{done}"
    );
    assert_eq!(bryo.ok(["ps", "--format", "{{.Names}}"]), "one\n");
    assert_eq!(
        bryo.ok(["inspect", "-f", "{{.HostConfig.Memory}}", "one"]),
        "67108864\n"
    );
    let error = bryo.fails(1, ["pause", "one"]);
    assert!(
        error.starts_with("bryo: cannot pause container one: it has no cgroup that could be frozen: "),
        "{error}"
    );
    let done = bryo.run(["update", "--memory", "32m", "one"]);
    assert!(
        done.status.success() && done.stderr.contains("have no effect"),
        "{done}"
    );
    assert_eq!(
        bryo.ok(["inspect", "-f", "{{.HostConfig.Memory}}", "one"]),
        "33554432\n"
    );
    assert_eq!(
        bryo.ok(["info", "-f", "{{.CgroupDriver}} {{.MemoryLimit}}"]),
        "none false\n"
    );
    assert!(bryo.ok(["info"]).contains("\nLimits by cgroups: none: "));
    // Nothing asked for, nothing said.
    let done = bryo.run(["run", "--rm", &image, "true"]);
    assert!(done.stderr.is_empty(), "{done}");
}

#[test]
fn a_parent_that_is_not_ours_is_refused() {
    let (bryo, image) = Bryo::with_image("busybox");
    for parent in ["/nowhere", "nowhere", "../tests", "user.slice"] {
        let error = bryo.fails(125, ["run", "--rm", "--cgroup-parent", parent, &image, "true"]);
        assert!(
            error.contains(&format!("--cgroup-parent {parent}: no hierarchy")),
            "{error}"
        );
    }
}

#[test]
fn flags_that_make_no_sense_are_refused_in_dockers_words() {
    let (bryo, image) = Bryo::with_image("busybox");
    let cases: &[(&[&str], &str)] = &[
        (&["-m", "4m"], "Minimum memory limit allowed is 6MB"),
        (&["-m", "x"], "a size is 67108864, 64m or 1g"),
        (
            &["--memory-swap", "64m"],
            "You should always set the Memory limit when using Memoryswap limit",
        ),
        (
            &["-m", "64m", "--memory-swap", "32m"],
            "Minimum memoryswap limit should be larger than memory limit",
        ),
        (&["--cpus", "1000"], "Range of CPUs is from 0.01 to"),
        (&["--cpus", "one"], "it is a number such as 2 or 0.5"),
        (
            &["--cpus", "1", "--cpu-quota", "5000"],
            "Nano CPUs and CPU Quota cannot both be set",
        ),
        (&["--cpu-period", "10"], "CPU cfs period can not be less than 1ms"),
        (&["--cpuset-cpus", "a-b"], "Invalid value a-b for cpuset cpus"),
        (&["--oom-score-adj", "2000"], "2000"),
        (&["--oom-kill-disable"], "--oom-kill-disable"),
    ];
    for (flags, why) in cases {
        let mut words = vec!["run", "--rm"];
        words.extend(*flags);
        words.extend([image.as_str(), "true"]);
        let error = bryo.fails(125, words);
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
    let error = bryo.fails(1, ["update", "nosuch"]);
    assert!(error.contains("you must provide one or more flags"), "{error}");
}

#[test]
fn it_is_killed_more_willingly_if_asked_never_less() {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let (bryo, image) = Bryo::with_image("busybox");
    let more = (own + 100).min(1000).to_string();
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        "--oom-score-adj",
        &more,
        &image,
        "sleep",
        "600",
    ]);
    let score = [
        "exec",
        "one",
        "cat",
        "/proc/1/oom_score_adj",
        "/proc/self/oom_score_adj",
    ];
    assert_eq!(bryo.ok(score), format!("{more}\n{more}\n"));
    assert_eq!(
        bryo.ok(["inspect", "-f", "{{.HostConfig.OomScoreAdj}}", "one"])
            .trim(),
        more
    );
    // Not those that keep the container going.
    let server = common::process(&bryo, "one", "FilesystemPid");
    assert_eq!(
        fs::read_to_string(format!("/proc/{server}/oom_score_adj"))
            .unwrap()
            .trim(),
        own.to_string()
    );
    let error = bryo.fails(125, ["run", "--rm", "--oom-score-adj=-999", &image, "true"]);
    assert!(error.contains("an ordinary user may raise it only"), "{error}");
}
