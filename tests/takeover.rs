//! Does anybody in a container notice when its filesystem server is killed?
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Bryo, Done, copy_program, field, kills, parent, process, until};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts `script` in busybox, in the background.
fn running(name: &str, script: &str) -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--name", name, &image, "sh", "-c", script]);
    bryo
}

/// Starts a container that counts in a file, until it is stopped.
fn counting(name: &str) -> Bryo {
    let bryo = running(name, COUNT);
    // `run -d` returns when its command starts. What is sent to a shell before its first line, it never hears of.
    until("the first number", || bryo.ok(["diff", name]).contains("A /n\n"));
    bryo
}

fn server(bryo: &Bryo, name: &str) -> Pid {
    process(bryo, name, "FilesystemPid")
}

/// Kills the container's server and waits for the next.
fn kill_server(bryo: &Bryo, name: &str) {
    let dead = server(bryo, name);
    kill(dead, Signal::SIGKILL).unwrap();
    until("a successor", || server(bryo, name) != dead);
}

const COUNT: &str = "n=0; trap 'exit 0' TERM
    while :; do n=$((n + 1)); echo $n > /n.new && mv /n.new /n && read m < /n && [ $m = $n ] || exit 9; ls -R /etc /usr > /dev/null || exit 8; done";

#[test]
fn a_killed_server_is_followed_by_another() {
    let bryo = counting("long");
    for _ in 0..5 {
        kill_server(&bryo, "long");
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(
        field(&bryo, "long", "{{.State.Status}} {{.State.Error}}"),
        "running"
    );
    bryo.ok(["stop", "long"]);
    assert_eq!(field(&bryo, "long", "{{.State.ExitCode}} {{.State.Error}}"), "0");
    // What was written under the last of them is there: the count goes on.
    let counted = bryo.ok(["diff", "long"]);
    assert!(counted.lines().any(|line| line == "A /n"), "{counted}");
    bryo.ok(["rm", "long"]);
}

#[test]
fn a_server_that_is_stopped_for_a_while_only_holds_things_up() {
    let (bryo, image) = Bryo::with_image("software");
    let undisturbed = at_work(&bryo, &image, "undisturbed", None);
    assert_eq!(undisturbed.0, Some(0));
    std::thread::scope(|scope| {
        let work = scope.spawn(|| at_work(&bryo, &image, "slow", None));
        until("its work", || {
            bryo.run(["diff", "slow"]).stdout.contains("A /w/repo\n")
        });
        // As long as a machine may sleep, then dead; and a successor that is held up at once.
        for seconds in [10, 1] {
            let stopped = server(&bryo, "slow");
            kill(stopped, Signal::SIGSTOP).unwrap();
            std::thread::sleep(Duration::from_secs(seconds));
            kill(stopped, Signal::SIGCONT).unwrap();
            kill_server(&bryo, "slow");
        }
        assert_eq!(work.join().unwrap(), undisturbed);
    });
}

#[test]
fn the_successor_needs_no_name_in_the_store() {
    let bryo = counting("long");
    // As another user's or an older program's rmi might; ours refuses.
    fs::rename(bryo.root().join("layers"), bryo.scratch("layers")).unwrap();
    kill_server(&bryo, "long");
    bryo.ok(["stop", "long"]);
    assert_eq!(field(&bryo, "long", "{{.State.ExitCode}} {{.State.Error}}"), "0");
}

/// A layer of many files is closed with a list of them, and opened by it; whoever follows finds it, too. Whether there is one is
/// said by the journal's version.
#[test]
fn who_follows_finds_the_list_of_a_layer_of_many_files() {
    let bryo = running(
        "many",
        "if [ -e /m ]; then rm /m/1; echo late > /m/2; echo ready; until [ -e /go ]; do sleep 0.1; done; ls /m | wc -l; cat /m/2 /m/3
         else mkdir /m; cd /m; seq 9000 | xargs touch; echo early > 3; fi",
    );
    let version = || {
        let container = fs::read_dir(bryo.state().join("containers")).unwrap().next();
        let journal = container.unwrap().unwrap().path().join("upper/journal");
        fs::read(journal).unwrap()[8]
    };
    assert_eq!(bryo.ok(["wait", "many"]), "0\n");
    assert_eq!(version(), 3, "a list of 9000 files");
    bryo.ok(["start", "many"]);
    until("its first words", || bryo.ok(["logs", "many"]) == "ready\n");
    for _ in 0..2 {
        kill_server(&bryo, "many");
        let changed = bryo.ok(["diff", "many"]);
        assert_eq!(changed.matches("A /m/").count(), 8999);
    }
    bryo.ok(["exec", "many", "touch", "/go"]);
    assert_eq!(bryo.ok(["wait", "many"]), "0\n");
    assert_eq!(bryo.ok(["logs", "many"]), "ready\n8999\nlate\nearly\n");
}

#[test]
fn a_supervisor_killed_after_a_takeover_leaves_nothing() {
    let bryo = running("orphan", "sleep 1000");
    kill_server(&bryo, "orphan");
    let [init, server] = ["Pid", "FilesystemPid"].map(|which| process(&bryo, "orphan", which));
    kill(parent(init), Signal::SIGKILL).unwrap();
    for process in [init, server] {
        until("the end of init and server", || kill(process, None).is_err());
    }
    assert_eq!(field(&bryo, "orphan", "{{.State.Status}}"), "exited");
}

#[test]
fn where_none_can_follow_the_container_ends_and_says_why() {
    let bryo = running("blind", "while :; do ls -R / > /dev/null; touch /x; done");
    let journal = bryo.state().join("containers");
    let journal = fs::read_dir(journal)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("upper/journal");
    fs::rename(&journal, bryo.scratch("journal")).unwrap();
    fs::write(&journal, [7; 8192]).unwrap();
    kill(server(&bryo, "blind"), Signal::SIGKILL).unwrap();
    assert_eq!(bryo.ok(["wait", "blind"]), "137\n");
    let error = field(&bryo, "blind", "{{.State.Error}}");
    assert!(
        error.contains("filesystem server was killed") && error.contains("damaged"),
        "{error}"
    );
}

fn executable(pid: Pid) -> std::path::PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

#[test]
fn a_running_container_gets_the_server_of_another_program() {
    let bryo = counting("long");
    let newer = bryo.scratch("newer");
    assert!(copy_program(executable(server(&bryo, "long")), &newer));
    let done = Done::of(&mut bryo.command_of(&newer, ["upgrade-server", "long"]));
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "long\n"),
        "{done}"
    );
    assert_eq!(executable(server(&bryo, "long")), newer);
    kill_server(&bryo, "long");
    assert_eq!(
        executable(server(&bryo, "long")),
        newer,
        "and so have those that follow"
    );
    // A program that knows nothing of ledgers, put in its place.
    assert!(!copy_program("/bin/false", &newer), "it runs");
    fs::remove_file(&newer).unwrap();
    assert!(copy_program("/bin/false", &newer));
    kill_server(&bryo, "long");
    assert_ne!(executable(server(&bryo, "long")), newer);
    bryo.ok(["stop", "long"]);
    assert_eq!(field(&bryo, "long", "{{.State.ExitCode}} {{.State.Error}}"), "0");
    assert_eq!(
        bryo.fails(1, ["upgrade-server", "long"]),
        "bryo: cannot upgrade the server of container long: container is not running\n"
    );
}

