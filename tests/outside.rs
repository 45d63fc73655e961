//! What does a container see of the world outside, and the world of it? On a host of the test's own, whose addresses and
//! names are the test's to give.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use common::network::{ADDRESS, NAME, Names, alone, serve_dns};
use common::sandbox::in_own_namespaces;
use common::{Bryo, Done, field, parent, process, until};
use socket2::{Domain, Socket, Type};

/// Says hello to everybody who comes, there.
fn greets(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            drop(client.write_all(b"hello\n"));
        }
    });
    port
}

#[test]
fn names_are_resolved_by_the_hosts_servers() {
    alone("names_are_resolved_by_the_hosts_servers", Names::Dns, || {
        serve_dns();
        let (bryo, image) = Bryo::with_image("debian:12");
        assert_eq!(
            bryo.sh(
                &image,
                &format!("getent ahostsv4 {NAME} | head -1; cat /etc/resolv.conf")
            )
            .split_whitespace()
            .next(),
            Some(ADDRESS)
        );
        // A search list of any length is the container's, too.
        let long = format!("nameserver {ADDRESS}\nsearch {}\n", "x.example ".repeat(1000));
        std::fs::write("/etc/resolv.conf", long).unwrap();
        let seen = bryo.sh(
            &image,
            &format!("getent ahostsv4 {NAME}. | head -1; wc -w /etc/resolv.conf"),
        );
        assert!(seen.starts_with(ADDRESS) && seen.contains("1003 /etc"), "{seen}");
        // Flags put others in their place; the host's search list stays.
        let flags = [
            "--dns",
            ADDRESS,
            "--dns-search",
            "test",
            "--dns-option",
            "ndots:2",
        ];
        let script = "getent ahostsv4 registry | head -1; cat /etc/resolv.conf";
        let command = [&image[..], "sh", "-c", script];
        let seen = bryo.ok(["run", "--rm"].iter().chain(&flags).chain(&command));
        let (first, rest) = seen.split_once('\n').unwrap();
        assert!(first.starts_with(ADDRESS), "{seen}");
        assert_eq!(
            rest,
            format!("nameserver {ADDRESS}\nsearch test\noptions ndots:2\n")
        );
    });
}

#[test]
fn the_host_is_reached_where_it_listens_for_others() {
    alone(
        "the_host_is_reached_where_it_listens_for_others",
        Names::Hosts,
        || {
            // The host is where its way out begins.
            let way = "ip link add cable type veth peer name end && ip address add 10.78.0.1/24 dev cable &&
            ip link set cable up && ip link set end up && ip route add default via 10.78.0.254";
            let done = Done::of(Command::new("sh").args(["-ec", way]));
            assert!(done.status.success(), "{done}");
            let (bryo, image) = Bryo::with_image("debian:12");
            let (open, shut) = (greets(Ipv4Addr::UNSPECIFIED), greets(Ipv4Addr::LOCALHOST));
            let ask = |host: &str, port: u16| {
                let script = format!("exec 3<>/dev/tcp/{host}/{port} && cat <&3");
                let words = [
                    "run",
                    "--rm",
                    "--add-host",
                    "up:host-gateway",
                    &image,
                    "bash",
                    "-c",
                    &script,
                ];
                bryo.run(words)
            };
            for host in [ADDRESS, "host.docker.internal", "up"] {
                let done = ask(host, open);
                assert_eq!(done.stdout, "hello\n", "{host}: {done}");
            }
            for host in ["127.0.0.1", "host.docker.internal"] {
                let done = ask(host, shut);
                assert!(
                    !done.status.success() && done.stderr.contains("refused"),
                    "{host}: {done}"
                );
            }
            // Its own name is its own address, and not the host's loopback.
            let script = "getent ahostsv4 $(hostname) | cut -d' ' -f1 | head -1; getent ahostsv4 localhost | cut -d' ' -f1 | head -1";
            let seen = bryo.sh(&image, script);
            assert!(seen.starts_with("10.0.2.100\n127.0.0.1\n"), "{seen}");
        },
    );
}

