//! Is a container found where it is, and only there, when it comes, goes, is renamed, or starts anew?

use std::net::TcpListener;

use crate::common::network::{ADDRESS, Names, alone};
use crate::common::{Bryo, Done, field, process, until};
use crate::{address, looked_up, page, serve};

fn two() -> (Bryo, String) {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["network", "create", "one"]);
    bryo.ok(["network", "create", "two"]);
    (bryo, image)
}

#[test]
fn a_running_container_comes_onto_a_network_and_leaves_it() {
    let (bryo, image) = two();
    serve(&bryo, &image, "web", &[]);
    serve(&bryo, &image, "peer", &["--network", "one"]);
    serve(&bryo, &image, "other", &["--network", "two"]);
    bryo.ok(["network", "connect", "--alias", "www", "one", "web"]);
    assert_eq!(page(&bryo, "peer", "www"), "web\n");
    assert_eq!(page(&bryo, "web", "peer"), "peer\n");
    bryo.ok(["network", "connect", "two", "web"]);
    assert_eq!(page(&bryo, "other", "web"), "web\n");
    assert_eq!(page(&bryo, "web", "other"), "other\n");
    assert_eq!(looked_up(&bryo, "peer", "other"), [""; 0]);
    let networks = bryo.ok(["ps", "-f", "name=web", "--format", "{{.Networks}}"]);
    assert_eq!(networks, "bridge,one,two\n");
    let line = bryo.fails(1, ["network", "connect", "one", "web"]);
    assert!(
        line.contains("endpoint with name web already exists in network one"),
        "{line}"
    );

    let was = address(&bryo, "web", "one");
    bryo.ok(["network", "disconnect", "one", "web"]);
    assert_eq!(looked_up(&bryo, "peer", "www"), [""; 0]);
    assert!(!bryo.ok(["exec", "web", "ip", "addr"]).contains(&was));
    let line = bryo.fails(1, ["network", "disconnect", "one", "web"]);
    assert!(line.contains("is not connected to network one"), "{line}");
    assert_eq!(page(&bryo, "other", "web"), "web\n");
    // What was wanted last is so after a restart, too.
    bryo.ok(["restart", "-t", "0", "web"]);
    assert_eq!(page(&bryo, "other", "web"), "web\n");
    assert_eq!(looked_up(&bryo, "peer", "web"), [""; 0]);
}

#[test]
fn a_stopped_container_is_not_found_and_a_restarted_one_has_its_new_address() {
    let (bryo, image) = two();
    serve(&bryo, &image, "web", &["--network", "one"]);
    serve(&bryo, &image, "peer", &["--network", "one"]);
    let was = address(&bryo, "web", "one");
    bryo.ok(["stop", "-t", "0", "web"]);
    assert_eq!(looked_up(&bryo, "peer", "web"), [""; 0]);
    // Somebody else has its address meanwhile.
    serve(&bryo, &image, "third", &["--network", "one"]);
    assert_eq!(address(&bryo, "third", "one"), was);
    bryo.ok(["start", "web"]);
    let now = address(&bryo, "web", "one");
    assert_ne!(now, was);
    assert_eq!(looked_up(&bryo, "peer", "web"), [now.as_str()]);
    assert_eq!(page(&bryo, "peer", "web"), "web\n");
    // A network that comes and goes while nobody runs.
    bryo.ok(["stop", "-t", "0", "web", "peer", "third"]);
    bryo.ok(["network", "rm", "one"]);
    let done = Done::of(&mut bryo.command(["start", "web"]));
    assert!(
        !done.status.success() && done.stderr.contains("network one not found"),
        "{done}"
    );
    bryo.ok(["network", "create", "one"]);
    bryo.ok(["start", "web", "peer"]);
    assert_eq!(page(&bryo, "peer", "web"), "web\n");
}