/// Starts busybox with servers that die by themselves, as of a bug, of whatever names `poison`: a debug build's
/// `FUSE_OVERLAY_ABORT`. Gives what it said, and how many servers took over.
fn poisoned(script: &str) -> (Done, u32) {
    dying_of("poison", script)
}

fn dying_of(what: &str, script: &str) -> (Done, u32) {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut run = bryo.command(["run", "--name", "poisoned", &image, "sh", "-ec", script]);
    let done = Done::of(run.env("FUSE_OVERLAY_ABORT", what));
    let state = "{{.State.Error}}{{.State.FilesystemTakeovers.Servers}}";
    let servers = field(&bryo, "poisoned", state);
    (done, servers.parse().unwrap_or_else(|_| panic!("{servers}")))
}

#[test]
fn a_request_that_two_servers_die_of_fails_and_the_container_goes_on() {
    let (done, servers) = poisoned(
        "for n in 1 2 3; do
            echo $n > /before
            if mkdir /poison$n 2> /dev/shm/error; then exit 1; fi
            grep -Ec 'I/O error|Input/output error' /dev/shm/error; [ $(cat /before) = $n ]
        done",
    );
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "1\n1\n1\n"),
        "{done}"
    );
    assert_eq!(servers, 6, "two for each");
}

/// What is in the journal is not done again, so one server dies of it, rather than one after the other for ever.
#[test]
fn a_change_that_a_server_dies_of_once_it_has_happened_counts() {
    let (done, servers) = dying_of(
        "done:poison",
        "printf poisonous | dd of=/file conv=fsync 2> /dev/null; cat /file",
    );
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "poisonous"),
        "{done}"
    );
    assert_eq!(servers, 1);
}

/// More of them in a minute than there may be of other crashes: only the pace is another.
#[test]
fn a_program_that_asks_for_it_again_and_again_does_not_end_its_container() {
    let (done, servers) = poisoned(
        "n=0; while [ $((n += 1)) -le 18 ]; do if mkdir /poison$n 2> /dev/null; then exit 1; fi; done
        echo text > /after; cat /after",
    );
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "text\n"),
        "{done}"
    );
    assert_eq!(servers, 36);
}

