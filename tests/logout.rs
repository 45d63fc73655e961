//! What becomes of containers when the login ends that started them, or the machine?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Bryo, Done, field, on_terminal, process, until};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A command of a login with this session directory, or of cron, which has none.
fn of_login(bryo: &Bryo, session: Option<&Path>, words: &[&str]) -> Command {
    let mut command = bryo.command(words);
    command.env_remove("BRYO_RUN").env_remove("XDG_RUNTIME_DIR");
    command.envs(session.map(|session| ("XDG_RUNTIME_DIR", session)));
    command
}

#[track_caller]
fn ok(mut command: Command) -> String {
    let done = Done::of(&mut command);
    assert!(done.status.success(), "{done}");
    done.stdout
}

/// Whoever comes later has another session directory, or none, and finds all there is to find.
#[test]
fn a_container_is_found_from_everywhere_when_its_login_has_ended() {
    let (bryo, image) = Bryo::with_image("busybox");
    let session = bryo.scratch("session");
    fs::create_dir(&session).unwrap();
    let at_login = |words: &[&str]| ok(of_login(&bryo, Some(&session), words));
    let later = |words: &[&str]| of_login(&bryo, None, words);
    at_login(&["network", "create", "net"]);
    let shell = ["-i", &image, "sh", "-c", "read x; echo got $x; sleep 1000"];
    let first = [&["run", "-d", "--name", "one", "--network", "net"], &shell[..]].concat();
    at_login(&first);
    // Its end.
    assert_eq!(fs::read_dir(&session).unwrap().count(), 0, "something lies there");
    fs::remove_dir_all(&session).unwrap();

    let mut attach = later(&["attach", "--sig-proxy=false", "one"]);
    let mut attach = attach
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(attach.stdin.as_mut().unwrap(), b"word\n").unwrap();
    until("what it heard", || ok(later(&["logs", "one"])) == "got word\n");
    // In use, by one whom others find by name.
    let refused = Done::of(&mut later(&["network", "rm", "net"]));
    assert!(!refused.status.success(), "{refused}");
    let found = [
        "run",
        "--rm",
        "--network",
        "net",
        &image,
        "ping",
        "-c1",
        "-W5",
        "one",
    ];
    ok(later(&found));
    ok(later(&["rm", "-f", "one"]));
    attach.wait().unwrap();
    ok(later(&["network", "rm", "net"]));
}

/// A shell, the first of a session on a terminal of its own, that types a command and stays; its terminal's other end is the
/// child's. Gives the shell's pid.
fn session(bryo: &Bryo, words: &[&str]) -> (std::process::Child, Pid) {
    let file = bryo.scratch("shell");
    let script = "\"$@\" && echo $$ > \"$0\"; exec sleep 1000";
    let mut shell = bryo.command_of("sh", ["-c", script, file.to_str().unwrap()]);
    let tool = bryo.command(words);
    shell.arg(tool.get_program()).args(tool.get_args());
    let terminal = on_terminal(&shell).stdout(Stdio::null()).spawn().unwrap();
    let mut pid = None;
    until("the command is typed", || {
        pid = fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    (terminal, Pid::from_raw(pid.unwrap()))
}

/// Restarts and health checks are the supervisor's, and that is of no session but its own.
#[test]
fn a_container_is_looked_after_when_its_session_was_killed() {
    let (bryo, image) = Bryo::with_image("busybox");
    for how in ["group", "leader", "terminal"] {
        let (mut terminal, shell) = session(
            &bryo,
            &[
                "run",
                "-d",
                "--name",
                how,
                "--restart",
                "always",
                "--health-cmd",
                "test -e /well",
                "--health-interval",
                "300ms",
                "--health-retries",
                "1",
                &image,
                "sleep",
                "1000",
            ],
        );
        match how {
            "group" => killpg(nix::unistd::getpgid(Some(shell)).unwrap(), Signal::SIGKILL).unwrap(),
            "leader" => kill(shell, Signal::SIGKILL).unwrap(),
            // Its end of the terminal is closed: the kernel hangs up on who is there.
            _ => terminal.kill().unwrap(),
        }
        terminal.wait().unwrap();
        until("the end of the session", || kill(shell, None).is_err());

        let health = || field(&bryo, how, "{{.State.Health.Status}}");
        until("a check that fails", || health() == "unhealthy");
        bryo.ok(["exec", how, "touch", "/well"]);
        until("a check that does not", || health() == "healthy");
        let before = process(&bryo, how, "Pid");
        kill(before, Signal::SIGKILL).unwrap();
        until("another run", || {
            field(&bryo, how, "{{.RestartCount}} {{.State.Status}}") == "1 running"
        });
        assert_ne!(process(&bryo, how, "Pid"), before);
        until("a check of the new run", || health() == "healthy");
        bryo.ok(["exec", how, "rm", "/well"]);
        until("a check that fails again", || health() == "unhealthy");
        bryo.ok(["rm", "-f", how]);
        fs::remove_file(bryo.scratch("shell")).unwrap();
    }
}

/// After a reboot the numbers that a record has are those of others.
#[test]
fn a_record_of_another_boot_ends_nobody() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "--name", "one", &image, "true"]);
    let id = common::field(&bryo, "one", "{{.Id}}");
    let path = bryo.state().join("containers").join(&id).join("record.json");
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19);
    let start: u64 = start.unwrap().parse().unwrap();
    let process = |boot: &str| serde_json::json!({"pid": stranger.id(), "start": start, "boot": boot});
    let before = process(&"1234".repeat(8));
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["life"] = serde_json::json!({
        "status": "running", "supervisor": before, "init": before, "server": before,
        "started": "2026-01-01T00:00:00.000000000Z",
    });
    record["network"]["process"] = before;
    fs::write(&path, record.to_string()).unwrap();
    let state = "{{.State.Status}} {{.State.ExitCode}}";
    let found = common::field(&bryo, "one", state);
    let lives = stranger.try_wait().unwrap().is_none();
    let _ = stranger.kill();
    stranger.wait().unwrap();
    assert_eq!(found, "exited 137");
    assert!(lives);
    assert_eq!(bryo.ok(["start", "one"]), "one\n");
}