#[test]
fn one_that_is_started_again_by_its_policy_is_found_again() {
    let (bryo, image) = two();
    serve(&bryo, &image, "web", &["--network", "one", "--restart", "always"]);
    serve(&bryo, &image, "peer", &["--network", "one"]);
    let was = process(&bryo, "web", "Pid");
    nix::sys::signal::kill(was, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("another run", || {
        let now = field(&bryo, "web", "{{.State.Pid}}");
        now != "0" && now != was.to_string()
    });
    assert_eq!(page(&bryo, "peer", "web"), "web\n");
    let found = looked_up(&bryo, "peer", "web");
    assert_eq!(found, [address(&bryo, "web", "one")]);
}

/// Its kernel lives on for what it sent last to the world; on the network it must not.
#[test]
fn one_that_has_ended_answers_no_more_for_an_address_that_is_anothers() {
    let test = "moves::one_that_has_ended_answers_no_more_for_an_address_that_is_anothers";
    alone(test, Names::Hosts, || {
        // Takes nothing of what is sent.
        let listener = TcpListener::bind((ADDRESS, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (bryo, image) = two();
        let script = format!("nc {ADDRESS} {port} </dev/zero & while [ ! -e /end ]; do sleep 0.1; done");
        bryo.ok([
            "run",
            "-d",
            "--name",
            "first",
            "--network",
            "one",
            &image,
            "sh",
            "-c",
            &script,
        ]);
        let _stream = listener.accept().unwrap();
        serve(&bryo, &image, "peer", &["--network", "one"]);
        let was = address(&bryo, "first", "one");
        bryo.ok(["exec", "first", "touch", "/end"]);
        until("the name is gone", || {
            looked_up(&bryo, "peer", "first").is_empty()
        });
        serve(&bryo, &image, "second", &["--network", "one"]);
        assert_eq!(address(&bryo, "second", "one"), was);
        assert_eq!(page(&bryo, "second", "127.0.0.1"), "second\n");
        for _ in 0..5 {
            let words = ["exec", "peer", "wget", "-qO-", "http://second/"];
            assert_eq!(bryo.ok(words), "second\n");
        }
    });
}

#[test]
fn a_connect_that_fails_leaves_the_container_as_it_was() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["network", "create", "--subnet", "10.96.0.0/24", "one"]);
    serve(&bryo, &image, "peer", &["--network", "one", "--ip", "10.96.0.9"]);
    serve(&bryo, &image, "web", &[]);
    // In which the way out of each container lies.
    let inside = bryo.ok(["inspect", "-f", "{{.NetworkSettings.Inside.Gateway}}", "web"]);
    let subnet = format!("{}/24", inside.trim());
    bryo.ok(["network", "create", "--subnet", &subnet, "clash"]);
    for (words, why) in [
        (
            vec!["--ip", "10.96.0.9", "one"],
            "Address already in use: 10.96.0.9",
        ),
        (vec!["--ip", "10.97.0.9", "one"], "no configured subnet"),
        (vec!["clash"], "the container's way out lies"),
    ] {
        let done = Done::of(bryo.command(["network", "connect"]).args(&words).arg("web"));
        assert_eq!(done.status.code(), Some(1), "{words:?}: {done}");
        assert!(
            done.stderr.contains(why) && done.stderr.lines().count() == 1,
            "{words:?}: {done}"
        );
    }
    assert_eq!(
        bryo.ok(["ps", "-f", "name=web", "--format", "{{.Networks}}"]),
        "bridge\n"
    );
    bryo.ok(["restart", "-t", "0", "web"]);
    bryo.ok(["network", "connect", "--ip", "10.96.0.10", "one", "web"]);
    assert_eq!(looked_up(&bryo, "peer", "web"), ["10.96.0.10"]);
    assert_eq!(page(&bryo, "peer", "web"), "web\n");
}

#[test]
fn what_happens_is_told() {
    let (bryo, image) = two();
    serve(&bryo, &image, "web", &["--network", "one"]);
    bryo.ok(["network", "connect", "two", "web"]);
    bryo.ok(["network", "disconnect", "two", "web"]);
    bryo.ok(["rm", "-f", "web"]);
    bryo.ok(["network", "rm", "one"]);
    let format = "{{.Action}} {{.Actor.Attributes.name}}";
    let words = [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "-f",
        "type=network",
        "--format",
        format,
    ];
    let told = bryo.ok(words);
    let wanted = [
        "create one",
        "create two",
        "connect one",
        "connect two",
        "disconnect two",
        "disconnect one",
        "destroy one",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_name_that_several_have_means_all_of_them_and_a_renamed_one_the_new_name() {
    let (bryo, image) = two();
    for name in ["first", "second"] {
        serve(
            &bryo,
            &image,
            name,
            &["--network", "one", "--network-alias", "both"],
        );
    }
    let mut found = looked_up(&bryo, "first", "both");
    found.sort();
    assert_eq!(
        found,
        [address(&bryo, "first", "one"), address(&bryo, "second", "one")]
    );
    bryo.ok(["rename", "second", "last"]);
    assert_eq!(looked_up(&bryo, "first", "second"), [""; 0]);
    assert_eq!(looked_up(&bryo, "first", "last"), [address(&bryo, "last", "one")]);
}

#[test]
fn one_that_leaves_all_networks_reaches_nothing_and_comes_back() {
    let (bryo, image) = two();
    serve(&bryo, &image, "web", &[]);
    bryo.ok(["network", "disconnect", "bridge", "web"]);
    assert_eq!(bryo.ok(["ps", "--format", "{{.Networks}}"]), "\n");
    let done = Done::of(&mut bryo.command(["exec", "web", "nslookup", "-type=a", "example.invalid"]));
    assert!(done.stdout.contains("SERVFAIL"), "{done}");
    bryo.ok(["network", "connect", "bridge", "web"]);
    assert_eq!(bryo.ok(["ps", "--format", "{{.Networks}}"]), "bridge\n");
}

#[test]
fn many_start_at_once_on_one_network() {
    let (bryo, image) = two();
    let starts: Vec<_> = (0..6)
        .map(|n| {
            let name = format!("c{n}");
            let mut command = bryo.command([
                "run",
                "-d",
                "--network",
                "one",
                "--name",
                &name,
                &image,
                "sleep",
                "100",
            ]);
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut start in starts {
        assert!(start.wait().unwrap().success());
    }
    let mut found: Vec<String> = (0..6).map(|n| address(&bryo, &format!("c{n}"), "one")).collect();
    for (n, address) in found.iter().enumerate() {
        assert_eq!(looked_up(&bryo, "c0", &format!("c{n}")), [address.as_str()]);
        bryo.ok(["exec", "c0", "ping", "-c1", "-W5", address]);
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 6);
    bryo.ok(["stop", "-t", "0", "c1", "c2", "c3", "c4", "c5"]);
    until("they are gone", || looked_up(&bryo, "c0", "c5").is_empty());
}

#[test]
fn a_removed_network_is_not_another_whose_id_begins_with_its_name() {
    let (bryo, image) = two();
    let id = bryo.ok(["network", "inspect", "-f", "{{.Id}}", "two"]);
    let name = &id[..3];
    bryo.ok(["network", "create", name]);
    serve(&bryo, &image, "web", &["--network", name]);
    bryo.ok(["stop", "-t", "0", "web"]);
    bryo.ok(["network", "rm", name]);
    let done = Done::of(&mut bryo.command(["start", "web"]));
    let why = format!("network {name} not found");
    assert!(!done.status.success() && done.stderr.contains(&why), "{done}");
    // That it is wanted can be taken back.
    bryo.ok(["network", "disconnect", name, "web"]);
    bryo.ok(["start", "web"]);
    assert_eq!(
        bryo.ok(["ps", "-f", "name=web", "--format", "{{.Networks}}"]),
        "\n"
    );
}

/// As one that is killed between both leaves it.
#[test]
fn what_was_wanted_and_not_told_is_done_when_it_is_asked_for_again() {
    let (bryo, image) = two();
    serve(&bryo, &image, "peer", &["--network", "one"]);
    serve(&bryo, &image, "web", &[]);
    let id = field(&bryo, "web", "{{.Id}}");
    bryo.ok(["network", "connect", "one", "web"]);
    let path = bryo.state().join("containers").join(id).join("amended.json");
    let connected = std::fs::read_to_string(&path).unwrap();
    bryo.ok(["network", "disconnect", "one", "web"]);
    let left = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, connected.replace("\"serial\":1", "\"serial\":3")).unwrap();
    bryo.ok(["network", "connect", "one", "web"]);
    assert_eq!(page(&bryo, "peer", "web"), "web\n");
    std::fs::write(&path, left.replace("\"serial\":2", "\"serial\":5")).unwrap();
    bryo.ok(["network", "disconnect", "one", "web"]);
    assert_eq!(looked_up(&bryo, "peer", "web"), [""; 0]);
    let line = bryo.fails(1, ["network", "disconnect", "one", "web"]);
    assert!(line.contains("is not connected to network one"), "{line}");
}

#[test]
fn a_device_that_was_renamed_does_not_stay() {
    let (bryo, image) = two();
    serve(&bryo, &image, "web", &["--cap-add=NET_ADMIN", "--network=one"]);
    let was = address(&bryo, "web", "one");
    let rename = "ip link set eth0 down && ip link set eth0 name mine && ip link set mine up";
    bryo.ok(["exec", "web", "sh", "-c", rename]);
    assert!(bryo.ok(["exec", "web", "ip", "addr"]).contains(&was));
    bryo.ok(["network", "disconnect", "one", "web"]);
    let devices = bryo.ok(["exec", "web", "ip", "addr"]);
    assert!(!devices.contains("mine"), "{devices}");
}
