//! To hear and speak to a container that runs: several at once, none of whom can hold it up; and to leave its terminal.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::{Bryo, Done, parent, process, until};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A container `one` of busybox.
fn running(flags: &[&str], command: &[&str]) -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut words = vec!["run", "--name", "one"];
    words.extend(flags);
    words.push(&image);
    words.extend(command);
    bryo.ok(&words);
    bryo
}

fn piped(bryo: &Bryo, words: &[&str]) -> Child {
    let mut command = bryo.command(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// The tool at a terminal of the test's.
struct AtTerminal {
    child: Child,
    keys: fs::File,
    shown: Arc<Mutex<String>>,
}

impl AtTerminal {
    fn new(bryo: &Bryo, words: &[&str], (rows, columns): (u16, u16)) -> AtTerminal {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        let mut command = Command::new("setsid");
        let tool = bryo.command(words);
        command.arg("-c").arg(tool.get_program()).args(tool.get_args());
        for (name, value) in tool.get_envs() {
            command.env(name, value.unwrap());
        }
        let child = command
            .stdin(end(&pty.slave))
            .stdout(end(&pty.slave))
            .stderr(end(&pty.slave))
            .spawn()
            .unwrap();
        drop((pty.slave, command));
        let keys = fs::File::from(pty.master);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (keys.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                to.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        AtTerminal { child, keys, shown }
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    fn shows(&self, text: &str) {
        until(text, || self.shown.lock().unwrap().contains(text));
    }

    fn ends(&mut self) -> Option<i32> {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.keys, size).unwrap();
    }

    /// Is the terminal as a shell wants it: with echo?
    fn is_cooked(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.keys).unwrap();
        modes.local_modes.contains(rustix::termios::LocalModes::ECHO)
    }
}

const LEAVE: &str = "\x10\x11";

#[test]
fn several_hear_it_and_its_end() {
    let script = "trap 'echo bye; echo gone >&2; exit 7' TERM; echo before; read x; echo now; while :; do sleep 0.1; done";
    let bryo = running(&["-d", "-i"], &["sh", "-c", script]);
    until("it runs", || bryo.ok(["logs", "one"]) == "before\n");
    let socket = fs::read_dir(bryo.dir().join("run/attach"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(socket.file_type().unwrap().is_socket());
    assert_eq!(mode(&socket.path()), 0o600);
    assert_eq!(mode(socket.path().parent().unwrap()), 0o700);
    let mut three: Vec<Child> = (0..3)
        .map(|_| piped(&bryo, &["attach", "--sig-proxy=false", "one"]))
        .collect();
    // Each is there when it hears what another's input brings.
    let mut heard: Vec<_> = three
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()))
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    three[0].stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    for one in &mut heard {
        let mut line = String::new();
        one.read_line(&mut line).unwrap();
        // What was written before is the log's.
        assert_eq!(line, "now\n");
    }
    bryo.ok(["stop", "one"]);
    for (child, mut heard) in three.into_iter().zip(heard) {
        let mut rest = String::new();
        heard.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((rest.as_str(), output.status.code()), ("bye\n", Some(7)));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "gone\n");
    }
    assert_eq!(fs::read_dir(bryo.dir().join("run/attach")).unwrap().count(), 0);
    let error = bryo.fails(1, ["attach", "one"]);
    assert!(
        error.contains("You cannot attach to a stopped container, start it first"),
        "{error}"
    );
}

#[test]
fn its_input_stays_open_for_the_next() {
    let bryo = running(&["-d", "-i"], &["cat"]);
    for text in ["first\n", "second\n"] {
        let mut child = piped(&bryo, &["attach", "--sig-proxy=false", "one"]);
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        until("it arrived", || bryo.ok(["logs", "one"]).ends_with(text));
        signal(&child, Signal::SIGTERM);
        assert_eq!(child.wait().unwrap().code(), Some(143));
    }
    let mut child = piped(&bryo, &["attach", "--no-stdin", "--sig-proxy=false", "one"]);
    child.stdin.take().unwrap().write_all(b"never\n").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(&child, Signal::SIGTERM);
    child.wait().unwrap();
    assert_eq!(bryo.ok(["logs", "one"]), "first\nsecond\n");
}

#[test]
fn signals_go_to_the_command_unless_they_are_not_to() {
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done";
    let bryo = running(&["-d"], &["sh", "-c", script]);
    let count = || bryo.ok(["logs", "one"]).matches("usr1").count();
    until("it runs", || bryo.ok(["logs", "one"]).contains("ready"));
    let child = piped(&bryo, &["attach", "one"]);
    until("it listens for signals", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let blocked = status.lines().find(|line| line.starts_with("SigBlk:"));
        blocked.is_some_and(|line| !line.ends_with("0000000000000000"))
    });
    signal(&child, Signal::SIGUSR1);
    until("it is passed", || count() == 1);
    let mut child = child;
    child.kill().unwrap();
    child.wait().unwrap();
    // The container goes on.
    assert_eq!(
        bryo.ok(["inspect", "-f", "{{.State.Status}}", "one"]),
        "running\n"
    );
}

