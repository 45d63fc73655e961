//! `run` as a user types it: exit codes, streams, signals, environment, users, mounts.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use common::hostile::{Blobs, Hostile, digest, gzip};
use common::{Bryo, Done, has_id_range, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[test]
fn exit_codes_are_dockers() {
    let (bryo, image) = busybox();
    for code in [0, 1, 3, 125, 255] {
        let done = bryo.run(["run", "--rm", &image, "sh", "-c", &format!("exit {code}")]);
        assert_eq!(done.status.code(), Some(code), "{done}");
    }
    bryo.fails(127, ["run", "--rm", &image, "no-such-command"]);
    bryo.fails(127, ["run", "--rm", &image, "/no/such/file"]);
    bryo.fails(126, ["run", "--rm", &image, "/etc"]);
    bryo.fails(125, ["run", "--rm", "--no-such-flag", &image]);
    bryo.fails(125, ["run", "--rm", "--pull=never", "no-such-image"]);
    bryo.fails(125, ["run", "--rm", "-p", "80:80", &image]);
    let done = bryo.run(["run", "--rm", &image, "sh", "-c", "kill -TERM $$; sleep 9"]);
    // As pid 1 without a handler it does not get its own signal; a child does.
    assert_eq!(done.status.code(), Some(0), "{done}");
    let done = bryo.run([
        "run",
        "--rm",
        &image,
        "sh",
        "-c",
        "sh -c 'kill -KILL $$'; exit $?",
    ]);
    assert_eq!(done.status.code(), Some(137), "{done}");
    assert_eq!(bryo.ok(["ps", "-aq"]), "", "--rm leaves nothing");
}

#[test]
fn the_streams_stay_apart_and_whole() {
    let (bryo, image) = busybox();
    let done = bryo.run([
        "run",
        "--rm",
        &image,
        "sh",
        "-c",
        "echo out; echo err >&2; printf tail",
    ]);
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\ntail", "err\n"),
        "{done}"
    );
    // Without -i the command reads nothing.
    let mut child = bryo.command(["run", "--rm", &image, "cat"]);
    let done = Done::of(child.stdin(Stdio::piped()));
    assert_eq!((done.status.code(), done.stdout.as_str()), (Some(0), ""));
}

