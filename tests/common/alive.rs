//! Containers that run: what is asked of them, and waiting for what becomes of them.

use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::{Bryo, Done};

/// Waits for what is about to happen; fails after two minutes, which a loaded machine may need, in the words by which
/// `scripts/repeats.awk` knows that.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !happened() {
        assert!(Instant::now() < end, "waited in vain: {what} does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a process of the test has come to where it waits for others: it sleeps, and nothing has woken it for a while.
#[track_caller]
pub fn until_it_waits(process: &Child) {
    let status = format!("/proc/{}/status", process.id());
    let turns = || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let turns = status.lines().filter(|line| line.contains("ctxt_switches"));
        (status.contains("State:\tS"), turns.collect::<String>())
    };
    until("it waits", || {
        let before = turns();
        std::thread::sleep(Duration::from_millis(200));
        before.0 && turns() == before
    });
}

/// Runs what wants this port of the host, which another test may have at the moment.
#[track_caller]
pub fn once_free(port: u16, mut run: impl FnMut() -> Done) -> Done {
    let mut done = None;
    until(&format!("port {port} is free"), || {
        if TcpListener::bind(("0.0.0.0", port)).is_err() {
            return false;
        }
        let ran = run();
        let taken = ran.stderr.contains("is taken");
        done = (!taken).then_some(ran);
        !taken
    });
    done.expect("what ran")
}

/// What `inspect` says of a container.
pub fn field(bryo: &Bryo, name: &str, template: &str) -> String {
    bryo.ok(["inspect", "--format", template, name])
        .trim_end()
        .to_string()
}

/// One of a container's processes, by its name in inspect's `State`.
pub fn process(bryo: &Bryo, name: &str, which: &str) -> Pid {
    Pid::from_raw(
        field(bryo, name, &format!("{{{{.State.{which}}}}}"))
            .parse()
            .unwrap(),
    )
}

/// The parent of a process.
pub fn parent(pid: Pid) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    Pid::from_raw(fields.split_whitespace().nth(1).unwrap().parse().unwrap())
}

/// What the kernel calls a process (proc_pid_comm(5)); nothing once it is gone.
pub fn comm(process: impl std::fmt::Display) -> String {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// The names of this test's processes that still live: those to which its directories were named.
pub fn processes(bryo: &Bryo) -> Vec<String> {
    let directory = bryo.dir().to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|process| {
        // The dead have no environment any more.
        let environment = std::fs::read(process.path().join("environ")).ok()?;
        let ours = String::from_utf8_lossy(&environment).contains(directory);
        ours.then(|| comm(process.file_name().display()))
    })
    .collect()
}

/// How many times a test kills something; `scripts/soak.sh` asks for more.
pub fn kills(usual: u64) -> u64 {
    std::env::var("BRYO_KILLS").map_or(usual, |kills| kills.parse().unwrap())
}
