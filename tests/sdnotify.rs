//! `--sdnotify`: what systemd hears of a container. A socket of the test's stands in for it.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::{Bryo, Done, field, parent, process, until};

/// Where systemd would listen.
struct Systemd {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Systemd {
    fn new(bryo: &Bryo) -> Systemd {
        let path = bryo.scratch("systemd");
        let socket = UnixDatagram::bind(&path).unwrap();
        Systemd { socket, path }
    }

    fn hears(&self) -> String {
        self.socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    fn hears_no_more(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut message = [0; 4096];
        assert!(self.socket.recv(&mut message).is_err(), "{message:?}");
        self.socket.set_nonblocking(false).unwrap();
    }

    fn start(&self, bryo: &Bryo, words: &[&str]) {
        let done = Done::of(bryo.command(words).env("NOTIFY_SOCKET", &self.path));
        assert!(done.status.success(), "{done}");
    }
}

fn main_process(bryo: &Bryo) -> String {
    format!("MAINPID={}", parent(process(bryo, "one", "Pid")))
}

/// `perl` says it; in the image there is nothing else that speaks to sockets of that kind.
const SAYS: &str = r#"
    say() { perl -MSocket -e 'socket(S, PF_UNIX, SOCK_DGRAM, 0) or die; my $m = join "\n", @ARGV;
        defined send(S, $m, 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die "$!\n"' "$@"; }
    until [ -e /go ]; do sleep 0.05; done
    say MAINPID=1 FDSTORE=1
    say MAINPID=1 READY=1 STATUS=up
    exec sleep 1000
"#;

/// What its first process was told.
const TOLD: &str = "ls /run/notify; tr '\\0' '\\n' < /proc/1/environ | grep NOTIFY_SOCKET";

#[test]
fn a_container_says_itself_when_it_is_ready() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let systemd = Systemd::new(&bryo);
    for user in ["0", "33"] {
        let user = if common::has_id_range() { user } else { "0" };
        let words = [
            "run",
            "-d",
            "--name",
            "one",
            "--sdnotify",
            "container",
            "-u",
            user,
            &image,
            "sh",
            "-ec",
            SAYS,
        ];
        systemd.start(&bryo, &words);
        assert_eq!(systemd.hears(), main_process(&bryo));
        systemd.hears_no_more();
        bryo.ok(["exec", "-u", "0", "one", "touch", "/go"]);
        // Of what is not its own to say nothing arrives.
        assert_eq!(systemd.hears(), "READY=1\nSTATUS=up");
        let found = bryo.run(["exec", "one", "sh", "-c", TOLD]).stdout;
        assert_eq!(found, "notify.sock\nNOTIFY_SOCKET=/run/notify/notify.sock\n");
        // Started again, it has another socket.
        bryo.ok(["stop", "-t0", "one"]);
        systemd.start(&bryo, &["start", "one"]);
        assert_eq!(systemd.hears(), main_process(&bryo));
        assert_eq!(systemd.hears(), "READY=1\nSTATUS=up");
        // By somebody whom systemd does not listen to, none.
        bryo.ok(["stop", "-t0", "one"]);
        bryo.ok(["start", "one"]);
        assert_eq!(bryo.run(["exec", "one", "sh", "-c", TOLD]).stdout, "");
        systemd.hears_no_more();
        bryo.ok(["rm", "-f", "one"]);
    }
}

#[test]
fn a_health_check_says_when_it_is_ready() {
    let (bryo, image) = Bryo::with_image("busybox");
    let systemd = Systemd::new(&bryo);
    let run = "run -d --name one --sdnotify healthy --health-interval 100ms --health-retries 1 --health-cmd";
    let words: Vec<&str> = run
        .split(' ')
        .chain(["test -e /well", &image, "sleep", "1000"])
        .collect();
    systemd.start(&bryo, &words);
    assert_eq!(systemd.hears(), main_process(&bryo));
    until("it is unwell", || {
        field(&bryo, "one", "{{.State.Health.Status}}") == "unhealthy"
    });
    systemd.hears_no_more();
    bryo.ok(["exec", "one", "touch", "/well"]);
    assert_eq!(systemd.hears(), "READY=1");
    bryo.ok(["rm", "-f", "one"]);
}

#[test]
fn a_supervisor_says_it_at_once_or_nobody_does() {
    let (bryo, image) = Bryo::with_image("busybox");
    let systemd = Systemd::new(&bryo);
    let run = |mode: &str| {
        let words = [
            "run",
            "-d",
            "--name",
            "one",
            "--sdnotify",
            mode,
            &image,
            "sleep",
            "1000",
        ];
        systemd.start(&bryo, &words);
        assert_eq!(bryo.run(["exec", "one", "sh", "-c", TOLD]).stdout, "");
    };
    run("conmon");
    assert_eq!(systemd.hears(), main_process(&bryo) + "\nREADY=1");
    bryo.ok(["rm", "-f", "one"]);
    run("ignore");
    systemd.hears_no_more();
    bryo.ok(["rm", "-f", "one"]);
}
