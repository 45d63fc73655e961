//! Many containers, of which fifty run: listed, stopped, removed. A hundred in CI; `BRYO_CONTAINERS=1000` asks for more, as
//! `scripts/soak.sh` does.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use common::{Bryo, Done, until};

/// Words of a command, and then names.
fn of(verb: &[&str], names: &[String]) -> Vec<String> {
    let verb = verb.iter().map(ToString::to_string);
    verb.chain(names.iter().cloned()).collect()
}

#[test]
fn many_containers_of_which_fifty_run() {
    let (bryo, image) = Bryo::with_image("busybox");
    let count: usize = std::env::var("BRYO_CONTAINERS").map_or(100, |count| count.parse().unwrap());
    let names: Vec<String> = (0..count).map(|number| format!("many-{number}")).collect();
    let (running, created) = names.split_at(50);
    for (name, verb) in running
        .iter()
        .map(|name| (name, "run -d"))
        .chain(created.iter().map(|name| (name, "create")))
    {
        let mut words: Vec<&str> = verb.split(' ').collect();
        words.extend(["--network", "none", "--name", name, &image, "sleep", "1000"]);
        bryo.ok(words);
    }
    assert_eq!(bryo.ok(["ps", "-q"]).lines().count(), 50);
    // All, the last one first.
    let listed = bryo.ok(["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Command}}"]);
    let line = |name: &String| {
        let state = if running.contains(name) {
            "running"
        } else {
            "created"
        };
        format!("{name} {state} \"sleep 1000\"")
    };
    let expected: Vec<String> = names.iter().rev().map(line).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    let last = format!("many-{}\n", count - 1);
    assert_eq!(bryo.ok(["ps", "-l", "--format", "{{.Names}}"]), last);
    for name in [&running[0], &running[49]] {
        assert_eq!(bryo.ok(["exec", name, "hostname"]).len(), 13);
    }
    // All have their own.
    let pids = bryo.ok(of(
        &["inspect", "--format", "{{.State.Pid}} {{.State.FilesystemPid}}"],
        running,
    ));
    let mut pids: Vec<i32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 2 * running.len());
    // By threes at once, so that they are in one another's way.
    let stops: Vec<_> = running
        .chunks(17)
        .map(|names| bryo.command(of(&["stop", "-t", "0"], names)))
        .collect();
    std::thread::scope(|scope| {
        for mut stop in stops {
            scope.spawn(move || {
                let done = Done::of(&mut stop);
                assert!(done.status.success(), "{done}");
            });
        }
    });
    assert_eq!(bryo.ok(["ps", "-q"]), "");
    let exited = ["ps", "--filter", "status=exited", "--filter", "exited=137", "-q"];
    assert_eq!(bryo.ok(exited).lines().count(), 50);
    until("the end of their processes", || {
        pids.iter()
            .all(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_err())
    });
    // Half of them run again when all are removed.
    bryo.ok(of(&["start"], &running[..25]));
    assert_eq!(bryo.ok(of(&["rm", "-f"], &names)).lines().count(), count);
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
    for left in ["containers", "names"] {
        assert_eq!(
            std::fs::read_dir(bryo.state().join(left)).unwrap().count(),
            0,
            "{left}"
        );
    }
}
