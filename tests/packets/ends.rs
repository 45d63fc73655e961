//! What becomes of what a container sent last?

use std::io::{ErrorKind, Read as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use bryo::net::Protocol;
use socket2::SockRef;

use super::inside::{Container, HOST, on_a_host, port};
use super::tcp::{fill, outward};

/// Waits until the network says that it has ended.
fn ended(mut orders: &UnixStream) {
    orders.shutdown(Shutdown::Write).unwrap();
    assert_eq!(orders.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_was_sent_last_arrives() {
    on_a_host("ends::what_was_sent_last_arrives", || {
        let published = [port(Protocol::Tcp, "0.0.0.0:0", 80)];
        let (container, end) = Container::with_end(&published, "");
        let (inside, mut outside) = outward(&container);
        let sent = fill(&inside);
        // Datagrams without an answer, too, and what nobody will read is not waited for.
        let receiver = UdpSocket::bind((HOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        container.inside(move || {
            let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
            for number in 0..100_u8 {
                sender.send_to(&[number], to).unwrap();
            }
        });
        drop(inside);
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            let mut all = Vec::new();
            outside.read_to_end(&mut all).map(|_| all.len() as u64)
        });
        ended(&end.orders);
        assert_eq!(reader.join().unwrap().unwrap(), sent);
        end.serving.join().unwrap().unwrap();
        receiver.set_nonblocking(true).unwrap();
        for number in 0..100_u8 {
            let mut byte = [0];
            receiver.recv(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
        let error = TcpStream::connect((HOST, container.ports[0].port())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn who_does_not_take_the_last_sees_that_it_was_not_all() {
    on_a_host(
        "ends::who_does_not_take_the_last_sees_that_it_was_not_all",
        || {
            let (container, end) = Container::with_end(&[], "");
            let (inside, mut outside) = outward(&container);
            SockRef::from(&outside).set_recv_buffer_size(10_000).unwrap();
            let sent = fill(&inside);
            drop(inside);
            ended(&end.orders);
            end.serving.join().unwrap().unwrap();
            let mut all = Vec::new();
            let error = outside.read_to_end(&mut all).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!((all.len() as u64) < sent);
        },
    );
}
