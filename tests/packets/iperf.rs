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

/// What one side sends by TCP arrives; of datagrams at a moderate rate at most a few are lost, and none
/// overtakes another.
fn measure(to: &str, port: u16) {
    for way in [&[][..], &["-R"]] {
        let end = client(to, port, &[&["-t", "1"], way].concat());
        let number = |name: &str| end[name]["bytes"].as_u64();
        let (sent, received) = (number("sum_sent"), number("sum_received"));
        // The client ends a measurement while the last of it is on its way.
        assert!(
            received > Some(1 << 20) && received <= sent,
            "{to} {way:?}: {end}"
        );
    }
    for way in [&[][..], &["-R"]] {
        for (size, rate) in [("1400", "20M"), ("65000", "200M")] {
            let flags = [&["-u", "-t", "1", "-l", size, "-b", rate], way].concat();
            let end = client(to, port, &flags);
            let sum = &end["sum"];
            let (packets, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
            assert!(
                packets > Some(100) && lost.map(|lost| lost * 2) < packets,
                "{to} {flags:?}: {end}"
            );
            let streams = end["streams"].as_array().unwrap();
            let overtaken = streams.iter().all(|one| one["udp"]["out_of_order"] == 0);
            assert!(overtaken, "{to} {flags:?}: {end}");
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
