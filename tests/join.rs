//! `run --join`: many commands in one container, which the first makes and the last removes.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use common::{Bryo, Done, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The command of one rank, in the container `job`.
fn rank(bryo: &Bryo, image: &str, flags: &[&str], script: &str) -> Command {
    let mut words = vec!["run", "--join", "job"];
    words.extend(flags);
    words.extend([image, "sh", "-c", script]);
    bryo.command(words)
}

fn begun(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut output = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    line.trim_end().into()
}

fn rest(mut child: Child) -> (Option<i32>, String, String) {
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn nothing_is_left(bryo: &Bryo) {
    // What was killed may leave what is no container, or a socket that nobody hears.
    bryo.ok(["image", "prune", "-f"]);
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
    let left = |directory: std::path::PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let all = [
        bryo.state().join("containers"),
        bryo.state().join("joins"),
        bryo.state().join("names"),
        bryo.dir().join("run/attach"),
    ];
    assert!(
        all.clone().into_iter().all(|place| left(place).is_empty()),
        "{:?}",
        all.map(left)
    );
}

/// So many at once, each of which waits until it sees the files of all others in /dev/shm.
fn meet(ranks: usize) {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = format!(
        "touch /dev/shm/$RANK /files.$RANK
         while [ $(ls /dev/shm | wc -l) -lt {ranks} ]; do sleep 0.05; done
         touch /files.done.$RANK
         for kind in user mnt pid ipc net uts cgroup; do readlink /proc/self/ns/$kind; done
         grep -c ' / ' /proc/self/mounts
         echo error of $RANK >&2
         while [ $(ls -d /files.done.* | wc -l) -lt {ranks} ]; do sleep 0.05; done
         exit $((RANK + 1))"
    );
    let begun: Vec<Child> = (0..ranks)
        .map(|number| {
            begun(&mut rank(
                &bryo,
                &image,
                &["-e", &format!("RANK={number}")],
                &script,
            ))
        })
        .collect();
    let mut seen = BTreeSet::new();
    for (number, child) in begun.into_iter().enumerate() {
        let (code, output, errors) = rest(child);
        assert_eq!(errors, format!("error of {number}\n"), "{output}");
        assert_eq!(code, Some(i32::try_from(number).unwrap() + 1), "{output}");
        seen.insert(output);
    }
    // One of each namespace, one mount of the tree, so one server.
    assert_eq!(seen.len(), 1, "{seen:?}");
    let seen = seen.pop_first().unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines.len(), lines[7]), (8, "1"), "{seen}");
    // The network is the host's.
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(lines[4], own.to_str().unwrap());
    nothing_is_left(&bryo);
}

#[test]
fn eight_ranks_share_one_container() {
    meet(8);
}

#[test]
fn so_do_thirty_two() {
    meet(32);
}

#[test]
fn it_lives_until_the_last_has_ended() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut first = begun(&mut rank(
        &bryo,
        &image,
        &["-i"],
        "echo 1 > /dev/shm/first; echo in; read x; exit 3",
    ));
    assert_eq!(first_line(&mut first), "in");
    let mut second = begun(&mut rank(
        &bryo,
        &image,
        &["-i"],
        "cat /dev/shm/first; read x; echo $x; exit 4",
    ));
    assert_eq!(first_line(&mut second), "1");
    assert_eq!(rest(first).0, Some(3));
    assert_eq!(
        bryo.ok(["ps", "--format", "{{.Names}} {{.State}}"]),
        "job running\n"
    );
    // Who comes later finds what the first left, and may look into it by the usual commands.
    assert_eq!(rank_output(&bryo, &image, "ls /dev/shm"), "first\n");
    assert_eq!(bryo.ok(["exec", "job", "ls", "/dev/shm"]), "first\n");
    writeln!(second.stdin.as_mut().unwrap(), "said").unwrap();
    let (code, output, errors) = rest(second);
    assert_eq!((code, output.as_str(), errors.as_str()), (Some(4), "said\n", ""));
    nothing_is_left(&bryo);
    // The next is another. Its input is /dev/null: only -i gives it one.
    assert_eq!(rank_output(&bryo, &image, "ls /dev/shm; cat"), "");
}

#[track_caller]
fn rank_output(bryo: &Bryo, image: &str, script: &str) -> String {
    let done = Done::of(&mut rank(bryo, image, &[], script));
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    done.stdout
}

