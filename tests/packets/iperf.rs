//! iperf3, a program of others that counts what arrives: TCP and UDP, from either side to the other, both ways.

use std::process::{Child, Command, Stdio};

use bryo::net::Protocol;
use serde_json::Value;

use super::common::{Done, until};
use super::inside::{Container, HOST, HOST_V6, on_a_host, port, shell};

const PORT: u16 = 5201;

/// A server that stays until it is dropped.
struct Server(Child);

impl Server {
    fn start() -> Server {
        let mut server = Command::new("iperf3");
        server.args(["-s", "-p", &PORT.to_string()]);
        let server = Server(
            server
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        until("iperf3 listens", || {
            shell("ss -tln").contains(&format!(":{PORT} "))
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both are told of by the test that wants another server at this port.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What a client found, in the end.
fn client(to: &str, port: u16, flags: &[&str]) -> Value {
    let mut found = Value::Null;
    // It takes one client at a time, and a moment to see that the last one has gone.
    until("the server has time", || {
        let mut client = Command::new("iperf3");
        client.args(["-J", "-c", to, "-p", &port.to_string()]).args(flags);
        let done = Done::of(&mut client);
        found = serde_json::from_str(&done.stdout).unwrap();
        let is_busy = found["error"]
            .as_str()
            .is_some_and(|error| error.contains("busy"));
        assert!(is_busy || found["error"].is_null(), "{to} {flags:?}: {done}");
        !is_busy
    });
    found["end"].take()
}

/// What one side sends arrives, datagrams of all sizes, too; those that the client gets come in their order. How many are lost
/// is a matter of what else the machine does: three large ones fill a socket.
fn measure(to: &str, port: u16) {
    let datagrams = |size, rate| ["-u", "-l", size, "-b", rate];
    for way in [&[][..], &["-R"]] {
        for kind in [&[][..], &datagrams("1400", "20M"), &datagrams("65000", "200M")] {
            let flags = [&["-t", "1"], kind, way].concat();
            let end = client(to, port, &flags);
            let number = |name: &str| end[name]["bytes"].as_u64();
            let (sent, received) = (number("sum_sent"), number("sum_received"));
            assert!(
                received > Some(1 << 18) && received <= sent,
                "{to} {flags:?}: {end}"
            );
            let streams = end["streams"].as_array().unwrap();
            let overtaken = |one: &Value| one["udp"]["out_of_order"].as_u64() > Some(0);
            assert!(!streams.iter().any(overtaken), "{to} {flags:?}: {end}");
        }
    }
}

#[test]
fn iperf_measures_what_a_container_sends_and_gets() {
    on_a_host("iperf::iperf_measures_what_a_container_sends_and_gets", || {
        let _server = Server::start();
        let container = Container::start(&[]);
        for host in [HOST, HOST_V6] {
            container.inside(move || measure(host, PORT));
        }
    });
}

#[test]
fn iperf_measures_what_comes_and_goes_by_a_published_port() {
    on_a_host(
        "iperf::iperf_measures_what_comes_and_goes_by_a_published_port",
        || {
            // Its datagrams go to the port at which it is called.
            let published =
                [Protocol::Tcp, Protocol::Udp].map(|protocol| port(protocol, "0.0.0.0:7001", PORT));
            let container = Container::start(&published);
            let _server = container.inside(Server::start);
            measure(HOST, 7001);
        },
    );
}
