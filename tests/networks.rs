//! Do containers on networks of the user's own find each other, and nobody else? `commands` is about the commands and their
//! refusals, `moves` about who comes and goes, `deaths` about killed processes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

#[path = "networks/commands.rs"]
mod commands;
#[path = "networks/deaths.rs"]
mod deaths;
#[path = "networks/moves.rs"]
mod moves;

use std::net::TcpListener;
use std::process::Stdio;

use common::network::{ADDRESS, NAME, Names, alone, serve_dns};
use common::{Bryo, Done, field, until};

/// A web server that says a word.
fn serves(word: &str) -> String {
    format!("mkdir -p /w && echo {word} >/w/index.html && exec httpd -f -p 80 -h /w")
}

/// Starts one, with these flags.
fn serve(bryo: &Bryo, image: &str, name: &str, flags: &[&str]) {
    let script = serves(name);
    let mut words = vec!["run", "-d", "--name", name];
    words.extend(flags);
    words.extend([image, "sh", "-c", &script]);
    bryo.ok(words);
}

/// What a page says from within another container; empty if it does not answer.
fn page(bryo: &Bryo, from: &str, host: &str) -> String {
    // Until the server listens, it is refused.
    let script = format!(
        "for n in 1 2 3 4 5 6 7 8 9 10; do wget -qO- http://{host}/ 2>/dev/null && exit; sleep 0.2; done"
    );
    Done::of(&mut bryo.command(["exec", from, "sh", "-c", &script])).stdout
}

/// The addresses that a name has within a container.
fn looked_up(bryo: &Bryo, from: &str, name: &str) -> Vec<String> {
    let done = Done::of(&mut bryo.command(["exec", from, "nslookup", "-type=a", name]));
    let lines = done.stdout.lines().skip_while(|line| !line.starts_with("Name:"));
    lines
        .filter_map(|line| line.strip_prefix("Address: ").map(str::to_owned))
        .collect()
}

/// A container's address on a network.
fn address(bryo: &Bryo, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    bryo.ok(["inspect", "-f", &format, container]).trim().to_owned()
}

#[test]
fn containers_find_each_other_by_name_and_nobody_else_does() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["network", "create", "one"]);
    bryo.ok(["network", "create", "two"]);
    serve(
        &bryo,
        &image,
        "web",
        &["--network", "one", "--network-alias", "WWW"],
    );
    serve(&bryo, &image, "peer", &["--network", "one"]);
    serve(&bryo, &image, "far", &["--network", "two"]);
    serve(&bryo, &image, "alone", &[]);
    let id = field(&bryo, "web", "{{.Id}}");
    for name in ["web", "www", "web.one", "WEB.", &id[..12]] {
        assert_eq!(page(&bryo, "peer", name), "web\n", "{name}");
    }
    assert_eq!(page(&bryo, "web", "peer"), "peer\n");
    let ip = address(&bryo, "web", "one");
    assert_eq!(looked_up(&bryo, "peer", "web"), [ip.as_str()]);
    // Its own name means that address, too.
    assert_eq!(bryo.ok(["exec", "web", "hostname", "-i"]).trim(), ip);
    for from in ["far", "alone"] {
        assert_eq!(looked_up(&bryo, from, "web"), [""; 0], "{from}");
        let refused = format!("wget -qO- http://{ip}/; test $? = 1");
        bryo.ok(["exec", from, "sh", "-c", &refused]);
    }
    assert_eq!(
        bryo.ok(["ps", "-f", "network=one", "--format", "{{.Names}} {{.Networks}}"]),
        "peer one\nweb one\n"
    );
}

