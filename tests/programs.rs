//! Do `pasta` and `slirp4netns` carry a container's packets where they are asked to, with what they need and no more, and do they
//! go with the container?

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

#[path = "ports/pages.rs"]
mod pages;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Bryo, Done, field, parent, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pages::{answers, free_port, host_port, is_dead, is_free, serves};

/// The two, and how each is asked to lead the gateway's address to the host's loopback.
const PROGRAMS: [(&str, &str); 2] = [
    ("pasta", "pasta:--map-gw"),
    ("slirp4netns", "slirp4netns:allow_host_loopback=true"),
];

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

/// A server on loopback that says `text` to whoever asks: its port, and how often it was asked.
fn serve(text: &'static str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            // The question, as far as it is there. Who leaves early is no matter.
            let _ = client.read(&mut [0; 1024]);
            let _ = write!(
                client,
                "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
        }
    });
    (port, asked)
}

/// Starts a container of the program's name, whose page says `text` at the port that is published.
fn publish_a_page((bryo, image): (&Bryo, &str), program: &str, publish: &str, text: &str) {
    let script = serves(80, text);
    let words = [
        "--network",
        program,
        "-p",
        publish,
        "--name",
        program,
        image,
        "sh",
        "-c",
        &script,
    ];
    bryo.ok(["run", "-d"].iter().chain(&words));
}

#[test]
fn what_goes_out_reaches_the_hosts_loopback_if_that_is_asked_for() {
    let (bryo, image) = busybox();
    for (program, mapped) in PROGRAMS {
        let (port, asked) = serve("from outside");
        let script =
            format!("wget -qO- http://host.containers.internal:{port}/ && cat /etc/resolv.conf /etc/hosts");
        let said = bryo.ok([
            "run",
            "--rm",
            "--network",
            mapped,
            "-h",
            "inside",
            &image,
            "sh",
            "-c",
            &script,
        ]);
        assert!(said.starts_with("from outside"), "{said}");
        let (server, own) = match program {
            "pasta" => ("nameserver 169.254.1.1\n", "127.0.1.1\tinside\n"),
            _ => ("nameserver 10.0.2.3\n", "10.0.2.100\tinside\n"),
        };
        assert!(said.contains(server) && said.contains(own), "{said}");
        // The same address is not the host's without the word for it.
        let gateway = said
            .lines()
            .find(|line| line.ends_with("host.containers.internal"))
            .unwrap();
        let gateway = gateway.split_whitespace().next().unwrap();
        let before = asked.load(Ordering::SeqCst);
        let script = format!("! wget -T 5 -qO- http://{gateway}:{port}/ && grep -c internal /etc/hosts");
        let done = bryo.run(["run", "--rm", "--network", program, &image, "sh", "-c", &script]);
        assert_eq!(done.stdout, "0\n", "{done}");
        assert_eq!(asked.load(Ordering::SeqCst), before);
    }
}

#[test]
fn options_are_the_programs_own() {
    let (bryo, image) = busybox();
    for (network, script, said) in [
        (
            "slirp4netns:mtu=1400,cidr=10.77.0.0/16",
            "cat /sys/class/net/tap0/mtu; ip -4 -o addr show tap0",
            "1400\n",
        ),
        (
            "slirp4netns:cidr=10.77.0.0/16",
            "ip -4 -o addr show tap0; cat /etc/resolv.conf",
            "10.77.0.100/16",
        ),
        (
            "pasta:-I,tap7,-a,10.77.0.9,-n,24,-g,10.77.0.1",
            "ip -4 -o addr show tap7; ip route",
            "inet 10.77.0.9/24",
        ),
        (
            "pasta:--ns-ifname=tap7,--mtu,1400",
            "cat /sys/class/net/tap7/mtu",
            "1400\n",
        ),
    ] {
        let told = bryo.ok(["run", "--rm", "--network", network, &image, "sh", "-c", script]);
        assert!(told.contains(said), "{network}: {told}");
    }
}

