//! Does a start that stands still hold up others? Sixteen begin at once, one is stopped on its way: the tool with its group,
//! what the tool has started, or whoever comes to a certain step of the store.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::sandbox::within;
use common::{Bryo, Done, comm, has_id_range, images, processes, until};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Commands that go on beside a start that stands still; each panics if it fails.
fn others(bryo: &Bryo, image: &str, starts: usize) {
    let archive = format!("oci-archive:{}", images().join("busybox.oci.tar").display());
    std::thread::scope(|threads| {
        for number in 0..starts {
            let mut run = bryo.command(["run", "--rm", "--network", "none", image, "echo", "up"]);
            threads.spawn(move || {
                let done = Done::of(&mut run);
                assert!(done.status.success() && done.stdout == "up\n", "{number}: {done}");
            });
        }
        threads.spawn(|| {
            bryo.ok(["pull", "-q", &archive]);
            assert!(bryo.ok(["images"]).contains("busybox"));
            bryo.ok(["rmi", "busybox:oci"]);
            bryo.ok(["image", "prune", "-f"]);
            bryo.ok(["ps", "-a"]);
        });
    });
}

/// The start that will stand still.
fn late(bryo: &Bryo, image: &str) -> Command {
    let mut command = bryo.command(["run", "--rm", "--network", "none", image, "echo", "late"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn succeeds(victim: Child, when: &str) {
    let output = victim.wait_with_output().unwrap();
    assert!(output.status.success(), "stopped {when}: {output:?}");
    assert_eq!(output.stdout, b"late\n", "stopped {when}: {output:?}");
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

#[test]
fn a_start_that_stands_still_holds_up_nobody() {
    let (bryo, image) = Bryo::with_image("odd");
    // The holder is there from the second round on; in the first its maker may be the one that stands still.
    for after in [0, 1, 2, 4, 6, 9, 12, 16, 22, 30, 50] {
        let victim = late(&bryo, &image).process_group(0).spawn().unwrap();
        let group = pid(&victim);
        std::thread::sleep(Duration::from_millis(after));
        killpg(group, Signal::SIGSTOP).unwrap();
        others(&bryo, &image, 15);
        killpg(group, Signal::SIGCONT).unwrap();
        succeeds(victim, &format!("after {after} ms"));
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// The processes that a process has started, and those that they have, each after its parent.
fn descendants(of: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let children = children
        .split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()));
    children
        .flat_map(|child| std::iter::once(child).chain(descendants(child)))
        .collect()
}

/// Who has ended needs no signal, and may have.
fn signal(processes: &[Pid], signal: Signal) {
    for process in processes {
        let _ = kill(*process, signal);
    }
}

/// Whom a start has made stands still, or only what those have made: the filesystem's server, who makes the namespaces, newuidmap.
#[test]
fn a_supervisor_that_stands_still_holds_up_nobody() {
    let (bryo, image) = Bryo::with_image("odd");
    for (round, after) in (0..).zip([
        0, 200, 500, 900, 1400, 2000, 2800, 3800, 5000, 7000, 10_000, 15_000,
    ]) {
        let mut victim = late(&bryo, &image).spawn().unwrap();
        let (tool, skip) = (pid(&victim), round % 2);
        let mut made = Vec::new();
        // Who makes the namespace comes first, if there is none to share.
        let is_awaited = |process: &Pid| round % 3 == 0 || comm(*process) == "bryo-supervisor";
        until("a supervisor", || {
            made = descendants(tool);
            made.iter().any(is_awaited) || victim.try_wait().unwrap().is_some()
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(after) {
            std::hint::spin_loop();
        }
        made = descendants(tool).into_iter().skip(skip).collect();
        signal(&made, Signal::SIGSTOP);
        others(&bryo, &image, 5);
        signal(&made, Signal::SIGCONT);
        succeeds(victim, &format!("after {after} µs, but for {skip}"));
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

fn is_stopped(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, fields)| fields.starts_with('T'))
}

/// Those that were stopped at the step, and are.
fn standing(mark: &Path) -> Vec<Pid> {
    let met = fs::read_to_string(mark).unwrap_or_default();
    let met = met.lines().map(|pid| Pid::from_raw(pid.parse().unwrap()));
    met.filter(|pid| is_stopped(*pid)).collect()
}

/// Among the steps is the one by which the user namespace is given to others, under the only lock of all starts.
#[test]
fn a_start_that_is_stopped_at_any_step_holds_up_nobody() {
    let (bryo, image) = Bryo::with_image("odd");
    let mark = bryo.scratch("met");
    for step in 1.. {
        let _ = fs::remove_file(&mark);
        let mut command = late(&bryo, &image);
        command
            .env("BRYO_FAILPOINT", format!("{step}:stop"))
            .env("BRYO_FAILPOINT_MET", &mark);
        let mut victim = command.spawn().unwrap();
        let mut ended = false;
        until("the step", || {
            ended = victim.try_wait().unwrap().is_some();
            ended || !standing(&mark).is_empty()
        });
        if ended {
            assert!(step > 10, "the start has {step} steps");
            succeeds(victim, "nowhere");
            break;
        }
        others(&bryo, &image, 4);
        // A process that was forked before may come to the step, too.
        until("its end", || {
            signal(&standing(&mark), Signal::SIGCONT);
            victim.try_wait().unwrap().is_some()
        });
        succeeds(victim, &format!("at step {step}"));
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// The user namespace is begun before the command line is read: by who ends with a command that starts nothing.
#[test]
fn a_command_line_that_starts_nothing_leaves_nothing() {
    let fresh = Bryo::new();
    assert!(fresh.ok(["run", "--help"]).contains("--no-hosts"));
    assert_eq!(
        fs::read_dir(fresh.dir()).unwrap().count(),
        0,
        "help needs no store"
    );
    let (bryo, image) = Bryo::with_image("busybox");
    // Other ids than the namespace has that was begun.
    let other = ["--userns", "keep-id:uid=7,gid=8"];
    let run = [
        &["run", "--rm", "--network", "none"][..],
        &other,
        &[&image, "id", "-u"],
    ]
    .concat();
    assert_eq!(bryo.ok(run), "7\n");
    bryo.fails(125, ["run", "--no-such-flag", &image]);
    bryo.fails(125, ["run", "--pull", "never", "no/such:image"]);
    until("the end of all its processes", || processes(&bryo).is_empty());
    if !has_id_range() {
        return;
    }
    // A newuidmap without end tells who called it, and what it was given.
    let (tools, told, held) = (bryo.scratch("tools"), bryo.scratch("told"), bryo.scratch("held"));
    fs::create_dir(&tools).unwrap();
    let script = format!(
        "#!/bin/sh\necho $$ >> {told}.all\n(echo $PPID; ls -l /proc/$$/fd) > {told}.$$; mv {told}.$$ {told}; exec sleep 1000\n",
        told = told.display()
    );
    fs::write(tools.join("newuidmap"), script).unwrap();
    fs::set_permissions(tools.join("newuidmap"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let holding = format!("exec 7> {}; exec \"$0\" \"$@\"", held.display());
    until("newuidmap is called", || {
        let mut help = within(&["sh", "-ec", &holding], &bryo.command(["run", "--help"]));
        assert!(Done::of(help.env("PATH", &path)).status.success());
        told.exists()
    });
    let first = fs::read_to_string(&told).unwrap();
    let (maker, open) = first.split_once('\n').unwrap();
    let maker = Pid::from_raw(maker.parse().unwrap());
    until("the end of who called it", || comm(maker).is_empty());
    assert!(!open.contains("held"), "{open}");
    // Some of several calls may have told of nothing yet.
    until("the end of all calls", || {
        let all = fs::read_to_string(told.with_extension("all")).unwrap();
        let all = all
            .lines()
            .filter_map(|pid| Some(Pid::from_raw(pid.parse().ok()?)));
        signal(&all.collect::<Vec<_>>(), Signal::SIGKILL);
        processes(&bryo).is_empty()
    });
}
