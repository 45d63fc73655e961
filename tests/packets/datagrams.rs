//! UDP, names, and echo requests.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use bryo::net::Protocol;
use socket2::{Domain, Socket, Type};

use super::inside::{Container, DNS, GATEWAY, HOST, HOST_V6, on_a_host, port, shell};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends everything back, with the sender's address before it.
fn serve_echo(socket: UdpSocket) {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{from} ").into_bytes();
            answer.extend(&buffer[..length]);
            drop(socket.send_to(&answer[..answer.len().min(65_507)], from));
        }
    });
}

/// What comes back from there.
fn ask(from: &UdpSocket, to: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    from.set_read_timeout(Some(PATIENCE))?;
    from.connect(to)?;
    from.send(question)?;
    let mut answer = vec![0; 1 << 16];
    let length = from.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

#[test]
fn datagrams_go_out_and_answers_come_back() {
    on_a_host("datagrams::datagrams_go_out_and_answers_come_back", || {
        let container = Container::start(&[]);
        for (host, any) in [(HOST, "0.0.0.0:0"), (HOST_V6, "[::]:0")] {
            let server = UdpSocket::bind((host, 0)).unwrap();
            let to = server.local_addr().unwrap();
            serve_echo(server);
            let answers = container.inside(move || {
                let socket = UdpSocket::bind(any).unwrap();
                [1, 1000, 65_450].map(|size| ask(&socket, to, &vec![b'x'; size]).unwrap())
            });
            for (answer, size) in answers.iter().zip([1, 1000, 65_450]) {
                assert!(
                    answer.starts_with(host.as_bytes()) || answer.starts_with(format!("[{host}]").as_bytes())
                );
                assert!(answer.ends_with(&vec![b'x'; size]));
            }
        }
        // The largest there is.
        let receiver = UdpSocket::bind((HOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        let port = container.inside(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            assert_eq!(socket.send_to(&[7; 65_507], to).unwrap(), 65_507);
            socket.local_addr().unwrap().port()
        });
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = vec![0; 1 << 16];
        let (length, from) = receiver.recv_from(&mut bytes).unwrap();
        assert_eq!(length, 65_507);
        // From the port that it has in the container, unless another has that one on the host.
        assert_eq!(from, SocketAddr::new(HOST.parse().unwrap(), port));
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let holder = UdpSocket::bind(("0.0.0.0", taken)).unwrap();
        container.inside(move || {
            UdpSocket::bind(("0.0.0.0", taken))
                .unwrap()
                .send_to(b"x", to)
                .unwrap()
        });
        let (length, from) = receiver.recv_from(&mut bytes).unwrap();
        assert!(length == 1 && from.port() != holder.local_addr().unwrap().port());
        let refused = container.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            ask(&socket, (HOST.parse::<IpAddr>().unwrap(), 9).into(), b"x")
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let forbidden = container.inside(|| {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            ask(&socket, "[2002:7f00:1::1]:9".parse().unwrap(), b"x")
        });
        assert_eq!(forbidden.unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn a_published_port_takes_datagrams_with_their_senders_address() {
    on_a_host(
        "datagrams::a_published_port_takes_datagrams_with_their_senders_address",
        || {
            shell(&format!(
                "ip address add 10.77.0.2/24 dev cable; ip address add {HOST_V6}2/64 dev cable nodad"
            ));
            let ports = [
                port(Protocol::Udp, "0.0.0.0:0", 53),
                port(Protocol::Udp, "[::]:0", 53),
            ];
            let container = Container::start(&ports);
            container.inside(|| {
                serve_echo(UdpSocket::bind("0.0.0.0:53").unwrap());
                serve_echo(UdpSocket::bind("[fd00::100]:53").unwrap());
            });
            let second = format!("{HOST_V6}2");
            let cases = [
                (0, HOST, HOST),
                (0, "10.77.0.2", "10.77.0.2"),
                (0, "127.0.0.1", GATEWAY),
                (1, HOST_V6, HOST_V6),
                (1, &second, &second),
                (1, "::1", "fd00::2"),
            ];
            for (published, address, seen) in cases {
                let address: IpAddr = address.parse().unwrap();
                let client = UdpSocket::bind((address, 0)).unwrap();
                let to = SocketAddr::new(address, container.ports[published].port());
                // A connected socket takes an answer only from the address that it asked.
                let answer = ask(&client, to, b"hello").unwrap();
                let seen = SocketAddr::new(seen.parse().unwrap(), client.local_addr().unwrap().port());
                assert_eq!(String::from_utf8(answer).unwrap(), format!("{seen} hello"));
            }
        },
    );
}

/// The cable carries 1500 bytes at a time: what is larger goes over it in fragments.
#[test]
fn datagrams_of_all_sizes_go_through_a_published_port() {
    on_a_host(
        "datagrams::datagrams_of_all_sizes_go_through_a_published_port",
        || {
            let container = Container::start(&[port(Protocol::Udp, "0.0.0.0:0", 53)]);
            container.inside(|| serve_echo(UdpSocket::bind("0.0.0.0:53").unwrap()));
            let to = SocketAddr::new(HOST.parse().unwrap(), container.ports[0].port());
            let (ready, wait) = std::sync::mpsc::channel();
            let (go, began) = std::sync::mpsc::channel();
            let client = thread::spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                ready.send(nix::unistd::gettid()).unwrap();
                began.recv().unwrap();
                shell("ip link set end up; ip address add 10.77.0.7/24 dev end");
                let socket = UdpSocket::bind("10.77.0.7:0").unwrap();
                let sizes = (0..1400).step_by(97).chain(1440..1480);
                for size in sizes.chain([2952, 2953, 8192, 16_384, 32_768, 65_470, 65_506, 65_507]) {
                    let sent: Vec<u8> = (0..size)
                        .map(|number: usize| (number * 31 + size) as u8)
                        .collect();
                    let mut expected = format!("{} ", socket.local_addr().unwrap()).into_bytes();
                    expected.extend(&sent);
                    expected.truncate(65_507);
                    let answer = ask(&socket, to, &sent).unwrap();
                    assert!(answer == expected, "{size}: {} bytes came back", answer.len());
                }
            });
            shell(&format!("ip link set end netns {}", wait.recv().unwrap()));
            go.send(()).unwrap();
            client.join().unwrap();
        },
    );
}

#[test]
fn what_is_sent_from_a_published_port_comes_from_there() {
    on_a_host(
        "datagrams::what_is_sent_from_a_published_port_comes_from_there",
        || {
            let ports = [
                port(Protocol::Udp, "127.0.0.1:0", 53),
                port(Protocol::Udp, "0.0.0.0:0", 53),
            ];
            let container = Container::start(&ports);
            // Nobody has asked before.
            let server = UdpSocket::bind((HOST, 0)).unwrap();
            let to = server.local_addr().unwrap();
            serve_echo(server);
            let answer =
                container.inside(move || ask(&UdpSocket::bind("0.0.0.0:53").unwrap(), to, b"hello").unwrap());
            let seen = SocketAddr::new(HOST.parse().unwrap(), container.ports[1].port());
            assert_eq!(String::from_utf8(answer).unwrap(), format!("{seen} hello"));
        },
    );
}

/// A name server that gives each question back, with its own name before it.
fn serve_names(at: &'static str) {
    serve_echo(UdpSocket::bind((at, 53)).unwrap());
    let server = TcpListener::bind((at, 53)).unwrap();
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 8];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(at.as_bytes()).unwrap();
            stream.write_all(&question).unwrap();
        }
    });
}

