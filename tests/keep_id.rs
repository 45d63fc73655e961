//! Containers in which the caller is who they are outside: `--userns keep-id`.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use common::{Bryo, Done, Podman, Project, field, has_id_range};
use nix::unistd::{User, getgid, getuid};

fn script<'a>(image: &'a str, flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [
        &["run", "--rm", "--userns", "keep-id"],
        flags,
        &[image, "sh", "-ec", script],
    ]
    .concat()
}

#[test]
fn the_caller_is_itself() {
    let (bryo, image) = Bryo::with_image("busybox");
    let (uid, gid) = (getuid(), getgid());
    let found = bryo.ok(script(&image, &[], "id -u; id -g; cat /proc/self/uid_map"));
    let mut lines = found.lines();
    assert_eq!(lines.next(), Some(uid.to_string().as_str()), "{found}");
    assert_eq!(lines.next(), Some(gid.to_string().as_str()), "{found}");
    let map: Vec<Vec<u32>> = lines
        .map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect())
        .collect();
    assert!(map.contains(&vec![uid.as_raw(), uid.as_raw(), 1]), "{map:?}");
    assert_eq!(map.len(), if has_id_range() { 3 } else { 1 }, "{map:?}");
    // Files are whose they are, on both sides.
    let shared = bryo.scratch("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("mine"), "x").unwrap();
    let bind = format!("{}:/shared", shared.display());
    let found = bryo.ok(script(
        &image,
        &["-v", &bind],
        "stat -c %u:%g /shared/mine; echo y > /shared/made; rm /shared/mine",
    ));
    assert_eq!(found, format!("{uid}:{gid}\n"));
    let made = fs::metadata(shared.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (uid.as_raw(), gid.as_raw()));
    assert!(!shared.join("mine").exists());
}