#[test]
fn a_killed_rank_takes_its_command_along_and_nobody_elses() {
    let (bryo, image) = Bryo::with_image("busybox");
    let waits = "echo $$; exec sleep 1000";
    let mut maker = begun(&mut rank(&bryo, &image, &[], waits));
    first_line(&mut maker);
    let mut other = begun(&mut rank(&bryo, &image, &["-i"], "echo in; read x; exit 7"));
    first_line(&mut other);
    let sleeps = || {
        bryo.ok(["top", "job", "-o", "args"])
            .lines()
            .any(|line| line.trim() == "sleep 1000")
    };
    assert!(sleeps());
    maker.kill().unwrap();
    maker.wait().unwrap();
    until("the end of its command", || !sleeps());
    other.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(rest(other).0, Some(7));
    nothing_is_left(&bryo);
    // Of the last one: the container goes with it.
    let mut last = begun(&mut rank(&bryo, &image, &[], waits));
    first_line(&mut last);
    last.kill().unwrap();
    last.wait().unwrap();
    until("the container's end", || bryo.ok(["ps", "-aq"]).is_empty());
    nothing_is_left(&bryo);
}

#[test]
fn signals_are_each_ranks_own() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "trap 'exit 9' TERM; echo in; while :; do sleep 0.05; done";
    let mut ranks = [(); 2].map(|()| begun(&mut rank(&bryo, &image, &[], script)));
    ranks
        .iter_mut()
        .for_each(|rank| assert_eq!(first_line(rank), "in"));
    let [one, two] = ranks;
    kill(pid(&one), Signal::SIGTERM).unwrap();
    assert_eq!(rest(one).0, Some(9));
    assert_eq!(bryo.ok(["ps", "--format", "{{.Names}}"]), "job\n");
    // What ends the container ends all who are in it.
    bryo.ok(["kill", "job"]);
    assert_eq!(rest(two).0, Some(137));
    nothing_is_left(&bryo);
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

#[test]
fn without_its_supervisor_all_of_it_ends() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut ranks = [(); 2].map(|()| begun(&mut rank(&bryo, &image, &[], "echo in; exec sleep 1000")));
    ranks
        .iter_mut()
        .for_each(|rank| assert_eq!(first_line(rank), "in"));
    let id = bryo.ok(["ps", "-q", "--no-trunc"]);
    let record = bryo
        .state()
        .join("containers")
        .join(id.trim())
        .join("record.json");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let supervisor = record["life"]["supervisor"]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(i32::try_from(supervisor).unwrap()), Signal::SIGKILL).unwrap();
    for rank in ranks {
        assert_eq!(rest(rank).0, Some(137));
    }
    // Whoever comes next makes another.
    assert_eq!(rank_output(&bryo, &image, "echo new"), "new\n");
    nothing_is_left(&bryo);
}

#[test]
fn who_is_killed_while_making_it_holds_up_nobody() {
    let (bryo, image) = Bryo::with_image("busybox");
    for pause in [0, 1, 3, 6, 10, 15, 25, 40, 60, 100] {
        let mut maker = begun(&mut rank(&bryo, &image, &[], "sleep 1000"));
        std::thread::sleep(std::time::Duration::from_millis(pause));
        maker.kill().unwrap();
        maker.wait().unwrap();
        assert_eq!(rank_output(&bryo, &image, "echo in"), "in\n");
    }
    nothing_is_left(&bryo);
}

#[test]
fn what_launchers_say_reaches_each_rank() {
    let (bryo, image) = Bryo::with_image("busybox");
    let directory = bryo.scratch("pmix");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("socket"), "of the server\n").unwrap();
    let begun_by = |number: &str, script: &str| {
        let mut rank = rank(&bryo, &image, &["-i", "-e", "OMPI_B=own"], script);
        rank.env("SLURM_PROCID", number)
            .env("PMIX_SERVER_TMPDIR", &directory);
        rank.env("OMPI_B", "launcher").env("SECRET", "no");
        // The user's token for the whole cluster.
        rank.env("SLURM_JWT", "no");
        let (ours, theirs) = UnixStream::pair().unwrap();
        // As srun and Hydra leave it: open over exec.
        let theirs = nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_DUPFD(10)).unwrap();
        rank.env("PMI_FD", theirs.to_string());
        let child = begun(&mut rank);
        nix::unistd::close(theirs).unwrap();
        (child, ours)
    };
    let script = "echo $SLURM_PROCID $OMPI_B $SECRET $SLURM_JWT; cat $PMIX_SERVER_TMPDIR/socket; read x; echo rank $SLURM_PROCID >&$PMI_FD";
    let (mut one, mut one_said) = begun_by("1", script);
    assert_eq!(first_line(&mut one), "1 own");
    let (two, mut two_said) = begun_by("2", &format!("tr '\\0' '\\n' < /proc/1/environ; {script}"));
    let (_, output, _) = rest(two);
    assert_eq!(output, "2 own\nof the server\n");
    let mut said = String::new();
    // To its end: nobody else has it open, the supervisor least of all.
    two_said.read_to_string(&mut said).unwrap();
    assert_eq!(said, "rank 2\n");
    one.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    rest(one);
    said.clear();
    one_said.read_to_string(&mut said).unwrap();
    assert_eq!(said, "rank 1\n");
    nothing_is_left(&bryo);
}

