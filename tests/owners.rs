//! Files are given to other users, and devices are made: as the kernel has it, with an id range; by the helper, with one
//! id only. Most tests run alike for both users, so the kernel is the reference.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "owners/around.rs"]
mod around;
mod common;
#[path = "owners/errors.rs"]
mod errors;
#[path = "owners/packages.rs"]
mod packages;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Bryo, Done, Project, has_id_range, process, processes, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every entry of the topmost layer of an image: `mode uid/gid name`, with a device's numbers and a link's target.
fn layer(bryo: &Bryo, image: &str) -> Vec<String> {
    let layers = bryo.ok(["image", "inspect", "--format", "{{json .RootFS.Layers}}", image]);
    let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
    let tar = format!(
        "layers/{}.tar",
        layers.last().unwrap().trim_start_matches("sha256:")
    );
    let mut list = Command::new("tar");
    let done = Done::of(list.args(["--numeric-owner", "-tvf"]).arg(bryo.root().join(tar)));
    assert!(done.status.success(), "{done}");
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let size = if words[2].contains(',') { words[2] } else { "" };
        let [mode, owner] = [words[0], words[1]];
        format!("{mode} {owner} {} {size}", words[5..].join(" "))
            .trim_end()
            .to_owned()
    };
    // The root's own times change with its entries.
    done.stdout
        .lines()
        .map(entry)
        .filter(|entry| !entry.ends_with(" ./"))
        .collect()
}

/// Runs a script in a new container `box`, and gives what it printed and the layer that it made.
fn changed(image: &str, flags: &[&str], script: &str) -> (Bryo, String, Vec<String>) {
    let (bryo, image) = Bryo::with_image(image);
    let mut words = vec!["run", "--name", "box"];
    words.extend(flags);
    words.extend([&*image, "sh", "-ec", script]);
    let said = bryo.ok(&words);
    bryo.ok(["commit", "box", "made"]);
    let layer = layer(&bryo, "made");
    (bryo, said, layer)
}

/// The helper of the first process of a container, if it has one.
fn helper(bryo: &Bryo, name: &str) -> Option<Pid> {
    let supervisor = common::parent(process(bryo, name, "Pid"));
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    let is_helper = |pid: &&str| common::comm(pid) == "bryo-owners";
    let pid = children.split_whitespace().find(is_helper)?;
    Some(Pid::from_raw(pid.parse().unwrap()))
}

