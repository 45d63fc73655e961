//! Do published ports lead into containers, and do they go with them? Flags, inspection, and what is left after kills.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::{Bryo, field, process, until};
use nix::sys::signal::{Signal, kill};

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

/// A script that serves a page with this text on a port of the container.
fn serves(port: u16, text: &str) -> String {
    format!("mkdir -p /www; echo {text} > /www/index.html; exec httpd -f -p {port} -h /www")
}

/// What comes back from there, once something does.
fn page(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /index.html HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.rsplit_once("\r\n\r\n")?.1.trim_end().to_owned())
}

#[track_caller]
fn answers(at: impl Into<SocketAddr>, text: &str) {
    let at = at.into();
    until(&format!("{text} at {at}"), || page(at).as_deref() == Some(text));
}

/// Where the host has a port of a container, by IPv4.
#[track_caller]
fn host_port(bryo: &Bryo, name: &str, port: &str) -> u16 {
    let said = bryo.ok(["port", name, port]);
    let first = said.lines().find(|line| line.starts_with("0.0.0.0:")).unwrap();
    first.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A port that nobody listens on, by IPv4 and IPv6.
fn free_port() -> u16 {
    loop {
        let drawn = TcpListener::bind("0.0.0.0:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if TcpListener::bind((Ipv6Addr::UNSPECIFIED, drawn)).is_ok() {
            return drawn;
        }
    }
}

/// Does nobody listen there any more?
fn is_free(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_ok()
}

/// Not there, or a zombie that nobody has reaped yet.
fn is_dead(pid: nix::unistd::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[test]
fn a_port_leads_into_the_container_and_goes_with_it() {
    let (bryo, image) = busybox();
    let (port, script) = (free_port().to_string(), serves(80, "hello"));
    let publish = format!("{port}:80");
    let words = [
        "run", "-d", "--name", "web", "-p", &publish, &image, "sh", "-c", &script,
    ];
    bryo.ok(words);
    let number: u16 = port.parse().unwrap();
    answers((Ipv4Addr::LOCALHOST, number), "hello");
    answers((Ipv6Addr::LOCALHOST, number), "hello");
    assert_eq!(
        bryo.ok(["port", "web"]),
        format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n")
    );
    assert_eq!(
        bryo.ok(["port", "web", "80"]),
        format!("0.0.0.0:{port}\n[::]:{port}\n")
    );
    let none = bryo.fails(1, ["port", "web", "81/udp"]);
    assert!(
        none.contains("no public port '81/udp' published for web"),
        "{none}"
    );
    assert!(bryo.fails(1, ["port", "web", "x"]).contains("invalid port"));
    let shown = format!("0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp bridge\n");
    assert_eq!(bryo.ok(["ps", "--format", "{{.Ports}} {{.Networks}}"]), shown);
    for (filter, count) in [
        (format!("publish={port}"), 1),
        (format!("publish={port}/udp"), 0),
        ("publish=80".into(), 0),
        ("expose=70-80/tcp".into(), 1),
        ("expose=81".into(), 0),
        ("network=bridge".into(), 1),
        ("network=host".into(), 0),
    ] {
        assert_eq!(
            bryo.ok(["ps", "-q", "-f", &filter]).lines().count(),
            count,
            "{filter}"
        );
    }
    assert!(
        bryo.fails(125, ["ps", "-f", "publish=x"])
            .contains("invalid filter")
    );

    // The same again after a restart.
    for _ in 0..2 {
        bryo.ok(["restart", "-t", "0", "web"]);
        answers((Ipv4Addr::LOCALHOST, number), "hello");
    }
    let helper = process(&bryo, "web", "NetworkPid");
    bryo.ok(["stop", "-t", "0", "web"]);
    assert!(is_free(number) && is_dead(helper));
    assert_eq!(bryo.ok(["port", "web"]), "");
    assert_eq!(
        field(
            &bryo,
            "web",
            "{{json .NetworkSettings.Ports}} {{.NetworkSettings.IPAddress}}"
        ),
        "{}"
    );
    bryo.ok(["start", "web"]);
    answers((Ipv4Addr::LOCALHOST, number), "hello");
    bryo.ok(["rm", "-f", "web"]);
    assert!(is_free(number));
}

#[test]
fn inspect_tells_of_the_network_as_docker_does() {
    let (bryo, image) = busybox();
    let (port, publish) = {
        let port = free_port();
        (port, format!("127.0.0.1:{port}:80"))
    };
    let flags = [
        "-p",
        &publish,
        "-p",
        "53/udp",
        "--expose",
        "443",
        "--dns",
        "9.9.9.9",
        "--add-host",
        "db:10.9.9.9",
    ];
    bryo.ok(["run", "-d", "--name", "told"]
        .iter()
        .chain(&flags)
        .chain(&[&image[..], "sleep", "1000"]));
    let asked = field(
        &bryo,
        "told",
        "{{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}",
    );
    assert_eq!(
        asked,
        format!(
            "{{\"53/udp\":[{{\"HostIp\":\"\",\"HostPort\":\"\"}}],\"80/tcp\":[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"{port}\"}}]}} \
             {{\"443/tcp\":{{}},\"53/udp\":{{}},\"80/tcp\":{{}}}}"
        )
    );
    let ports = field(&bryo, "told", "{{json .NetworkSettings.Ports}}");
    assert!(
        ports.contains("\"443/tcp\":null")
            && ports.contains(&format!(
                "\"80/tcp\":[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"{port}\"}}]"
            )),
        "{ports}"
    );
    let template = "{{.HostConfig.NetworkMode}} {{.HostConfig.Dns}} {{.HostConfig.ExtraHosts}} {{.HostConfig.PublishAllPorts}} \
                    {{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Networks.bridge.Gateway}}";
    let told = field(&bryo, "told", template);
    let inside = bryo.ok(["exec", "told", "sh", "-c", "ip -4 -o addr show eth0; ip route"]);
    let address = inside
        .split_whitespace()
        .find(|word| word.contains("/24"))
        .unwrap();
    let gateway = inside
        .split("default via ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert_eq!(
        told,
        format!("bridge [9.9.9.9] [db:10.9.9.9] false {address} {gateway}")
    );
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_starts() {
    let (bryo, image) = busybox();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    let free = free_port();
    let both = format!("{free}:81");
    let words = ["-p", &both, "-p", &publish, &image, "sh", "-c", "touch /ran"];
    let said = bryo.fails(125, ["run", "--rm"].iter().chain(&words));
    assert!(
        said.contains(&format!("port 0.0.0.0:{port} is taken")) && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
    bryo.fails(125, ["run", "-d", "--name", "waits"].iter().chain(&words));
    assert_eq!(field(&bryo, "waits", "{{.State.Status}}"), "created");
    assert_eq!(bryo.ok(["diff", "waits"]), "");
    assert!(is_free(free));
    drop(taken);
    assert_eq!(bryo.ok(["start", "-a", "waits"]), "");
    assert_eq!(bryo.ok(["diff", "waits"]), "A /ran\n");
    // Another container has it.
    bryo.ok([
        "run", "-d", "--name", "first", "-p", &publish, &image, "sleep", "1000",
    ]);
    assert!(
        bryo.fails(125, ["run", "--rm", "-p", &publish, &image, "true"])
            .contains("is taken")
    );
}

#[test]
fn ranges_and_all_exposed_ports() {
    let (bryo, image) = Bryo::with_image("configured");
    let run = |flags: &[&str], name| {
        let tail = ["--user", "0", "--entrypoint", "sleep", &image, "1000"];
        bryo.ok(["run", "-d", "--name", name].iter().chain(flags).chain(&tail));
    };
    run(&["-P", "--expose", "90-91/udp", "-p", "127.0.0.1::70"], "all");
    let ports = bryo.ok(["port", "all"]);
    let inside: Vec<&str> = ports
        .lines()
        .map(|line| line.split(" -> ").next().unwrap())
        .collect();
    assert_eq!(
        inside,
        [
            "70/tcp", "80/tcp", "80/tcp", "90/udp", "90/udp", "91/udp", "91/udp"
        ],
        "{ports}"
    );
    assert!(ports.starts_with("70/tcp -> 127.0.0.1:"), "{ports}");

    // The first of a range that is free, twice; then none is left.
    let (first, range) = loop {
        let first = free_port();
        if first < u16::MAX && is_free(first + 1) {
            break (first, format!("127.0.0.1:{first}-{}:70", first + 1));
        }
    };
    run(&["-p", &range], "one");
    run(&["-p", &range], "two");
    for (name, port) in [("one", first), ("two", first + 1)] {
        assert_eq!(bryo.ok(["port", name]), format!("70/tcp -> 127.0.0.1:{port}\n"));
    }
    let full = bryo.fails(125, ["run", "--rm", "-p", &range, &image]);
    assert!(
        full.contains(&format!("no port of the range {first}-{} is free", first + 1)),
        "{full}"
    );
    bryo.ok(["rm", "-f", "one", "two"]);
    run(&["-p", &format!("127.0.0.1:{first}-{}:70-71", first + 1)], "pair");
    assert_eq!(
        bryo.ok(["port", "pair"]),
        format!("70/tcp -> 127.0.0.1:{first}\n71/tcp -> 127.0.0.1:{}\n", first + 1)
    );
}

#[test]
fn datagrams_find_their_way_in_and_out() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let script = "socket S, PF_INET, SOCK_DGRAM, 0; bind S, sockaddr_in(53, INADDR_ANY) or die;
        while ($from = recv S, $text, 99, 0) { send S, $text . inet_ntoa((sockaddr_in $from)[1]), 0, $from }";
    let publish = [
        "-p",
        "127.0.0.1::53/udp",
        &image,
        "perl",
        "-MSocket",
        "-e",
        script,
    ];
    bryo.ok(["run", "-d", "--name", "echo"].iter().chain(&publish));
    let told = bryo.ok(["port", "echo", "53/udp"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let told = told
        .strip_prefix("127.0.0.1:")
        .unwrap()
        .trim_end()
        .parse()
        .unwrap();
    let expected = format!("hello{}", field(&bryo, "echo", "{{.NetworkSettings.Gateway}}"));
    let mut answer = [0; 99];
    until("an answer", || {
        client.send_to(b"hello", (Ipv4Addr::LOCALHOST, told)).unwrap();
        client
            .recv(&mut answer)
            .is_ok_and(|length| answer[..length] == *expected.as_bytes())
    });
}

#[test]
fn flags_that_cannot_be_are_refused_with_the_reason() {
    let (bryo, image) = busybox();
    bryo.ok(["run", "-d", "--name", "other", &image, "sleep", "1000"]);
    for (flags, why) in [
        (&["-p", "x:80"][..], "invalid hostPort: x"),
        (&["-p", "8000-8001:80-82"], "invalid ranges specified"),
        (&["-p", "80/sctp"], "sctp ports cannot be published"),
        (&["-p", "8.8.8.8:8099:80"], "the host has no address 8.8.8.8"),
        (&["--expose", "0"], "invalid port: 0"),
        (&["--network", "far"], "network far not found"),
        (&["--network", "pasta"], "--network pasta is not supported"),
        (&["--network", "container:nobody"], "No such container: nobody"),
        (
            &["--network", "none", "-P"],
            "conflicting options: port publishing",
        ),
        (
            &["--network", "container:other", "-p", "80"],
            "conflicting options: port publishing",
        ),
        (
            &["--network", "container:other", "--hostname", "x"],
            "conflicting options: hostname",
        ),
        (
            &["--network", "container:other", "--dns", "::1"],
            "conflicting options: dns",
        ),
        (
            &["--network", "container:other", "--add-host", "a:::1"],
            "conflicting options: custom host-to-IP",
        ),
        (
            &["--ip", "10.0.2.7"],
            "user specified IP address is supported on user defined networks only",
        ),
        (&["--mac-address", "02:00:00:00:00:01"], "without Ethernet"),
    ] {
        let said = bryo.fails(
            125,
            ["run", "--rm"].iter().chain(flags).chain(&[&image[..], "true"]),
        );
        assert!(
            said.contains(why) && said.lines().count() == 1,
            "{flags:?}: {said}"
        );
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let first: u16 = start.trim().parse().unwrap();
    if first > 1 {
        let publish = format!("{}:80", first - 1);
        let said = bryo.fails(125, ["run", "--rm", "-p", &publish, &image, "true"]);
        assert!(
            said.contains("ip_unprivileged_port_start") && said.lines().count() == 1,
            "{said}"
        );
    }
    assert_eq!(bryo.ok(["ps", "-aq"]).lines().count(), 1);
    let done = bryo.run(["run", "--rm", "--network", "host", "-p", "80", &image, "true"]);
    assert!(
        done.status.success()
            && done
                .stderr
                .contains("ports are discarded when using host network mode"),
        "{done}"
    );
}

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
        let supervisor = common::parent(helper);
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
fn a_container_joins_anothers_network() {
    let (bryo, image) = busybox();
    let script = serves(80, "shared");
    bryo.ok([
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "81",
        "--add-host",
        "db:10.9.9.9",
        &image,
        "sh",
        "-c",
        &script,
    ]);
    let host = field(&bryo, "web", "{{.Config.Hostname}}");
    let join = ["--network", "container:web", &image, "sh", "-c"];
    let look = "hostname; grep -c 10.9.9.9 /etc/hosts; until wget -qO- http://127.0.0.1/; do :; done; ls /sys/class/net";
    let seen = bryo.ok(["run", "--rm"].iter().chain(&join).chain(&[look]));
    assert_eq!(seen, format!("{host}\n1\nshared\neth0\nlo\n"));
    // What it listens on is reached by the other's ports.
    let more = serves(81, "joined");
    bryo.ok(["run", "-d", "--name", "beside"]
        .iter()
        .chain(&join)
        .chain(&[&more[..]]));
    answers((Ipv4Addr::LOCALHOST, host_port(&bryo, "web", "81")), "joined");
    let mode = field(
        &bryo,
        "beside",
        "{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Networks}}",
    );
    assert_eq!(mode, format!("container:{} {{}}", field(&bryo, "web", "{{.Id}}")));
    assert_eq!(
        bryo.ok(["exec", "beside", "wget", "-qO-", "http://127.0.0.1:80/"]),
        "shared\n"
    );
    bryo.ok(["stop", "-t", "0", "beside", "web"]);
    let said = bryo.fails(1, ["start", "beside"]);
    assert!(
        said.contains("cannot join network of a non running container: web"),
        "{said}"
    );
    bryo.ok(["start", "web", "beside"]);
    answers((Ipv4Addr::LOCALHOST, host_port(&bryo, "web", "81")), "joined");
    // The host's is the host's.
    bryo.ok([
        "run",
        "-d",
        "--name",
        "host",
        "--network",
        "host",
        &image,
        "sleep",
        "1000",
    ]);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let seen = bryo.ok([
        "run",
        "--rm",
        "--network",
        "container:host",
        &image,
        "readlink",
        "/proc/self/ns/net",
    ]);
    assert_eq!(seen.trim_end(), own.to_str().unwrap());
}
