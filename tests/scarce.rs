//! What becomes of a container when its filesystem server, or all of its processes, may have little: descriptors, memory,
//! a disk that is none.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::process::Command;

use common::sandbox::{in_own_namespaces, within};
use common::{Bryo, Done, Sshfs, field, images, parent, process, until};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sets a limit of a running process, given in prlimit(1)'s words; the hard one stays.
#[track_caller]
fn limit(of: Pid, what: &str, soft: u64) {
    let done =
        Done::of(Command::new("prlimit").args(["--pid", &of.to_string(), &format!("--{what}={soft}:")]));
    assert!(done.status.success(), "{done}");
}

/// Work that a filesystem notices: prints what must always be the same.
const WORK: &str = "mkdir /w; cp -a /bin /w/bin; cd /w; for n in $(seq 300); do echo $n > $n; mv $n moved-$n; done
    cat moved-* | sha256sum; find /w | wc -l; sync moved-1; cat bin/busybox | sha256sum; rm -rf bin; ls | wc -l";

fn server(bryo: &Bryo) -> Pid {
    process(bryo, "one", "FilesystemPid")
}

/// Starts a container that waits for the file /go before it works.
fn waiting(bryo: &Bryo, image: &str) {
    let told = format!("{}:/told", bryo.scratch("told").display());
    fs::create_dir(bryo.scratch("told")).unwrap();
    let script = format!("until [ -e /told/go ]; do sleep 0.05; done; {{ {WORK}; }} > /told/out 2>&1");
    bryo.ok([
        "run", "-d", "--name", "one", "-v", &told, image, "sh", "-ec", &script,
    ]);
}

/// Lets it work to its end; gives what it printed.
#[track_caller]
fn worked(bryo: &Bryo) -> String {
    fs::write(bryo.scratch("told/go"), "").unwrap();
    let code = bryo.ok(["wait", "one"]);
    let out = fs::read_to_string(bryo.scratch("told/out")).unwrap();
    assert_eq!(
        (code.as_str(), field(bryo, "one", "{{.State.Error}}").as_str()),
        ("0\n", ""),
        "{out}"
    );
    out
}

/// What the work prints where there is enough of everything.
fn expected(bryo: &Bryo, image: &str) -> String {
    bryo.sh(image, WORK)
}

#[test]
fn a_server_works_with_the_descriptors_that_it_has() {
    let (bryo, image) = Bryo::with_image("busybox");
    waiting(&bryo, &image);
    limit(server(&bryo), "nofile", 3);
    assert_eq!(worked(&bryo), expected(&bryo, &image));
}

#[test]
fn a_server_without_memory_is_followed_by_another() {
    let (bryo, image) = Bryo::with_image("busybox");
    waiting(&bryo, &image);
    let dead = server(&bryo);
    // No page more than it has: the next that it asks for ends it.
    limit(dead, "data", 0);
    assert_eq!(worked(&bryo), expected(&bryo, &image));
    assert_ne!(server(&bryo), dead, "it never needed memory");
}

#[test]
fn descriptors_that_are_missing_for_a_successor_may_come_back() {
    let (bryo, image) = Bryo::with_image("busybox");
    waiting(&bryo, &image);
    let dead = server(&bryo);
    let supervisor = parent(dead);
    let (usual, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    limit(supervisor, "nofile", 3);
    kill(dead, Signal::SIGKILL).unwrap();
    // Also the supervisor's own loop may look at more than the limit allows.
    kill(supervisor, Signal::SIGUSR1).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(server(&bryo), dead, "nobody could follow it");
    limit(supervisor, "nofile", usual);
    until("a successor", || server(&bryo) != dead);
    assert_eq!(worked(&bryo), expected(&bryo, &image));
}

#[test]
fn a_servers_log_does_not_grow_for_ever() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut run = bryo.command(["run", "--name", "one", &image, "sh", "-ec", WORK]);
    let done = Done::of(run.env("BRYO_LOG", "fuse_overlay=trace"));
    assert!(done.status.success(), "{done}");
    let id = bryo.ok(["ps", "-aq", "--no-trunc"]);
    let log = bryo
        .state()
        .join("containers")
        .join(id.trim_end())
        .join("server.log");
    let size = fs::metadata(log).unwrap().len();
    assert!((1 << 19..=1 << 20).contains(&size), "{size}");
}

/// Limits of the whole tool, as batch systems and login shells set them.
#[test]
fn a_container_runs_within_small_limits() {
    let (bryo, image) = Bryo::with_image("busybox");
    let usual = expected(&bryo, &image);
    for limit in [
        "--nofile=64:64",
        "--data=67108864:67108864",
        "--as=536870912:536870912",
        "--fsize=67108864:67108864",
    ] {
        let run = bryo.command(["run", "--rm", &image, "sh", "-ec", WORK]);
        let done = Done::of(&mut within(&["prlimit", limit], &run));
        assert!(done.status.success() && done.stderr.is_empty(), "{done}");
        assert_eq!(done.stdout, usual, "{limit}");
    }
}