/// One that is stopped, or reads nothing, holds up neither the container nor others.
#[test]
fn who_does_not_read_holds_up_nobody() {
    let script = "echo ready; read x; dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\\0' 'x'; echo; echo done >&2; exit 3";
    let bryo = running(&["-d", "-i", "--log-driver", "none"], &["sh", "-c", script]);
    let slow = piped(&bryo, &["attach", "--sig-proxy=false", "one"]);
    let mut quick = piped(&bryo, &["attach", "--sig-proxy=false", "one"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&slow, Signal::SIGSTOP);
    quick.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let output = quick.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{:?}", output.stderr);
    let left_out = String::from_utf8(output.stderr).unwrap();
    // It may have come in time for the first line.
    let late = output.stdout.strip_prefix(b"ready\n").unwrap_or(&output.stdout);
    let whole = late.len() == (8 << 20) + 1;
    assert!(
        whole || left_out.contains("were left out"),
        "{} {left_out}",
        output.stdout.len()
    );
    assert_eq!(bryo.ok(["wait", "one"]), "3\n");
    signal(&slow, Signal::SIGCONT);
    let output = slow.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.len() < 8 << 20);
}

/// Who was too slow to hear the end, while the container goes on with its next run, ends all the same.
#[test]
fn who_missed_the_end_of_a_run_is_told_of_it() {
    let script = "read x; dd if=/dev/zero bs=1M count=4 2>/dev/null; exit 3";
    let flags = ["-d", "-i", "--restart=on-failure:1", "--log-driver", "none"];
    let bryo = running(&flags, &["sh", "-c", script]);
    let slow = piped(&bryo, &["attach", "--sig-proxy=false", "one"]);
    let mut quick = piped(&bryo, &["attach", "--sig-proxy=false", "one"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&slow, Signal::SIGSTOP);
    quick.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    quick.wait_with_output().unwrap();
    let state = "{{.State.Status}} {{.RestartCount}}";
    until("it runs again", || {
        bryo.ok(["inspect", "-f", state, "one"]) == "running 1\n"
    });
    signal(&slow, Signal::SIGCONT);
    let output = slow.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(!told.contains("killed"), "{told}");
    assert_eq!(bryo.ok(["inspect", "-f", state, "one"]), "running 1\n");
}

#[test]
fn one_too_many_is_told_so() {
    let bryo = running(&["-d"], &["sleep", "1000"]);
    let socket = fs::read_dir(bryo.dir().join("run/attach")).unwrap().next();
    let socket = socket.unwrap().unwrap().path();
    let hello = br#"{"version":1,"input":false}"#;
    let guests: Vec<UnixStream> = (0..64)
        .map(|_| {
            let mut guest = UnixStream::connect(&socket).unwrap();
            guest.write_all(&[&[0, 27, 0, 0, 0][..], hello].concat()).unwrap();
            guest
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let error = bryo.fails(1, ["attach", "one"]);
    assert!(error.contains("64 are attached"), "{error}");
    drop(guests);
}

#[test]
fn a_terminal_is_left_and_come_back_to() {
    let bryo = Bryo::with_image("busybox");
    let (bryo, image) = bryo;
    let mut first = AtTerminal::new(&bryo, &["run", "-it", "--name", "one", &image, "sh"], (20, 60));
    first.types("stty size\n");
    first.shows("20 60");
    assert!(!first.is_cooked());
    first.types("echo one-$((1 + 1))\n");
    first.shows("one-2");
    first.types(LEAVE);
    assert_eq!(first.ends(), Some(0));
    first.shows("read escape sequence");
    assert!(first.is_cooked(), "the terminal is the user's again");
    assert_eq!(bryo.ok(["inspect", "-f", "{{.State.Running}}", "one"]), "true\n");
    // With other keys, and of another size.
    let words = ["attach", "--detach-keys", "ctrl-x,y", "one"];
    let mut second = AtTerminal::new(&bryo, &words, (30, 90));
    second.types("\nstty size\n");
    second.shows("30 90");
    // Also one that changes while something is typed is told.
    for rows in 31..41 {
        second.types("stty size\n");
        second.resize(rows, 91);
        second.types("stty size\n");
        until("its size is told", || {
            second.types("stty size\n");
            std::thread::sleep(std::time::Duration::from_millis(20));
            second.shown.lock().unwrap().contains(&format!("{rows} 91"))
        });
    }
    second.types("\x18y");
    assert_eq!(second.ends(), Some(0));
    assert!(second.is_cooked());
    // `start -a -i` of one that runs is the same; its end is told.
    let mut third = AtTerminal::new(&bryo, &["start", "-a", "-i", "one"], (20, 60));
    third.types("\necho again-$((1 + 1)); exit 5\n");
    third.shows("again-2");
    assert_eq!(third.ends(), Some(5));
    assert!(third.is_cooked());
    let bad = bryo.fails(1, ["attach", "--detach-keys", "ctrl-", "one"]);
    assert!(bad.contains("invalid detach keys"), "{bad}");
}

/// Each change of a terminal's size is told to who draws on it, also to a command that was brought in later.
#[test]
fn a_terminal_that_changes_its_size_tells_the_command() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--name", "other", &image, "sleep", "1000"]);
    let script = "n=0; trap 'n=$((n + 1)); stty size' WINCH; echo ready; until [ $n -ge 5 ]; do sleep 0.05; done; exit 7";
    let command = ["sh", "-c", script];
    let run = ["run", "--rm", "-it", &image];
    let exec = ["exec", "-it", "other"];
    for words in [[&run[..], &command].concat(), [&exec[..], &command].concat()] {
        let mut tool = AtTerminal::new(&bryo, &words, (20, 60));
        tool.shows("ready");
        for rows in 31..36 {
            tool.resize(rows, 91);
            tool.shows(&format!("{rows} 91"));
        }
        assert_eq!(tool.ends(), Some(7), "{words:?}");
    }
}

/// Whose window is closed, or reads its end in another way, ends no other's input.
#[test]
fn a_terminals_end_leaves_the_input_to_the_next() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut first = AtTerminal::new(&bryo, &["run", "-it", "--name", "one", &image, "sh"], (20, 60));
    first.types("echo one-$((1 + 1))\n");
    first.shows("one-2");
    first.types(LEAVE);
    assert_eq!(first.ends(), Some(0));
    let mut second = AtTerminal::new(&bryo, &["attach", "one"], (20, 60));
    second.types("echo two-$((1 + 1))\n");
    second.shows("two-2");
    // The tool reads 0 bytes, as of a terminal that is gone; its output is heard still.
    let mut modes = rustix::termios::tcgetattr(&second.keys).unwrap();
    modes.local_modes.insert(rustix::termios::LocalModes::ICANON);
    rustix::termios::tcsetattr(&second.keys, rustix::termios::OptionalActions::Now, &modes).unwrap();
    second.types("\x04");
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&second.child, Signal::SIGTERM);
    assert_eq!(second.ends(), Some(143));
    let mut third = AtTerminal::new(&bryo, &["attach", "one"], (20, 60));
    third.types("echo three-$((1 + 2)); exit 6\n");
    third.shows("three-3");
    assert_eq!(third.ends(), Some(6));
}