#[test]
fn a_steps_layer_has_the_owners_that_it_gave() {
    let project = Project::of("debian:12");
    let dockerfile = "FROM base
RUN mkdir -p /d/e && touch /d/e/f /a /s && chown -R 7:8 /d && chown 33:44 /a && chmod 6755 /a && ln -s a /l && chown -h 9:10 /l \\
 && chown :12 /s && chmod 2755 /s && chown 5 /s && ln /d/e/f /d/g && touch /r && chown 1:2 /r && chown 0:0 /r
RUN install -d -o 12 -g 13 -m 2750 /i && touch /i/x && mkdir /i/y && install -o daemon -g 4 -m 640 /etc/hostname /i/z
RUN chown 3 /l && chown -R 0:0 /i/y && chown root /d/e";
    project.build(dockerfile, &[]);
    for (path, owner) in [
        ("d", "7/8"),
        ("d/e", "0/8"),
        ("d/e/f", "7/8"),
        ("d/g", "7/8"),
        ("a", "3/44"),
        ("l", "9/10"),
        ("s", "5/12"),
        ("r", "0/0"),
        ("i", "12/13"),
        ("i/x", "0/13"),
        ("i/y", "0/0"),
        ("i/z", "1/4"),
    ] {
        assert_eq!(project.owner(path), owner, "{path}");
    }
    // chown takes set-id bits away; chmod after it gives them, whatever is shown inside.
    let bits = |path: &str| {
        let list = layers_entry(&project.bryo, path);
        list.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(bits("a"), "-rwxr-xr-x");
    assert_eq!(bits("s"), "-rwxr-xr-x");
    assert_eq!(bits("i"), "drwxr-s---");
    let shown = project.sh("stat -c %u:%g:%a /d /a /i");
    let expected = match has_id_range() {
        true => "7:8:755\n3:44:755\n12:13:2750\n",
        false => "0:0:755\n0:0:755\n0:0:750\n",
    };
    assert_eq!(shown, expected);
    project.is_clean();
}

/// What the kernel's own chown(2) makes of it, with an id range, is the reference: whoever builds gets that layer.
#[test]
fn a_layer_is_the_same_with_an_id_range_and_without() {
    let project = Project::new();
    let dockerfile = "FROM base
RUN mkdir -p /d/e && touch /d/e/f && chown -R 7:8 /d && touch /a && chown 33:44 /a && chmod 6755 /a && ln -s a /l && chown -h 9:10 /l";
    project.build(dockerfile, &["--timestamp", "0"]);
    let layers = project.image("made", "{{json .RootFS.Layers}}");
    let expected = "a00150f1edff946aea270b15f15bbfc2db14620aea3d8dee361590ba6ba555fb";
    assert!(layers.ends_with(&format!("sha256:{expected}\"]")), "{layers}");
}

/// A path's line in the topmost layer that has it.
fn layers_entry(bryo: &Bryo, path: &str) -> String {
    let layers = bryo.ok(["image", "inspect", "--format", "{{json .RootFS.Layers}}", "made"]);
    let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
    for layer in layers.iter().rev() {
        let tar = format!("layers/{}.tar", layer.trim_start_matches("sha256:"));
        let done = Done::of(Command::new("tar").arg("-tvf").arg(bryo.root().join(tar)));
        let found = done.stdout.lines().find(|line| {
            line.split_whitespace()
                .nth(5)
                .is_some_and(|name| name.trim_matches('/') == path)
        });
        if let Some(line) = found {
            return line.to_owned();
        }
    }
    panic!("no layer has {path}");
}

#[test]
fn a_device_is_kept_and_cannot_be_used() {
    let script = "umask 027; mkdir /dir; cd /dir
        mknod c c 1 3 && mknod -m 666 b b 7 300 && chown 5:6 b && mkfifo f && echo made
        stat -c '%F %t %T' c b 2>&1; cat c 2>&1; mknod c c 1 3 2>&1; mknod none/c c 1 3 2>&1; mv c d; ls; ln d e; rm d";
    if has_id_range() {
        // The kernel refuses, and nobody is asked.
        let (bryo, image) = Bryo::with_image("debian:12");
        let said = bryo.run(["run", "--rm", &image, "mknod", "/c", "c", "1", "3"]);
        assert!(said.stderr.contains("Operation not permitted"), "{said}");
        return;
    }
    let (bryo, said, layer) = changed("debian:12", &[], &script.replace("2>&1;", "2>&1 || true;"));
    let expected = "made
character special file 1 3
block special file 7 12c
cat: c: Permission denied
mknod: c: File exists
mknod: none/c: No such file or directory
b
d
f
";
    assert_eq!(said, expected);
    let expected = [
        "drwxr-x--- 0/0 dir/",
        "brw-rw-rw- 5/6 dir/b 7,300",
        "crw-r----- 0/0 dir/e 1,3",
        "prw-r----- 0/0 dir/f",
    ];
    assert_eq!(layer, expected);
    // Whoever may not make devices may not here.
    let image = "made";
    let done = bryo.run([
        "run",
        "--rm",
        "--cap-drop",
        "MKNOD",
        image,
        "mknod",
        "/c",
        "c",
        "1",
        "3",
    ]);
    assert!(done.stderr.contains("Operation not permitted"), "{done}");
    assert_eq!(
        bryo.sh(image, "stat -c '%F %t %T' /dir/e; rm -r /dir; echo gone"),
        "character special file 1 3\ngone\n"
    );
}

#[test]
fn what_is_not_the_images_is_the_kernels() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let directory = bryo.scratch("volume");
    fs::create_dir(&directory).unwrap();
    let volume = format!("{}:/volume", directory.display());
    let script = "touch /volume/f /dev/shm/f; mkfifo /p; for f in /volume /volume/f /dev/shm/f /proc/version /dev/null /proc/self/fd/0; do chown 33 $f 2>&1 | sed 's/.*: //'; done < /etc/passwd
        stat -c %u /etc/passwd";
    let said = bryo.ok(["run", "--rm", "-v", &volume, &image, "sh", "-c", script]);
    if has_id_range() {
        assert!(
            !said.contains("Invalid argument") && said.ends_with("33\n"),
            "{said}"
        );
    } else {
        // The link leads to a file of the image, but through /proc.
        assert_eq!(said, "Invalid argument\n".repeat(6) + "0\n");
    }
}