/// Many small files are more than one file of the store may be: a full disk, not a dead server.
#[test]
fn a_store_whose_files_may_not_grow_is_full() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "write() { dd if=/dev/zero of=$1 bs=64k count=48 conv=fsync 2>&1; }
        for n in $(seq 16); do write /f$n > /dev/shm/why || { grep -o 'No space.*' /dev/shm/why; break; }; done
        rm /f*; write /again > /dev/null; stat -c %s /again";
    let run = bryo.command(["run", "--name", "one", &image, "sh", "-ec", script]);
    let done = Done::of(&mut within(&["prlimit", "--fsize=33554432:33554432"], &run));
    assert_eq!(done.stdout, "No space left on device\n3145728\n", "{done}");
    let servers = field(
        &bryo,
        "one",
        "{{with .State.FilesystemTakeovers}}{{.Servers}}{{end}}",
    );
    assert!(servers.is_empty() || servers == "0", "{servers} servers died");
}

/// With one line, and nothing of the container stays.
#[test]
fn too_few_descriptors_are_said() {
    let (bryo, image) = Bryo::with_image("busybox");
    few_descriptors(&bryo, &image);
}

/// The same beside a container whose user namespace is to be shared: it is still found afterwards.
#[test]
fn too_few_descriptors_are_said_beside_another() {
    let (bryo, image) = Bryo::with_image("busybox");
    let other = ["run", "-d", "--name", "other", &image, "sleep", "1000"];
    bryo.ok(other);
    let namespace = ["readlink", "/proc/self/ns/user"];
    let before = bryo.ok([&["exec", "other"][..], &namespace].concat());
    few_descriptors(&bryo, &image);
    assert_eq!(
        bryo.ok([&["run", "--rm", &image][..], &namespace].concat()),
        before
    );
}

#[track_caller]
fn few_descriptors(bryo: &Bryo, image: &str) {
    let before = bryo.ok(["ps", "-aq"]);
    // It leaves notes of what it touched first: so each start that follows has somebody beside init.
    bryo.ok(["run", "--rm", image, "true"]);
    assert!(bryo.state().join("touched").exists());
    let run = bryo.command(["run", "--rm", image, "true"]);
    let mut failures = 0;
    for few in 6..64 {
        let done = Done::of(&mut within(&["prlimit", &format!("--nofile={few}:{few}")], &run));
        if done.status.success() {
            break;
        }
        failures += 1;
        assert_eq!(done.status.code(), Some(125), "{few}: {done}");
        assert_eq!(done.stderr.lines().count(), 1, "{few}: {done}");
        assert!(done.stderr.contains("Too many open files"), "{few}: {done}");
        assert_eq!(bryo.ok(["ps", "-aq"]), before);
    }
    assert!((1..50).contains(&failures), "{failures}");
    bryo.sh(image, "true");
}

/// Everything that a user does with a store, on whatever lies below; nothing is lost when a server dies.
#[track_caller]
fn is_as_good(bryo: &Bryo) {
    let image = "busybox:oci";
    bryo.ok([
        "pull",
        "-q",
        &format!("oci-archive:{}", images().join("busybox.oci.tar").display()),
    ]);
    waiting(bryo, image);
    let dead = server(bryo);
    kill(dead, Signal::SIGKILL).unwrap();
    let seen = worked(bryo);
    assert_ne!(server(bryo), dead);
    assert_eq!(seen, expected(bryo, image));
    assert!(bryo.ok(["diff", "one"]).contains("A /w/moved-300\n"));
    assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
    bryo.ok(["rm", "one"]);
    bryo.ok(["rmi", image]);
    assert!(bryo.ok(["images", "-q"]).is_empty());
}

#[test]
fn a_store_in_memory_is_as_good() {
    in_own_namespaces("a_store_in_memory_is_as_good", || {
        let bryo = Bryo::new();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"]);
        assert!(mount.arg(bryo.dir()).status().unwrap().success());
        is_as_good(&bryo);
    });
}

#[test]
fn a_store_on_a_poor_fuse_filesystem_is_as_good() {
    in_own_namespaces("a_store_on_a_poor_fuse_filesystem_is_as_good", || {
        let bryo = Bryo::new();
        let _root = Sshfs::mount(&bryo.scratch("far/root"), &bryo.root());
        let _state = Sshfs::mount(&bryo.scratch("far/state"), &bryo.state());
        let [file, link] = ["file", "link"].map(|name| bryo.root().join(name));
        fs::write(&file, "").unwrap();
        assert!(fs::hard_link(&file, &link).is_err(), "it is not poor");
        fs::remove_file(&file).unwrap();
        is_as_good(&bryo);
    });
}
