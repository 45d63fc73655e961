//! What does a container do on a full disk, and what does the tool say? The state lies on a small tmpfs of the test's own.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use common::sandbox::in_own_namespaces;
use common::{Bryo, Done, images, until};

/// A store with busybox whose state has room for 8 MiB.
fn on_a_small_disk() -> Bryo {
    let bryo = Bryo::new();
    fs::create_dir(bryo.state()).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"]);
    assert!(mount.arg(bryo.state()).status().unwrap().success());
    let archive = images().join("busybox.oci.tar");
    bryo.ok(["pull", "-q", &format!("oci-archive:{}", archive.display())]);
    bryo
}

/// Fills the disk from outside, to the last byte; removing the file frees it again.
fn fill(bryo: &Bryo) -> std::path::PathBuf {
    let path = bryo.state().join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write(&[1; 4096]).is_ok() {}
    path
}

/// Runs the container made by `create` again with this script, expects success; gives standard output. One that hangs
/// ends the test.
#[track_caller]
fn again(bryo: &Bryo, script: &str) -> String {
    fs::write(bryo.scratch("script"), script).unwrap();
    let tool = bryo.command(["start", "-a", "one"]);
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", "60"])
        .arg(tool.get_program())
        .args(tool.get_args());
    let done = Done::of(command.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?)))));
    assert!(done.status.success(), "{done}");
    done.stdout
}

/// A container that runs the script of [`again`].
fn create(bryo: &Bryo) {
    let script = format!("{}:/script", bryo.scratch("script").display());
    fs::write(bryo.scratch("script"), "").unwrap();
    bryo.ok([
        "create",
        "--name",
        "one",
        "-v",
        &script,
        "busybox:oci",
        "sh",
        "-e",
        "/script",
    ]);
}

#[test]
fn a_container_goes_on_when_its_disk_is_full() {
    in_own_namespaces("a_container_goes_on_when_its_disk_is_full", || {
        let bryo = on_a_small_disk();
        create(&bryo);
        let fills = "yes kept | head -c 1000000 | dd of=/kept conv=fsync 2> /dev/null
            if dd if=/dev/zero of=/big bs=64k 2> /tmp/why; then echo endless; fi
            if echo more > /new && sync /new; then dd if=/dev/zero of=/more bs=4k 2> /tmp/why && echo endless; fi
            ";
        // What was read before the disk was full and what was not, of the image and of the container.
        let reads = "yes kept | head -c 1000000 | cmp - /kept
            sha256sum < /bin/busybox > /dev/null; ls / > /dev/null; stat /big > /dev/null";
        let why = again(
            &bryo,
            &format!("{fills}\n{reads}\ncp /bin/busybox /copy 2>&1 || true"),
        );
        assert!(why.contains("No space left on device"), "{why}");
        assert!(!why.contains("endless"), "{why}");
        // The same after a restart: nothing is lost that was synced, and the disk is still full.
        let why = again(&bryo, &format!("{reads}\ncp /bin/busybox /copy 2>&1 || true"));
        assert!(why.contains("No space left on device"), "{why}");
        // What is deleted can be used again, at once and after a restart.
        let uses = "yes again | head -c 3000000 | dd of=/again conv=fsync 2> /dev/null";
        again(&bryo, &format!("rm -f /big /new /more /copy\n{uses}"));
        again(
            &bryo,
            &format!(
                "yes again | head -c 3000000 | cmp - /again\n{reads_kept}",
                reads_kept = "yes kept | head -c 1000000 | cmp - /kept"
            ),
        );
        bryo.ok(["rm", "one"]);
        assert_eq!(fs::read_dir(bryo.state().join("containers")).unwrap().count(), 0);
    });
}

/// The end of a container cannot be recorded: that hides it from nobody, nor keeps it from being started again.
#[test]
fn an_end_that_cannot_be_recorded_is_seen() {
    in_own_namespaces("an_end_that_cannot_be_recorded_is_seen", || {
        let bryo = on_a_small_disk();
        create(&bryo);
        fs::write(bryo.scratch("script"), "exec sleep 1000").unwrap();
        bryo.ok(["start", "one"]);
        let filler = fill(&bryo);
        bryo.ok(["kill", "one"]);
        bryo.run(["wait", "one"]);
        let record = bryo
            .state()
            .join("containers")
            .join(bryo.ok(["ps", "-aq", "--no-trunc"]).trim_end());
        let recorded = fs::read_to_string(record.join("record.json")).unwrap();
        assert!(recorded.contains("running"), "there was room for it: {recorded}");
        assert_eq!(bryo.ok(["ps", "-q"]), "");
        let done = bryo.run(["inspect", "-f", "{{.State.Status}}", "one"]);
        assert_eq!(done.stdout, "exited\n", "{done}");
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
        assert!(done.stderr.contains("No space left on device"), "{done}");
        assert_eq!(again(&bryo, "echo here"), "here\n");
        fs::remove_file(filler).unwrap();
        assert_eq!(bryo.ok(["inspect", "-f", "{{.State.Status}}", "one"]), "exited\n");
        bryo.ok(["rm", "one"]);
    });
}