/// Limits how many processes its user may have for the process `of` to start another.
fn limit_processes(of: Pid, soft: u64) {
    let mut prlimit = std::process::Command::new("prlimit");
    let done = Done::of(prlimit.args(["--pid", &of.to_string(), &format!("--nproc={soft}:")]));
    assert!(done.status.success(), "{done}");
}

#[test]
fn a_successor_that_cannot_be_started_is_tried_again() {
    let bryo = counting("long");
    let dead = server(&bryo, "long");
    let supervisor = parent(dead);
    let (usual, _) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    limit_processes(supervisor, 1);
    kill(dead, Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server(&bryo, "long"), dead, "nobody could follow it");
    limit_processes(supervisor, usual);
    until("a successor", || server(&bryo, "long") != dead);
    bryo.ok(["stop", "long"]);
    assert_eq!(field(&bryo, "long", "{{.State.ExitCode}} {{.State.Error}}"), "0");
}

/// Its successor would be killed as well, as for want of memory, and the container never end.
#[test]
fn a_server_that_is_killed_over_its_list_is_followed_by_one_that_makes_none() {
    let (bryo, image) = Bryo::with_image("busybox");
    // The journal's version tells whether it has a list.
    let ran = |name: &str, kill: Option<(&str, &str)>| {
        let script = "echo kept > /file";
        let mut run = bryo.command(["run", "--name", name, &image, "sh", "-c", script]);
        let mut run = run.env("FUSE_OVERLAY_HURRY", "1").envs(kill).spawn().unwrap();
        until("its end", || run.try_wait().unwrap().is_some());
        assert!(run.wait().unwrap().success());
        assert_eq!(field(&bryo, name, "{{.State.Error}}"), "");
        assert!(bryo.ok(["diff", name]).contains("A /file\n"));
        let directory = bryo
            .state()
            .join("containers")
            .join(field(&bryo, name, "{{.Id}}"));
        fs::read(directory.join("upper/journal")).unwrap()[8]
    };
    assert_eq!(ran("undisturbed", None), 3);
    assert_eq!(ran("killed", Some(("FUSE_OVERLAY_KILL", "list:1"))), 2);
}

/// What compilers, databases and archives do; prints what must always be the same.
const WORK: &str = r#"
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
    export GIT_AUTHOR_DATE='@1 +0000' GIT_COMMITTER_DATE='@1 +0000'
    mkdir /w; cd /w
    git init -q repo; cp -r /usr/share/doc/[g-l]* repo; git -C repo add -A; git -C repo commit -qm one
    git clone -q --no-local repo clone; git -C clone fsck --full --strict; git -C clone rev-parse HEAD
    git -C clone status --porcelain; rm -rf repo
    printf '#include <stdio.h>\nint main(void) { puts("from C"); return 0; }\n' > a.c
    for n in 1 2 3; do gcc -O2 -o a a.c; ./a; done
    python3 - <<'PYTHON'
import sqlite3, os, mmap
base = sqlite3.connect("base")
base.execute("pragma journal_mode=wal")
base.execute("create table t(a integer primary key, b)")
for n in range(60):
    base.execute("insert into t values(?, ?)", (n, "x" * 500)); base.commit()
base.execute("delete from t where a % 3 = 0"); base.commit()
print(base.execute("select count(*) from t").fetchone(), base.execute("pragma integrity_check").fetchone())
with open("unlinked", "w+b") as f:
    os.unlink("unlinked"); f.truncate(1 << 20)
    m = mmap.mmap(f.fileno(), 1 << 20)
    for n in range(0, 1 << 20, 4096): m[n:n + 4] = n.to_bytes(4, "little")
    m.flush(); os.fsync(f.fileno())
    print(all(m[n:n + 4] == n.to_bytes(4, "little") for n in range(0, 1 << 20, 4096)))
PYTHON
    mkdir tree; tar -C /usr/lib/python3.11 -cf - . | tar -C tree -xf -
    diff -r --no-dereference /usr/lib/python3.11 tree; chmod -R o-r tree; find tree -perm -o=r ! -type l | wc -l
    mv tree moved; find moved -type f | sort | xargs sha256sum | sha256sum
    rm -rf moved; ls"#;

/// Keeps the server at it beside the work, so that a kill at any moment meets a request: others make, sync, rename and remove files.
const BUSY: &str = r#"
    mkdir /busy
    for n in 1 2 3 4 5 6; do python3 -c '