#[test]
fn a_client_is_seen_as_it_is() {
    alone("a_client_is_seen_as_it_is", Names::Hosts, || {
        let (bryo, image) = Bryo::with_image("busybox");
        let script = "echo page > /tmp/index.html; exec httpd -f -v -p 80 -h /tmp";
        bryo.ok([
            "run", "-d", "--name", "web", "-p", "80", &image, "sh", "-c", script,
        ]);
        let told = bryo.ok(["port", "web", "80"]);
        let port: u16 = told
            .lines()
            .next()
            .unwrap()
            .rsplit_once(':')
            .unwrap()
            .1
            .parse()
            .unwrap();
        let ask = |from: &str| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let bound = |address: &str| std::net::SocketAddr::new(address.parse().unwrap(), 0);
            socket.bind(&bound(from).into()).unwrap();
            let server = std::net::SocketAddr::new(ADDRESS.parse().unwrap(), port);
            socket.connect(&server.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            // Until the server listens, it is reset.
            let mut answer = String::new();
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").is_ok()
                && stream.read_to_string(&mut answer).is_ok()
                && answer.ends_with("page\n")
        };
        until("an answer", || ask(ADDRESS));
        assert!(ask("127.0.0.1"));
        let gateway = field(&bryo, "web", "{{.NetworkSettings.Inside.Gateway}}");
        let mut log = String::new();
        until("the log of both", || {
            let done = bryo.run(["logs", "web"]);
            log = done.stdout + &done.stderr;
            [ADDRESS, &gateway]
                .iter()
                .all(|from| log.contains(&format!(":{from}]:")))
        });
        assert!(!log.contains("127.0.0.1"), "{log}");
    });
}

#[test]
fn who_carries_packets_for_root_has_no_capabilities() {
    alone(
        "who_carries_packets_for_root_has_no_capabilities",
        Names::Hosts,
        || {
            let (bryo, image) = Bryo::with_image("busybox");
            bryo.ok(["run", "-d", "--name", "one", &image, "sleep", "1000"]);
            let carrier = process(&bryo, "one", "NetworkPid");
            let sets = |pid| {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let of = |set| {
                    status
                        .lines()
                        .find_map(|line| line.strip_prefix(set))
                        .unwrap()
                        .trim()
                };
                [of("CapInh:"), of("CapPrm:"), of("CapEff:")].map(|set| u64::from_str_radix(set, 16).unwrap())
            };
            assert_ne!(sets(parent(carrier))[1], 0);
            until("its confinement", || sets(carrier) == [0; 3]);
        },
    );
}

#[test]
fn without_the_device_there_is_the_hosts_network_and_a_warning() {
    in_own_namespaces(
        "without_the_device_there_is_the_hosts_network_and_a_warning",
        || {
            let done =
                Done::of(Command::new("sh").args(["-ec", "ip link set lo up; mount -t tmpfs none /dev/net"]));
            assert!(done.status.success(), "{done}");
            let (bryo, image) = Bryo::with_image("busybox");
            let own = std::fs::read_link("/proc/self/ns/net").unwrap();
            let done = bryo.run(["run", "--name", "one", &image, "readlink", "/proc/self/ns/net"]);
            assert_eq!(done.stdout.trim_end(), own.to_str().unwrap(), "{done}");
            let warned = done
                .stderr
                .lines()
                .filter(|line| line.contains("/dev/net/tun"))
                .count();
            assert!(
                warned == 1
                    && done.stderr.contains(
                        "the container shares the host's network, as --network host does, loopback"
                    ),
                "{done}"
            );
            assert_eq!(field(&bryo, "one", "{{.HostConfig.NetworkMode}}"), "host");
            for flags in [&["-p", "80"][..], &["-P"], &["--network", "bridge"]] {
                let said = bryo.fails(
                    125,
                    ["run", "--rm"].iter().chain(flags).chain(&[&image[..], "true"]),
                );
                assert!(
                    said.contains("cannot open /dev/net/tun") && said.contains("modprobe tun"),
                    "{said}"
                );
            }
            for network in ["host", "none"] {
                let done = bryo.run(["run", "--rm", "--network", network, &image, "true"]);
                assert!(
                    done.status.success() && !done.stderr.contains("/dev/net/tun"),
                    "{done}"
                );
            }
        },
    );
}