#[test]
fn an_internal_network_has_no_way_out() {
    alone("an_internal_network_has_no_way_out", Names::Dns, || {
        serve_dns();
        let listener = TcpListener::bind((ADDRESS, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (bryo, image) = Bryo::with_image("busybox");
        bryo.ok(["network", "create", "--internal", "in"]);
        bryo.ok(["network", "create", "out"]);
        serve(&bryo, &image, "web", &["--network", "in"]);
        serve(&bryo, &image, "both", &["--network", "in", "--network", "out"]);
        assert_eq!(page(&bryo, "both", "web"), "web\n");
        assert_eq!(page(&bryo, "web", "both"), "both\n");
        let reaches = |from: &str| {
            let knock = format!("nc {ADDRESS} {port} </dev/null");
            let mut command = bryo.command(["exec", from, "sh", "-c", &knock]);
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            listener.set_nonblocking(true).unwrap();
            let mut came = false;
            until("the client ends", || {
                came |= listener.accept().is_ok();
                child.try_wait().unwrap().is_some()
            });
            came
        };
        let outside = |from: &str| (looked_up(&bryo, from, NAME) == [ADDRESS], reaches(from));
        assert_eq!(outside("both"), (true, true));
        assert_eq!(outside("web"), (false, false));
        // Neither the way nor the names stay when the network that has them is left, or come late.
        bryo.ok(["network", "disconnect", "out", "both"]);
        assert_eq!(outside("both"), (false, false));
        bryo.ok(["network", "connect", "out", "web"]);
        assert_eq!(outside("web"), (true, true));
        let words = ["run", "--rm", "-p", "80", "--network", "in", &image, "true"];
        let published = Done::of(&mut bryo.command(words));
        assert!(published.stderr.contains("ports are discarded"), "{published}");
    });
}

/// By the C library, which is told to ask by TCP, and asks for both families on one connection.
fn by_tcp(bryo: &Bryo, from: &str, name: &str) -> Option<String> {
    let words = [
        "exec",
        "-e",
        "RES_OPTIONS=use-vc timeout:5 attempts:2",
        from,
        "getent",
        "hosts",
        name,
    ];
    let done = bryo.run(words);
    let address = done.stdout.split_whitespace().next().map(str::to_owned);
    address.filter(|_| done.status.success())
}

#[test]
fn names_are_told_over_tcp_too() {
    alone("names_are_told_over_tcp_too", Names::Dns, || {
        serve_dns();
        let (bryo, image) = Bryo::with_image("debian:12");
        bryo.ok(["network", "create", "--internal", "in"]);
        bryo.ok(["network", "create", "out"]);
        for (name, flags) in [
            ("web", &["--network", "in", "--network", "out"][..]),
            ("closed", &["--network", "in"]),
            ("open", &["--network", "out"]),
        ] {
            let words = ["run", "-d", "--name", name];
            bryo.ok(words.iter().chain(flags).chain(&[&image[..], "sleep", "1000"]));
        }
        let tcp = |from: &str, name: &str| by_tcp(&bryo, from, name);
        assert_eq!(tcp("closed", "web"), Some(address(&bryo, "web", "in")));
        assert_eq!(tcp("open", "web"), Some(address(&bryo, "web", "out")));
        // What nobody here is called is asked outside, by who may ask there.
        assert_eq!(tcp("open", NAME).as_deref(), Some(ADDRESS));
        assert_eq!(tcp("open", "nobody.test"), None);
        assert_eq!(tcp("closed", NAME), None);
        // A question that is none of DNS gets out of no internal network either.
        let knock = "perl -MSocket -e 'socket S, PF_INET, SOCK_STREAM, 0; connect S, sockaddr_in(53, inet_aton($ARGV[0])) or die;
            syswrite S, \"\\0\\3abc\"; sysread S, $_, 9; print length' $(sed -n 's/nameserver //p' /etc/resolv.conf | head -1)";
        assert_eq!(bryo.ok(["exec", "closed", "bash", "-c", knock]), "0");
    });
}

#[test]
fn an_address_has_its_containers_name() {
    let (bryo, image) = Bryo::with_image("debian:12");
    for network in ["one", "two"] {
        let number = network.len() + usize::from(network == "two");
        let (v4, v6) = (format!("10.9{number}.7.0/24"), format!("fd9{number}:7::/64"));
        bryo.ok([
            "network", "create", "--ipv6", "--subnet", &v4, "--subnet", &v6, network,
        ]);
        let peer = format!("peer-{network}");
        for name in [&format!("web-{network}"), &peer] {
            bryo.ok([
                "run",
                "-d",
                "--name",
                name,
                "--network",
                network,
                &image,
                "sleep",
                "1000",
            ]);
        }
    }
    let name_of = |from: &str, address: &str| {
        let done = bryo.run(["exec", from, "getent", "hosts", address]);
        done.stdout.split_whitespace().nth(1).map(str::to_owned)
    };
    let ip = address(&bryo, "web-one", "one");
    let format = "{{(index .NetworkSettings.Networks \"one\").GlobalIPv6Address}}";
    let v6 = field(&bryo, "web-one", format);
    assert_eq!(name_of("peer-one", &ip).as_deref(), Some("web-one.one"));
    assert_eq!(name_of("peer-one", &v6).as_deref(), Some("web-one.one"));
    bryo.ok(["rename", "web-one", "other"]);
    assert_eq!(name_of("peer-one", &ip).as_deref(), Some("other.one"));
    // Nobody learns who is on a network that it is not on.
    assert_eq!(name_of("peer-two", &ip), None);
}

#[test]
fn published_ports_lead_in_as_without() {
    use std::io::{Read as _, Write as _};
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["network", "create", "one"]);
    serve(&bryo, &image, "web", &["--network", "one", "-p", "127.0.0.1::80"]);
    let port = bryo.ok(["port", "web", "80"]);
    common::until("the page", || {
        let Ok(mut stream) = std::net::TcpStream::connect(port.trim()) else {
            return false;
        };
        let mut text = String::new();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_string(&mut text).is_ok()
            && text.ends_with("web\n")
    });
}

#[test]
fn both_families_and_addresses_of_ones_choice() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "10.91.0.0/24",
        "--subnet",
        "fd91::/64",
        "six",
    ]);
    serve(
        &bryo,
        &image,
        "web",
        &["--network", "six", "--ip", "10.91.0.77", "--ip6", "fd91::77"],
    );
    serve(&bryo, &image, "peer", &["--network", "six"]);
    assert_eq!(address(&bryo, "web", "six"), "10.91.0.77");
    assert_eq!(page(&bryo, "peer", "10.91.0.77"), "web\n");
    assert_eq!(page(&bryo, "peer", "[fd91::77]"), "web\n");
    let v6 = bryo.ok(["exec", "peer", "nslookup", "-type=aaaa", "web"]);
    assert!(v6.contains("Address: fd91::77"), "{v6}");
    for (ip, why) in [
        ("10.91.0.77", "already in use"),
        ("10.92.0.1", "no configured subnet"),
    ] {
        let line = bryo.fails(
            125,
            ["run", "--rm", "--network", "six", "--ip", ip, &image, "true"],
        );
        assert!(line.contains(why), "{line}");
    }
    bryo.ok(["network", "create", "chosen"]);
    let line = bryo.fails(
        125,
        [
            "run",
            "--rm",
            "--network",
            "chosen",
            "--ip",
            "172.18.0.9",
            &image,
            "true",
        ],
    );
    assert!(line.contains("user configured subnets"), "{line}");
}