import os, sys
one, other = ["/busy/%s-%s" % (name, sys.argv[1]) for name in ("one", "other")]
while True:
    f = os.open(one, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(f, b"x" * 5000); os.fsync(f); os.close(f)
    os.rename(one, other); assert os.stat(other).st_size == 5000; os.unlink(other)' $n & done"#;

/// Runs the work in a fresh container: exit code, output, errors. `kill` is a debug build's `FUSE_OVERLAY_KILL`.
fn at_work(bryo: &Bryo, image: &str, name: &str, kill: Option<&str>) -> (Option<i32>, String, String) {
    at_work_after("", bryo, image, name, kill)
}

/// The same after another script.
fn at_work_after(
    before: &str,
    bryo: &Bryo,
    image: &str,
    name: &str,
    kill: Option<&str>,
) -> (Option<i32>, String, String) {
    let script = format!("{before}{WORK}");
    let mut run = bryo.command(["run", "--name", name, image, "bash", "-ec", &script]);
    run.envs(kill.map(|kill| ("FUSE_OVERLAY_KILL", kill)));
    let done = Done::of(&mut run);
    (done.status.code(), done.stdout, done.stderr)
}

#[test]
fn programs_notice_nothing() {
    let (bryo, image) = Bryo::with_image("software");
    let undisturbed = at_work(&bryo, &image, "undisturbed", None);
    assert_eq!((undisturbed.0, undisturbed.2.as_str()), (Some(0), ""));
    // At chosen moments: each server dies at its n-th request.
    for point in ["read:301", "happened:299", "saved:303", "sent:307"] {
        let name = point.replace(':', "-");
        assert_eq!(at_work(&bryo, &image, &name, Some(point)), undisturbed, "{point}");
        let counts = takeovers(&bryo, &name);
        // All of them with a request in hand but those that were killed at a FORGET.
        assert!(
            counts[0] > 50 && counts[1] * 10 >= counts[0] * 9,
            "{point}: {counts:?}"
        );
        // Half of what changes something lies between the work and its answer; before the work is nothing of it, and what
        // changes nothing leaves no trace but its answer.
        let happened = match point.split(':').next() {
            Some("saved" | "sent") => counts[2] * 10 >= counts[0] * 9,
            Some("happened") => counts[2] > 0,
            _ => true,
        };
        assert!(happened, "{point}: {counts:?}");
        println!("killed at {point}: servers, those with requests in hand, happened: {counts:?}");
        bryo.ok(["rm", &name]);
    }
}

/// Servers are killed at random while the work is done, which is begun anew until there were kills enough.
#[test]
fn programs_notice_nothing_at_any_moment() {
    let (bryo, image) = Bryo::with_image("software");
    let (bryo, image) = (&bryo, image.as_str());
    let undisturbed = &at_work(bryo, image, "undisturbed", None);
    assert_eq!((undisturbed.0, undisturbed.2.as_str()), (Some(0), ""));
    let (mut deaths, mut counts) = (0, [0, 0, 0]);
    while deaths < kills(40) {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let seen = at_work_after(BUSY, bryo, image, "random", None);
                ended.store(true, Ordering::Release);
                seen
            });
            let busy = || bryo.run(["diff", "random"]).stdout.contains("/busy/");
            until("its work", || busy() || ended.load(Ordering::Acquire));
            while deaths < kills(40) && !ended.load(Ordering::Acquire) {
                // No pid, when the container has just ended; a zombie, when another takes over right now.
                let server = server(bryo, "random");
                if server.as_raw() > 0 && kill(server, Signal::SIGKILL).is_ok() {
                    deaths += 1;
                }
                std::thread::sleep(Duration::from_millis(deaths * 7 % 41));
            }
            assert_eq!(&work.join().unwrap(), undisturbed, "killed {deaths} times");
        });
        let found = takeovers(bryo, "random");
        counts
            .iter_mut()
            .zip(found)
            .for_each(|(sum, found)| *sum += found);
        bryo.ok(["rm", "random"]);
    }
    println!("killed at random {deaths} times: servers, those with requests in hand, happened: {counts:?}");
    // Nine in ten, or a little more, on two cores; how many it is at a time is the machine's matter.
    let [servers, busy, happened] = counts;
    assert!(servers > 10 && busy * 3 >= servers * 2, "{counts:?}");
    // Of so many as `soak.sh` kills, all that is promised.
    let soaks = kills(40) >= 1000;
    assert!(
        !soaks || (busy * 10 >= servers * 9 && happened * 2 >= busy),
        "{counts:?}"
    );
}

/// What the container's servers found: how many there were after the first, how many of these with requests in hand, and how many
/// requests had happened.
fn takeovers(bryo: &Bryo, name: &str) -> [u32; 3] {
    let counts = "{{with .State.FilesystemTakeovers}}{{.Servers}} {{.Busy}} {{.Happened}}{{end}}";
    let counts = field(bryo, name, counts);
    let mut counts = counts.split(' ').map(|count| count.parse().unwrap());
    std::array::from_fn(|_| counts.next().unwrap())
}
