//! `--rootfs DIR`: containers that stand on a directory of the host.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bryo, Done, field, process, until};
use nix::sys::signal::{Signal, kill};

/// A system of busybox in a directory.
fn system(bryo: &Bryo) -> PathBuf {
    let root = bryo.scratch("system");
    for directory in ["bin", "etc", "tmp", "data/sub"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    assert!(common::copy_program("/bin/busybox", root.join("bin/busybox")));
    for applet in [
        "sh", "cat", "ls", "echo", "id", "rm", "mv", "sleep", "stat", "touch", "true",
    ] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nweb:x:0:0::/data:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("data/old"), "as it was\n").unwrap();
    fs::write(root.join("data/other"), "other\n").unwrap();
    fs::write(root.join("data/sub/file"), "moves\n").unwrap();
    root
}

/// All below a directory: names, kinds, sizes, times, and what the files hold.
fn seen(root: &Path) -> String {
    let script = "find . -printf '%p %y %s %m %T@ %l\n' | sort; find . -type f | sort | xargs sha256sum";
    let done = Done::of(Command::new("sh").args(["-ec", script]).current_dir(root));
    assert!(done.status.success(), "{done}");
    done.stdout
}

#[test]
fn a_directory_is_run_changed_and_stays_as_it_is() {
    let bryo = Bryo::new();
    let root = system(&bryo);
    let (dir, before) = (root.to_str().unwrap(), seen(&root));
    let script = "cat /data/old; echo new >> /data/old; rm /data/other; mv /data/sub /moved; stat -c '%u %g' /data; id -u";
    let run = ["run", "--name", "one", "--rootfs", dir, "sh", "-ec", script];
    assert_eq!(bryo.ok(run), "as it was\n0 0\n0\n");
    assert_eq!(seen(&root), before);
    let diff = bryo.ok(["diff", "one"]);
    for line in [
        "C /data",
        "C /data/old",
        "D /data/other",
        "D /data/sub",
        "A /moved/file",
    ] {
        assert!(diff.lines().any(|told| told == line), "{line}: {diff}");
    }
    let told = bryo.ok(["ps", "-a", "--format", "{{.Names}} {{.Image}}"]);
    assert_eq!(told, format!("one {dir}\n"));
    let whole = fs::canonicalize(&root).unwrap();
    let expected = format!("[] {} {dir}", whole.display());
    assert_eq!(
        field(&bryo, "one", "[{{.Image}}] {{.Rootfs}} {{.Config.Image}}"),
        expected
    );
    // No image is in the way of its removal, nor it in that of an image.
    bryo.ok(["image", "prune", "-af"]);
    // Again, over the changes; the passwd that counts is the directory's.
    assert_eq!(bryo.fails(1, ["start", "-a", "one"]).lines().count(), 1);
    assert_eq!(bryo.ok(["rm", "one"]), "one\n");
    assert_eq!(fs::read_dir(bryo.state().join("containers")).unwrap().count(), 0);
    assert_eq!(seen(&root), before);
}

#[test]
fn a_container_goes_on_with_its_changes() {
    let bryo = Bryo::new();
    let root = system(&bryo);
    // podman's word for changes that go elsewhere.
    let dir = format!("{}:O", root.display());
    let script = "echo line >> /data/log; cat /data/log";
    let created = bryo.ok([
        "create", "--name", "two", "--user", "web", "--rootfs", &dir, "sh", "-c", script,
    ]);
    assert_eq!(bryo.ok(["start", "-a", "two"]), "line\n");
    // What comes to the directory later is not there, what was there is.
    fs::write(root.join("data/later"), "").unwrap();
    fs::rename(&root, bryo.scratch("elsewhere")).unwrap();
    assert!(bryo.fails(1, ["start", "-a", "two"]).contains("No such file"));
    fs::rename(bryo.scratch("elsewhere"), &root).unwrap();
    assert_eq!(bryo.ok(["start", "-a", "two"]), "line\nline\n");
    let diff = bryo.ok(["diff", "two"]);
    assert!(
        diff.starts_with("C /data\nA /data/log\n") && !diff.contains("later"),
        "{diff}"
    );
    // A scan that is damaged is said, and the container can be removed.
    let container = bryo.state().join("containers").join(created.trim());
    fs::write(container.join("rootfs.files"), "nonsense").unwrap();
    assert!(
        bryo.fails(1, ["start", "-a", "two"])
            .contains("rootfs.files: damaged")
    );
    bryo.ok(["rm", "two"]);
}

#[test]
fn another_server_takes_over_and_a_changed_file_is_refused() {
    let bryo = Bryo::new();
    let root = system(&bryo);
    let script = "while :; do n=$((n + 1)); echo $n > /n && cat /data/old > /dev/null && ls -R /bin > /dev/null || exit 9; done";
    let detached = ["run", "-d", "--name", "long", "--rootfs", root.to_str().unwrap()];
    bryo.ok([&detached[..], &["sh", "-c", script]].concat());
    for _ in 0..3 {
        let dead = process(&bryo, "long", "FilesystemPid");
        kill(dead, Signal::SIGKILL).unwrap();
        until("a successor", || process(&bryo, "long", "FilesystemPid") != dead);
    }
    let told = field(
        &bryo,
        "long",
        "{{.State.Status}} {{.State.FilesystemTakeovers.Servers}}",
    );
    // One that is killed before it has begun does not count itself.
    assert!(told.starts_with("running ") && told != "running 0", "{told}");
    bryo.ok(["rm", "-f", "long"]);
    // The server opens the file when it is read, confined as it is: the kernel has nothing of it yet.
    let script = "cat /data/other; echo $?; cat /data/old";
    let create = [
        "create",
        "--name",
        "changed",
        "--rootfs",
        root.to_str().unwrap(),
        "sh",
        "-c",
    ];
    bryo.ok([&create[..], &[script]].concat());
    fs::write(root.join("data/other"), "another text\n").unwrap();
    let done = bryo.run(["start", "-a", "changed"]);
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "1\nas it was\n"),
        "{done}"
    );
    assert!(
        done.stderr.contains("I/O error") || done.stderr.contains("Input/output error"),
        "{done}"
    );
}

#[test]
fn what_is_no_directory_is_refused() {
    let bryo = Bryo::new();
    fs::write(bryo.scratch("file"), "").unwrap();
    let file = bryo.scratch("file");
    let said = bryo.fails(125, ["run", "--rootfs", file.to_str().unwrap(), "true"]);
    assert_eq!(said, format!("bryo: {}: not a directory\n", file.display()));
    let said = bryo.fails(125, ["run", "--rootfs", "/no/such", "true"]);
    assert!(said.contains("/no/such: No such file or directory"), "{said}");
    bryo.fails(1, ["run", "--rootfs"]);
    let said = bryo.fails(125, ["run", "--rootfs", bryo.dir().to_str().unwrap()]);
    assert!(said.contains("no command specified"), "{said}");
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}
