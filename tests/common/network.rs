//! A network of the test's own, in namespaces where names, addresses and low ports are its to give.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::Done;
use super::sandbox::in_own_namespaces;

/// The address in the network that is not loopback's.
pub const ADDRESS: &str = "10.77.0.1";
/// A name for it.
pub const NAME: &str = "registry.test";

/// How does [`NAME`] get its address?
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// By /etc/hosts.
    Hosts,
    /// By a DNS server at [`ADDRESS`].
    Dns,
}

/// Runs `body` in a network with [`ADDRESS`] and nothing else. `test` is the calling test's name.
#[track_caller]
pub fn alone(test: &str, names: Names, body: impl FnOnce()) {
    in_own_namespaces(test, || {
        set_up(names);
        body();
    });
}

fn set_up(names: Names) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hosts = match names {
        Names::Hosts => format!("127.0.0.1 localhost\n{ADDRESS} {NAME}\n"),
        Names::Dns => "127.0.0.1 localhost\n".into(),
    };
    fs::write(dir.path().join("hosts"), hosts).expect("hosts");
    fs::write(dir.path().join("resolv.conf"), format!("nameserver {ADDRESS}\n")).expect("resolv.conf");
    let script = format!(
        "ip link set lo up && ip address add {ADDRESS}/24 dev lo &&
         mount --bind hosts /etc/hosts && mount --bind resolv.conf /etc/resolv.conf"
    );
    let mut command = Command::new("sh");
    let done = Done::of(command.args(["-ec", &script]).current_dir(dir.path()));
    assert!(done.status.success(), "{done}");
}

/// A DNS server that knows [`NAME`]'s IPv4 address, over UDP and TCP.
pub fn serve_dns() {
    let socket = UdpSocket::bind((ADDRESS, 53)).expect("port 53 of this network");
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = dns_answer(&query[..length]) {
                drop(socket.send_to(&answer, from));
            }
        }
    });
    let listener = TcpListener::bind((ADDRESS, 53)).expect("port 53 of this network");
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // Who does not keep to it is left alone.
            std::thread::spawn(move || while answer_stream(&mut client).is_some() {});
        }
    });
}

/// RFC 1035, section 4.2.2.
fn answer_stream(client: &mut TcpStream) -> Option<()> {
    let mut length = [0; 2];
    client.read_exact(&mut length).ok()?;
    let mut query = vec![0; u16::from_be_bytes(length).into()];
    client.read_exact(&mut query).ok()?;
    let answer = dns_answer(&query)?;
    let length = u16::try_from(answer.len()).ok()?.to_be_bytes();
    client.write_all(&[&length[..], &answer].concat()).ok()
}

/// RFC 1035, section 4.
fn dns_answer(query: &[u8]) -> Option<Vec<u8>> {
    let asked = query.get(12..)?;
    let end = asked.iter().position(|byte| *byte == 0)?;
    let (name, kind) = (&asked[..end], asked.get(end + 1..end + 3)?);
    let wanted: Vec<u8> = NAME
        .split('.')
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect();
    let is_known = name.eq_ignore_ascii_case(&wanted);
    let has_address = is_known && kind == [0, 1];
    let mut answer = query.get(..2)?.to_vec();
    // A response, recursion there; name error where it is another's.
    answer.extend([
        0x81,
        if is_known { 0x80 } else { 0x83 },
        0,
        1,
        0,
        has_address.into(),
        0,
        0,
        0,
        0,
    ]);
    answer.extend(asked.get(..end + 5)?);
    if has_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 77, 0, 1]);
    }
    Some(answer)
}

/// An authority and its certificate for [`NAME`], and one for it that signed itself.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Made by openssl.
    pub fn new() -> Certificates {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = {NAME}\n\
             [ca]\nbasicConstraints = critical, CA:TRUE\n\
             [server]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:{NAME}\n"
        );
        fs::write(dir.path().join("openssl.cnf"), config).expect("a config");
        let script = "new='openssl req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
            $new -extensions ca -keyout ca.key -out ca.pem
            $new -extensions server -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem
            $new -extensions server -keyout self.key -out self.pem";
        let mut command = Command::new("sh");
        let done = Done::of(command.args(["-ec", script]).current_dir(dir.path()));
        assert!(done.status.success(), "{done}");
        Certificates { dir }
    }

    /// `ca.pem`, `server.pem`, `server.key`, `self.pem`, `self.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A proxy that leads everything to one address, as a tunnel (CONNECT) or request by request; it notes what it was
/// asked for.
pub struct Proxy {
    /// `10.77.0.1:port`.
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What a proxy does with each connection.
#[derive(Clone)]
struct Leads {
    target: String,
    /// The `Proxy-Authorization` that it wants to see.
    login: Option<&'static str>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn to(target: &str) -> Proxy {
        Proxy::serve(target, None)
    }

    /// One that serves nobody who does not show this `Proxy-Authorization`.
    pub fn with_login(target: &str, login: &'static str) -> Proxy {
        Proxy::serve(target, Some(login))
    }

    fn serve(target: &str, login: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind((ADDRESS, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let (target, log) = (target.to_owned(), Arc::default());
        let leads = Leads { target, login, log };
        let asked = leads.log.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let leads = leads.clone();
                // Whoever goes away ends its own connection only.
                std::thread::spawn(move || drop(leads.lead(client)));
            }
        });
        Proxy { address, asked }
    }

    /// The first lines of all requests.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the log").clone()
    }
}

impl Leads {
    fn lead(&self, client: TcpStream) -> std::io::Result<()> {
        let mut from = BufReader::new(client.try_clone()?);
        let mut head = Vec::new();
        for line in from.by_ref().lines() {
            match line? {
                line if line.is_empty() => break,
                line => head.push(line),
            }
        }
        let first = head.first().cloned().unwrap_or_default();
        self.log.lock().expect("the log").push(first.clone());
        let shown = head.iter().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization").then_some(value)
        });
        if shown != self.login {
            return (&client).write_all(b"HTTP/1.1 407 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let server = TcpStream::connect(&self.target)?;
        match first.strip_prefix("CONNECT ") {
            Some(_) => (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?,
            // The server sees a path alone, as of any client.
            None => {
                let (method, url) = first.split_once(" http://").unwrap_or_default();
                let path = url.find('/').map_or("", |slash| &url[slash..]);
                head[0] = format!("{method} {path}");
                head.push("Connection: close\r\n\r\n".into());
                (&server).write_all(head.join("\r\n").as_bytes())?;
            }
        }
        let (mut up, mut back) = (server.try_clone()?, client);
        std::thread::spawn(move || drop(std::io::copy(&mut from, &mut up)));
        std::io::copy(&mut &server, &mut back)?;
        back.shutdown(std::net::Shutdown::Both)
    }
}

/// The YAML of a registry's `http.tls`.
pub fn tls(certificates: &Certificates) -> String {
    let file = |name: &str| Path::display(&certificates.file(name)).to_string();
    format!(
        ", tls: {{certificate: '{}', key: '{}'}}",
        file("server.pem"),
        file("server.key")
    )
}
