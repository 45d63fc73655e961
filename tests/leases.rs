//! Does everything work where flock(2) does not, as on some Lustre and NFS mounts? A seccomp filter around the tool
//! answers ENOSYS, so that leases take the locks' place.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::hostile::{Blobs, Hostile};
use common::sandbox::{filtered, within};
use common::{Bryo, Done, Registry, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The command of [`Bryo::command`], to which flock is not there.
fn leased<'a>(bryo: &Bryo, words: impl IntoIterator<Item = &'a str>) -> Command {
    let filter =
        filtered("(0x20, 0, 0, 0), (0x15, 0, 1, 73), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7fff0000)");
    within(&["python3", "-c", &filter], &bryo.command(words))
}

/// Runs it, expects success; gives standard output.
#[track_caller]
fn ok<'a>(bryo: &Bryo, words: impl IntoIterator<Item = &'a str>) -> String {
    let done = Done::of(&mut leased(bryo, words));
    assert!(done.status.success(), "{done}");
    done.stdout
}

/// All leases below a directory.
fn leases(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(leases(&path));
        } else if path.extension().is_some_and(|ending| ending == "lease") {
            found.push(path);
        }
    }
    found
}

/// Nobody holds anything, and nothing half done lies about.
#[track_caller]
fn nothing_is_left(bryo: &Bryo) {
    assert_eq!(leases(bryo.dir()), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(bryo.root().join("tmp")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(bryo.root().join("claims")).unwrap().count(), 0);
}

fn busybox() -> (Bryo, String) {
    let (bryo, registry) = (Bryo::new(), Registry::shared());
    let image = registry.image("busybox");
    ok(&bryo, ["pull", "-q", &image]);
    nothing_is_left(&bryo);
    (bryo, image)
}

/// Makes the container `one`, whose command is this script.
#[track_caller]
fn create_one(bryo: &Bryo, image: &str, script: &str) {
    ok(bryo, ["create", "--name", "one", image, "sh", "-c", script]);
}

#[test]
fn containers_come_and_go() {
    let (bryo, image) = busybox();
    assert_eq!(ok(&bryo, ["run", "--rm", &image, "echo", "hi"]), "hi\n");
    nothing_is_left(&bryo);
    create_one(&bryo, &image, "echo x >> /kept; wc -l < /kept");
    for round in ["1\n", "2\n"] {
        assert_eq!(ok(&bryo, ["start", "-a", "one"]), round);
    }
    assert_eq!(ok(&bryo, ["rm", "one"]), "one\n");
    nothing_is_left(&bryo);
    ok(&bryo, ["rmi", &image]);
    ok(&bryo, ["image", "prune", "-f"]);
    nothing_is_left(&bryo);
    assert_eq!(std::fs::read_dir(bryo.root().join("layers")).unwrap().count(), 0);
}

/// Its supervisor holds the lease that the tool took; nobody else moves the container meanwhile.
#[test]
fn who_runs_a_container_holds_it() {
    let (bryo, image) = busybox();
    let id = ok(&bryo, ["run", "-d", "--name", "bg", &image, "sleep", "1000"]);
    let lease = bryo
        .state()
        .join("containers")
        .join(id.trim_end())
        .join("lock.lease");
    assert_eq!(leases(bryo.dir()), [lease]);
    let removed = Done::of(&mut leased(&bryo, ["rm", "bg"]));
    assert!(
        !removed.status.success() && removed.stderr.contains("container is running"),
        "{removed}"
    );
    ok(&bryo, ["image", "prune", "-f"]);
    let running = ["inspect", "-f", "{{.State.Running}}", "bg"];
    assert_eq!(ok(&bryo, running), "true\n");
    assert_eq!(ok(&bryo, ["stop", "-t", "0", "bg"]), "bg\n");
    assert_eq!(ok(&bryo, running), "false\n");
    nothing_is_left(&bryo);
    ok(&bryo, ["start", "bg"]);
    assert_eq!(ok(&bryo, ["rm", "-f", "bg"]), "bg\n");
    nothing_is_left(&bryo);
}

/// What the dead held is free at once on their own host, and goes with what it belonged to.
#[test]
fn the_dead_hold_nothing() {
    let (bryo, image) = busybox();
    ok(&bryo, ["run", "-d", "--name", "bg", &image, "sleep", "1000"]);
    let server = ok(&bryo, ["inspect", "-f", "{{.State.FilesystemPid}}", "bg"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.trim_end())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    let supervisor = Pid::from_raw(parent.unwrap().parse().unwrap());
    kill(supervisor, Signal::SIGKILL).unwrap();
    until("its end", || ok(&bryo, ["ps", "-q"]).is_empty());
    let code = ["inspect", "-f", "{{.State.ExitCode}}", "bg"];
    assert_eq!(ok(&bryo, code), "137\n");
    ok(&bryo, ["start", "bg"]);
    ok(&bryo, ["rm", "-f", "bg"]);
    nothing_is_left(&bryo);
    // A pull, at whatever step.
    let layout = bryo.scratch("layout");
    Blobs::small(100).write_layout(&layout, "1");
    let pull = ["pull", "-q", &format!("oci:{}", layout.display())];
    for step in 1.. {
        let done = Done::of(leased(&bryo, pull).env("BRYO_FAILPOINT", step.to_string()));
        if done.status.success() {
            assert!(step > 10, "no failpoints in this build?");
            break;
        }
        assert_eq!(done.status.code(), None, "killed, not failed: {done}");
        for lease in leases(bryo.dir()) {
            // One that does not say yet whose it is could be of a living one, and is believed for a while.
            if std::fs::read(&lease).unwrap().is_empty() {
                let file = std::fs::File::options().write(true).open(lease).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(100))
                    .unwrap();
            }
        }
        ok(&bryo, ["image", "prune", "-f"]);
        nothing_is_left(&bryo);
    }
    ok(&bryo, ["store", "check"]);
}

#[test]
fn two_pulls_of_one_layer_fetch_it_once() {
    let blobs = Blobs::small(1 << 20);
    let layer = blobs.layer.clone();
    let registry = Hostile::serve(move |request| {
        let wait = if blobs.is_layer(request) { 1 } else { 0 };
        blobs.answer(request).waiting(Duration::from_secs(wait))
    });
    let (bryo, image) = (Bryo::new(), format!("{}/image", registry.address()));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| ok(&bryo, ["pull", "-q", &image]));
        }
    });
    assert_eq!(registry.seen(&layer).len(), 1);
    nothing_is_left(&bryo);
}

