//! What does `run` say where the machine lacks something? One line with cause and remedy, and the store stays whole.
//! The lack is made around the tool as an ordinary user can: in a namespace of the test's own, or by a sandbox.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use common::sandbox::{filtered, sandbox, within};
use common::{Bryo, Done, copy_program, has_id_range, on_terminal};

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

/// Fails to run a container within `wrapper`, with one line that has all of `words`; nothing of it stays.
#[track_caller]
fn fails_within(wrapper: &[&str], words: &[&str]) {
    let (bryo, image) = busybox();
    let done = Done::of(&mut within(
        wrapper,
        &bryo.command(["run", "--rm", "--network", "none", &image, "true"]),
    ));
    assert_eq!(done.status.code(), Some(125), "{done}");
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
    for word in words {
        assert!(done.stderr.contains(word), "{word} is missing: {done}");
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
    bryo.ok(["store", "check"]);
    bryo.sh(&image, "true");
}

/// In a user namespace of its own, after this shell script.
#[track_caller]
fn fails_after(script: &str, words: &[&str]) {
    let script = format!("{script} && \"$@\"");
    fails_within(&["unshare", "-Urm", "sh", "-c", &script, "sh"], words);
}

#[test]
fn without_fuse() {
    fails_after("mount -t tmpfs none /dev && touch /dev/null", &["/dev/fuse"]);
}

#[test]
fn without_user_namespaces() {
    let off = "echo 0 > /proc/sys/user/max_user_namespaces";
    fails_after(off, &["switched off", "sysctl -w user.max_user_namespaces="]);
}

/// The limit is named, not what would help against a prohibition.
#[test]
fn without_a_user_namespace_more() {
    // The one that is allowed is another's already.
    let script = "echo 1 > /proc/sys/user/max_user_namespaces && { unshare -U sleep 60 & } && trap \"kill $!\" EXIT \
         && until [ $(readlink /proc/$!/ns/user) != $(readlink /proc/$$/ns/user) ]; do sleep 0.01; done";
    fails_after(script, &["the limit user.max_user_namespaces is reached"]);
}

/// As where a security module gives user namespaces without capabilities: the mount namespace is refused. For users with
/// an id range, whose ids newuidmap maps, that is the first call to need one.
#[test]
fn without_capabilities_in_user_namespaces() {
    // unshare(CLONE_NEWNS) answers EPERM, by a seccomp filter.
    let filter = filtered(
        "(0x20, 0, 0, 0), (0x15, 0, 3, 272), (0x20, 0, 0, 16), (0x45, 0, 1, 0x20000),\
         (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)",
    );
    let words = ["mount namespace", "Operation not permitted", "must allow unshare"];
    fails_within(&["python3", "-c", &filter], &words);
}

/// The same for users without a range, who write their maps themselves: AppArmor refuses the file.
#[test]
fn without_the_right_to_map_ones_own_id() {
    // Landlock refuses to write to files outside /dev, /tmp and what the user has.
    let landlock = sandbox(
        "rules = call(444, struct.pack('Q', 2), 8, 0)\n\
         for path in ['/dev', '/tmp', '/var/tmp', '/home']:\n\
         \x20   place = os.open(path, os.O_PATH)\n\
         \x20   call(445, rules, 1, struct.pack('=Qi', 2, place), 0)\n\
         call(446, rules, 0)",
    );
    let words = ["/proc/self/setgroups", "Permission denied", "must allow unshare"];
    fails_within(
        &["env", "PATH=/nowhere", "/usr/bin/python3", "-c", &landlock],
        &words,
    );
}

/// `run` says it to a person, `info` always.
#[test]
fn one_id_only_is_said() {
    let (bryo, image) = busybox();
    let remedy = if has_id_range() {
        "uidmap"
    } else {
        "usermod --add-subuids"
    };
    let path = "/nowhere";
    for (flags, code) in [(&["--rm"][..], 3), (&["--rm", "-d"], 0)] {
        let mut words = vec!["run"];
        words.extend(flags);
        words.extend([&image, "/bin/sh", "-c", "exit 3"]);
        let done = Done::of(&mut on_terminal(bryo.command(words).env("PATH", path)));
        assert_eq!(done.status.code(), Some(code), "{done}");
        let said = done.stdout.lines().filter(|line| line.contains(remedy)).count();
        assert_eq!(said, 1, "{done}");
    }
    let info = |flags: &[&str]| {
        let words = ["info"].iter().chain(flags);
        Done::of(bryo.command(words).env("PATH", path)).stdout
    };
    assert!(info(&[]).contains(remedy), "{}", info(&[]));
    let warnings = info(&["-f", "{{index .Warnings 0}}"]);
    assert!(warnings.contains(remedy), "{warnings}");
    // Who has all is told nothing.
    if has_id_range() {
        let done = Done::of(&mut on_terminal(
            &bryo.command(["run", "--rm", &image, "echo", "hi"]),
        ));
        assert_eq!(done.stdout, "hi\r\n", "{done}");
        assert_eq!(bryo.ok(["info", "-f", "{{len .Warnings}}"]), "0\n");
    }
}

#[test]
fn without_id_tools_there_is_one_id() {
    let (bryo, image) = busybox();
    let run = |flags: &[&str], command: &str| {
        let mut words = vec!["run", "--rm"];
        words.extend(flags);
        words.extend([&image, "/bin/sh", "-c", command]);
        Done::of(bryo.command(words).env("PATH", "/nowhere"))
    };
    let done = run(&[], "cat /proc/self/uid_map | wc -l; id -u");
    // Nobody asked for more, and scripts compare what is written.
    assert_eq!((&*done.stdout, &*done.stderr), ("1\n0\n", ""), "{done}");
    let done = run(&["-u", "1234"], "id -u");
    assert_eq!((done.status.code(), &*done.stdout), (Some(125), ""), "{done}");
    let remedy = if has_id_range() {
        "uidmap"
    } else {
        "usermod --add-subuids"
    };
    assert!(
        done.stderr.contains(remedy) && done.stderr.lines().count() == 1,
        "{done}"
    );
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

/// A PATH on which both are this script. It ends in running the real one.
fn with_id_tools(bryo: &Bryo, lines: &str) -> String {
    let tools = bryo.scratch("tools");
    std::fs::create_dir(&tools).unwrap();
    for tool in ["newuidmap", "newgidmap"] {
        let script = bryo.scratch(tool);
        std::fs::write(
            &script,
            format!("#!/bin/sh\n{lines}\nexec /usr/bin/{tool} \"$@\"\n"),
        )
        .unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert!(copy_program(&script, tools.join(tool)));
    }
    format!("{}:{}", tools.display(), std::env::var("PATH").unwrap())
}

/// How many ids the container has is a line of its map.
const MAPPED: [&str; 2] = ["grep", "65536"];

#[test]
fn the_tool_has_ids_mapped_while_it_makes_the_container() {
    if !has_id_range() {
        return;
    }
    let (bryo, image) = busybox();
    let log = bryo.scratch("log");
    let path = with_id_tools(&bryo, &format!("cat /proc/$PPID/comm >> {}", log.display()));
    let run = |words: &[&str]| {
        let done = Done::of(bryo.command(words).env("PATH", &path));
        assert_eq!(done.status.code(), Some(0), "{done}");
    };
    let who = || std::fs::read_to_string(&log).unwrap_or_default();
    run(&["create", "--name", "made", &image, "true"]);
    assert_eq!(who(), "", "nothing is begun for what may never start");
    run(&["run", "--rm", &image, MAPPED[0], MAPPED[1], "/proc/self/uid_map"]);
    assert_eq!(who().lines().count(), 2, "{}", who());
    assert!(!who().contains("supervisor"), "{}", who());
    run(&["run", "-d", "--name", "up", &image, "sleep", "1000"]);
    run(&["run", "--rm", &image, MAPPED[0], MAPPED[1], "/proc/self/uid_map"]);
    assert_eq!(
        who().lines().count(),
        4,
        "the second joins the first's: {}",
        who()
    );
    bryo.ok(["rm", "-f", "up"]);
}

#[test]
fn who_maps_ids_ahead_may_be_killed() {
    if !has_id_range() {
        return;
    }
    let (bryo, image) = busybox();
    let once = bryo.scratch("once");
    let path = with_id_tools(
        &bryo,
        &format!("mkdir {} 2> /dev/null && kill -9 $PPID", once.display()),
    );
    let command = ["run", "--rm", &image, MAPPED[0], MAPPED[1], "/proc/self/uid_map"];
    let done = Done::of(bryo.command(command).env("PATH", &path));
    assert_eq!((done.status.code(), &*done.stderr), (Some(0), ""), "{done}");
    assert!(once.is_dir());
    // Nothing of it is left that others would wait for.
    let again = Done::of(bryo.command(command).env("PATH", &path));
    assert_eq!(again.status.code(), Some(0), "{again}");
}

#[test]
fn id_tools_that_fail_leave_one_id_and_a_warning() {
    let (bryo, image) = busybox();
    let path = with_id_tools(&bryo, "echo not today >&2; exit 1");
    let command = ["run", "--rm", "--group-add", "7", &image, "id", "-u"];
    let done = Done::of(bryo.command(command).env("PATH", path));
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "0\n"),
        "{done}"
    );
    let why = if has_id_range() {
        "not today"
    } else {
        "--group-add 7"
    };
    assert!(done.stderr.contains(why), "{done}");
}
