//! What is around the tree that keeps owners: volumes, which do not, and who listens.

use std::fs;

use nix::sys::signal::{Signal, kill};

use super::common::sandbox::{filtered, within};
use super::common::{Bryo, Done, Project, has_id_range, until};
use super::helper;

/// With one id nothing is done, and nobody is told so: who prepares a directory for another user goes on.
#[test]
fn in_volumes_owners_are_taken_without_a_word() {
    let project = Project::new();
    project.build(
        "FROM base\nRUN mkdir /data && touch /data/file\nVOLUME /data\n",
        &[],
    );
    let bryo = &project.bryo;
    let run = |flags: &[&str], script: &str| {
        let words = [&["run", "--rm"], flags, &["made", "sh", "-c", script]].concat();
        Done::of(&mut bryo.command(words))
    };
    let script =
        "set -e; chown -R 33:44 /data; chown 5 /named /named/new; stat -c %u:%g /data /data/file /named/new";
    let done = run(&["-v", "vol:/named"], &format!("touch /named/new; {script}"));
    let expected = match has_id_range() {
        true => "33:44\n33:44\n5:0\n",
        false => "0:0\n0:0\n0:0\n",
    };
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        (expected, ""),
        "{done}"
    );
    let part = "type=volume,src=vol,dst=/part,volume-subpath=sub";
    run(&["-v", "vol:/named"], "mkdir /named/sub");
    assert!(run(&["--mount", part], "chown 7 /part").status.success());
    for (flags, why) in [
        (&["-v", "vol:/named:ro"][..], "Read-only file system"),
        (&["-v", "vol:/named", "--cap-drop", "CHOWN"], "not permitted"),
    ] {
        let done = run(flags, "chown 33 /named/sub");
        assert!(
            !done.status.success() && done.stderr.contains(why),
            "{flags:?}: {done}"
        );
    }
    // What is the user's own the user is told of.
    let directory = bryo.scratch("own/volumes");
    fs::create_dir_all(&directory).unwrap();
    let bind = format!("{}:/bind", directory.display());
    let done = run(&["-v", &bind], "chown 33 /bind");
    assert_eq!(done.status.success(), has_id_range(), "{done}");
    if has_id_range() {
        run(&["-v", &bind], "chown 0 /bind");
    }
}

/// One that waits for what never answers: nothing but SIGKILL ends it.
#[test]
fn a_helper_ends_with_its_container_whatever_it_does() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "until [ -e /done ]; do sleep 0.1; done; echo last > /written; exit 3";
    bryo.ok(["run", "-d", "--name", "box", &image, "sh", "-c", script]);
    let Some(helper) = helper(&bryo, "box") else {
        assert!(has_id_range(), "nobody helps");
        return;
    };
    kill(helper, Signal::SIGSTOP).unwrap();
    bryo.ok(["exec", "box", "touch", "/done"]);
    assert_eq!(bryo.ok(["wait", "box"]), "3\n");
    until("the helper's end", || kill(helper, None).is_err());
    assert!(bryo.ok(["diff", "box"]).contains("A /written"));
}

#[test]
fn where_nobody_may_listen_containers_run_all_the_same() {
    let (bryo, image) = Bryo::with_image("busybox");
    // seccomp(2) with SECCOMP_FILTER_FLAG_NEW_LISTENER answers EINVAL.
    let filter = filtered(
        "(0x20, 0, 0, 0), (0x15, 0, 3, 317), (0x20, 0, 0, 24), (0x45, 0, 1, 8), (0x06, 0, 0, 0x50016),\
         (0x06, 0, 0, 0x7fff0000)",
    );
    let script = "touch /f; chown 33 /f && echo fine";
    let words = ["run", "--rm", &image, "sh", "-c", script];
    let done = Done::of(&mut within(&["python3", "-c", &filter], &bryo.command(words)));
    // Under a filter of a user's own, newuidmap gives no range either.
    assert!(
        done.stderr.contains("lets nobody listen here: Invalid argument") && done.status.code() == Some(1),
        "{done}"
    );
    assert!(
        done.stderr.contains("chown: /f: Invalid argument"),
        "it ran: {done}"
    );
}
