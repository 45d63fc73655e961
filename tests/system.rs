//! `system df`, `system prune`, `system reset`: what takes room, what goes, what stays?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::process::Stdio;

use common::{Bryo, Project, fed, field, until};
use serde_json::Value;

/// `system df` as type → its other fields.
fn df(bryo: &Bryo, kind: &str) -> Value {
    let all = bryo.ok(["system", "df", "--format", "json"]);
    let mut rows = all
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.find(|row| row["Type"] == kind).unwrap()
}

fn names(bryo: &Bryo) -> String {
    bryo.ok(["ps", "-a", "--format", "{{.Names}}"])
}

#[test]
fn what_takes_room_is_shown() {
    let project = Project::new();
    let bryo = &project.bryo;
    assert_eq!(df(bryo, "Containers")["TotalCount"], "0");
    assert_eq!(df(bryo, "Images")["Active"], "0");
    let size = bryo.ok(["image", "ls", "--format", "{{.Size}}", "base"]);
    assert_eq!(df(bryo, "Images")["Size"], size.trim_end());
    // An image above it adds its own layer alone.
    project.build(
        "FROM base\nRUN head -c 3000000 /dev/zero | tr '\\0' x > /x\n",
        &[],
    );
    let images = df(bryo, "Images");
    assert_eq!([&images["TotalCount"], &images["Active"]], ["2", "0"]);
    assert!(
        images["Reclaimable"].as_str().unwrap().ends_with(" (100%)"),
        "{images}"
    );
    // The step, and the hashes of the context's files.
    assert_eq!(df(bryo, "Build Cache")["TotalCount"], "2");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        "base",
        "sh",
        "-c",
        "head -c 2000000 /dev/zero | tr '\\0' y > /y; sync; sleep 1000",
    ]);
    until("what it writes", || {
        df(bryo, "Containers")["Size"].as_str().unwrap().ends_with("MB")
    });
    let containers = df(bryo, "Containers");
    assert_eq!(
        [
            &containers["TotalCount"],
            &containers["Active"],
            &containers["Reclaimable"]
        ],
        ["1", "1", "0B (0%)"]
    );
    let images = df(bryo, "Images");
    assert_eq!(images["Active"], "1");
    assert!(
        !images["Reclaimable"].as_str().unwrap().ends_with(" (100%)"),
        "{images}"
    );
    let table = bryo.ok(["system", "df"]);
    let first = "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n";
    assert!(table.starts_with(first) && table.lines().count() == 5, "{table}");
    let all = bryo.ok(["system", "df", "-v"]);
    for part in [
        "Images space usage:\n\nREPOSITORY",
        "Containers space usage:\n\nCONTAINER ID",
        "Build cache usage: ",
    ] {
        assert!(all.contains(part), "{all}");
    }
    let line = all.lines().find(|line| line.starts_with("base ")).unwrap();
    assert!(line.ends_with(" 1"), "{line}");
    assert!(
        bryo.fails(125, ["system", "df", "-v", "--format", "json"])
            .contains("cannot be used together")
    );
}

#[test]
fn what_nothing_uses_goes_after_a_question() {
    let project = Project::new();
    let bryo = &project.bryo;
    project.build("FROM base\nRUN echo x > /x\n", &[]);
    bryo.ok(["tag", "made", "kept"]);
    project.build("FROM base\nRUN echo y > /y\n", &[]);
    bryo.ok(["rmi", "kept"]);
    bryo.ok(["run", "--name", "ended", "base", "true"]);
    bryo.ok(["run", "-d", "--name", "runs", "base", "sleep", "1000"]);
    bryo.ok([
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "always",
        "base",
        "false",
    ]);
    // Not asked with yes, nothing goes.
    let done = fed(&mut bryo.command(["system", "prune"]), "n\n");
    assert_eq!(done.status.code(), Some(1), "{done}");
    let question = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - all dangling images\n  - unused build cache\n\nAre you sure";
    assert!(done.stderr.starts_with(question), "{done}");
    assert_eq!(names(bryo).lines().count(), 3);
    let done = fed(&mut bryo.command(["system", "prune"]), "y\n");
    assert!(done.status.success(), "{done}");
    let ended = "Deleted Containers:\n";
    assert!(
        done.stdout.starts_with(ended) && done.stdout.contains("Total reclaimed space: "),
        "{done}"
    );
    assert!(done.stdout.contains("Deleted build cache objects:\n"), "{done}");
    // One that waits to be started again is in use.
    assert_eq!(names(bryo), "again\nruns\n");
    bryo.ok(["image", "inspect", "made", "base"]);
    bryo.ok(["system", "prune", "-af", "--volumes"]);
    assert!(
        bryo.fails(1, ["image", "inspect", "made"])
            .contains("No such image")
    );
    bryo.ok(["image", "inspect", "base"]);
    assert_eq!(df(bryo, "Build Cache")["TotalCount"], "0");
    bryo.ok(["stop", "-t", "0", "runs", "again"]);
    bryo.ok(["system", "prune", "-f", "--filter", "until=1h"]);
    bryo.ok(["system", "prune", "-f", "--filter", "label=nobody"]);
    assert_eq!(names(bryo), "again\nruns\n");
    assert!(
        bryo.fails(1, ["system", "prune", "-f", "--filter", "colour=red"])
            .contains("invalid filter")
    );
    bryo.ok(["system", "prune", "-af"]);
    assert_eq!(names(bryo) + &bryo.ok(["images", "-q"]), "");
    project.is_clean();
}