#[test]
fn a_published_port_answers_over_restarts_and_deaths() {
    let (bryo, image) = busybox();
    for (program, _) in PROGRAMS {
        let port = free_port();
        let publish = format!("{port}:80");
        publish_a_page((&bryo, &image), program, &publish, "inside");
        answers((Ipv4Addr::LOCALHOST, port), "inside");
        assert_eq!(host_port(&bryo, program, "80"), port);
        assert_eq!(field(&bryo, program, "{{.HostConfig.NetworkMode}}"), program);
        let taken = bryo.fails(
            125,
            [
                "run",
                "--rm",
                "--network",
                program,
                "-p",
                &publish,
                &image,
                "true",
            ],
        );
        assert!(
            taken.contains(&format!("is taken by container {program}")) && taken.lines().count() == 1,
            "{taken}"
        );
        for _ in 0..2 {
            bryo.ok(["restart", "-t", "0", program]);
            answers((Ipv4Addr::LOCALHOST, port), "inside");
        }
        // Another follows one that died.
        let dead = process(&bryo, program, "NetworkPid");
        kill(dead, Signal::SIGKILL).unwrap();
        until("another", || process(&bryo, program, "NetworkPid") != dead);
        answers((Ipv4Addr::LOCALHOST, port), "inside");
        assert_eq!(field(&bryo, program, "{{.State.NetworkRestarts}}"), "1");
        // It ends with the container.
        let last = process(&bryo, program, "NetworkPid");
        bryo.ok(["stop", "-t", "0", program]);
        assert!(is_dead(last) && is_free(port));
        bryo.ok(["start", program]);
        answers((Ipv4Addr::LOCALHOST, port), "inside");
        bryo.ok(["rm", "-f", program]);
        assert!(is_free(port));
    }
}

#[test]
fn a_port_of_udp_and_one_that_is_drawn_lead_inside() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let script = "$| = 1; socket S, PF_INET, SOCK_DGRAM, 0; bind S, sockaddr_in(53, INADDR_ANY) or die;
        while ($from = recv S, $text, 99, 0) { print \"heard $text\\n\"; send S, $text, 0, $from }";
    for (program, mapped) in PROGRAMS {
        let words = [
            "--network",
            mapped,
            "-p",
            "127.0.0.1::53/udp",
            "--name",
            program,
            &image,
        ];
        let serves = ["perl", "-MSocket", "-e", script];
        bryo.ok(["run", "-d"].iter().chain(&words).chain(&serves));
        let said = bryo.ok(["port", program, "53/udp"]);
        let at: SocketAddr = said.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut answered = false;
        until("it is heard", || {
            client.send_to(b"word", at).unwrap();
            let mut answer = [0; 16];
            answered |= matches!(client.recv(&mut answer), Ok(length) if &answer[..length] == b"word");
            // Debian 12's pasta does not bring what is answered to a client of the host's back from another port.
            bryo.ok(["logs", program]).contains("heard word") && (answered || program == "pasta")
        });
        bryo.ok(["rm", "-f", program]);
    }
}

#[test]
fn nothing_is_left_of_them_when_the_supervisor_was_killed() {
    let (bryo, image) = busybox();
    for (program, _) in PROGRAMS {
        publish_a_page((&bryo, &image), program, "80", "gone");
        let port = host_port(&bryo, program, "80");
        answers((Ipv4Addr::LOCALHOST, port), "gone");
        let carrier = process(&bryo, program, "NetworkPid");
        let supervisor = parent(carrier);
        let all = descendants(supervisor);
        assert!(all.contains(&carrier), "{all:?}");
        kill(supervisor, Signal::SIGKILL).unwrap();
        until("the end of all", || {
            all.iter().all(|pid| is_dead(*pid)) && is_free(port)
        });
        let life = field(&bryo, program, "{{.State.Status}} {{.State.ExitCode}}");
        assert_eq!(life, "exited 137");
        bryo.ok(["start", program]);
        answers((Ipv4Addr::LOCALHOST, host_port(&bryo, program, "80")), "gone");
        bryo.ok(["rm", "-f", program]);
    }
    let sockets = bryo.dir().join("run/attach");
    let left: Vec<_> = fs::read_dir(sockets)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_str().unwrap().ends_with(".ports")),
        "{left:?}"
    );
}

