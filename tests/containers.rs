//! What stays of a container, and what becomes of it: ps, inspect, start, rm, kill, stop, wait, and after kill -9.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{Bryo, Done, field, kills, parent, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

#[test]
fn a_container_stays_and_goes_on_with_its_changes() {
    let (bryo, image) = busybox();
    let script = "echo line >> /kept; wc -l < /kept; exit 4";
    let done = bryo.run(["run", "--name", "one", &image, "sh", "-c", script]);
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(4), "1\n"),
        "{done}"
    );
    for round in 2..5 {
        let done = bryo.run(["start", "-a", "one"]);
        assert_eq!((done.status.code(), done.stdout), (Some(4), format!("{round}\n")));
    }
    assert!(bryo.sh(&image, "ls /kept 2>&1 || true").contains("No such file"));
    assert_eq!(
        field(&bryo, "one", "{{.State.Status}} {{.State.ExitCode}} {{.Name}}"),
        "exited 4 /one"
    );
    assert_eq!(bryo.ok(["ps", "-q"]), "");
    let line = bryo.ok(["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Image}}"]);
    assert_eq!(line, format!("one exited {image}\n"));
    assert_eq!(bryo.ok(["rm", "one"]), "one\n");
    assert!(bryo.fails(1, ["rm", "one"]).contains("No such container: one"));
    assert_eq!(
        std::fs::read_dir(bryo.state().join("containers"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_detached_container_runs_until_it_is_stopped() {
    let (bryo, image) = busybox();
    let id = bryo.ok(["run", "-d", "--name", "bg", "-l", "k=v", &image, "sleep", "1000"]);
    let id = id.trim_end();
    assert_eq!(id.len(), 64);
    assert_eq!(
        bryo.ok(["ps", "-q", "--no-trunc", "-f", "label=k=v"]).trim_end(),
        id
    );
    assert_eq!(
        field(&bryo, &id[..12], "{{.State.Running}} {{.Config.Hostname}}"),
        format!("true {}", &id[..12])
    );
    assert!(process(&bryo, "bg", "Pid").as_raw() > 0);
    assert!(bryo.fails(1, ["rm", "bg"]).contains("container is running"));
    let taken = bryo.fails(125, ["run", "--rm", "--name", "bg", &image, "true"]);
    assert!(
        taken.contains("is already in use by container") && taken.contains(id),
        "{taken}"
    );
    assert_eq!(bryo.ok(["kill", "bg"]), "bg\n");
    assert_eq!(bryo.ok(["wait", "bg"]), "137\n");
    assert_eq!(bryo.ok(["start", "bg"]), "bg\n");
    assert_eq!(bryo.ok(["stop", "-t", "0", "bg"]), "bg\n");
    assert_eq!(
        field(&bryo, "bg", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    bryo.ok(["start", "bg"]);
    assert_eq!(bryo.ok(["rm", "-f", "bg", "no-such"]), "bg\n");
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

#[test]
fn a_damaged_record_hides_no_other_and_can_be_removed() {
    let (bryo, image) = busybox();
    let bad = bryo.ok(["create", "--name", "bad", &image, "true"]);
    bryo.ok(["create", "--name", "good", &image, "true"]);
    let record = bryo
        .state()
        .join("containers")
        .join(bad.trim())
        .join("record.json");
    std::fs::write(&record, "{").unwrap();
    assert_eq!(bryo.ok(["ps", "-a", "--format", "{{.Names}}"]), "good\n");
    bryo.ok(["image", "prune", "-f"]);
    assert_eq!(bryo.ok(["rm", "bad"]), "bad\n");
    assert!(!record.parent().unwrap().exists());
    bryo.ok(["create", "--name", "bad", &image, "true"]);
}

#[test]
fn a_container_created_with_rm_stays_until_it_has_run() {
    let (bryo, image) = busybox();
    bryo.ok(["create", "--rm", "--name", "once", &image, "echo", "ran"]);
    assert_eq!(bryo.ok(["ps", "-a", "--format", "{{.Names}}"]), "once\n");
    assert_eq!(field(&bryo, "once", "{{.HostConfig.AutoRemove}}"), "true");
    assert_eq!(bryo.ok(["start", "-a", "once"]), "ran\n");
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

#[test]
fn a_container_that_is_killed_is_not_blamed_on_its_server() {
    let (bryo, image) = busybox();
    bryo.ok(["run", "-d", "--name", "shot", &image, "sleep", "1000"]);
    bryo.ok(["kill", "shot"]);
    assert_eq!(
        field(&bryo, "shot", "{{.State.ExitCode}} {{.State.Error}}"),
        "137"
    );
}

#[test]
fn diff_tells_what_changed() {
    let (bryo, image) = busybox();
    let script = "cd /; mkdir -p new/in; echo x > new/in/file; rm -r /usr/share; mv /bin /bin2; mv /bin2 /bin
        chmod 700 /home; echo y >> /etc/passwd; rm /etc/group; mkdir /etc/group; touch /tmp/go; rm /tmp/go
        touch /zz; sleep 1000";
    let base =
        "mkdir -p /usr/share/deep; mkdir -p /home /tmp; touch /usr/share/deep/file /etc/passwd /etc/group";
    bryo.ok(["run", "--name", "plain", &image, "true"]);
    assert_eq!(bryo.ok(["diff", "plain"]), "");
    assert_eq!(bryo.ok(["run", "--name", "base", &image, "sh", "-ec", base]), "");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "changed",
        &image,
        "sh",
        "-ec",
        &format!("{base}; {script}"),
    ]);
    until("its work", || bryo.ok(["diff", "changed"]).contains("A /zz\n"));
    let expected = bryo.ok(["diff", "changed"]);
    for line in ["A /new", "A /new/in", "A /new/in/file", "C /etc"] {
        assert!(expected.lines().any(|told| told == line), "{line}: {expected}");
    }
    assert!(
        !expected.contains("/tmp/go") && !expected.contains("C /\n"),
        "{expected}"
    );
    // The same when it is read after its end.
    bryo.ok(["kill", "changed"]);
    until("its end", || bryo.ok(["ps", "-q"]).is_empty());
    assert_eq!(bryo.ok(["diff", "changed"]), expected);
    bryo.fails(1, ["diff", "nobody"]);
}

#[test]
fn create_then_start() {
    let (bryo, image) = busybox();
    let id = bryo.ok(["create", "--name", "later", &image, "echo", "now"]);
    assert_eq!(
        field(&bryo, "later", "{{.State.Status}} {{.Id}}"),
        format!("created {}", id.trim_end())
    );
    assert_eq!(bryo.ok(["start", "-a", "later"]), "now\n");
}

#[test]
fn a_command_that_never_ran_leaves_its_reason() {
    let (bryo, image) = busybox();
    bryo.fails(127, ["run", "--name", "none", &image, "no-such-command"]);
    assert_eq!(
        field(&bryo, "none", "{{.State.Status}} {{.State.ExitCode}}"),
        "created 127"
    );
    assert!(field(&bryo, "none", "{{.State.Error}}").contains("no-such-command"));
}

/// A record names processes by numbers that the kernel gives again: who has such a number is only believed with its start.
#[test]
fn who_has_the_number_of_a_containers_process_by_now_is_left_alone() {
    let (bryo, image) = busybox();
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let id = bryo.ok(["run", "-d", "--name", "one", &image, "sh", "-c", script]);
    until("it is ready", || bryo.ok(["logs", "one"]) == "ready\n");
    let directory = bryo.state().join("containers").join(id.trim());
    let supervisor = parent(process(&bryo, "one", "Pid"));
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let record = directory.join("record.json");
    let mut told: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    for role in ["init", "server"] {
        told["life"][role]["pid"] = other.id().into();
    }
    std::fs::write(&record, told.to_string()).unwrap();
    for words in [
        &["kill", "one"][..],
        &["kill", "-s", "TERM", "one"],
        &["exec", "one", "true"],
        &["upgrade-server", "one"],
        &["pause", "one"],
    ] {
        let done = bryo.run(words);
        assert!(!done.status.success(), "{done}");
    }
    let shown = bryo.ok(["top", "one"]);
    assert_eq!(shown.lines().count(), 1, "{shown}");
    bryo.ok(["rm", "-f", "one"]);
    until("the end of the supervisor", || kill(supervisor, None).is_err());
    assert!(
        other.try_wait().unwrap().is_none(),
        "another's process was killed"
    );
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_killed_supervisor_takes_the_container_along_and_is_noticed() {
    let (bryo, image) = busybox();
    bryo.ok(["run", "-d", "--name", "orphan", &image, "sleep", "1000"]);
    let [init, server] = ["Pid", "FilesystemPid"].map(|which| process(&bryo, "orphan", which));
    kill(parent(init), Signal::SIGKILL).unwrap();
    for process in [init, server] {
        until("the end of init and server", || kill(process, None).is_err());
    }
    assert_eq!(
        field(&bryo, "orphan", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    assert_eq!(Done::of(&mut bryo.command(["ps", "-q"])).stdout, "");
    bryo.ok(["start", "orphan"]);
    bryo.ok(["rm", "-f", "orphan"]);
}

/// Tells what it finds, then writes files and tells each number once its file is synced.
const WRITER: &str = "mkdir -p /d; n=0; x=0
    while [ -s /d/$((n + 1)) ]; do n=$((n + 1)); read x < /d/$n || exit; [ $x = $n ] || echo bad $n; done; echo have $n
    while :; do n=$((n + 1)); echo $n | dd of=/d/$n conv=fsync 2> /dev/null || exit; echo $n; done";

#[test]
fn what_was_synced_is_there_after_kill_9_of_tool_supervisor_or_server() {
    let (bryo, image) = busybox();
    bryo.ok(["create", "--name", "victim", &image, "sh", "-c", WRITER]);
    let mut synced = 0u64;
    for round in 0..kills(24) {
        let mut start = bryo.command(["start", "-a", "victim"]);
        let mut tool = start.stdout(std::process::Stdio::piped()).spawn().unwrap();
        until("its start", || {
            field(&bryo, "victim", "{{.State.Running}}") == "true"
        });
        let server = process(&bryo, "victim", "FilesystemPid");
        std::thread::sleep(Duration::from_millis(20 + round * 37 % 150));
        match round % 3 {
            0 => tool.kill().unwrap(),
            1 => kill(parent(server), Signal::SIGKILL).unwrap(),
            _ => kill(server, Signal::SIGKILL).unwrap(),
        }
        if round % 3 != 1 {
            bryo.run(["kill", "victim"]);
        }
        let output = std::io::read_to_string(tool.stdout.take().unwrap()).unwrap();
        tool.wait().unwrap();
        until("its end", || bryo.ok(["ps", "-q"]).is_empty());
        let mut lines = output.lines();
        let found = lines.next().and_then(|line| line.strip_prefix("have "));
        if let Some(found) = found {
            assert!(
                found.parse::<u64>().unwrap() >= synced,
                "round {round}: {found} of {synced}"
            );
        } else {
            // Killed before it had looked through all; but what it saw was whole.
            assert!(!output.contains("bad"), "round {round}: {output}");
        }
        synced = lines
            .filter_map(|line| line.parse().ok())
            .max()
            .unwrap_or(synced)
            .max(synced);
    }
    assert!(synced > 24, "only {synced} files were written");
    bryo.ok(["store", "check"]);
    bryo.ok(["rm", "victim"]);
}

/// Killed at each step in turn, no command leaves what another cannot use or remove.
#[test]
fn killed_at_each_step_no_container_is_left_half() {
    let (bryo, image) = busybox();
    let containers = bryo.state().join("containers");
    let left = || std::fs::read_dir(&containers).map_or(0, |entries| entries.count());
    let create = ["create", "--name", "cc", image.as_str(), "true"];
    let commands: [(&str, &[&str]); 4] = [
        ("create", &create),
        ("rm", &["rm", "cc"]),
        ("start", &["start", "-a", "cc"]),
        ("run", &["run", "--name", "cc", image.as_str(), "true"]),
    ];
    for (name, command) in commands {
        for step in 1.. {
            if name == "rm" || name == "start" {
                bryo.ok(create);
            }
            let done = Done::of(bryo.command(command).env("BRYO_FAILPOINT", step.to_string()));
            // Aborted itself, or told of its supervisor's end.
            assert!(matches!(done.status.code(), None | Some(0 | 125 | 137)), "{done}");
            until("the end of all", || bryo.ok(["ps", "-q"]).is_empty());
            let listed = bryo.ok(["ps", "-aq"]).lines().count();
            bryo.ok(["image", "prune", "-f"]);
            assert_eq!(left(), listed, "{name} killed at step {step}");
            for id in bryo.ok(["ps", "-aq"]).lines() {
                bryo.ok(["start", id]);
                bryo.ok(["wait", id]);
                bryo.ok(["rm", id]);
            }
            assert_eq!(left(), 0, "{name} killed at step {step}");
            if done.status.success() {
                assert!(
                    step > 3,
                    "{name} has only {step} steps: no failpoints in this build?"
                );
                break;
            }
        }
    }
}

#[test]
fn a_container_starts_from_a_store_that_nobody_may_write() {
    let (bryo, image) = busybox();
    let all = |mode: u32| {
        for entry in walk(&bryo.root()) {
            let keep = std::fs::symlink_metadata(&entry).unwrap().permissions().mode() & !0o222;
            std::fs::set_permissions(&entry, std::fs::Permissions::from_mode(keep | mode)).unwrap();
        }
    };
    all(0);
    let done = bryo.run(["run", "--rm", &image, "echo", "read-only"]);
    all(0o200);
    assert_eq!(done.stdout, "read-only\n", "{done}");
}

fn walk(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            found.extend(walk(&entry.unwrap().path()));
        }
    }
    found
}

/// kill -9 of tool and supervisor at whatever moment: the next command tells the truth and repairs.
#[test]
fn killed_at_any_moment_the_store_tells_the_truth() {
    let (bryo, image) = busybox();
    for round in 0..40u64 {
        let name = format!("r{round}");
        let mut words = vec!["run", "--name", &name];
        words.extend((round % 2 == 0).then_some("--rm"));
        words.extend([image.as_str(), "sh", "-c", "echo x > /x; sync; sleep 0.05"]);
        let mut child = bryo.command(words).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 3 % 90));
        let tool = child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{tool}/task/{tool}/children")).unwrap_or_default();
        match (round % 3, children.split_whitespace().next()) {
            (0, _) | (_, None) => child.kill().unwrap(),
            (_, Some(supervisor)) => {
                // It may have ended by itself.
                let _ = kill(Pid::from_raw(supervisor.parse().unwrap()), Signal::SIGKILL);
            }
        }
        child.wait().unwrap();
        until("the end of every container", || bryo.ok(["ps", "-q"]).is_empty());
        if round % 2 == 0 {
            until("its removal", || {
                !bryo.ok(["ps", "-a", "--format", "{{.Names}}"]).contains(&name)
            });
        }
    }
    // The last ones may still be on their way to or from running, which `rm` refuses.
    until("the removal of all", || {
        for id in bryo.ok(["ps", "-aq"]).split_whitespace() {
            bryo.run(["rm", id]);
        }
        bryo.ok(["ps", "-aq"]).is_empty()
    });
    assert_eq!(bryo.sh(&image, "echo fine"), "fine\n");
}

#[test]
fn names_ids_and_filters() {
    let (bryo, image) = busybox();
    let a = bryo.ok(["create", "--name", "alpha", &image, "true"]);
    bryo.ok(["create", "--name", "beta", &image, "true"]);
    assert_eq!(
        bryo.ok(["ps", "-aq", "-f", "name=alp"]),
        format!("{}\n", &a[..12])
    );
    assert_eq!(bryo.ok(["ps", "-a", "-l", "--format", "{{.Names}}"]), "beta\n");
    assert_eq!(
        bryo.ok(["ps", "-a", "-f", "status=created", "--format", "{{.Names}}"]),
        "beta\nalpha\n"
    );
    assert_eq!(field(&bryo, &a[..8], "{{.Name}}"), "/alpha");
    assert!(
        bryo.fails(125, ["ps", "-f", "bogus=1"])
            .contains("invalid filter")
    );
    assert!(
        bryo.fails(1, ["create", "--name", "bad/name", &image, "true"])
            .contains("Invalid container name")
    );
    let header = bryo.ok(["ps"]);
    assert!(header.starts_with("CONTAINER ID   IMAGE"), "{header}");
}

#[test]
fn a_restart_keeps_what_was_changed() {
    let (bryo, image) = busybox();
    let script = "trap 'exit 0' TERM; echo line >> /kept; while :; do sleep 0.05; done";
    bryo.ok(["run", "-d", "--name", "one", &image, "sh", "-c", script]);
    let kept = || bryo.run(["exec", "one", "cat", "/kept"]).stdout;
    until("its first line", || kept() == "line\n");
    let first = process(&bryo, "one", "Pid");
    assert_eq!(bryo.ok(["restart", "one"]), "one\n");
    until("its second line", || kept() == "line\nline\n");
    assert_ne!(process(&bryo, "one", "Pid"), first);
    bryo.ok(["stop", "one"]);
    // One that does not run is started.
    assert_eq!(bryo.ok(["container", "restart", "-t", "1", "one"]), "one\n");
    until("its third line", || kept() == "line\nline\nline\n");
    assert!(
        bryo.fails(1, ["restart", "two"])
            .contains("No such container: two")
    );
    bryo.ok(["run", "-d", "--rm", "--name", "fleeting", &image, "sleep", "1000"]);
    let error = bryo.fails(1, ["restart", "fleeting"]);
    assert!(error.contains("removed when it ends (--rm)"), "{error}");
    assert_eq!(field(&bryo, "fleeting", "{{.State.Status}}"), "running");
}

#[test]
fn a_prune_removes_what_does_not_run() {
    let (bryo, image) = busybox();
    let made = |name: &str, flags: &[&str]| {
        let words = ["create", "--name", name]
            .into_iter()
            .chain(flags.iter().copied());
        let id = bryo.ok(words.chain([image.as_str(), "true"]));
        id.trim_end().to_string()
    };
    bryo.ok(["run", "-d", "--name", "running", &image, "sleep", "1000"]);
    made("kept", &["-l", "keep=yes"]);
    let old = made("old", &[]);
    let names = || bryo.ok(["container", "ls", "-a", "--format", "{{.Names}}"]);
    assert_eq!(names(), "old\nkept\nrunning\n");
    let prune = |flags: &[&str]| {
        let words = ["container", "prune", "-f"]
            .into_iter()
            .chain(flags.iter().copied());
        bryo.ok(words)
    };
    assert_eq!(prune(&["--filter", "until=1h"]), "Total reclaimed space: 0B\n");
    let said = prune(&["--filter", "label!=keep=yes"]);
    assert!(
        said.starts_with(&format!("Deleted Containers:\n{old}\n\nTotal reclaimed space: ")),
        "{said}"
    );
    assert_eq!(names(), "kept\nrunning\n");
    // Without -f it asks, and nobody answers.
    let error = bryo.fails(1, ["container", "prune"]);
    assert!(
        error.contains("all stopped containers") && error.contains("cancelled"),
        "{error}"
    );
    assert!(
        bryo.fails(1, ["container", "prune", "-f", "--filter", "size=1"])
            .contains("invalid filter")
    );
    prune(&[]);
    assert_eq!(names(), "running\n");
    bryo.ok(["container", "rm", "-f", "running"]);
    let error = bryo.run(["container", "inspect", &image]).stderr;
    assert!(error.contains("No such container"), "{error}");
}
