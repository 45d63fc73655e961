//! Connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bryo::net::{NetError, Protocol};
use socket2::SockRef;

use super::bytes;
use super::inside::{Container, HOST, HOST_V6, on_a_host, port, shell};

/// A connection from a container to a host: both sides of it.
pub(super) fn outward(container: &Container) -> (TcpStream, TcpStream) {
    let server = TcpListener::bind((HOST, 0)).unwrap();
    let to = server.local_addr().unwrap();
    let inside = container.inside(move || TcpStream::connect(to).unwrap());
    (inside, server.accept().unwrap().0)
}

/// A connection from a host to a container: the container's side, and the host's.
fn inward(container: &Container) -> (TcpStream, TcpStream) {
    let server = container.inside(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let outside = TcpStream::connect((HOST, container.ports[0].port())).unwrap();
    (server.accept().unwrap().0, outside)
}

fn published() -> Container {
    Container::start(&[port(Protocol::Tcp, "0.0.0.0:0", 80)])
}

#[test]
fn a_container_connects_and_is_connected_to() {
    on_a_host("tcp::a_container_connects_and_is_connected_to", || {
        let container = published();
        for (mut inside, mut outside) in [outward(&container), inward(&container)] {
            inside.write_all(b"question").unwrap();
            let mut question = [0; 8];
            outside.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"question");
            outside.write_all(b"answer").unwrap();
            drop(outside);
            let mut answer = String::new();
            inside.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer");
        }
    });
}

/// Sends through a pair of streams, and compares.
fn carry(mut from: TcpStream, mut to: TcpStream, count: u64) {
    let sender = thread::spawn(move || bytes::send(&mut from, count));
    let (arrived, sum) = bytes::receive(&mut to);
    assert_eq!((arrived, sum), (count, sender.join().unwrap()));
}

#[test]
fn a_gigabyte_arrives_as_it_was_sent_both_ways() {
    on_a_host("tcp::a_gigabyte_arrives_as_it_was_sent_both_ways", || {
        let container = published();
        for (inside, outside) in [outward(&container), inward(&container)] {
            // At the same time.
            let (inside2, outside2) = (inside.try_clone().unwrap(), outside.try_clone().unwrap());
            let half = |mut from: TcpStream| {
                thread::spawn(move || {
                    let sum = bytes::send(&mut from, 1 << 29);
                    from.shutdown(Shutdown::Write).unwrap();
                    sum
                })
            };
            let senders = [half(inside), half(outside)];
            let (mut inside, mut outside) = (inside2, outside2);
            let other = thread::spawn(move || bytes::receive(&mut inside));
            let to_host = bytes::receive(&mut outside);
            let to_container = other.join().unwrap();
            let [from_container, from_host] = senders.map(|sender| sender.join().unwrap());
            assert_eq!(to_host, (1 << 29, from_container));
            assert_eq!(to_container, (1 << 29, from_host));
        }
        let (inside, outside) = outward(&container);
        carry(inside, outside, 1 << 30);
        let (inside, outside) = outward(&container);
        carry(outside, inside, 1 << 30);
    });
}

#[test]
fn either_side_may_end_first() {
    on_a_host("tcp::either_side_may_end_first", || {
        let container = published();
        for (inside, outside) in [outward(&container), inward(&container)] {
            let (inside2, outside2) = (inside.try_clone().unwrap(), outside.try_clone().unwrap());
            for (mut first, mut second) in [(inside, outside), (outside2, inside2)] {
                // The second time it has ended already, and is only to end its own.
                let _ = first.write_all(b"all that I have to say");
                first.shutdown(Shutdown::Write).unwrap();
                let mut heard = Vec::new();
                second.read_to_end(&mut heard).unwrap();
                if second.write_all(b"I heard it").is_ok() {
                    assert_eq!(heard, b"all that I have to say");
                    thread::sleep(Duration::from_millis(50));
                    second.write_all(b", all of it").unwrap();
                    let mut answer = [0; 21];
                    first.read_exact(&mut answer).unwrap();
                    assert_eq!(&answer, b"I heard it, all of it");
                }
            }
        }
    });
}

