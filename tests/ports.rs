//! Do published ports lead into containers, and do they go with them? Flags, inspection, joined networks; `deaths` is about killed processes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

#[path = "ports/deaths.rs"]
mod deaths;
#[path = "ports/large.rs"]
mod large;
#[path = "ports/many.rs"]
mod many;
#[path = "ports/pages.rs"]
mod pages;
#[path = "ports/refused.rs"]
mod refused;

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;

use common::{Bryo, field, process, until};
use pages::{answers, free_port, host_port, is_dead, is_free, serves};

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
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
            "{{json .NetworkSettings.Ports}} {{.NetworkSettings.Inside.IPAddress}}"
        ),
        "{}"
    );
    bryo.ok(["start", "web"]);
    answers((Ipv4Addr::LOCALHOST, number), "hello");
    bryo.ok(["rm", "-f", "web"]);
    assert!(is_free(number));
}

#[test]
fn inspect_tells_of_the_network_as_podman_does() {
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
                    {{.NetworkSettings.Inside.IPAddress}}/{{.NetworkSettings.Inside.IPPrefixLen}} {{.NetworkSettings.Inside.Gateway}} \
                    {{json .NetworkSettings.IPAddress}} {{json .NetworkSettings.Networks.bridge.IPAddress}}";
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
        format!("bridge [9.9.9.9] [db:10.9.9.9] false {address} {gateway} \"\" \"\"")
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
            .contains("is taken by container first;")
    );
    // Another flag has it.
    let (one, all) = (format!("127.0.0.1:{free}:80"), format!("{free}:80"));
    assert!(
        bryo.fails(125, ["run", "--rm", "-p", &one, "-p", &all, &image, "true"])
            .contains(&format!("port 0.0.0.0:{free} is asked for twice;"))
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
    let expected = format!(
        "hello{}",
        field(&bryo, "echo", "{{.NetworkSettings.Inside.Gateway}}")
    );
    let mut answer = [0; 99];
    until("an answer", || {
        client.send_to(b"hello", (Ipv4Addr::LOCALHOST, told)).unwrap();
        client
            .recv(&mut answer)
            .is_ok_and(|length| answer[..length] == *expected.as_bytes())
    });
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