#[test]
fn a_command_within_is_left_too() {
    let bryo = running(&["-d"], &["sleep", "1000"]);
    let script = "trap '' HUP; echo begun; sleep 2; echo late; echo end > /end";
    let words = ["exec", "-it", "one", "sh", "-c", script];
    let mut tool = AtTerminal::new(&bryo, &words, (20, 60));
    tool.shows("begun");
    tool.types(LEAVE);
    assert_eq!(tool.ends(), Some(0));
    assert!(tool.is_cooked());
    tool.shows("read escape sequence");
    until("it went on", || {
        bryo.run(["exec", "one", "cat", "/end"]).stdout == "end\n"
    });
    assert!(!tool.shown.lock().unwrap().contains("late"));
    // Not left, it is as ever.
    let mut tool = AtTerminal::new(&bryo, &["exec", "-it", "one", "sh"], (20, 60));
    tool.types("stty size; exit 4\n");
    tool.shows("20 60");
    assert_eq!(tool.ends(), Some(4));
    assert!(tool.is_cooked());
    let mut tool = AtTerminal::new(&bryo, &["exec", "-it", "one", "/no/such"], (20, 60));
    assert_eq!(tool.ends(), Some(127));
    // Nobody is left beside it.
    bryo.ok(["stop", "-t0", "one"]);
}

#[test]
fn a_killed_supervisor_is_told() {
    let bryo = running(&["-d"], &["sleep", "1000"]);
    let child = piped(&bryo, &["attach", "--sig-proxy=false", "one"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill(parent(process(&bryo, "one", "Pid")), Signal::SIGKILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(137), "{output:?}");
    // What is left in its place does not keep it from starting, and goes with it.
    bryo.ok(["start", "one"]);
    let child = piped(&bryo, &["attach", "one"]);
    let done = Done::of(&mut bryo.command(["rm", "-f", "one"]));
    assert!(done.status.success(), "{done}");
    assert!(child.wait_with_output().unwrap().status.code().is_some());
}