/// The lines are podman's, where the image has neither the name nor the number.
#[test]
fn the_callers_name_is_known() {
    let project = Project::new();
    let bryo = &project.bryo;
    let user = User::from_uid(getuid()).unwrap().unwrap();
    let home = user.dir.to_str().unwrap();
    let (name, id, group) = (&user.name, getuid(), getgid());
    let build = |file: &str, dockerfile: &str| {
        project.build(dockerfile, &[]);
        bryo.ok(["tag", "made", file]);
    };
    build("localhost/plain:1", "FROM base\n");
    build(
        "localhost/open:1",
        "FROM base\nRUN printf '%s' \"$(cat /etc/passwd)\" > /p; mv /p /etc/passwd\n",
    );
    build(
        "localhost/named:1",
        &format!(
            "FROM base\nRUN echo {name}:x:7:7::/its:/bin/sh >> /etc/passwd; echo {name}:x:7: >> /etc/group\n"
        ),
    );
    build(
        "localhost/numbered:1",
        &format!(
            "FROM base\nRUN echo other:x:{id}:7::/its:/bin/sh >> /etc/passwd; echo other:x:{group}: >> /etc/group\n"
        ),
    );
    build("localhost/worked:1", "FROM base\nWORKDIR /work\n");
    let script =
        "cat /etc/passwd /etc/group; echo; stat -c '%a %u:%g' /etc/passwd; id -un; id -gn; echo $HOME";
    let podman = has_id_range().then(|| {
        let archive = bryo.scratch("archive");
        let archive = archive.to_str().unwrap();
        let images =
            ["plain", "open", "named", "numbered", "worked"].map(|image| format!("localhost/{image}:1"));
        let images = images.iter().map(String::as_str);
        bryo.ok(["save", "-o", archive].into_iter().chain(images));
        let podman = Podman::beside(bryo);
        let done = Done::of(podman.command().args(["load", "-q", "-i", archive]));
        assert!(done.status.success(), "{done}");
        podman
    });
    for (flags, image) in [
        ("", "plain"),
        ("", "numbered"),
        ("", "worked"),
        ("-w /tmp", "plain"),
        ("--tmpfs /home", "plain"),
        ("--read-only", "plain"),
        ("-e HOME=/x", "plain"),
    ] {
        let image = format!("localhost/{image}:1");
        let flags: Vec<&str> = ["--userns", "keep-id"]
            .into_iter()
            .chain(flags.split_whitespace())
            .collect();
        let words = [&flags[..], &[image.as_str(), "sh", "-c", script]].concat();
        let own = bryo.run(["run", "--rm", "--network", "host"].iter().chain(&words));
        if let Some(podman) = &podman {
            let peer = Done::of(&mut podman.run(&words));
            assert_eq!(
                (own.stdout, own.status.code()),
                (peer.stdout, peer.status.code()),
                "{words:?}: {}{}",
                own.stderr,
                peer.stderr
            );
        } else {
            assert!(own.status.success(), "{own}");
        }
    }
    let all = bryo.ok([
        "run",
        "--rm",
        "--userns",
        "keep-id",
        "--tmpfs",
        "/home",
        "localhost/plain:1",
        "sh",
        "-c",
        script,
    ]);
    let gecos = user.gecos.to_str().unwrap();
    assert!(
        all.contains(&format!("\n{name}:*:{id}:{group}:{gecos}:{home}:/bin/sh\n")),
        "{all}"
    );
    assert!(all.contains(&format!("\n{name}:x:{group}:{name}\n")), "{all}");
    assert!(all.ends_with(&format!("\n{name}\n{name}\n{home}\n")), "{all}");
    // podman has an empty home there, and a group called by its number.
    let named = bryo.ok([
        "run",
        "--rm",
        "--userns",
        "keep-id",
        "localhost/named:1",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(named.matches(&format!("\n{name}:")).count(), 2, "{named}");
    assert!(named.ends_with(&format!("\n{id}\n{group}\n/\n")), "{named}");
    // podman writes on where the last line has no end, and neither user has a name then.
    let keep = ["run", "--rm", "--userns", "keep-id", "localhost/open:1"];
    let last = bryo.ok(keep.iter().chain(&["tail", "-n", "2", "/etc/passwd"]));
    assert!(
        last.starts_with("user:x:")
            && last.ends_with(&format!("\n{name}:*:{id}:{group}:{gecos}:/:/bin/sh\n")),
        "{last}"
    );
    // It is the container's own, who may change it; and nobody's else.
    bryo.ok([
        "run",
        "--name",
        "one",
        "--userns",
        "keep-id",
        "localhost/plain:1",
        "true",
    ]);
    assert_eq!(
        bryo.ok(["diff", "one"])
            .lines()
            .filter(|line| line.contains("/etc"))
            .collect::<Vec<_>>(),
        ["C /etc", "C /etc/group", "C /etc/passwd"]
    );
    bryo.ok(["start", "-a", "one"]);
    let count = bryo.ok(["cp", "one:/etc/passwd", "-"]);
    assert_eq!(count.matches(&format!("\n{name}:")).count(), 1, "{count}");
    let other = bryo.ok([
        "run",
        "--rm",
        "--userns",
        "keep-id:uid=77,gid=78",
        "localhost/plain:1",
        "sh",
        "-c",
        "id -un; id -gn",
    ]);
    assert_eq!(other, format!("{name}\n{name}\n"));
    let other = bryo.ok([
        "run",
        "--rm",
        "--userns",
        "keep-id:uid=0,gid=0",
        "localhost/plain:1",
        "cat",
        "/etc/passwd",
    ]);
    assert!(!other.contains(name.as_str()), "{other}");
}

#[test]
fn it_lives_on_as_others_do() {
    let (bryo, image) = Bryo::with_image("busybox");
    let own = format!("{}:{}", getuid(), getgid());
    let run = "run -d --name one --userns keep-id -v data:/data -w /home/new";
    let words: Vec<&str> = run.split(' ').chain([image.as_str(), "sleep", "1000"]).collect();
    bryo.ok(&words);
    let told = "{{.HostConfig.UsernsMode}} {{.Config.User}}";
    assert_eq!(field(&bryo, "one", told), format!("keep-id {own}"));
    let exec = |script: &str| bryo.ok(["exec", "one", "sh", "-ec", script]);
    assert_eq!(exec("echo $(id -u):$(id -g)"), own.clone() + "\n");
    // The volume is its own to write to, as a directory of the host's would be.
    exec("echo here > /data/file");
    let file = bryo.scratch("file");
    fs::write(&file, "of the host\n").unwrap();
    bryo.ok(["cp", file.to_str().unwrap(), "one:/tmp/copied"]);
    assert_eq!(exec("cat /tmp/copied"), "of the host\n");
    bryo.ok(["cp", "one:/data/file", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "here\n");
    bryo.ok(["stop", "-t0", "one"]);
    bryo.ok(["cp", "one:/data/file", file.to_str().unwrap()]);
    bryo.ok(["start", "one"]);
    assert_eq!(
        exec("cat /data/file; echo $(id -u):$(id -g)"),
        format!("here\n{own}\n")
    );
    bryo.ok(["rm", "-f", "-v", "one"]);
    bryo.ok(["volume", "rm", "data"]);
}

#[test]
fn others_are_there_where_there_is_a_range() {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut root = script(&image, &["--user", "0"], "id -u");
    if !has_id_range() {
        let error = bryo.fails(125, &root);
        assert!(
            error.contains("user 0 does not exist in the container"),
            "{error}"
        );
        assert!(error.contains("/etc/subuid"), "{error}");
        // What is the image's is the caller's, who is all that there is.
        let found = bryo.ok(script(
            &image,
            &[],
            "stat -c %u / /bin/busybox; echo x > /made; stat -c %u /made",
        ));
        let own = getuid().to_string();
        assert!(
            found.lines().count() == 3 && found.lines().all(|line| line == own),
            "{found}"
        );
        return;
    }
    assert_eq!(bryo.ok(&root), "0\n");
    root = script(
        &image,
        &["-w", "/new"],
        "stat -c %u / /bin/busybox /dev /dev/shm /new; touch /made 2>&1 || true",
    );
    let found = bryo.ok(&root);
    assert!(found.starts_with("0\n0\n0\n0\n0\n"), "{found}");
    assert!(found.contains("Permission denied"), "{found}");
    // A volume is filled with the image's owners, by the numbers that they have in there.
    let words = script(&image, &["-v", "filled:/etc"], "stat -c %u:%g /etc/passwd");
    assert_eq!(bryo.ok(words), "0:0\n");
    let shared = bryo.scratch("shared");
    fs::create_dir(&shared).unwrap();
    let bind = format!("{}:/shared", shared.display());
    bryo.ok(script(
        &image,
        &["--user", "0", "-v", &bind],
        "touch /shared/made; chown 33:33 /shared/made",
    ));
    let made = fs::metadata(shared.join("made")).unwrap();
    assert!(made.uid() > 33 && made.uid() != getuid().as_raw());
    bryo.ok(script(&image, &["--user", "0", "-v", &bind], "rm /shared/made"));
}

#[test]
fn as_another() {
    let (bryo, image) = Bryo::with_image("busybox");
    let run = |flag: &str| {
        let script = "stat -c %u:%g /shared; id -u; id -g";
        let bind = format!("{}:/shared", bryo.dir().display());
        bryo.ok([
            "run", "--rm", "--userns", flag, "-v", &bind, &image, "sh", "-ec", script,
        ])
    };
    assert_eq!(run("keep-id:uid=5,gid=6"), "5:6\n5\n6\n");
    assert_eq!(run("keep-id:uid=0,gid=0"), "0:0\n0\n0\n");
    for flag in ["keep-id:uid=x", "auto", "nomap", "container:x"] {
        bryo.fails(125, ["run", "--userns", flag, &image, "true"]);
    }
    // Of other ids is another user namespace, in which the first one's are not.
    bryo.ok(["run", "-d", "--name", "one", &image, "sleep", "1000"]);
    let words = [
        "run",
        "--userns",
        "keep-id",
        "--pid",
        "container:one",
        &image,
        "true",
    ];
    let error = bryo.fails(125, words);
    assert!(error.contains("belongs to a container of other ids"), "{error}");
}
