//! Pages that containers serve, and the ports of the host that lead to them.
#![allow(unreachable_pub)]

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::common::{Bryo, until};

/// A script that serves a page with this text on a port of the container.
pub fn serves(port: u16, text: &str) -> String {
    format!("mkdir -p /www; echo {text} > /www/index.html; exec httpd -f -p {port} -h /www")
}

/// What comes back from there, once something does.
pub fn page(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /index.html HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.rsplit_once("\r\n\r\n")?.1.trim_end().to_owned())
}

#[track_caller]
pub fn answers(at: impl Into<SocketAddr>, text: &str) {
    let at = at.into();
    until(&format!("{text} at {at}"), || page(at).as_deref() == Some(text));
}

/// Where the host has a port of a container, by IPv4.
#[track_caller]
pub fn host_port(bryo: &Bryo, name: &str, port: &str) -> u16 {
    let said = bryo.ok(["port", name, port]);
    let first = said.lines().find(|line| line.starts_with("0.0.0.0:")).unwrap();
    first.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A port that nobody listens on, by IPv4 and IPv6.
pub fn free_port() -> u16 {
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
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_ok()
}

/// Not there, or a zombie that nobody has reaped yet.
pub fn is_dead(pid: nix::unistd::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}
