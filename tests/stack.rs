//! A web site as people run it: nginx, an application in Python, PostgreSQL with a volume and Redis, in four containers on two
//! networks, looked at by a browser.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use common::{Bryo, Done, Registry, field, has_id_range, once_free, process, until};
use nix::sys::signal::{Signal, kill};

struct Site {
    bryo: Bryo,
    image: String,
    front: String,
    port: u16,
}

const DB: [&str; 15] = [
    "-d",
    "--name",
    "db",
    "--network",
    "back",
    "--restart",
    "always",
    "-u",
    "postgres",
    "-e",
    "PGDATA=/srv/pg",
    "--health-interval",
    "1s",
    "--health-cmd",
    "/usr/lib/postgresql/15/bin/pg_isready -h localhost",
];

impl Site {
    fn new() -> Site {
        let (bryo, image) = Bryo::with_image("workloads");
        let registry = Registry::shared();
        let front = registry.image("library/nginx");
        bryo.ok(["pull", "-q", &front]);
        let mut site = Site {
            bryo,
            image,
            front,
            port: 18_470,
        };
        site.begin();
        site
    }

    /// What somebody types to bring the site up.
    fn begin(&mut self) {
        let given =
            |name: &str, place: &str| format!("{}/tests/stack/{name}:{place}:ro", env!("CARGO_MANIFEST_DIR"));
        self.bryo.ok(["network", "create", "front"]);
        self.bryo.ok(["network", "create", "--internal", "back"]);
        self.bryo.ok(["volume", "create", "notes"]);
        self.database();
        let cache = [
            "-d",
            "--name",
            "cache",
            "--network",
            "back",
            "--restart",
            "always",
        ];
        let redis = ["redis-server", "--protected-mode", "no", "--dir", "/tmp"];
        self.run(&[&cache[..], &[&self.image], &redis].concat());
        let app = [
            "-d",
            "--name",
            "app",
            "--network",
            "front",
            "--network",
            "back",
            "-v",
        ];
        let volume = given("app.py", "/srv/app.py");
        self.run(&[&app[..], &[&volume, &self.image, "python3", "-u", "/srv/app.py"]].concat());
        let volume = given("nginx.conf", "/etc/nginx/nginx.conf");
        let done = once_free(self.port, || {
            let publish = format!("127.0.0.1:{}:80", self.port);
            let web = [
                "run",
                "-d",
                "--name",
                "web",
                "--network",
                "front",
                "-p",
                &publish,
                "-v",
                &volume,
                &self.front,
            ];
            self.bryo.run(web)
        });
        assert!(done.status.success(), "{done}");
    }

    fn run(&self, words: &[&str]) {
        self.bryo.ok([&["run"][..], words].concat());
    }

    fn database(&self) {
        let script = include_str!("stack/db.sh");
        let rest = ["-v", "notes:/srv/pg:U", &self.image, "sh", "-ec", script];
        self.run(&[&DB[..], &rest].concat());
        until("a healthy database", || {
            field(&self.bryo, "db", "{{.State.Health.Status}}") == "healthy"
        });
    }

    /// What the site answers.
    fn ask(&self, request: &str, body: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return String::new();
        };
        let head = format!("{request} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut answer = String::new();
        // A connection that is reset is no answer.
        let _ = stream
            .write_all(format!("{head}{body}").as_bytes())
            .and_then(|()| stream.read_to_string(&mut answer));
        answer
    }

    /// The page as a browser shows it when its script has run.
    fn seen(&self) -> String {
        let mut browser = Command::new("chromium");
        browser.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ]);
        browser.args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]);
        browser.args([
            "--disable-dev-shm-usage",
            "--virtual-time-budget=20000",
            "--dump-dom",
        ]);
        browser.arg(format!(
            "--user-data-dir={}",
            self.bryo.scratch("browser").display()
        ));
        browser.arg(format!("http://127.0.0.1:{}/", self.port));
        browser.env("HOME", self.bryo.scratch("home"));
        let done = Done::of(&mut browser);
        assert!(done.status.success(), "{done}");
        done.stdout
    }
}

/// The texts between `<li>` and `</li>`.
fn notes(page: &str) -> Vec<&str> {
    page.split("<li>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</li>"))
        .map(|(note, _)| note)
        .collect()
}

#[test]
fn a_web_site_of_four_containers_keeps_its_data() {
    if !has_id_range() {
        println!("not run: postgres refuses to be root, and with one id there is nobody else");
        return;
    }
    let site = Site::new();
    until("the site", || site.ask("GET /data", "").contains("200 OK"));
    assert!(site.ask("POST /", "buy bread").ends_with("note 1\n"));
    let page = site.seen();
    assert_eq!(notes(&page), ["buy bread"], "{page}");
    assert!(page.contains("<p id=\"visits\">visit "), "{page}");

    // The database's process is killed: it is started again, in the same place.
    let before = process(&site.bryo, "db", "Pid");
    kill(before, Signal::SIGKILL).unwrap();
    until("the database's next life", || {
        field(&site.bryo, "db", "{{.State.Status}} {{.RestartCount}}") == "running 1"
    });
    until("its answer", || site.ask("GET /data", "").contains("200 OK"));
    // PostgreSQL leaves numbers out after a crash.
    assert!(site.ask("POST /", "sell cake").contains("200 OK"));
    assert_eq!(notes(&site.seen()), ["buy bread", "sell cake"]);

    // Removed and made anew, on the same volume.
    site.bryo.ok(["rm", "-f", "db"]);
    site.database();
    until("its answer", || site.ask("GET /data", "").contains("200 OK"));
    assert_eq!(notes(&site.seen()), ["buy bread", "sell cake"]);

    // The front of the site has no way to the database.
    let asks = |name: &str| {
        site.bryo
            .run(["exec", "web", "getent", "hosts", name])
            .status
            .code()
    };
    assert_eq!((asks("app"), asks("db")), (Some(0), Some(2)));
    for name in ["web", "app", "cache", "db"] {
        site.bryo.ok(["rm", "-f", name]);
    }
    for name in ["front", "back"] {
        site.bryo.ok(["network", "rm", name]);
    }
    site.bryo.ok(["volume", "rm", "notes"]);
}