/// The container goes on, and the log says what it lacks.
#[test]
fn output_that_finds_no_room_is_counted() {
    in_own_namespaces("output_that_finds_no_room_is_counted", || {
        let bryo = on_a_small_disk();
        fs::create_dir(bryo.scratch("go")).unwrap();
        let go = format!("{}:/go", bryo.scratch("go").display());
        let script = "wait() { until [ -e /go/$1 ]; do sleep 0.02; done; }
            echo first; wait 1; head -c 99999 /dev/zero | tr '\\0' x; touch /go/written; wait 2; echo last";
        bryo.ok([
            "run",
            "-d",
            "--name",
            "one",
            "-v",
            &go,
            "busybox:oci",
            "sh",
            "-c",
            script,
        ]);
        until("the first line", || bryo.ok(["logs", "one"]) == "first\n");
        let filler = fill(&bryo);
        let step = |number: &str| fs::write(bryo.scratch("go").join(number), "").unwrap();
        step("1");
        // By then all but what fits into a pipe has been read and could not be kept.
        until("the output", || bryo.scratch("go/written").exists());
        fs::remove_file(filler).unwrap();
        step("2");
        bryo.ok(["wait", "one"]);
        let logs = bryo.run(["logs", "one"]);
        assert_eq!(logs.stdout.replace('x', ""), "first\nlast\n");
        let shown = logs.stdout.len() - "first\nlast\n".len();
        let missing = format!(
            "bryo: {} bytes of output are missing in this log: No space left",
            99_999 - shown
        );
        assert!(logs.stderr.starts_with(&missing), "{logs}");
    });
}

/// Not even the record can be written: one line that says so, and nothing of the container stays.
#[test]
fn a_disk_that_is_full_before_the_start_is_said() {
    in_own_namespaces("a_disk_that_is_full_before_the_start_is_said", || {
        let bryo = on_a_small_disk();
        create(&bryo);
        again(&bryo, "echo kept > /kept; sync /kept");
        let filler = fill(&bryo);
        for (code, command) in [
            (125, &["run", "--rm", "busybox:oci", "true"][..]),
            (125, &["run", "-d", "busybox:oci", "true"]),
            (1, &["create", "busybox:oci", "true"]),
        ] {
            let done = bryo.run(command);
            assert_eq!(done.status.code(), Some(code), "{done}");
            assert_eq!(done.stderr.lines().count(), 1, "{done}");
            assert!(done.stderr.contains("No space left on device"), "{done}");
            assert_eq!(bryo.ok(["ps", "-aq"]).lines().count(), 1);
        }
        // One that is there runs, though its new state cannot be recorded, and can be looked at.
        let done = bryo.run(["start", "-a", "one"]);
        assert!(done.status.success(), "{done}");
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
        assert!(done.stderr.contains("No space left on device"), "{done}");
        assert_eq!(bryo.ok(["inspect", "-f", "{{.Name}}", "one"]), "/one\n");
        fs::remove_file(filler).unwrap();
        assert_eq!(again(&bryo, "cat /kept"), "kept\n");
        let filler = fill(&bryo);
        bryo.ok(["rm", "one"]);
        assert_eq!(fs::read_dir(bryo.state().join("containers")).unwrap().count(), 0);
        fs::remove_file(filler).unwrap();
        bryo.sh("busybox:oci", "true");
    });
}

/// An archive that finds no room: the file that it was to replace is as it was, and nothing lies beside it.
#[test]
fn an_archive_replaces_nothing_until_it_is_whole() {
    in_own_namespaces("an_archive_replaces_nothing_until_it_is_whole", || {
        let bryo = on_a_small_disk();
        let place = bryo.state().join("archive");
        fs::write(&place, "mine").unwrap();
        let filler = fill(&bryo);
        let names = || {
            let entries = fs::read_dir(bryo.state()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        for format in ["docker-archive", "oci-archive"] {
            let to = place.to_str().unwrap();
            let said = bryo.fails(1, ["save", "--format", format, "-o", to, "busybox:oci"]);
            assert!(
                said.starts_with(&format!("bryo: cannot write {to}: No space left")),
                "{said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
            assert_eq!(fs::read_to_string(&place).unwrap(), "mine");
            assert_eq!(names(), before);
        }
        fs::remove_file(filler).unwrap();
        bryo.ok(["save", "-o", place.to_str().unwrap(), "busybox:oci"]);
        assert!(fs::metadata(&place).unwrap().len() > 1 << 20);
    });
}

#[test]
fn a_volume_that_does_not_fit_is_not_half_filled() {
    in_own_namespaces("a_volume_that_does_not_fit_is_not_half_filled", || {
        let bryo = on_a_small_disk();
        let list = ["run", "--rm", "-v", "vol:/bin", "busybox:oci", "ls", "/bin"];
        let whole = bryo.ok(["run", "--rm", "busybox:oci", "ls", "/bin"]);
        // Room for a container, not for its program.
        let filler = fill(&bryo);
        let length = fs::metadata(&filler).unwrap().len();
        File::options()
            .write(true)
            .open(&filler)
            .unwrap()
            .set_len(length - (700 << 10))
            .unwrap();
        let said = bryo.fails(125, list);
        assert!(
            said.contains("volume vol: ") && said.contains("No space left on device"),
            "{said}"
        );
        assert_eq!(bryo.ok(["ps", "-aq"]), "");
        fs::remove_file(filler).unwrap();
        assert_eq!(bryo.ok(list), whole);
    });
}