#[test]
fn a_reset_leaves_nothing() {
    let project = Project::new();
    let bryo = &project.bryo;
    project.build(
        "FROM base\nRUN --mount=type=cache,target=/c echo x > /c/x\nCOPY . /here\n",
        &[],
    );
    bryo.ok(["run", "-d", "--name", "runs", "base", "sleep", "1000"]);
    bryo.ok([
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "always",
        "base",
        "false",
    ]);
    bryo.ok(["create", "--name", "new", "base", "true"]);
    let broken = bryo.ok(["create", "--name", "broken", "base", "true"]);
    fs::write(
        bryo.state()
            .join("containers")
            .join(broken.trim())
            .join("record.json"),
        "{",
    )
    .unwrap();
    fs::write(bryo.root().join("mine"), "not Bryo's").unwrap();
    let pid = common::process(bryo, "runs", "Pid");
    let done = fed(&mut bryo.command(["system", "reset"]), "\n");
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stderr.contains("  - all containers, also those that run\n"),
        "{done}"
    );
    assert_eq!(field(bryo, "runs", "{{.State.Status}}"), "running");
    assert_eq!(bryo.ok(["system", "reset", "-f"]), "");
    assert!(fs::read_link(format!("/proc/{pid}/exe")).is_err());
    let left: Vec<_> = fs::read_dir(bryo.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["mine"]);
    assert!(!bryo.state().exists());
    // It is a store as on the first day.
    assert_eq!(names(bryo) + &bryo.ok(["images", "-q"]), "");
    bryo.ok(["system", "reset", "-f"]);
}

/// Who works on images is not robbed of them.
#[test]
fn a_reset_does_not_take_what_is_coming() {
    let project = Project::new();
    let bryo = &project.bryo;
    project.write("wait", "");
    let mut build = project.command(
        "FROM base\nRUN echo begun > /begun; while :; do sleep 0.1; done\n",
        &[],
    );
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("its step", || {
        fs::read_dir(bryo.state().join("containers")).is_ok_and(|all| all.count() == 1)
    });
    let error = bryo.fails(1, ["system", "reset", "-f"]);
    assert!(error.contains("a pull or a build is at work"), "{error}");
    bryo.ok(["image", "inspect", "base"]);
    build.kill().unwrap();
    build.wait().unwrap();
    until("the end of the build", || {
        bryo.run(["system", "reset", "-f"]).status.success()
    });
}

/// Killed at any step, a reset can be done again.
#[test]
fn a_killed_reset_can_be_repeated() {
    let bryo = Bryo::new();
    for step in (1..).step_by(2) {
        bryo.ok(["images"]);
        let mut reset = bryo.command(["system", "reset", "-f"]);
        let done = common::Done::of(reset.env("BRYO_FAILPOINT", step.to_string()));
        if done.status.success() {
            break;
        }
        bryo.ok(["images"]);
        bryo.ok(["system", "reset", "-f"]);
        assert!(!bryo.root().exists(), "step {step}");
    }
}

#[test]
fn volumes_take_room_and_go() {
    let project = Project::new();
    let bryo = &project.bryo;
    assert_eq!(df(bryo, "Local Volumes")["TotalCount"], "0");
    let write = "head -c 2000000 /dev/zero | tr '\\0' y > /v/file";
    bryo.ok(["run", "--rm", "-v", "named:/v", "base", "sh", "-c", write]);
    bryo.ok(["run", "--name", "one", "-v", "/v", "base", "sh", "-c", write]);
    let volumes = df(bryo, "Local Volumes");
    assert_eq!([&volumes["TotalCount"], &volumes["Active"]], ["2", "1"]);
    assert!(volumes["Size"].as_str().unwrap().starts_with('4'), "{volumes}");
    assert!(
        volumes["Reclaimable"].as_str().unwrap().ends_with("MB (50%)"),
        "{volumes}"
    );
    let all = bryo.ok(["system", "df", "-v"]);
    assert!(all.contains("Local Volumes space usage:\n\nVOLUME NAME"), "{all}");
    let named = all.lines().find(|line| line.starts_with("named "));
    let named: Vec<&str> = named.unwrap().split_whitespace().collect();
    assert!(
        named[1] == "0" && named[2].starts_with('2') && named[2].ends_with("MB"),
        "{all}"
    );
    let names = || bryo.ok(["volume", "ls", "-q"]);
    // The container goes, and what was its own; without the flag only the container would.
    let error = bryo.fails(1, ["system", "prune", "--volumes", "-f", "--filter", "until=1h"]);
    assert!(error.contains("until"), "{error}");
    bryo.ok(["system", "prune", "-f"]);
    assert_eq!(names().lines().count(), 2);
    let done = fed(&mut bryo.command(["system", "prune", "--volumes"]), "y\n");
    let question = "  - all anonymous volumes not used by at least one container\n";
    assert!(done.status.success() && done.stderr.contains(question), "{done}");
    assert!(done.stdout.starts_with("Deleted Volumes:\n"), "{done}");
    assert_eq!(names(), "named\n");
    bryo.ok(["create", "-v", "named:/v", "base", "true"]);
    // Of another user of the container's, if there are any.
    let user = if common::has_id_range() { "33:33" } else { "0:0" };
    bryo.ok([
        "run",
        "--rm",
        "-v",
        "named:/v",
        "base",
        "sh",
        "-c",
        &format!("mkdir -m 700 /v/d; touch /v/d/f; chown -R {user} /v/d"),
    ]);
    assert_eq!(bryo.ok(["system", "reset", "-f"]), "");
    assert!(!bryo.state().exists());
}
