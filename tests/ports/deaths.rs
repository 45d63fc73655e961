//! What is left of a network when one of its processes is killed, or ends for another reason?

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::busybox;
use super::common::{Bryo, field, parent, process, until};
use super::pages::{answers, free_port, host_port, is_dead, is_free, serves};

#[test]
fn a_network_process_that_is_killed_is_followed() {
    let (bryo, image) = busybox();
    let script = serves(80, "still");
    bryo.ok([
        "run", "-d", "--name", "web", "-p", "80", &image, "sh", "-c", &script,
    ]);
    let port = host_port(&bryo, "web", "80");
    for round in 1..4 {
        answers((Ipv4Addr::LOCALHOST, port), "still");
        let dead = process(&bryo, "web", "NetworkPid");
        kill(dead, Signal::SIGKILL).unwrap();
        until("another", || process(&bryo, "web", "NetworkPid") != dead);
        assert_eq!(
            field(&bryo, "web", "{{.State.NetworkRestarts}}"),
            round.to_string()
        );
    }
    answers((Ipv4Addr::LOCALHOST, port), "still");
    assert_eq!(host_port(&bryo, "web", "80"), port);
    let id = field(&bryo, "web", "{{.Id}}");
    let log = std::fs::read_to_string(bryo.state().join("containers").join(id).join("network.log")).unwrap();
    assert_eq!(log.matches("the network process died").count(), 3, "{log}");
}

#[test]
fn who_finds_a_killed_supervisor_waits_for_the_ports() {
    let (bryo, image) = busybox();
    bryo.ok(["run", "-d", "--name", "web", "-p", "80", &image, "sleep", "1000"]);
    let supervisor = parent(process(&bryo, "web", "NetworkPid"));
    // In the place of its network process, one that does not end with the supervisor.
    let mut slow = Command::new("sleep").arg("1000").spawn().unwrap();
    let file = bryo
        .state()
        .join("containers")
        .join(field(&bryo, "web", "{{.Id}}"))
        .join("record.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", slow.id())).unwrap();
    let start = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(19)
        .unwrap();
    let start: u64 = start.parse().unwrap();
    record["network"]["process"] = json!({"pid": slow.id(), "start": start});
    std::fs::write(&file, record.to_string()).unwrap();
    kill(supervisor, Signal::SIGKILL).unwrap();
    until("its end", || field(&bryo, "web", "{{.State.Status}}") == "exited");
    // Its parent is this test, which may reap it a moment later.
    let mut ended = None;
    until("the end of all", || {
        ended = slow.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().signal(), Some(libc::SIGKILL));
    bryo.ok(["start", "web"]);
}

#[test]
fn nothing_listens_when_the_supervisor_was_killed() {
    let (bryo, image) = busybox();
    let script = serves(80, "gone");
    for rm in [false, true] {
        let flags: &[&str] = if rm { &["--rm"] } else { &[] };
        let words = ["--name", "web", "-p", "80", &image, "sh", "-c", &script];
        bryo.ok(["run", "-d"].iter().chain(flags).chain(&words));
        let port = host_port(&bryo, "web", "80");
        answers((Ipv4Addr::LOCALHOST, port), "gone");
        let helper = process(&bryo, "web", "NetworkPid");
        let supervisor = parent(helper);
        kill(supervisor, Signal::SIGKILL).unwrap();
        until("the end of all", || is_dead(helper) && is_free(port));
        if rm {
            until("its removal", || bryo.ok(["ps", "-aq"]).is_empty());
        } else {
            assert_eq!(
                field(&bryo, "web", "{{.State.Status}} {{.State.ExitCode}}"),
                "exited 137"
            );
            bryo.ok(["start", "web"]);
            answers((Ipv4Addr::LOCALHOST, host_port(&bryo, "web", "80")), "gone");
            bryo.ok(["rm", "-f", "web"]);
        }
    }
}

#[test]
fn a_network_that_was_deleted_inside_is_not_started_again() {
    let (bryo, image) = busybox();
    let script = "ip link delete eth0; echo gone; sleep 1000";
    let words = [
        "--name",
        "without",
        "--cap-add",
        "NET_ADMIN",
        &image,
        "sh",
        "-c",
        script,
    ];
    bryo.ok(["run", "-d"].iter().chain(&words));
    until("its deletion", || bryo.ok(["logs", "without"]) == "gone\n");
    let id = field(&bryo, "without", "{{.Id}}");
    let log = bryo.state().join("containers").join(id).join("network.log");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the log", || {
        said().contains("the device eth0 was deleted in the container")
    });
    until("the record", || {
        field(&bryo, "without", "{{.State.NetworkPid}}") == "0"
    });
    assert_eq!(
        field(&bryo, "without", "{{.State.NetworkRestarts}} {{.State.Status}}"),
        "0 running"
    );
    assert!(!said().contains("another follows"), "{}", said());
    bryo.ok(["restart", "-t", "0", "without"]);
}

/// A server that sends to its first client more than the host's sockets hold, and ends whether or not it has arrived.
const LAST_WORDS: &str =
    "use Socket; socket S, PF_INET, SOCK_STREAM, 0; bind S, sockaddr_in(80, INADDR_ANY) or die; listen S, 9;
    accept C, S; print C '.' x 12_000_000; close C";

/// A client of this port that has little room, and has not read yet.
fn slow_client(port: u16) -> TcpStream {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(32 << 10).unwrap();
    client
        .connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
        .unwrap();
    client.into()
}

#[test]
fn what_a_container_wrote_last_arrives() {
    let (bryo, image) = Bryo::with_image("debian:12");
    // Listens before anybody can connect: what `run -d` waits for is the command's start.
    let port = free_port().to_string();
    let publish = format!("127.0.0.1:{port}:80");
    let words = [
        "--name", "server", "-p", &publish, &image, "perl", "-e", LAST_WORDS,
    ];
    bryo.ok(["create"].iter().chain(&words));
    for _ in 0..2 {
        bryo.ok(["start", "server"]);
        until("the server", || {
            bryo.run(["exec", "server", "grep", "-q", ":0050 .* 0A ", "/proc/net/tcp"])
                .status
                .success()
        });
        let mut client = slow_client(port.parse().unwrap());
        let (mut all, mut some) = (0, [0; 32 << 10]);
        loop {
            match client.read(&mut some).unwrap() {
                0 => break,
                count => all += count,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(all, 12_000_000);
        bryo.ok(["wait", "server"]);
    }
}

#[test]
fn a_container_that_is_killed_does_not_wait_for_its_clients() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let script = format!("{LAST_WORDS}; sleep 1000");
    let words = ["--name", "server", "-p", "80", &image, "perl", "-e", &script];
    bryo.ok(["run", "-d"].iter().chain(&words));
    let port = host_port(&bryo, "server", "80");
    until("the server", || {
        bryo.run(["exec", "server", "grep", "-q", ":0050 .* 0A ", "/proc/net/tcp"])
            .status
            .success()
    });
    let client = slow_client(port);
    bryo.ok(["rm", "-f", "server"]);
    assert!(is_free(port));
    drop(client);
}