#[test]
fn a_hundred_megabytes_pass_both_ways() {
    let (bryo, image) = busybox();
    let mut child = bryo
        .command(["run", "--rm", "-i", &image, "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let (mut sum, mut state) = (Sha256::new(), 1u64);
        for _ in 0..1600 {
            let block: Vec<u8> = (0..8192)
                .flat_map(|_| {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    state.to_le_bytes()
                })
                .collect();
            sum.update(&block);
            stdin.write_all(&block).unwrap();
        }
        sum.finalize()
    });
    let (mut sum, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    let mut stdout = child.stdout.take().unwrap();
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            n => {
                sum.update(&buffer[..n]);
                length += n;
            }
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(length, 1600 * 65536);
    assert_eq!(writer.join().unwrap(), sum.finalize());
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    let (bryo, image) = busybox();
    let mut child = bryo
        .command(["run", "--rm", &image, "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // Pid 1 gets no SIGPIPE of its own making, but EPIPE.
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_hangs_up_the_terminal() {
    let (bryo, image) = busybox();
    let mut child = bryo
        .command(["run", "--rm", "-t", &image, "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    until("the end", || child.try_wait().unwrap().is_some());
}

#[test]
fn signals_reach_the_command() {
    let (bryo, image) = busybox();
    let script = "trap 'echo got; exit 42' TERM; echo ready; while :; do sleep 0.1; done";
    // What the command says first may arrive before the supervisor has told that it runs.
    for _ in 0..8 {
        let mut child = bryo
            .command(["run", "--rm", &image, "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut ready = [0; 6];
        stdout.read_exact(&mut ready).unwrap();
        kill(pid_of(&child), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got\n", Some(42)));
    }
}

#[test]
fn a_terminal_is_a_terminal() {
    let (bryo, image) = busybox();
    let message = bryo.fails(1, ["run", "--rm", "-it", &image, "true"]);
    assert!(message.contains("the input device is not a TTY"), "{message}");
    // script(1) gives the tool a pty of 24 × 80, which is asked for by stty.
    let tool = bryo.command(["run", "--rm", "-it", &image, "sh", "-c", "tty; stty size; exit 7"]);
    let words: Vec<String> = std::iter::once(tool.get_program())
        .chain(tool.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let line = format!(
        "stty rows 31 cols 97; {}; echo code $?; stty -a | grep -o -- '-\\?icanon'",
        words.join(" ")
    );
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    for (name, value) in tool.get_envs() {
        script.env(name, value.unwrap());
    }
    let done = Done::of(&mut script);
    for expected in ["/dev/pts/0\r\n", "31 97\r\n", "code 7\r\n", "\nicanon"] {
        assert!(done.stdout.contains(expected), "{expected:?} in {done}");
    }
}

#[test]
fn environment_directory_and_names() {
    let (bryo, image) = busybox();
    let run = |args: &[&str], script: &str| {
        let mut words = vec!["run", "--rm"];
        words.extend(args);
        words.extend([image.as_str(), "sh", "-ec", script]);
        bryo.ok(words)
    };
    assert_eq!(
        run(&["-e", "A=1 2", "-e", "HOME=/h"], "echo \"$A\" $HOME"),
        "1 2 /h\n"
    );
    assert_eq!(
        run(&["-w", "/new/dir"], "pwd; stat -c %u .").lines().next(),
        Some("/new/dir")
    );
    assert_eq!(
        run(
            &["--hostname", "box"],
            "hostname; cat /etc/hostname; echo $HOSTNAME"
        ),
        "box\nbox\nbox\n"
    );
    assert_eq!(run(&[], "hostname | wc -c").trim(), "13");
    let hosts = run(&["--add-host", "db:10.1.2.3"], "cat /etc/hosts");
    assert!(hosts.contains("10.1.2.3\tdb"), "{hosts}");
    let file = bryo.scratch("env");
    std::fs::write(&file, "# c\nX=from file\n").unwrap();
    assert_eq!(
        run(&["--env-file", file.to_str().unwrap()], "echo $X"),
        "from file\n"
    );
    assert_eq!(
        bryo.ok(["run", "--rm", "--entrypoint", "echo", &image, "hi"]),
        "hi\n"
    );
}

#[test]
fn users_are_those_of_the_image() {
    let (bryo, image) = busybox();
    assert_eq!(
        bryo.sh(&image, "id -u; id -g; echo $HOME").lines().next(),
        Some("0")
    );
    let message = bryo.fails(125, ["run", "--rm", "-u", "nosuchuser", &image, "true"]);
    assert!(message.contains("unable to find user nosuchuser"), "{message}");
    let done = bryo.run([
        "run",
        "--rm",
        "-u",
        "1234:5678",
        &image,
        "sh",
        "-c",
        "id -u; id -g; id -G",
    ]);
    if has_id_range() {
        assert_eq!(done.stdout, "1234\n5678\n5678\n", "{done}");
        let logs = "echo out > /dev/stdout; echo err > /dev/stderr";
        let done = bryo.run(["run", "--rm", "-u", "1234", &image, "sh", "-c", logs]);
        assert_eq!((&*done.stdout, &*done.stderr), ("out\n", "err\n"), "{done}");
    } else {
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(done.stderr.contains("/etc/subuid"), "{done}");
    }
}

#[test]
fn volumes_and_tmpfs() {
    let (bryo, image) = busybox();
    let host = bryo.scratch("data");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("in"), "from the host").unwrap();
    let volume = |options: &str| format!("{}:/data{options}", host.display());
    assert_eq!(
        bryo.ok([
            "run",
            "--rm",
            "-v",
            &volume(""),
            &image,
            "sh",
            "-c",
            "cat /data/in; echo back > /data/out"
        ]),
        "from the host"
    );
    assert_eq!(std::fs::read_to_string(host.join("out")).unwrap(), "back\n");
    let done = bryo.run([
        "run",
        "--rm",
        "-v",
        &volume(":ro"),
        &image,
        "sh",
        "-c",
        "echo x > /data/in",
    ]);
    assert!(
        !done.status.success() && done.stderr.contains("Read-only"),
        "{done}"
    );
    let missing = bryo.scratch("made");
    bryo.ok([
        "run",
        "--rm",
        "-v",
        &format!("{}:/m", missing.display()),
        &image,
        "touch",
        "/m/x",
    ]);
    assert!(missing.join("x").exists(), "-v makes a missing directory");
    let absent = format!("type=bind,src={},dst=/m", bryo.scratch("absent").display());
    assert!(
        bryo.fails(125, ["run", "--rm", "--mount", &absent, &image, "true"])
            .contains("does not exist")
    );
    let out = bryo.ok([
        "run",
        "--rm",
        "--tmpfs",
        "/t:size=1m",
        &image,
        "sh",
        "-c",
        "df -k /t | tail -1",
    ]);
    assert!(out.contains(" 1024 "), "{out}");
}

#[test]
fn a_read_only_root_takes_no_writes() {
    let (bryo, image) = busybox();
    let script = "echo x > /x && exit 1; echo y > /dev/shm/y && echo fine";
    let done = bryo.run(["run", "--rm", "--read-only", &image, "sh", "-c", script]);
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "fine\n"),
        "{done}"
    );
    assert!(done.stderr.contains("Read-only file system"), "{done}");
}

#[test]
fn only_three_descriptors_and_no_capability_is_inherited() {
    let (bryo, image) = busybox();
    for more in [&[][..], &["-i"]] {
        let mut words = vec!["run", "--rm"];
        words.extend(more);
        words.extend([
            image.as_str(),
            "sh",
            "-c",
            "ls /proc/self/fd; grep CapInh /proc/self/status",
        ]);
        let out = bryo.ok(words);
        // 3 is what ls reads the directory with.
        assert_eq!(out, "0\n1\n2\n3\nCapInh:\t0000000000000000\n");
    }
}

#[test]
fn a_network_of_its_own_has_a_way_out_or_none() {
    let (bryo, image) = busybox();
    let script = "ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; sed 's/[0-9].*//' /etc/resolv.conf";
    assert_eq!(
        bryo.ok([
            "run",
            "--rm",
            "--dns-search",
            ".",
            "--dns-opt",
            "a",
            &image,
            "sh",
            "-c",
            script
        ]),
        "eth0\nlo\n0\nnameserver \noptions a\n"
    );
    let none = bryo.ok([
        "run",
        "--rm",
        "--network",
        "none",
        &image,
        "sh",
        "-c",
        "ls /sys/class/net",
    ]);
    assert_eq!(none, "lo\n");
}

#[test]
fn the_hosts_network_comes_with_its_name() {
    let (bryo, image) = busybox();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let flags = ["run", "--rm", "--network", "host", &image];
    let script = [
        "sh",
        "-c",
        "hostname; cat /etc/hostname; readlink /proc/self/ns/net",
    ];
    let out = bryo.ok(flags.iter().chain(&script));
    assert_eq!(out, format!("{name}\n{name}\n{}\n", own.display()));
}

#[test]
fn name_servers_are_those_asked_for() {
    let (bryo, image) = busybox();
    let flags = [
        "--dns",
        "9.9.9.9",
        "--dns",
        "2620:fe::fe",
        "--dns-search",
        "example.com",
        "--dns-opt",
        "ndots:3",
    ];
    let out = bryo.ok(["run", "--rm"]
        .iter()
        .chain(&flags)
        .chain(&[&image, "cat", "/etc/resolv.conf"]));
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let expected = [
        "nameserver 2620:fe::fe",
        "nameserver 9.9.9.9",
        "options ndots:3",
        "search example.com",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_id_stands_in_its_file() {
    let (bryo, image) = busybox();
    let file = bryo.scratch("id");
    let flag = format!("--cidfile={}", file.display());
    bryo.ok(["run", &flag, &image, "true"]);
    let id = std::fs::read_to_string(&file).unwrap();
    assert_eq!(bryo.ok(["ps", "-aq", "--no-trunc"]).trim_end(), id);
    let message = bryo.fails(125, ["run", &flag, &image, "true"]);
    assert!(message.contains("container ID file found"), "{message}");
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        id,
        "it is the first one's still"
    );
    assert_eq!(bryo.ok(["ps", "-aq"]).lines().count(), 1);
    bryo.ok(["rm", &id]);
}

/// A process whose parent has ended becomes init's child, and must not stay as a zombie. Alone the command, here one that
/// waits for nobody, would be pid 1.
#[test]
fn an_init_reaps_orphans() {
    let (bryo, image) = busybox();
    let script = "(sleep 0.2 & echo $! > /orphan); p=$(cat /orphan); grep PPid: /proc/$p/status; \
         n=0; while [ -e /proc/$p ] && [ $n -lt 200 ]; do sleep 0.05; n=$((n + 1)); done; \
         [ -e /proc/$p ] && grep State /proc/$p/status; echo done";
    let out = bryo.ok(["run", "--rm", "--init", &image, "sh", "-c", script]);
    assert_eq!(out, "PPid:\t1\ndone\n");
}

#[test]
fn an_init_reaps_and_passes_on() {
    let (bryo, image) = busybox();
    let out = bryo.ok(["run", "--rm", "--init", &image, "sh", "-c", "echo $$"]);
    assert_ne!(out, "1\n", "the command is not pid 1");
    let done = bryo.run(["run", "--rm", "--init", &image, "sh", "-c", "exit 9"]);
    assert_eq!(done.status.code(), Some(9), "{done}");
}

#[test]
fn the_image_stays_as_it_was() {
    let (bryo, image) = busybox();
    bryo.sh(&image, "rm -rf /bin/vi /etc/passwd; echo changed > /etc/group");
    assert!(bryo.sh(&image, "cat /etc/passwd /etc/group").contains("root"));
    let index = bryo.ok([
        "run",
        "--rm",
        &image,
        "sh",
        "-c",
        "test ! -e /x && touch /x && ls /x",
    ]);
    assert_eq!(index, "/x\n");
}

#[test]
fn sixteen_start_at_once() {
    let (bryo, image) = busybox();
    let children: Vec<Child> = (0..16)
        .map(|i| {
            let script = format!("exit {i}");
            bryo.command(["run", "--rm", &image, "sh", "-c", &script])
                .spawn()
                .unwrap()
        })
        .collect();
    for (i, mut child) in children.into_iter().enumerate() {
        assert_eq!(child.wait().unwrap().code(), Some(i32::try_from(i).unwrap()));
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
    let left = std::fs::read_dir(bryo.state().join("containers"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "nothing is left of them");
}

#[test]
fn a_killed_tool_leaves_a_container_that_cleans_up_after_itself() {
    let (bryo, image) = busybox();
    let mut child = bryo
        .command(["run", "--rm", "--name", "lone", &image, "sleep", "1"])
        .spawn()
        .unwrap();
    until("start", || bryo.ok(["ps", "-q"]).lines().count() == 1);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(bryo.ok(["ps", "--format", "{{.Names}}"]), "lone\n", "it goes on");
    until("end", || bryo.ok(["ps", "-aq"]).is_empty());
}

/// Debian's systemd-resolved, and an image that would have the file made elsewhere.
#[test]
fn an_image_whose_resolv_conf_is_a_dangling_link_starts() {
    for target in [
        "../run/systemd/resolve/stub-resolv.conf",
        "/run/systemd/resolve/stub-resolv.conf",
        "../../../../../../../../var/tmp/bryo-hostile-resolv.conf",
    ] {
        let mut layer = tar::Builder::new(Vec::new());
        layer
            .append_path_with_name("/bin/busybox", "bin/busybox")
            .unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        layer.append_link(&mut link, "etc/resolv.conf", target).unwrap();
        let layer = layer.into_inner().unwrap();
        let blobs = Blobs::of(&[(gzip(&layer), digest(&layer))]);
        let registry = Hostile::serve(move |request| blobs.answer(request));
        let image = format!("{}/resolved", registry.address());
        let bryo = Bryo::new();
        let script = "cat /etc/resolv.conf; readlink /etc/resolv.conf";
        let words = [
            "run",
            "--rm",
            "-q",
            "--dns",
            "9.9.9.9",
            &image,
            "/bin/busybox",
            "sh",
            "-c",
            script,
        ];
        assert_eq!(bryo.ok(words), format!("nameserver 9.9.9.9\n{target}\n"));
        assert!(!std::path::Path::new("/var/tmp/bryo-hostile-resolv.conf").exists());
    }
}

/// Also what is a flag of ours, alone or as several in one word.
#[test]
fn what_follows_the_image_is_the_commands() {
    let (bryo, image) = Bryo::with_image("busybox");
    let words = ["-it", "-e", "-v", "-ec", "-m", "--rm", "--name", "-h", "--", "x"];
    let mut line = vec!["run", "--rm", "--entrypoint", "/bin/echo", &image, "-n"];
    line.extend(words);
    assert_eq!(bryo.ok(line), words.join(" "));
}