/// Fills a stream until it takes no more for a while.
pub(super) fn fill(mut stream: &TcpStream) -> u64 {
    stream.set_nonblocking(true).unwrap();
    let (block, mut sent, mut last) = (vec![7; 64 << 10], 0, Instant::now());
    while last.elapsed() < Duration::from_millis(500) {
        match stream.write(&block) {
            Ok(bytes) => (sent, last) = (sent + bytes as u64, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_slow_reader_slows_the_writer_and_loses_nothing() {
    on_a_host("tcp::a_slow_reader_slows_the_writer_and_loses_nothing", || {
        let container = Container::start(&[]);
        let (a, b) = outward(&container);
        let (c, d) = outward(&container);
        for (mut from, mut to) in [(a, b), (d, c)] {
            let sent = fill(&from);
            // All that is under way is in the kernel's buffers, whose sizes it limits.
            assert!(sent < 256 << 20, "{sent}");
            // A reader that takes little, then all.
            let mut little = vec![0; 100];
            for _ in 0..20 {
                to.read_exact(&mut little).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
            let more = thread::spawn(move || {
                from.write_all(&vec![7; 10 << 20]).unwrap();
                drop(from);
            });
            let mut rest = Vec::new();
            to.read_to_end(&mut rest).unwrap();
            more.join().unwrap();
            assert_eq!(rest.len() as u64, sent + (10 << 20) - 2000);
            assert!(rest.iter().all(|byte| *byte == 7));
        }
    });
}

#[test]
fn lost_packets_come_again() {
    on_a_host("tcp::lost_packets_come_again", || {
        let container = published();
        container.inside(|| {
            shell(
                "nft add table inet loss
                 nft 'add chain inet loss in { type filter hook input priority 0; }'
                 nft 'add chain inet loss out { type filter hook output priority 0; }'
                 nft 'add rule inet loss in meta l4proto tcp numgen random mod 25 == 0 counter drop'
                 nft 'add rule inet loss out meta l4proto tcp numgen random mod 25 == 0 counter drop'",
            )
        });
        for turn in 0..4 {
            let (inside, outside) = if turn % 2 == 0 {
                outward(&container)
            } else {
                inward(&container)
            };
            let (from, to) = if turn < 2 {
                (inside, outside)
            } else {
                (outside, inside)
            };
            carry(from, to, 40 << 20);
        }
        let rules = container.inside(|| shell("nft list ruleset"));
        assert_eq!(
            rules.matches("packets 0 ").count(),
            0,
            "nothing was lost: {rules}"
        );
    });
}

fn error_of(container: &Container, to: &str) -> (Option<i32>, Duration) {
    let to: SocketAddr = to.parse().unwrap();
    container.inside(move || {
        let begin = Instant::now();
        let error = TcpStream::connect_timeout(&to, Duration::from_secs(60)).unwrap_err();
        (error.raw_os_error(), begin.elapsed())
    })
}

#[test]
fn what_cannot_be_reached_is_told() {
    on_a_host("tcp::what_cannot_be_reached_is_told", || {
        shell(
            "ip route add throw 192.0.2.0/24; ip route del default
             ip route add prohibit 198.51.100.0/24; ip -6 route add prohibit 2001:db8:1::/48",
        );
        let container = Container::start(&[]);
        assert_eq!(
            error_of(&container, &format!("{HOST}:9")).0,
            Some(libc::ECONNREFUSED)
        );
        assert_eq!(
            error_of(&container, &format!("[{HOST_V6}]:9")).0,
            Some(libc::ECONNREFUSED)
        );
        assert_eq!(error_of(&container, "192.0.2.1:9").0, Some(libc::ENETUNREACH));
        assert_eq!(error_of(&container, "198.51.100.1:9").0, Some(libc::EHOSTUNREACH));
        assert_eq!(error_of(&container, "[2001:db8:1::1]:9").0, Some(libc::EACCES));
        // Nobody is at the cable's other end who would say that he has the address.
        assert_eq!(error_of(&container, "10.77.0.99:9").0, Some(libc::EHOSTUNREACH));
        // Nobody is where the gateway is.
        assert_eq!(error_of(&container, "10.0.2.2:9").0, Some(libc::ECONNREFUSED));
    });
}

#[test]
fn a_reset_goes_through() {
    on_a_host("tcp::a_reset_goes_through", || {
        let container = published();
        for (inside, outside) in [outward(&container), inward(&container)] {
            SockRef::from(&outside).set_linger(Some(Duration::ZERO)).unwrap();
            drop(outside);
            let error = (&inside).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        let (inside, outside) = outward(&container);
        SockRef::from(&inside).set_linger(Some(Duration::ZERO)).unwrap();
        drop(inside);
        let error = (&outside).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        // Nobody listens in the container any more.
        let mut refused = TcpStream::connect((HOST, container.ports[0].port())).unwrap();
        let error = refused.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_goes_through_after_an_end() {
    on_a_host("tcp::a_reset_goes_through_after_an_end", || {
        let container = published();
        for (mut inside, outside) in [outward(&container), inward(&container)] {
            outside.shutdown(Shutdown::Write).unwrap();
            assert_eq!(inside.read(&mut [0]).unwrap(), 0);
            SockRef::from(&outside).set_linger(Some(Duration::ZERO)).unwrap();
            drop(outside);
            super::common::until("the container hears of the reset", || {
                inside.take_error().unwrap().is_some()
            });
        }
    });
}

#[test]
fn urgent_bytes_are_bytes() {
    on_a_host("tcp::urgent_bytes_are_bytes", || {
        let container = Container::start(&[]);
        let ((a, b), (c, d)) = (outward(&container), outward(&container));
        for (mut from, mut to) in [(a, b), (d, c)] {
            // All of it is there before any of it is read, or each piece by itself.
            for pause in [0, 30] {
                for piece in [&b"abc"[..], b"!", b"def", b"!", b"ghi"] {
                    match piece {
                        b"!" => drop(SockRef::from(&from).send_out_of_band(piece).unwrap()),
                        piece => from.write_all(piece).unwrap(),
                    }
                    thread::sleep(Duration::from_millis(pause));
                }
            }
            drop(from);
            let mut all = String::new();
            to.read_to_string(&mut all).unwrap();
            assert_eq!(all, "abc!def!ghi".repeat(2));
        }
    });
}

#[test]
fn ipv6_works_where_the_host_has_it() {
    on_a_host("tcp::ipv6_works_where_the_host_has_it", || {
        let container = Container::start(&[port(Protocol::Tcp, "[::]:0", 80)]);
        let server = TcpListener::bind((HOST_V6, 7000)).unwrap();
        let inside = container.inside(|| TcpStream::connect((HOST_V6, 7000)).unwrap());
        carry(inside, server.accept().unwrap().0, 50 << 20);
        let server = container.inside(|| TcpListener::bind("[::]:80").unwrap());
        let outside = TcpStream::connect((HOST_V6, container.ports[0].port())).unwrap();
        let (inside, from) = server.accept().unwrap();
        assert_eq!(from, outside.local_addr().unwrap());
        carry(outside, inside, 50 << 20);
    });
}

#[test]
fn without_ipv6_on_the_host_the_container_has_none() {
    on_a_host("tcp::without_ipv6_on_the_host_the_container_has_none", || {
        shell("ip -6 route del default");
        let container = Container::start(&[port(Protocol::Tcp, "[::]:0", 80)]);
        assert_eq!(container.inside(|| shell("ip -6 address show dev eth0")), "");
        let server = container.inside(|| TcpListener::bind("0.0.0.0:80").unwrap());
        let _outside = TcpStream::connect((HOST_V6, container.ports[0].port())).unwrap();
        assert_eq!(server.accept().unwrap().1.ip().to_string(), "10.0.2.2");
    });
}

/// Opens many connections, sends a number into each, then reads it back from each.
const MANY: &str = "
import resource, selectors, socket, struct, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
to, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
everyone = [socket.create_connection(to, timeout=900) for _ in range(count)]
for number, one in enumerate(everyone): one.sendall(struct.pack('I', number))
for number, one in enumerate(everyone): assert struct.unpack('I', one.recv(4, socket.MSG_WAITALL)) == (number,)
print(count)
";
const ECHO: &str = "
import resource, selectors, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
listener = socket.create_server((sys.argv[1], int(sys.argv[3])), backlog=4096)
print(listener.getsockname()[1], flush=True)
waiting, everyone = int(sys.argv[2]), []
while len(everyone) < waiting: everyone.append(listener.accept()[0])
for one in everyone: one.sendall(one.recv(4, socket.MSG_WAITALL))
for one in everyone: assert one.recv(1) == b''
";

/// Starts that, and gives the port at which it listens.
fn echo(host: &str, count: &str, port: &str) -> (std::process::Child, String) {
    let mut server = Command::new("python3")
        .args(["-c", ECHO, host, count, port])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    (server, line.trim().to_owned())
}

#[test]
fn ten_thousand_connections_are_open_at_once() {
    const COUNT: &str = "10000";
    on_a_host("tcp::ten_thousand_connections_are_open_at_once", || {
        let (mut server, port) = echo(HOST, COUNT, "0");
        let container = Container::start(&[]);
        let client = container.inside(move || {
            Command::new("python3")
                .args(["-c", MANY, HOST, &port, COUNT])
                .output()
                .unwrap()
        });
        assert!(client.status.success(), "{client:?}");
        assert_eq!(String::from_utf8_lossy(&client.stdout).trim(), COUNT);
        assert!(server.wait().unwrap().success());
        // And all are forgotten: the ports are free again for as many.
        let sockets = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        super::common::until("the connections' sockets are closed", || sockets() < 100);
    });
}

#[test]
fn ten_thousand_clients_are_in_at_once() {
    const COUNT: &str = "10000";
    on_a_host("tcp::ten_thousand_clients_are_in_at_once", || {
        let container = published();
        let (mut server, _) = container.inside(|| echo("0.0.0.0", COUNT, "80"));
        let port = container.ports[0].port().to_string();
        let client = Command::new("python3")
            .args(["-c", MANY, HOST, &port, COUNT])
            .output()
            .unwrap();
        assert!(client.status.success(), "{client:?}");
        assert_eq!(String::from_utf8_lossy(&client.stdout).trim(), COUNT);
        assert!(server.wait().unwrap().success());
    });
}

#[test]
fn the_clients_own_address_arrives() {
    on_a_host("tcp::the_clients_own_address_arrives", || {
        let container = published();
        let server = container.inside(|| TcpListener::bind("0.0.0.0:80").unwrap());
        let to = (HOST, container.ports[0].port());
        // Somebody at the other end of the cable.
        let (ready, wait) = std::sync::mpsc::channel();
        let (go, began) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            began.recv().unwrap();
            shell("ip link set end up; ip address add 10.77.0.7/24 dev end");
            let stream = TcpStream::connect(to).unwrap();
            (stream.local_addr().unwrap(), stream)
        });
        shell(&format!("ip link set end netns {}", wait.recv().unwrap()));
        go.send(()).unwrap();
        let (client, _stream) = other.join().unwrap();
        assert_eq!(client.ip().to_string(), "10.77.0.7");
        assert_eq!(server.accept().unwrap().1, client);
        // Loopback is another one inside, so such a client is seen as the gateway.
        let _stream = TcpStream::connect(("127.0.0.1", to.1)).unwrap();
        assert_eq!(server.accept().unwrap().1.ip().to_string(), "10.0.2.2");
        let _stream = TcpStream::connect(to).unwrap();
        assert_eq!(server.accept().unwrap().1.ip().to_string(), HOST);
    });
}

/// Sends a SYN to each address, by a socket that asks no routes, so that the container's own kernel has no say.
const SPELLINGS: &str = "
import socket, struct, sys
def fold(data):
    if len(data) % 2: data += b'\\0'
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def syn(source, target, port, sport):
    tcp = struct.pack('!HHIIBBHHH', sport, port, 1, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = source + target + struct.pack('!IHBB', len(tcp), 0, 0, 6)[0:4] + struct.pack('!HBB', 0, 0, 6)
    return tcp[:16] + struct.pack('!H', fold(pseudo + tcp)) + tcp[18:]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
for number, spelling in enumerate(sys.argv[2:]):
    family = socket.AF_INET6 if ':' in spelling else socket.AF_INET
    target = socket.inet_pton(family, spelling)
    source = socket.inet_pton(family, 'fd00::100' if ':' in spelling else '10.0.2.100')
    body = syn(source, target, int(sys.argv[1]), 2000 + number)
    if family == socket.AF_INET:
        head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 0, 0, 64, 6, 0) + source + target
        head = head[:10] + struct.pack('!H', fold(head)) + head[12:]
        wire.sendto(head + body, ('eth0', 0x0800))
    else:
        head = struct.pack('!IHBB', 6 << 28, len(body), 6, 64) + source + target
        wire.sendto(head + body, ('eth0', 0x86dd))
";

#[test]
fn the_hosts_loopback_is_out_of_reach() {
    on_a_host("tcp::the_hosts_loopback_is_out_of_reach", || {
        let loopback = TcpListener::bind("127.0.0.1:7000").unwrap();
        let loopback_v6 = TcpListener::bind("[::1]:7000").unwrap();
        let container = Container::start(&[]);
        let knock = |spellings: &[&str]| {
            let mut knock = Command::new("python3");
            knock.args(["-c", SPELLINGS, "7000"]).args(spellings);
            let done = container.inside(move || knock.output().unwrap());
            assert!(done.status.success(), "{done:?}");
        };
        knock(&[
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "0.0.0.1",
            "10.0.2.2",
            "10.0.2.3",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
            "fd00::2",
            "fe80::1",
        ]);
        // Who does not listen on loopback alone is reached, by the host's address and by the gateway's: so would they have been.
        let open = TcpListener::bind((HOST, 7000)).unwrap();
        let open_v6 = TcpListener::bind((HOST_V6, 7000)).unwrap();
        knock(&[HOST, "10.0.2.2", HOST_V6, "fd00::2"]);
        for listener in [&open, &open, &open_v6, &open_v6] {
            listener.accept().unwrap();
        }
        for listener in [loopback, loopback_v6] {
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn a_device_that_was_down_carries_on_and_one_that_is_gone_is_told() {
    on_a_host(
        "tcp::a_device_that_was_down_carries_on_and_one_that_is_gone_is_told",
        || {
            let container = Container::start(&[]);
            container.inside(|| {
                shell("ip link set eth0 down; ip link set eth0 up; ip route add default via 10.0.2.2")
            });
            let (inside, outside) = outward(&container);
            carry(inside, outside, 1 << 20);
            let (container, end) = Container::with_end(&[], "");
            container.inside(|| shell("ip link delete eth0"));
            assert!(matches!(end.serving.join().unwrap(), Err(NetError::Gone)));
        },
    );
}
