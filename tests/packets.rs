//! Do packets travel as on any network? Real programs of a container's network namespace and of a host, with the built-in
//! network between them, in a network of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;
#[path = "packets/inside.rs"]
mod inside;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use inside::{Container, HOST, on_a_host, port};

use bryo::net::Protocol;

#[test]
fn a_container_connects_to_a_host() {
    on_a_host("a_container_connects_to_a_host", || {
        let server = TcpListener::bind((HOST, 7000)).unwrap();
        let container = Container::start(&[]);
        let client = container.spawn(|| {
            let mut stream = TcpStream::connect((HOST, 7000)).unwrap();
            stream.write_all(b"question").unwrap();
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).unwrap();
            answer
        });
        let (mut stream, from) = server.accept().unwrap();
        assert_eq!(from.ip().to_string(), HOST);
        let mut question = [0; 8];
        stream.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"question");
        stream.write_all(b"answer").unwrap();
        assert_eq!(&client.join().unwrap(), b"answer");
    });
}

#[test]
fn a_client_of_the_host_reaches_a_container() {
    on_a_host("a_client_of_the_host_reaches_a_container", || {
        let container = Container::start(&[port(Protocol::Tcp, "0.0.0.0:8080", 80)]);
        let server = container.spawn(|| {
            let server = TcpListener::bind("0.0.0.0:80").unwrap();
            let (mut stream, from) = server.accept().unwrap();
            stream.write_all(b"welcome").unwrap();
            from
        });
        let mut stream = loop {
            // Refused until it listens.
            let mut stream = TcpStream::connect((HOST, 8080)).unwrap();
            let mut first = [0];
            if stream.read(&mut first).is_ok_and(|read| read == 1) {
                break stream;
            }
        };
        let own = stream.local_addr().unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "elcome");
        assert_eq!(server.join().unwrap(), own);
    });
}