/// All that descend from a process. Of no other is read more than what nobody waits for.
fn descendants(of: Pid) -> Vec<Pid> {
    let children = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        (parent.trim() == of.to_string()).then_some(pid)
    });
    children
        .flat_map(|child| [child].into_iter().chain(descendants(child)))
        .collect()
}

/// A directory with a program of this name in it: a shell script.
fn fake(bryo: &Bryo, program: &str, script: &str) -> PathBuf {
    let directory = bryo.scratch(&format!("bin-{program}"));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(program);
    fs::write(&file, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

#[test]
fn they_get_what_they_need_and_nothing_else() {
    let (bryo, image) = busybox();
    let secret = bryo.scratch("secret");
    fs::write(&secret, "x").unwrap();
    for (program, open, files) in [("pasta", "0 1 2", "all"), ("slirp4netns", "0 1 2 6 7 8", "none")] {
        // The shell has its script open as number 10.
        let script = format!(
            "for fd in $(seq 0 9) $(seq 11 60); do [ -e /proc/$$/fd/$fd ] && printf '%s ' $fd >&2; done
             echo \"= ${{SECRET-unset}} $(umask)\" >&2
             if (: < {0}) 2> /dev/null; then echo all >&2; else echo none >&2; fi
             (: > {0}.new) 2> /dev/null && echo written >&2
             grep -q 'NoNewPrivs:.*1' /proc/self/status 2> /dev/null && echo bound >&2
             exit 1",
            secret.display()
        );
        let path = fake(&bryo, program, &script);
        let words = ["run", "--rm", "--network", program, "-p", "80", &image, "true"];
        let tool = bryo.command(words);
        let mut command = Command::new("/bin/sh");
        let opens = "exec 3< /etc/passwd 9< /etc/passwd; exec \"$@\"";
        command
            .args(["-c", opens, "sh"])
            .arg(tool.get_program())
            .args(tool.get_args());
        command.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let done = Done::of(command.env("PATH", path).env("SECRET", "known"));
        assert_eq!(done.status.code(), Some(125), "{done}");
        let said = format!("{program} cannot make the container's network: {open} = unset 0077; {files}");
        let said = match program {
            "pasta" => format!("{said}; written; bound\n"),
            _ => format!("{said}\n"),
        };
        assert!(
            done.stderr.ends_with(&said) && done.stderr.lines().count() == 1,
            "{done}"
        );
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

#[test]
fn one_that_is_missing_or_fails_is_one_line_and_no_container() {
    let (bryo, image) = busybox();
    for (program, _) in PROGRAMS {
        let words = ["run", "--rm", "--network", program, &image, "true"];
        let run = |path: PathBuf| {
            let done = Done::of(bryo.command(words).env("PATH", path));
            assert_eq!(
                (done.status.code(), done.stderr.lines().count()),
                (Some(125), 1),
                "{done}"
            );
            done.stderr
        };
        let missing = run("/nowhere".into());
        assert!(
            missing.contains(&format!("{program} is not on PATH; install it, or")),
            "{missing}"
        );
        let silent = run(fake(&bryo, program, "exit 3"));
        assert!(silent.contains("it says nothing"), "{silent}");
        assert_eq!(bryo.ok(["ps", "-aq"]), "");
    }
}

#[test]
fn they_work_with_the_users_own_id_and_with_other_processes_in_sight() {
    let (bryo, image) = busybox();
    let (port, _) = serve("from outside");
    let script = format!("wget -qO- http://host.containers.internal:{port}/");
    for (program, mapped) in PROGRAMS {
        let words = ["--network", mapped, &image, "sh", "-c", &script];
        let said = bryo.ok(["run", "--rm", "--pid", "host"].iter().chain(&words));
        assert_eq!(said, "from outside");
        let done = bryo.run(["run", "--rm", "--userns", "keep-id"].iter().chain(&words));
        match program == "pasta" || common::has_id_range() {
            true => assert_eq!(done.stdout, "from outside", "{done}"),
            false => assert!(
                done.stderr.contains("slirp4netns needs a root in the container"),
                "{done}"
            ),
        }
    }
}