#[test]
fn names_are_asked_of_the_hosts_servers() {
    on_a_host("datagrams::names_are_asked_of_the_hosts_servers", || {
        // On loopback, as many hosts have it, where the container itself may not go.
        serve_names("127.0.0.53");
        let container = Container::with_resolvers(&[], "nameserver 127.0.0.53\n");
        let (by_udp, by_tcp) = container.inside(|| {
            let dns: SocketAddr = (DNS.parse::<IpAddr>().unwrap(), 53).into();
            let by_udp = ask(&UdpSocket::bind("0.0.0.0:0").unwrap(), dns, b"question").unwrap();
            let mut stream = TcpStream::connect(dns).unwrap();
            stream.write_all(b"question").unwrap();
            let mut by_tcp = String::new();
            stream.read_to_string(&mut by_tcp).unwrap();
            (by_udp, by_tcp)
        });
        assert!(by_udp.starts_with(b"127.0.0.1:") && by_udp.ends_with(b"question"));
        assert_eq!(by_tcp, "127.0.0.53question");
        let other = container.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            ask(&socket, (DNS.parse::<IpAddr>().unwrap(), 54).into(), b"x")
        });
        assert_eq!(other.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_name_server_that_does_not_answer_is_followed_by_the_next() {
    on_a_host(
        "datagrams::a_name_server_that_does_not_answer_is_followed_by_the_next",
        || {
            serve_names("127.0.0.53");
            // One that is silent, one that is not there.
            let _silent = UdpSocket::bind("127.0.0.54:53").unwrap();
            let resolvers = "nameserver 127.0.0.54\nnameserver 127.0.0.55\nnameserver 127.0.0.53\n";
            let container = Container::with_resolvers(&[], resolvers);
            // As the C library asks: again and again, each time waiting a little.
            let answer = container.inside(|| {
                let dns: SocketAddr = (DNS.parse::<IpAddr>().unwrap(), 53).into();
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                socket.connect(dns).unwrap();
                let mut answer = [0; 100];
                (0..20).find_map(|_| {
                    // A refusal of the one before may be told here.
                    while socket.send(b"question").is_err() {}
                    socket
                        .recv(&mut answer)
                        .ok()
                        .map(|length| answer[..length].to_vec())
                })
            });
            assert!(answer.unwrap().ends_with(b"question"));
        },
    );
}

#[test]
fn a_name_server_that_cannot_be_asked_is_passed_over() {
    on_a_host(
        "datagrams::a_name_server_that_cannot_be_asked_is_passed_over",
        || {
            serve_names("127.0.0.53");
            shell("ip -6 route del default");
            let resolvers = "nameserver 2001:db8:1::1\nnameserver 127.0.0.54\nnameserver 127.0.0.53\n";
            let ask_by_tcp = |_| {
                let mut stream = TcpStream::connect((DNS, 53))?;
                stream.write_all(b"question")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).map(|_| answer)
            };
            // The second one refuses, which the first question hears, by whichever way it goes.
            let container = Container::with_resolvers(&[], resolvers);
            let answers = container.inside(move || [0, 1].map(ask_by_tcp).map(Result::ok));
            assert_eq!(answers, [None, Some("127.0.0.53question".into())]);
            let container = Container::with_resolvers(&[], resolvers);
            let answers = container.inside(|| {
                let dns: SocketAddr = (DNS.parse::<IpAddr>().unwrap(), 53).into();
                // A new socket for each, as Go's programs have.
                let ask = |_| ask(&UdpSocket::bind("0.0.0.0:0").unwrap(), dns, b"question").ok();
                [0, 1].map(ask)
            });
            assert!(answers[0].is_none() && answers[1].as_ref().unwrap().ends_with(b"question"));
        },
    );
}

#[test]
fn a_silent_name_server_is_passed_over_by_new_sockets_too() {
    on_a_host(
        "datagrams::a_silent_name_server_is_passed_over_by_new_sockets_too",
        || {
            serve_names("127.0.0.53");
            let _silent = UdpSocket::bind("127.0.0.54:53").unwrap();
            let container = Container::with_resolvers(&[], "nameserver 127.0.0.54\nnameserver 127.0.0.53\n");
            let answer = container.inside(|| {
                (0..20).find_map(|_| {
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                    socket.connect((DNS, 53)).unwrap();
                    socket.send(b"question").unwrap();
                    let mut answer = [0; 100];
                    socket
                        .recv(&mut answer)
                        .ok()
                        .map(|length| answer[..length].to_vec())
                })
            });
            assert!(answer.unwrap().ends_with(b"question"));
        },
    );
}

#[test]
fn echo_requests_are_answered() {
    on_a_host("datagrams::echo_requests_are_answered", || {
        let container = Container::start(&[]);
        let ping = |to: &'static str| {
            container.inside(move || {
                let to = SocketAddr::new(to.parse().unwrap(), 0);
                let (protocol, kind, answer) = match to {
                    SocketAddr::V4(_) => (socket2::Protocol::ICMPV4, 8, 0),
                    SocketAddr::V6(_) => (socket2::Protocol::ICMPV6, 128, 129),
                };
                let mut socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.connect(&to.into()).unwrap();
                for sequence in 1..4 {
                    let mut request = vec![kind, 0, 0, 0, 0, 0, 0, sequence];
                    request.extend(b"are you there?");
                    socket.write_all(&request).unwrap();
                    let mut reply = [0; 100];
                    let length = socket.read(&mut reply).unwrap();
                    assert_eq!((reply[0], reply[7]), (answer, sequence));
                    assert_eq!(&reply[8..length], b"are you there?");
                }
            });
        };
        for to in [HOST, HOST_V6, GATEWAY, DNS, "fd00::2"] {
            ping(to);
        }
    });
}