#[test]
fn a_caller_is_where_it_is() {
    // In a root of its own, absolute links lead into that; in a user namespace of its own, ids are others.
    let script = "mkdir -p /jail/etc /jail/usr; cp -a /usr/bin /usr/lib /usr/lib64 /usr/sbin /jail/usr
        for d in bin sbin lib lib64; do cp -a /$d /jail; done; touch /target /jail/target /loose; ln -s /target /jail/link
        chroot /jail chown 11 /link; chroot /jail chown 12 ../../../etc; cd /jail; chown 13 etc/../link
        unshare --user --map-root-user chown 5 /loose 2>&1 || true";
    let (_, said, layer) = changed("debian:12", &["--privileged"], script);
    assert!(said.contains("Invalid argument"), "{said}");
    let owner = |name: &str| {
        let line = layer.iter().find(|line| line.split(' ').nth(2) == Some(name));
        line.unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(owner("jail/target"), "11/0");
    assert_eq!(owner("jail/etc/"), "12/0");
    // From outside, the same link leads to the other.
    assert_eq!(owner("target"), "13/0");
    assert_eq!(owner("loose"), "0/0");
    assert_eq!(owner("jail/link"), "0/0");
}

#[test]
fn what_is_swapped_while_it_is_looked_for_is_one_or_the_other() {
    // A link that leads to one of two files, and now and then nowhere: whatever the call meets, nothing third is changed.
    let script = "mkdir /a /b /c; touch /a/f /b/f /c/f; ln -s a /l
        (i=0; while [ $i -lt 300 ]; do ln -sfn b /l; ln -sfn a /l; i=$((i+1)); done) & 
        n=0; while kill -0 $! 2>/dev/null; do chown 21:22 /l/f 2>/dev/null; n=$((n+1)); done; wait
        (i=0; while [ $i -lt 300 ]; do mv /a /x; mv /c /a; mv /a /c; mv /x /a; i=$((i+1)); done) &
        while kill -0 $! 2>/dev/null; do chown 23 /a/none /proc/$!/cwd/a/f /proc/$!/root/b/f 2>/dev/null || true; done; wait
        ls /a /b /c | wc -l";
    let (_, said, layer) = changed(
        "debian:12",
        &[],
        &script.replace(
            "chown 21:22 /l/f 2>/dev/null;",
            "chown 21:22 /l/f 2>/dev/null || true;",
        ),
    );
    assert_eq!(said, "8\n");
    let line = |name: &str| {
        layer
            .iter()
            .find(|line| line.split(' ').nth(2) == Some(name))
            .unwrap()
    };
    assert!(line("a/f").contains("/22 "), "{layer:?}");
    if !has_id_range() {
        // No way through what a process has open leads anywhere.
        assert!(!layer.iter().any(|line| line.contains(" 23/")), "{layer:?}");
    }
    assert!(line("c/f").contains("/0 "), "{layer:?}");
}

#[test]
fn many_at_once_and_killed_ones_are_all_right() {
    let script = "mkdir /m; cd /m; for p in 1 2 3 4 5 6 7 8; do (mkdir $p; for f in 1 2 3 4 5 6 7 8 9 10; do touch $p/$f; done; i=0; while [ $i -lt 20 ]; do chown -R $p:$i $p; i=$((i+1)); done) & done; wait
        i=0; while [ $i -lt 30 ]; do perl -e 'while (1) { chown 99, -1, \"/m\", glob(\"/m/*\") }' & sleep 0.05; kill -9 $!; wait $! 2>/dev/null || true; i=$((i+1)); done
        # One after the other: what was begun for the last of them is over.
        chown 50 /m /m/[1-8]; chown 0:0 /m; echo done";
    let (_, said, layer) = changed("debian:12", &[], script);
    assert_eq!(said, "done\n");
    let entries: Vec<&String> = layer.iter().filter(|line| line.contains(" m/")).collect();
    assert_eq!(entries.len(), 1 + 8 * 11, "{layer:?}");
    for entry in entries {
        let mut words = entry.split(' ').skip(1);
        let (owner, name) = (words.next().unwrap(), words.next().unwrap());
        let parts: Vec<&str> = name.trim_matches('/').split('/').collect();
        let expected = match parts[..] {
            [_] => "0/0".to_owned(),
            [_, _] => "50/19".to_owned(),
            _ => format!("{}/19", parts[1]),
        };
        assert_eq!(owner, expected, "{entry}");
    }
}

#[test]
fn without_the_helper_calls_fail_and_nothing_hangs() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "long",
        &image,
        "sh",
        "-c",
        "while :; do touch /f; chown 7 /f 2>/err && echo ok > /said || cat /err > /said; done",
    ]);
    let said = |what: &str| {
        until(what, || {
            bryo.run(["exec", "long", "cat", "/said"]).stdout.contains(what)
        });
    };
    said("ok");
    if has_id_range() {
        assert_eq!(helper(&bryo, "long"), None, "it would cost, and serve nothing");
    } else {
        kill(helper(&bryo, "long").unwrap(), Signal::SIGKILL).unwrap();
        said("Function not implemented");
        // What needs no helper goes on; a command of its own has another helper.
        assert_eq!(
            bryo.ok([
                "exec",
                "long",
                "sh",
                "-c",
                "chown 0 /f && touch /g && chown 8 /g && echo fine"
            ]),
            "fine\n"
        );
    }
    bryo.ok(["rm", "-f", "long"]);
}

