//! `--storage-opt`: how much a container may write.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::process::Stdio;

use common::{Bryo, Done, field, process, until};
use nix::sys::signal::{Signal, kill};

#[test]
fn at_the_limit_nothing_more_is_written_and_after_a_removal_it_is() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "stat -f -c '%S %b' /
        dd if=/dev/zero of=/large bs=64k count=200 conv=fsync 2> /dev/shm/error && exit 1
        grep -q 'No space left' /dev/shm/error; free=$(stat -f -c %f /); [ $free -lt 256 ]
        for n in 1 2 3; do
            rm /large; usleep 500000 # The kernel forgets it once it has given up writing its pages out.
            dd if=/dev/zero of=/large bs=64k count=60 conv=fsync 2> /dev/shm/error; stat -c %s /large
        done
        mkdir /more; echo text > /more/file; cat /more/file";
    let run = [
        "run",
        "--name",
        "small",
        "--storage-opt",
        "size=8m",
        &image,
        "sh",
        "-ec",
        script,
    ];
    let size = 60 * 65536;
    assert_eq!(bryo.ok(run), format!("4096 2048\n{size}\n{size}\n{size}\ntext\n"));
    assert_eq!(
        field(&bryo, "small", "{{json .HostConfig.StorageOpt}}"),
        r#"{"size":"8388608"}"#
    );
    bryo.ok(["run", "--name", "free", &image, "true"]);
    assert_eq!(field(&bryo, "free", "{{json .HostConfig.StorageOpt}}"), "null");
}

#[test]
fn the_limit_on_inodes_holds_for_another_server_and_another_start() {
    let (bryo, image) = Bryo::with_image("busybox");
    // Makes files until it may not, and one more in another's place; tells how many there are.
    let script = "mkdir -p /d; while touch /d/$((n += 1)) 2> /dev/shm/error; do :; done; cat /dev/shm/error
        rm /d/1; touch /d/new && rm /d/new && touch /d/1; ls /d | wc -l; stat -f -c %d /";
    let full = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        let [error, count, free] = lines[..] else {
            panic!("{text}")
        };
        assert!(error.contains("No space left on device"), "{text}");
        assert_eq!(free, "0");
        count.parse::<u32>().unwrap()
    };
    let create = [
        "create",
        "--name",
        "few",
        "--storage-opt",
        "inodes=60",
        &image,
        "sh",
        "-c",
        script,
    ];
    bryo.ok(create);
    assert_eq!(
        field(&bryo, "few", "{{json .HostConfig.StorageOpt}}"),
        r#"{"inodes":"60"}"#
    );
    let made = full(&bryo.ok(["start", "-a", "few"]));
    // Mount points and the like are among the sixty.
    assert!((30..60).contains(&made), "{made}");
    assert_eq!(full(&bryo.ok(["start", "-a", "few"])), made, "at the next start");
    // And for another server.
    std::fs::create_dir(bryo.scratch("host")).unwrap();
    let (host, script) = (
        bryo.scratch("host"),
        format!("until [ -e /host/go ]; do sleep 0.1; done; {script}"),
    );
    let volume = format!("{}:/host", host.display());
    let run = [
        "run",
        "--name",
        "followed",
        "-v",
        &volume,
        "--storage-opt",
        "inodes=60",
        &image,
        "sh",
        "-c",
        &script,
    ];
    let tool = bryo.command(run).stdout(Stdio::piped()).spawn().unwrap();
    until("its start", || state_of_followed(&bryo) == "running");
    let dead = process(&bryo, "followed", "FilesystemPid");
    kill(dead, Signal::SIGKILL).unwrap();
    until("a successor", || {
        process(&bryo, "followed", "FilesystemPid") != dead
    });
    std::fs::write(host.join("go"), "").unwrap();
    let output = tool.wait_with_output().unwrap();
    full(&String::from_utf8(output.stdout).unwrap());
}

/// The state of the container that is about to be there.
fn state_of_followed(bryo: &Bryo) -> String {
    let state = ["ps", "-a", "-f", "name=followed", "--format", "{{.State}}"];
    bryo.ok(state).trim_end().to_owned()
}

#[test]
fn other_options_are_refused() {
    let (bryo, image) = Bryo::with_image("busybox");
    let refused = |option: &str| bryo.fails(125, ["run", "--storage-opt", option, &image, "true"]);
    assert_eq!(
        refused("quota=1"),
        "bryo: --storage-opt quota=1 is not supported (supported: size=BYTES, inodes=NUMBER)\n"
    );
    assert!(refused("size=much").contains("--storage-opt size=much: a number above 0"));
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// Nobody else waits with who waits for room: while `export` and the like look, a change in place needs some.
#[test]
fn who_waits_for_room_holds_up_nobody_else() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "dd if=/dev/zero of=/odd bs=1000 count=1 2> /dev/null
        dd if=/dev/zero of=/rest bs=4k count=9000 oflag=direct 2> /dev/null; sync; echo full; sleep 1000";
    let limit = ["--storage-opt", "size=2m"];
    bryo.ok([
        &["run", "-d", "--name", "small"],
        &limit[..],
        &[&image, "sh", "-c", script],
    ]
    .concat());
    until("a full container", || bryo.ok(["logs", "small"]) == "full\n");
    let data = bryo
        .state()
        .join("containers")
        .join(field(&bryo, "small", "{{.Id}}"))
        .join("upper/data");
    let looks = std::fs::File::open(data).unwrap();
    until("a look", || looks.try_lock_shared().is_ok());
    // Its last page would have to be another.
    let mut longer = bryo.command(["exec", "small", "truncate", "-s", "5001", "/odd"]);
    let mut longer = longer.spawn().unwrap();
    let others = "for n in $(seq 20); do test -e /nothing$n; done; echo looked";
    for _ in 0..10 {
        assert_eq!(bryo.ok(["exec", "small", "sh", "-c", others]), "looked\n");
    }
    assert!(
        longer.try_wait().unwrap().is_none(),
        "it did not wait, or the others waited for it"
    );
    looks.unlock().unwrap();
    assert!(longer.wait().unwrap().success());
    bryo.ok(["rm", "-f", "-t", "0", "small"]);
}

/// Its program did not look at what its end was told of the pages that found no room; neither does the server live that refused
/// them: the last to follow it says so.
#[test]
fn what_a_dead_server_refused_is_told() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "yes | head -c 4194304 > /big; for n in 1 2 3 4 5 6 7 8; do test ! -e /none$n; done";
    let limit = ["--storage-opt", "size=2m"];
    let run = ["run", "--name", "box", "--network", "none"]
        .into_iter()
        .chain(limit);
    let mut run = bryo.command(run.chain([&*image, "sh", "-c", script]));
    let done = Done::of(run.env("FUSE_OVERLAY_KILL", "saved:7"));
    assert!(done.status.success(), "{done}");
    let servers = field(&bryo, "box", "{{.State.FilesystemTakeovers.Servers}}");
    assert!(servers.parse::<u32>().unwrap() > 2, "{servers} servers followed");
    let error = field(&bryo, "box", "{{.State.Error}}");
    assert!(
        error.contains("could not be written to the disk: No space left on device"),
        "{error}"
    );
}