#[test]
fn no_change_of_the_list_is_lost() {
    let (bryo, image) = busybox();
    let names: Vec<String> = (0..12).map(|number| format!("name{number:02}:1")).collect();
    std::thread::scope(|threads| {
        for name in &names {
            threads.spawn(|| ok(&bryo, ["tag", &image, name]));
        }
    });
    let listed = ok(&bryo, ["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    for name in &names {
        assert!(listed.contains(name.as_str()), "{name} is not in {listed}");
    }
    nothing_is_left(&bryo);
}

/// Of two who start one container, one does, and its writable layer is not opened twice.
#[test]
fn a_container_is_started_once() {
    let (bryo, image) = busybox();
    create_one(&bryo, &image, "echo x >> /starts; sleep 1; wc -l < /starts");
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let mut start = leased(&bryo, ["start", "one"]);
            start.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut start in starts {
        start.wait().unwrap();
    }
    ok(&bryo, ["wait", "one"]);
    assert_eq!(ok(&bryo, ["start", "-a", "one"]), "2\n");
    nothing_is_left(&bryo);
}

/// A build holds claims and a workspace while it starts containers.
#[test]
fn a_build_works_with_leases() {
    let (bryo, image) = busybox();
    let context = bryo.scratch("context");
    std::fs::create_dir(&context).unwrap();
    let cache = "--mount=type=cache,sharing=locked,target=/c";
    let text =
        format!("FROM {image}\nCOPY Dockerfile /\nRUN {cache} echo x > /c/x; cat /c/x > /y\nRUN cat /y\n");
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    ok(&bryo, ["build", "-q", "-t", "made", context.to_str().unwrap()]);
    nothing_is_left(&bryo);
    assert_eq!(ok(&bryo, ["run", "--rm", "made", "cat", "/y"]), "x\n");
}

#[test]
fn a_build_makes_the_step_that_a_killed_one_was_at() {
    let (bryo, image) = busybox();
    let context = bryo.scratch("context");
    std::fs::create_dir(&context).unwrap();
    let text = format!(
        "FROM {image}\nRUN --mount=type=cache,target=/c echo run >> /c/log; echo here; \
         until [ $(wc -l < /c/log) = 2 ]; do sleep 0.05; done; cat /c/log > /log\n"
    );
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    let words = ["build", "-t", "made", context.to_str().unwrap()];
    let start = |until: &str| {
        let mut build = leased(&bryo, words).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(build.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(until) {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the build ended");
        }
        (build, lines)
    };
    let (mut first, _lines) = start(" here\n");
    let (mut second, lines) = start("waiting for an equal step");
    first.kill().unwrap();
    first.wait().unwrap();
    let rest = std::io::read_to_string(lines).unwrap();
    assert!(second.wait().unwrap().success(), "{rest}");
    assert_eq!(ok(&bryo, ["run", "--rm", "made", "cat", "/log"]), "run\nrun\n");
    until("the end of all its processes", || {
        ok(&bryo, ["image", "prune", "-f"]);
        let containers = std::fs::read_dir(bryo.state().join("containers")).unwrap();
        leases(bryo.dir()).is_empty() && containers.count() == 0
    });
    nothing_is_left(&bryo);
}