#[test]
fn the_supervisor_keeps_nothing_of_the_first_ranks() {
    let (bryo, image) = Bryo::with_image("busybox");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let open = nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_DUPFD(10)).unwrap();
    let mut first = rank(&bryo, &image, &["-i"], "echo in; read x");
    first.env("PMI_FD", open.to_string());
    let mut first = begun(&mut first);
    nix::unistd::close(open).unwrap();
    drop(theirs);
    first_line(&mut first);
    let mut second = begun(&mut rank(&bryo, &image, &["-i"], "echo in; read x"));
    first_line(&mut second);
    rest(first);
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    assert_eq!(rest(second).0, Some(1));
}

#[test]
fn a_step_of_slurm_is_a_name() {
    let (bryo, image) = Bryo::with_image("busybox");
    let auto = || bryo.command(["run", "--join", "auto", &image, "hostname"]);
    let done = Done::of(auto().env_remove("SLURM_STEP_ID"));
    assert_eq!(done.status.code(), Some(125));
    assert!(done.stderr.contains("$SLURM_STEP_ID"), "{done}");
    let mut command = bryo.command([
        "run",
        "--join",
        "auto",
        "-i",
        &image,
        "sh",
        "-c",
        "echo in; read x",
    ]);
    command
        .env("SLURM_JOB_ID", "77")
        .env("SLURM_STEP_ID", "3")
        .env("SLURMD_NODENAME", "n1");
    let mut child = begun(&mut command);
    first_line(&mut child);
    assert_eq!(bryo.ok(["ps", "--format", "{{.Names}}"]), "step-77-3-n1\n");
    rest(child);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut first = begun(&mut rank(
        &bryo,
        &image,
        &["-i", "-v", "data:/data"],
        "echo in; read x",
    ));
    first_line(&mut first);
    for flags in [
        &[][..],
        &["-v", "other:/data"],
        &["-v", "data:/data", "--read-only"],
    ] {
        let done = Done::of(&mut rank(&bryo, &image, flags, "true"));
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(
            done.stderr
                .contains("container job was made by --join with other flags"),
            "{done}"
        );
    }
    let done = Done::of(&mut rank(&bryo, &image, &["-v", "data:/data"], "exec /nothing"));
    assert_eq!(done.status.code(), Some(127), "{done}");
    let absent = ["run", "--join", "job", "-v", "data:/data", &image, "nothing"];
    assert!(bryo.fails(127, absent).contains("nothing"));
    rest(first);
    bryo.ok(["run", "-d", "--name", "job", &image, "sleep", "1000"]);
    let done = Done::of(&mut rank(&bryo, &image, &[], "true"));
    assert!(done.stderr.contains("was not made by --join"), "{done}");
    assert_eq!(done.status.code(), Some(125));
    for flag in ["-d", "-t", "--name=x"] {
        let done = Done::of(&mut rank(&bryo, &image, &[flag], "true"));
        assert!(done.stderr.contains("cannot be used together with"), "{done}");
    }
    assert!(
        bryo.fails(125, ["run", "--join", "a/b", &image, "true"])
            .contains("Invalid container name")
    );
}

/// One of them may have stopped the process that keeps the container: it ends all the same.
#[test]
fn who_stops_the_keeper_holds_up_nobody() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut only = begun(&mut rank(
        &bryo,
        &image,
        &[],
        // A process stops when it runs next, which takes a moment on a busy machine.
        "kill -STOP 2; until grep 'State.*stopped' /proc/2/status; do usleep 10000; done",
    ));
    assert_eq!(first_line(&mut only), "State:\tT (stopped)");
    until("the rank ends", || only.try_wait().unwrap().is_some());
    assert_eq!(rest(only).0, Some(0));
    nothing_is_left(&bryo);
}

/// What MPI's shared memory between ranks takes: as much as the host has, and reading each other's memory.
#[test]
fn shared_memory_is_as_large_as_the_hosts() {
    let (bryo, image) = Bryo::with_image("busybox");
    let said = rank_output(&bryo, &image, "df -k /dev/shm | tail -n 1");
    let size = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    let kibibytes = size(&said);
    assert!(kibibytes > 128 << 10, "{said}");
    let done = Done::of(&mut rank(
        &bryo,
        &image,
        &["--shm-size", "8m"],
        "df -k /dev/shm | tail -n 1",
    ));
    assert_eq!(size(&done.stdout), 8192, "{done}");
}

/// What process_vm_readv asks for, by which MPI copies from rank to rank.
#[test]
fn ranks_may_read_each_others_memory() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut one = begun(&mut rank(
        &bryo,
        &image,
        &["-i"],
        "echo $$ > /dev/shm/pid; echo in; read x",
    ));
    first_line(&mut one);
    let script = "pid=$(cat /dev/shm/pid); at=$((0x$(head -n 1 /proc/$pid/maps | cut -d- -f1)))
        dd if=/proc/$pid/mem bs=4096 skip=$((at / 4096)) count=1 2>/dev/null | head -c 4 | tail -c 3";
    assert_eq!(rank_output(&bryo, &image, script), "ELF");
    rest(one);
}
