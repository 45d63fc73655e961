//! Ends that meet a start: a supervisor that is held up on its way by a pid file that is a FIFO, which nobody reads yet.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{Bryo, field, process, until};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;

/// A container `one`, whose supervisor waits at each start until [`Held::go_on`].
struct Held {
    bryo: Bryo,
    fifo: PathBuf,
}

impl Held {
    fn new(flags: &[&str], script: &str) -> Held {
        let (bryo, image) = Bryo::with_image("busybox");
        let fifo = bryo.scratch("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let pidfile = ["--conmon-pidfile", fifo.to_str().unwrap()];
        let create = [&["create", "--name", "one"], flags, &pidfile].concat();
        bryo.ok([create, vec![&image, "sh", "-c", script]].concat());
        Held { bryo, fifo }
    }

    fn tool(&self, words: &[&str]) -> Child {
        let mut tool = self.bryo.command(words);
        tool.stdout(Stdio::null()).stderr(Stdio::piped());
        tool.spawn().unwrap()
    }

    fn go_on(&self) {
        assert_ne!(fs::read_to_string(&self.fifo).unwrap(), "");
    }

    fn status(&self) -> String {
        field(&self.bryo, "one", "{{.State.Status}} {{.State.ExitCode}}")
    }
}

fn ends(mut tool: Child, code: i32) {
    until("the tool ends", || tool.try_wait().unwrap().is_some());
    let output = tool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
}

/// The next run is on its way, and takes no notice of SIGTERM: it is killed, and not its supervisor.
#[test]
fn what_starts_again_meanwhile_is_ended() {
    let script = "test -e /second && exec sleep 1000; touch /second; exit 1";
    for words in [&["kill", "one"][..], &["stop", "-t", "1", "one"]] {
        let held = Held::new(&["--restart", "always"], script);
        let start = held.tool(&["start", "one"]);
        held.go_on();
        ends(start, 0);
        until("its next run", || held.status() == "restarting 1");
        // Longer than the pause.
        std::thread::sleep(Duration::from_secs(1));
        let tool = held.tool(words);
        std::thread::sleep(Duration::from_millis(700));
        held.go_on();
        ends(tool, 0);
        assert_eq!(held.status(), "exited 137", "{words:?}");
        assert_eq!(field(&held.bryo, "one", "{{.State.Error}}"), "", "{words:?}");
    }
}

#[test]
fn what_is_about_to_start_is_removed() {
    let held = Held::new(&[], "exec sleep 1000");
    let start = held.tool(&["start", "one"]);
    let id = field(&held.bryo, "one", "{{.Id}}");
    let lock = held.bryo.state().join("containers").join(id).join("lock");
    let inode = format!(":{} ", fs::metadata(lock).unwrap().ino());
    until("it is about to start", || {
        fs::read_to_string("/proc/locks").unwrap().contains(&inode)
    });
    let refused = held.bryo.fails(1, ["rm", "one"]);
    assert!(
        refused.contains("another command works on container one"),
        "{refused}"
    );
    let rm = held.tool(&["rm", "-f", "one"]);
    std::thread::sleep(Duration::from_secs(1));
    held.go_on();
    ends(rm, 0);
    start.wait_with_output().unwrap();
    assert_eq!(held.bryo.ok(["ps", "-aq"]), "");
}

/// The time limit is the command's: what it wrote may take longer to be on the disk.
#[test]
fn a_slow_disk_is_waited_for() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--init", "--name", "one", &image, "sleep", "1000"]);
    bryo.ok(["exec", "one", "touch", "/file"]);
    let server = process(&bryo, "one", "FilesystemPid");
    kill(server, Signal::SIGSTOP).unwrap();
    let mut stop = bryo.command(["stop", "-t", "1", "one"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(14));
    kill(server, Signal::SIGCONT).unwrap();
    assert!(stop.wait().unwrap().success());
    let end = field(&bryo, "one", "{{.State.ExitCode}} {{.State.Error}}");
    assert_eq!(end.trim(), "143");
}

/// What it wrote last is there, or will be.
#[test]
fn what_is_just_ending_is_copied_whole() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--init", "--name", "one", &image, "sleep", "1000"]);
    bryo.ok(["exec", "one", "sh", "-c", "echo late > /late"]);
    let (server, init) = (
        process(&bryo, "one", "FilesystemPid"),
        process(&bryo, "one", "Pid"),
    );
    kill(server, Signal::SIGSTOP).unwrap();
    kill(init, Signal::SIGKILL).unwrap();
    until("its end", || kill(init, None).is_err());
    let mut copy = bryo
        .command(["cp", "one:/late", bryo.scratch("late").to_str().unwrap()])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let waits = copy.try_wait().unwrap().is_none();
    kill(server, Signal::SIGCONT).unwrap();
    assert!(copy.wait().unwrap().success() && waits);
    assert_eq!(fs::read_to_string(bryo.scratch("late")).unwrap(), "late\n");
}
