//! One more command in a container that runs: is it as init is, no more and no less?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::Stdio;
use std::time::Duration;

use common::{Bryo, Done, copy_program, has_id_range, on_terminal, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A container `one` that waits.
fn waiting(flags: &[&str]) -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut words = vec!["run", "-d", "--name", "one"];
    words.extend(flags);
    words.extend([&image, "sleep", "1000"]);
    bryo.ok(&words);
    bryo
}

fn sh(bryo: &Bryo, script: &str) -> String {
    bryo.ok(["exec", "one", "sh", "-c", script])
}

#[test]
fn it_is_where_and_as_init_is() {
    let flags = [
        "-e",
        "A=1",
        "-w",
        "/work",
        "--network",
        "none",
        "--cap-drop",
        "CHOWN",
        "--ulimit",
        "nofile=77:99",
    ];
    let bryo = waiting(&flags);
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let both = sh(
            &bryo,
            &format!("readlink /proc/1/ns/{kind}; readlink /proc/self/ns/{kind}"),
        );
        let lines: Vec<&str> = both.lines().collect();
        assert_eq!(lines[0], lines[1], "{kind}");
    }
    // Capabilities (the inheritable ones are none: CVE-2022-24769), filter, groups and the like.
    let pattern = "grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|Uid|Gid|Umask)' /proc";
    let [own, inits] = ["self", "1"].map(|who| sh(&bryo, &format!("{pattern}/{who}/status")));
    assert_eq!(own, inits);
    assert!(
        own.contains("CapInh:\t0000000000000000") && own.contains("Seccomp:\t2"),
        "{own}"
    );
    let of_init = sh(
        &bryo,
        "tr '\\0' '\\n' < /proc/1/environ | sort; readlink /proc/1/cwd; ulimit -n",
    );
    assert_eq!(
        sh(&bryo, "env | grep -v -e ^SHLVL= -e ^PWD= | sort; pwd; ulimit -n"),
        of_init
    );
    // Of descriptors it has its three, and the one that ls makes.
    assert_eq!(bryo.ok(["exec", "one", "ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
    // One tree.
    sh(&bryo, "echo new > /new");
    assert_eq!(sh(&bryo, "cat /new"), "new\n");
    assert_eq!(bryo.ok(["diff", "one"]), "A /new\nA /work\n");
}

#[test]
fn what_is_asked_otherwise_counts() {
    let bryo = waiting(&["-e", "A=1", "-e", "B=1"]);
    fs::write(bryo.scratch("env"), "C=file\nD=file\n").unwrap();
    let file = bryo.scratch("env").display().to_string();
    let flags = [
        "exec",
        "-e",
        "A=2",
        "-e",
        "B",
        "--env-file",
        &file,
        "-e",
        "D=4",
        "-w",
        "/tmp",
        "one",
    ];
    let shown = bryo.ok(flags.into_iter().chain(["sh", "-c", "echo $A,$B,$C,$D; pwd"]));
    assert_eq!(shown, "2,,file,4\n/tmp\n");
    // Options behind the command are its own.
    assert_eq!(bryo.ok(["exec", "one", "echo", "-e", "x", "--rm"]), "x --rm\n");
    let privileged = bryo.ok([
        "exec",
        "--privileged",
        "one",
        "grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert_ne!(
        privileged,
        bryo.ok(["exec", "one", "grep", "CapEff", "/proc/self/status"])
    );
}

/// As with podman and Docker: who may mount may mount anew, and nobody else may.
#[test]
fn a_read_only_bind_stays_so_but_for_who_is_privileged() {
    let shown = tempfile::tempdir().unwrap();
    let bind = format!("{}:/y:ro", shown.path().display());
    let bryo = waiting(&["-v", &bind]);
    let script =
        "mount -o remount,bind,rw /y 2> /dev/null; touch /y/made 2> /dev/null && echo made || echo kept";
    for (flags, said) in [(&[][..], "kept\n"), (&["--privileged"], "made\n")] {
        let words = [&["exec"], flags, &["one", "sh", "-c", script]].concat();
        assert_eq!(bryo.ok(words), said, "{flags:?}");
    }
}

#[test]
fn users_are_those_of_the_container() {
    let bryo = waiting(&[]);
    sh(
        &bryo,
        "echo 'web:x:33:33::/var/www:/bin/sh' >> /etc/passwd; echo 'web:x:33:' >> /etc/group; echo 'adm:x:4:web' >> /etc/group",
    );
    if !has_id_range() {
        // Root is the only one.
        assert_eq!(bryo.ok(["exec", "-u", "root", "one", "id", "-u"]), "0\n");
        let error = bryo.fails(1, ["exec", "-u", "web", "one", "id"]);
        assert!(
            error.contains("user 33 does not exist in the container"),
            "{error}"
        );
        return;
    }
    let script = "id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status";
    let expected = "33\n33\n33 4\n/var/www\nCapEff:\t0000000000000000\n";
    for user in ["web", "33"] {
        assert_eq!(
            bryo.ok(["exec", "-u", user, "one", "sh", "-c", script]),
            expected,
            "{user}"
        );
    }
    assert_eq!(
        bryo.ok(["exec", "-u", "5:6", "one", "sh", "-c", "id -u; id -g; echo $HOME"]),
        "5\n6\n/\n"
    );
    let error = bryo.fails(1, ["exec", "-u", "nobodyhere", "one", "id"]);
    assert!(error.contains("nobodyhere"), "{error}");
}

/// What the container made of its files can neither hold the tool up nor lead it out.
#[test]
fn a_hostile_container_gains_nothing() {
    let bryo = waiting(&[]);
    let secret = bryo.scratch("secret");
    fs::write(&secret, "evil:x:0:0::/:\n").unwrap();
    for hostile in [
        "mkfifo /etc/passwd".to_string(),
        format!("ln -s {} /etc/passwd", secret.display()),
        "ln -s /proc/self/fd/0 /etc/passwd".into(),
        "mkdir /etc/passwd".into(),
        "dd if=/dev/zero of=/etc/passwd bs=1M count=3 2> /dev/null".into(),
    ] {
        sh(&bryo, &format!("rm -rf /etc/passwd; {hostile}"));
        let error = bryo.fails(1, ["exec", "-u", "evil", "one", "id"]);
        assert!(error.contains("evil"), "{hostile}: {error}");
        assert_eq!(
            bryo.ok(["exec", "-u", "0", "one", "echo", "in"]),
            "in\n",
            "{hostile}"
        );
    }
    // CVE-2019-5736: our own program, itself or as an interpreter.
    sh(
        &bryo,
        "printf '#!/proc/self/exe\\n' > /script; chmod +x /script; ln -s /proc/self/exe /link",
    );
    for program in ["/proc/self/exe", "/script", "/link"] {
        let error = bryo.fails(126, ["exec", "one", program]);
        assert!(error.contains("Permission denied"), "{error}");
    }
    // CVE-2024-21626: a directory that one of our descriptors shows.
    for n in 3..12 {
        let directory = format!("/proc/self/fd/{n}");
        let done = bryo.run(["exec", "-w", &directory, "one", "pwd"]);
        // Most are not there.
        assert!(matches!(done.status.code(), Some(125 | 127)), "{done}");
        assert!(done.stderr.contains("enter the directory"), "{done}");
    }
}

/// CVE-2019-5736: a path can be swapped for /proc/self/exe after it was looked at, so what can be got hold of by that must
/// be nothing that anybody can write to.
#[test]
fn the_tool_enters_by_a_way_to_itself_that_nobody_can_write_through() {
    let bryo = waiting(&[]);
    // One that the user may write to.
    let own = bryo.dir().join("own-bryo");
    assert!(copy_program(bryo.command(["exec"]).get_program(), &own));
    let mut tool = bryo.command_of(&own, ["exec", "one", "sh", "-c", "echo $$; exec sleep 1000"]);
    let mut tool = tool.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tool.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let executed = fs::read_link(format!("/proc/{}/exe", tool.id())).unwrap();
    assert_eq!(
        executed.to_str(),
        Some("/"),
        "the root of a mount that is nowhere"
    );
    let held = fs::File::open(format!("/proc/{}/exe", tool.id())).unwrap();
    tool.kill().unwrap();
    tool.wait().unwrap();
    // While something executes it that would be ETXTBSY: with one id the helper, too, as long as there is the command.
    sh(&bryo, &format!("kill -9 {}", line.trim_end()));
    let write = || {
        let mut file = fs::File::options();
        let file = file
            .write(true)
            .open(format!("/proc/self/fd/{}", held.as_raw_fd()));
        file.unwrap_err().raw_os_error()
    };
    until("the end of all that execute it", || {
        write() != Some(nix::errno::Errno::ETXTBSY as i32)
    });
    assert_eq!(write(), Some(nix::errno::Errno::EROFS as i32));
    fs::File::options().write(true).open(&own).unwrap();
    // Who looks from inside, at any moment, sees no other file of ours.
    sh(
        &bryo,
        "(while :; do for p in /proc/[0-9]*; do readlink $p/exe; done; done) > /seen 2> /dev/null & echo",
    );
    for _ in 0..10 {
        let done = Done::of(&mut bryo.command_of(&own, ["exec", "one", "true"]));
        assert!(done.status.success(), "{done}");
    }
    let seen = sh(&bryo, "sort -u /seen");
    assert!(seen.contains("/bin/busybox"), "{seen}");
    assert!(!seen.contains("own-bryo"), "{seen}");
    tool.kill().unwrap();
    tool.wait().unwrap();
}

/// Where its file has no name there is no mount of it: then it is a sealed copy in memory.
#[test]
fn a_tool_without_a_name_enters_as_a_sealed_copy() {
    let bryo = waiting(&[]);
    let program = bryo.command(["exec"]).get_program().to_owned();
    let unnamed = r#"cp "$1" "$2" && exec 9< "$2" && rm "$2" && exec /proc/self/fd/9 exec one sh -c 'echo ready; sleep 1000'"#;
    let copy = bryo.dir().join("unnamed");
    let words = [
        "-c".as_ref(),
        unnamed.as_ref(),
        "sh".as_ref(),
        program.as_os_str(),
        copy.as_os_str(),
    ];
    let mut shell = bryo.command_of("sh", words);
    let mut tool = shell.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tool.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let own = fs::read_link(format!("/proc/{}/exe", tool.id())).unwrap();
    assert_eq!(own.to_str(), Some("/memfd:bryo (deleted)"));
    tool.kill().unwrap();
    tool.wait().unwrap();
}

#[test]
fn its_end_is_told() {
    let bryo = waiting(&[]);
    assert_eq!(
        bryo.run(["exec", "one", "sh", "-c", "exit 7"]).status.code(),
        Some(7)
    );
    assert_eq!(
        bryo.run(["exec", "one", "sh", "-c", "kill -9 $$"]).status.code(),
        Some(137)
    );
    assert_eq!(
        bryo.fails(127, ["exec", "one", "nothere"]),
        "bryo: exec nothere: executable file not found in $PATH of the container\n"
    );
    assert!(
        bryo.fails(126, ["exec", "one", "/etc"])
            .contains("Permission denied")
    );
    assert_eq!(
        bryo.fails(1, ["exec", "two", "true"]),
        "bryo: No such container: two\n"
    );
    // Whatever it leaves running holds nobody up.
    assert_eq!(sh(&bryo, "sleep 1000 & echo left"), "left\n");
    // Nor if it writes without end to somebody who reads slowly: what was written by then is shown.
    let mut tool = bryo.command(["exec", "one", "sh", "-c", "yes & sleep 0.2"]);
    let mut tool = tool.stdout(Stdio::piped()).spawn().unwrap();
    let mut slow = tool.stdout.take().unwrap();
    while slow.read(&mut [0; 1 << 16]).unwrap() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(tool.wait().unwrap().success());
    bryo.ok(["stop", "-t", "0", "one"]);
    assert_eq!(
        bryo.fails(1, ["exec", "one", "true"]),
        "bryo: container one is not running\n"
    );
}

#[test]
fn its_streams_are_carried() {
    let bryo = waiting(&[]);
    let mut tool = bryo.command(["exec", "-i", "one", "sh", "-c", "cat; echo err >&2"]);
    tool.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tool = tool.spawn().unwrap();
    let sent: Vec<u8> = (0..500_000u32).map(|n| (n % 251) as u8).collect();
    let mut input = tool.stdin.take().unwrap();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = tool.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.stdout == expected && output.stderr == b"err\n" && output.status.success());
    // Without -i there is no input.
    let mut tool = bryo.command(["exec", "one", "cat"]);
    assert_eq!(Done::of(tool.stdin(Stdio::piped())).stdout, "");
    // Nothing of it is in the container's log.
    assert_eq!(bryo.ok(["logs", "one"]), "");
}

#[test]
fn a_terminal_is_one_of_the_container() {
    let bryo = waiting(&[]);
    let shown = Done::of(&mut on_terminal(&bryo.command([
        "exec",
        "-it",
        "one",
        "sh",
        "-c",
        "tty; echo $TERM; test -t 0 -a -t 1 && echo all",
    ])));
    for line in ["/dev/pts/0\r\n", "xterm\r\n", "all\r\n"] {
        assert!(shown.stdout.contains(line), "{shown}");
    }
    let mut tool = bryo.command(["exec", "-it", "one", "true"]);
    let done = Done::of(tool.stdin(Stdio::null()));
    assert!(done.stderr.contains("the input device is not a TTY"), "{done}");
}

#[test]
fn signals_reach_it_and_the_end_of_the_container_too() {
    let bryo = waiting(&[]);
    let run = |script: &str| {
        let mut tool = bryo.command(["exec", "one", "sh", "-c", script]);
        let mut tool = tool.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        (Pid::from_raw(tool.id().cast_signed()), tool, lines)
    };
    let (pid, mut tool, mut lines) =
        run("trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    assert_eq!(tool.wait().unwrap().code(), Some(5));
    let (_, mut tool, _lines) = run("echo ready; sleep 1000");
    kill(process(&bryo, "one", "Pid"), Signal::SIGKILL).unwrap();
    assert_eq!(tool.wait().unwrap().code(), Some(137));
}

#[test]
fn one_that_is_left_alone_goes_on() {
    let bryo = waiting(&[]);
    let shown = bryo.ok([
        "exec",
        "-d",
        "one",
        "sh",
        "-c",
        "echo unseen; sleep 0.3; echo done > /done; sleep 1000",
    ]);
    assert_eq!(shown, "");
    until("its work", || {
        bryo.run(["exec", "one", "cat", "/done"]).stdout == "done\n"
    });
    assert!(sh(&bryo, "ps").contains("sleep 1000"));
    // A terminal, too, that nobody reads.
    bryo.ok([
        "exec",
        "-dt",
        "one",
        "sh",
        "-c",
        "test -t 1 && echo yes > /terminal; sleep 1000",
    ]);
    until("its work", || {
        bryo.run(["exec", "one", "cat", "/terminal"]).stdout == "yes\n"
    });
    assert_eq!(
        bryo.fails(127, ["exec", "-d", "one", "nothere"]).lines().count(),
        1
    );
}

/// Pid 1 is then of our program, and nobody can enter by it.
#[test]
fn a_container_with_an_init_can_be_entered() {
    let bryo = waiting(&["--init", "--group-add", "44"]);
    let shown = sh(
        &bryo,
        "readlink /proc/self/ns/mnt; readlink /proc/2/ns/mnt; hostname",
    );
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], lines[1]);
    if has_id_range() {
        assert_eq!(bryo.ok(["exec", "-u", "root", "one", "id", "-G"]), "0 44\n");
    }
    bryo.ok(["stop", "-t", "0", "one"]);
}

/// Until the command runs, the tool can be given up, and takes along what it began.
#[test]
fn a_tool_that_cannot_come_in_can_be_ended() {
    let bryo = waiting(&[]);
    sh(&bryo, "mkfifo /fifo; chmod +x /fifo");
    let error = bryo.fails(126, ["exec", "one", "/fifo"]);
    assert!(error.contains("Permission denied"), "{error}");
    // Stopped before its exec, as a hostile container may do with it.
    sh(
        &bryo,
        "(while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p -lt $$ ] || kill -STOP $p; done; done) 2> /dev/null & echo",
    );
    let mut stuck = Vec::new();
    for _ in 0..5 {
        let mut tool = bryo.command(["exec", "one", "true"]);
        stuck.push(tool.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }
    std::thread::sleep(Duration::from_millis(300));
    for tool in &mut stuck {
        // Either end is one: by the signal, or because the command was done.
        let _ = kill(Pid::from_raw(tool.id().cast_signed()), Signal::SIGTERM);
        let _ = kill(Pid::from_raw(tool.id().cast_signed()), Signal::SIGCONT);
    }
    bryo.ok(["rm", "-f", "one"]);
    for tool in &mut stuck {
        tool.wait().unwrap();
    }
}

/// Who answers for the filesystem may die under it as under init.
#[test]
fn it_does_not_notice_the_death_of_the_server() {
    let bryo = waiting(&[]);
    let mut tool = bryo.command([
        "exec",
        "one",
        "sh",
        "-c",
        "n=0; while [ $n -lt 300 ]; do n=$((n + 1)); echo $n > /n.new && mv /n.new /n || exit 9; done",
    ]);
    let mut tool = tool.spawn().unwrap();
    for _ in 0..5 {
        let dead = process(&bryo, "one", "FilesystemPid");
        kill(dead, Signal::SIGKILL).unwrap();
        until("a successor", || process(&bryo, "one", "FilesystemPid") != dead);
    }
    assert!(tool.wait().unwrap().success());
    assert_eq!(sh(&bryo, "cat /n"), "300\n");
}
