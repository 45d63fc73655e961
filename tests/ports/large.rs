//! A large file by HTTP through a published port, and the same over a slow way.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::common::Bryo;
use super::pages::{answers, host_port};

/// A gigabyte.
const LARGE: u64 = 1 << 30;

/// Serves a file of so many bytes, most of them holes; gives the host's port and the file's sum.
fn serves_file(bryo: &Bryo, image: &str, length: u64) -> (u16, String) {
    let directory = bryo.scratch("www");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("file");
    let file = File::create(&path).unwrap();
    file.set_len(length).unwrap();
    let mut state: u32 = 1;
    for place in (0..length).step_by(4_000_037) {
        let bytes: Vec<u8> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        let room = (length - place).min(bytes.len() as u64) as usize;
        file.write_all_at(&bytes[..room], place).unwrap();
    }
    std::fs::write(directory.join("index.html"), "here").unwrap();
    let bind = format!("{}:/www:ro", directory.display());
    let words = [
        "run", "-d", "--name", "web", "-p", "80", "-v", &bind, image, "httpd", "-f", "-p", "80", "-h", "/www",
    ];
    bryo.ok(words);
    let port = host_port(bryo, "web", "80/tcp");
    answers(([127, 0, 0, 1], port), "here");
    let sum = Command::new("sha256sum")
        .stdin(File::open(&path).unwrap())
        .output()
        .unwrap();
    (port, String::from_utf8(sum.stdout).unwrap())
}

fn summing() -> Child {
    let mut command = Command::new("sha256sum");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// The sum and length of what comes from there.
fn fetched(port: u16) -> (String, u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /file HTTP/1.0\r\n\r\n").unwrap();
    // We say no more; what comes is no less for that.
    stream.shutdown(Shutdown::Write).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200"),
        "{head:?}"
    );
    let mut sum = summing();
    let length = std::io::copy(&mut stream, &mut sum.stdin.take().unwrap()).unwrap();
    let output = sum.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), length)
}

#[test]
fn a_gigabyte_by_http_has_the_same_sum() {
    let (bryo, image) = super::busybox();
    let (port, sum) = serves_file(&bryo, &image, LARGE);
    assert_eq!(fetched(port), (sum, LARGE));
    bryo.ok(["rm", "-f", "web"]);
}

/// How long a byte is on its way, in each direction.
const DELAY: Duration = Duration::from_millis(40);

/// Passes on what comes, after [`DELAY`], and the end, too.
fn delayed(mut from: TcpStream, mut to: TcpStream) {
    let (send, parts) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, part) in parts {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&part).is_err() {
                return;
            }
        }
        // It may be gone.
        let _ = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if send
                .send((Instant::now() + DELAY, bytes[..length].to_vec()))
                .is_err()
            {
                return;
            }
        }
    });
}

/// A way to that port on which everything is late. This kernel has no netem.
fn relay(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            delayed(client.try_clone().unwrap(), server.try_clone().unwrap());
            delayed(server, client);
        }
    });
    own
}

#[test]
fn a_way_on_which_all_is_late_loses_nothing() {
    let (bryo, image) = super::busybox();
    let length = 20_000_000;
    let (port, sum) = serves_file(&bryo, &image, length);
    let late = relay(port);
    let clients: Vec<_> = (0..8).map(|_| thread::spawn(move || fetched(late))).collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), (sum.clone(), length));
    }
    bryo.ok(["rm", "-f", "web"]);
}