#[test]
fn a_command_in_a_container_has_a_helper_as_long_as_it_leaves_processes() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--name", "long", &image, "sleep", "1000"]);
    let script = "touch /f /g; chown 7:8 /f; (sleep 1; chown 9 /g; touch /done) > /dev/null 2>&1 < /dev/null & echo started";
    assert_eq!(bryo.ok(["exec", "long", "sh", "-c", script]), "started\n");
    until("what it left to have worked", || {
        bryo.ok(["exec", "long", "ls", "/"]).contains("done")
    });
    bryo.ok([
        "exec",
        "-d",
        "long",
        "sh",
        "-c",
        "touch /h; chown 10 /h; touch /too",
    ]);
    until("the other to have worked", || {
        bryo.ok(["exec", "long", "ls", "/"]).contains("too")
    });
    bryo.ok(["commit", "long", "made"]);
    let layer = layer(&bryo, "made");
    for expected in ["-rw-r--r-- 7/8 f", "-rw-r--r-- 9/0 g", "-rw-r--r-- 10/0 h"] {
        assert!(layer.iter().any(|line| line == expected), "{layer:?}");
    }
    if !has_id_range() {
        let helper = helper(&bryo, "long").unwrap();
        bryo.ok(["rm", "-f", "long"]);
        // All end with their callers.
        until("its end", || {
            !Path::new(&format!("/proc/{helper}/ns")).exists()
                || fs::read_to_string(format!("/proc/{helper}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        });
        until("the end of all helpers", || {
            !processes(&bryo).iter().any(|name| name == "bryo-owners")
        });
    }
}

#[test]
fn it_stands_beside_every_filter_and_allows_nothing_that_one_refuses() {
    let (bryo, image) = Bryo::with_image("busybox");
    let profile = bryo.scratch("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chown", "fchown", "lchown", "fchownat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]}"#;
    fs::write(&profile, text).unwrap();
    let refusing = format!("seccomp={}", profile.display());
    let run = |flags: &[&str]| {
        let words = [
            &["run", "--rm"],
            flags,
            &[&*image, "sh", "-c", "touch /f; chown 33 /f 2>&1 && echo fine"],
        ]
        .concat();
        bryo.run(words).stdout
    };
    for flags in [
        &[][..],
        &["--security-opt", "seccomp=unconfined"],
        &["--privileged"],
        &["--security-opt", "no-new-privileges"],
        &["--init"],
        &[
            "--security-opt",
            "no-new-privileges",
            "--security-opt",
            "seccomp=unconfined",
        ],
    ] {
        assert_eq!(run(flags), "fine\n", "{flags:?}");
    }
    let said = run(&["--security-opt", &refusing]);
    assert!(said.contains("Cannot assign requested address"), "{said}");
    assert_eq!(
        run(&["--cap-drop", "ALL"]),
        "chown: /f: Operation not permitted\n"
    );
}

#[test]
fn owners_survive_a_killed_server() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let devices = if has_id_range() {
        "touch $i.c"
    } else {
        "mknod $i.c c 1 $((i % 200 + 1))"
    };
    let script = format!(
        "mkdir /m; cd /m; i=1; while [ $i -le 400 ]; do touch $i; chown $i:7 $i || exit 9; {devices} || exit 8; i=$((i+1)); done; touch /done; sleep 1000"
    );
    bryo.ok(["run", "-d", "--name", "long", &image, "sh", "-c", &script]);
    let mut killed = 0;
    while !bryo.ok(["diff", "long"]).contains("A /done") {
        let server = process(&bryo, "long", "FilesystemPid");
        // It may have been followed by another meanwhile.
        let _ = kill(server, Signal::SIGKILL);
        killed += 1;
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(
            bryo.ok(["inspect", "--format", "{{.State.Status}}", "long"]),
            "running\n"
        );
    }
    assert!(killed > 0);
    bryo.ok(["commit", "long", "made"]);
    bryo.ok(["rm", "-f", "long"]);
    let layer = layer(&bryo, "made");
    for i in 1..=400 {
        let file = format!("-rw-r--r-- {i}/7 m/{i}");
        assert!(layer.contains(&file), "{file}");
        if !has_id_range() {
            let device = format!("crw-r--r-- 0/0 m/{i}.c 1,{}", i % 200 + 1);
            assert!(layer.contains(&device), "{device}");
        }
    }
}

#[test]
fn only_the_privileged_speak_to_the_filesystem() {
    let (bryo, image) = Bryo::with_image("software");
    let script = r#"
import os
capable = bytes.fromhex("0100000200200000000000000000000000000000")
open("/f", "w").close()
os.setxattr("/f", "security.capability", capable)
os.chown("/f", 33, 33)
print(os.listxattr("/f"))
os.setxattr("/f", "security.capability", capable)
for name in "owner", "device":
    try: os.setxattr("/f", "security.fuse-overlay." + name, b"\0" * 24); print("done")
    except OSError as error: print(error.strerror)
print(os.listxattr("/f"))"#;
    let said = bryo.ok(["run", "--name", "box", &image, "python3", "-c", script]);
    // What chown takes away can be given back after it.
    assert_eq!(
        said,
        "[]\nOperation not permitted\nOperation not permitted\n['security.capability']\n"
    );
    bryo.ok(["commit", "box", "made"]);
    let layer = layer(&bryo, "made");
    assert!(layer.contains(&"-rw-r--r-- 33/33 f".to_owned()), "{layer:?}");
    // Not even then with a value that means nothing.
    let script = "import os; open('/f', 'w').close(); os.setxattr('/f', 'security.fuse-overlay.owner', b'x')";
    let done = bryo.run(["run", "--rm", "--privileged", &image, "python3", "-c", script]);
    assert_eq!(
        done.stderr.contains("Invalid argument"),
        !has_id_range(),
        "{done}"
    );
}
