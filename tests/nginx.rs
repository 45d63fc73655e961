//! The web server of the article that Bryo was made from, word for word: `nginx` from a mirror, on port 8080 of the host.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;

use common::{Bryo, Done, Registry, field, has_id_range, once_free, until};

/// A store whose Docker Hub is a mirror on loopback.
struct Story {
    bryo: Bryo,
    _mirror: Registry,
}

impl Story {
    fn new() -> Story {
        let (bryo, mirror) = (Bryo::new(), Registry::shared());
        let settings = format!(
            "[[registry]]\nprefix = 'docker.io'\n[[registry.mirror]]\nlocation = '{}'\n",
            mirror.address()
        );
        fs::write(bryo.scratch("registries.toml"), settings).unwrap();
        Story {
            bryo,
            _mirror: mirror,
        }
    }

    /// A line of the article.
    fn command(&self, line: &str) -> Command {
        let mut command = self
            .bryo
            .command(line.split(" ").map(|word| word.replace("\u{a0}", " ")));
        command.env("BRYO_REGISTRIES", self.bryo.scratch("registries.toml"));
        command
    }

    #[track_caller]
    fn types(&self, line: &str) -> String {
        let done = Done::of(&mut self.command(line));
        assert!(done.status.success(), "{done}");
        done.stdout.trim_end().to_owned()
    }
}

/// With one id only, nginx cannot change its workers' user, which Debian's configuration asks for.
fn line(ports: &str) -> String {
    match has_id_range() {
        true => format!("run -d {ports} nginx"),
        false => format!(
            "run -d {ports} nginx sh -c sed\u{a0}-i\u{a0}'s/^user.*/user\u{a0}root;/'\u{a0}/etc/nginx/nginx.conf;exec\u{a0}nginx\u{a0}-g\u{a0}'daemon\u{a0}off;'"
        ),
    }
}

fn get(address: impl Into<SocketAddr>) -> Option<String> {
    let mut stream = TcpStream::connect(address.into()).ok()?;
    write!(stream, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The address that this machine's packets for others have; nothing is sent.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

#[test]
fn the_articles_web_server() {
    let story = Story::new();
    story.types("pull nginx");
    let image = story.types("images -q --no-trunc nginx");
    let started = once_free(8080, || Done::of(&mut story.command(&line("-p 8080:80"))));
    assert!(started.status.success(), "{started}");
    let id = started.stdout.trim_end();
    let page = || get(([127, 0, 0, 1], 8080));
    until("the welcome page", || {
        page().is_some_and(|page| page.contains("Welcome to nginx!"))
    });
    let running = story.types("ps --format {{.State}}\u{a0}{{.Ports}}");
    assert_eq!(running, "running 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");

    // A client that is not on loopback is seen as it is.
    let client = outward();
    if let Some(client) = client {
        assert!(get((client, 8080)).unwrap().starts_with("HTTP/1.1 200 OK"));
    }
    let gateway = field(&story.bryo, id, "{{.NetworkSettings.Inside.Gateway}}");
    let known = client.map_or(gateway.clone(), |client| client.to_string());
    until("the log of both", || {
        let log = story.bryo.run(["logs", id]).stdout;
        [&gateway, &known].iter().all(|address| {
            log.lines()
                .any(|line| line.starts_with(&format!("{address} - - ")))
        })
    });

    // Its changes are its own.
    story.types(&format!(
        "exec {id} sh -c echo\u{a0}mine\u{a0}>\u{a0}/var/www/html/index.nginx-debian.html"
    ));
    assert!(page().unwrap().ends_with("\r\n\r\nmine\n"));
    let second = story.types(&line("-p 80"));
    let port: u16 = story
        .types(&format!("port {second} 80"))
        .lines()
        .next()
        .and_then(|line| line.rsplit_once(':')?.1.parse().ok())
        .unwrap();
    until("the second one's page", || {
        get(([127, 0, 0, 1], port)).is_some_and(|page| page.contains("Welcome to nginx!"))
    });
    assert_eq!(story.types("images -q --no-trunc nginx"), image);

    story.types(&format!("stop {id}"));
    assert_eq!(field(&story.bryo, id, "{{.State.Status}}"), "exited");
    assert!(
        page().is_none_or(|page| !page.contains("mine")),
        "the port is still open"
    );
    story.types("store check");
}
