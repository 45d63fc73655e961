//! A container that sends anything, to a host that does anything: each packet is dropped or whole, and a connection between
//! them never sends more than was allowed, nor other bytes than the host's, nor acknowledges what the host did not take.
#![no_main]

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bryo::net::packet::{Body, Ends, Packet, Segment, Seq};
use bryo::net::tcp::{Connection, Life, Ready, Stream, Turn, Wire};
use libfuzzer_sys::fuzz_target;

/// The host's side.
#[derive(Default)]
struct Host {
    /// How many bytes came and were dropped, and whether their end came.
    came: usize,
    dropped: usize,
    ended: bool,
    broken: bool,
    /// How many it takes, and took.
    room: usize,
    took: usize,
    told_end: bool,
}

struct Side(Rc<RefCell<Host>>);

/// The host's bytes.
fn byte(at: usize) -> u8 {
    (at as u8).wrapping_mul(31) ^ (at >> 8) as u8
}

impl Stream for Side {
    fn peek(&mut self, skip: usize, into: &mut [u8]) -> io::Result<usize> {
        let host = self.0.borrow();
        if host.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let from = host.dropped + skip;
        assert!(from <= host.came, "more was sent than came");
        let count = into.len().min(host.came - from);
        if count == 0 && !host.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..count].iter_mut().zip(from..).for_each(|(to, at)| *to = byte(at));
        Ok(count)
    }
    fn most_skipped(&self) -> usize {
        1 << 20
    }
    fn discard(&mut self, bytes: usize) -> io::Result<()> {
        let mut host = self.0.borrow_mut();
        host.dropped += bytes;
        assert!(host.dropped <= host.came);
        Ok(())
    }
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut host = self.0.borrow_mut();
        assert!(!host.told_end && !bytes.is_empty());
        if host.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(host.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        host.room -= count;
        host.took += count;
        Ok(count)
    }
    fn room(&mut self) -> usize {
        self.0.borrow().room
    }
    fn end(&mut self) {
        self.0.borrow_mut().told_end = true;
    }
    fn abort(&mut self) {}
    fn failure(&mut self) -> Option<io::Error> {
        self.0.borrow().broken.then(|| io::ErrorKind::ConnectionRefused.into())
    }
}

/// The container's side: what it knows and allowed.
struct Container {
    ends: Ends,
    host: Rc<RefCell<Host>>,
    /// The first number of each side, once known.
    own: Seq,
    theirs: Option<Seq>,
    /// The highest that it acknowledged, and what it allowed beyond.
    acknowledged: usize,
    allowed: usize,
    scale: u8,
    mss: usize,
    /// The highest number that we were sent, counted from the first.
    sent: usize,
}

impl Wire for Container {
    fn put(&mut self, head: &[u8], payload: &[u8]) {
        let bytes = [head, payload].concat();
        let packet = Packet::read(&bytes).expect("a whole packet");
        assert_eq!(packet.ends(), Some((self.ends.remote, self.ends.container)));
        let Body::Tcp(segment) = packet.body else { panic!("not TCP") };
        if segment.rst {
            return;
        }
        let first = *self.theirs.get_or_insert(segment.seq);
        if segment.syn {
            return assert!(segment.payload.is_empty() && !segment.fin);
        }
        // A probe repeats the last number.
        let at = segment.seq.since(first).unwrap_or(0);
        let end = at + segment.length();
        assert!(segment.payload.len() <= self.mss);
        if !segment.payload.is_empty() {
            // The SYN is the first number.
            assert!(segment.payload.iter().zip(at - 1..).all(|(have, at)| *have == byte(at)));
            assert!(end <= self.allowed, "{end} > {}", self.allowed);
        }
        self.sent = self.sent.max(end);
        let host = self.host.borrow();
        let taken = 1 + host.took + usize::from(host.told_end);
        let ack = segment.ack.and_then(|ack| ack.since(self.own)).expect("an acknowledgement of ours");
        assert!(ack <= taken, "{ack} > {taken}");
    }
}

/// Takes numbers from the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn small(&mut self) -> usize {
        let byte = usize::from(self.byte().unwrap_or(0));
        // Near to nothing, or far.
        if byte < 128 { byte } else { (byte - 127) * 1021 }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(packet) = Packet::read(bytes) {
        assert_eq!(packet.source.is_ipv4(), packet.destination.is_ipv4());
    }
    let mut input = Input(bytes);
    let _ = connection(&mut input);
});

fn connection(input: &mut Input<'_>) -> Option<()> {
    let ends = |container: &str, remote: &str| Ends {
        container: container.parse::<SocketAddr>().unwrap(),
        remote: remote.parse().unwrap(),
    };
    let options = input.byte()?;
    let ends = match options & 1 {
        0 => ends("10.0.2.100:80", "192.0.2.1:4000"),
        _ => ends("[fd00::100]:80", "[2001:db8::1]:4000"),
    };
    let host = Rc::new(RefCell::new(Host { room: 1 << 16, ..Host::default() }));
    let own = Seq(u32::from(input.byte()?) << 24 | 0x00ff_fff0);
    let mut container = Container {
        ends,
        host: Rc::clone(&host),
        own,
        theirs: None,
        acknowledged: 0,
        allowed: 0,
        scale: if options & 2 == 0 { 0 } else { input.byte()?.min(14) },
        mss: 536,
        sent: 0,
    };
    let syn = Segment {
        source: 80,
        destination: 4000,
        seq: own,
        ack: None,
        syn: true,
        fin: false,
        rst: false,
        window: u16::from(input.byte()?) << 8,
        mss: (options & 4 != 0).then_some(1460),
        scale: (options & 2 != 0).then_some(container.scale),
        payload: &[],
    };
    container.mss = syn.mss.map_or(536, usize::from);
    container.allowed = 1 + usize::from(syn.window);
    let (mut now, mut scratch) = (Instant::now(), vec![0; 8 << 10]);
    let first = Seq(u32::from(input.byte()?) << 24 | 0x00ff_ff00);
    let mut connection = {
        let mut turn = Turn { wire: &mut container, now, scratch: &mut scratch };
        if options & 8 == 0 {
            let mut connection = Connection::asked(ends, Side(Rc::clone(&host)), first, &syn);
            let ready = Ready { writable: true, ..Ready::default() };
            connection.ready(ready, &mut turn).ok()?;
            connection
        } else {
            let mut connection = Connection::offered(ends, Side(Rc::clone(&host)), first, &mut turn);
            let answer = Segment { ack: Some(first.plus(1)), ..syn };
            connection.receive(&answer, &mut turn);
            connection
        }
    };
    static PAYLOAD: [u8; 70_000] = [7; 70_000];
    for _ in 0..500 {
        let action = input.byte()?;
        let mut ready = Ready::default();
        let life = match action % 8 {
            // Time.
            0 => {
                now += Duration::from_millis(1 + 37 * input.small() as u64);
                let due = connection.deadline().is_some_and(|deadline| deadline <= now);
                let mut turn = Turn { wire: &mut container, now, scratch: &mut scratch };
                if due { connection.wake(&mut turn) } else { Life::On }
            }
            // The host.
            kind @ 1..=3 => {
                let mut state = host.borrow_mut();
                match kind {
                    1 if !state.ended => {
                        state.came += input.small();
                        ready.readable = true;
                    }
                    2 => {
                        state.room += input.small();
                        ready.writable = true;
                    }
                    _ if action & 0x80 == 0 => {
                        state.ended = true;
                        ready.ending = true;
                    }
                    _ => {
                        state.broken = true;
                        ready.failed = true;
                    }
                }
                drop(state);
                let mut turn = Turn { wire: &mut container, now, scratch: &mut scratch };
                connection.ready(ready, &mut turn).ok()?
            }
            // The container, near to where both are.
            _ => {
                let flags = input.byte()?;
                let taken = 1 + host.borrow().took;
                let seq = (taken + input.small()).saturating_sub(input.small());
                let ack = match flags & 3 {
                    0 => container.acknowledged.max(1),
                    1 => container.sent.max(1),
                    2 => 1 + input.small(),
                    _ => container.sent.saturating_sub(input.small()),
                };
                let segment = Segment {
                    seq: own.plus(seq),
                    ack: (flags & 4 == 0).then(|| first.plus(ack)),
                    syn: flags & 0xf0 == 0x10,
                    fin: flags & 0xc0 == 0x40,
                    rst: flags == 0xff,
                    window: u16::from(input.byte()?) << (flags & 8),
                    mss: None,
                    scale: None,
                    payload: &PAYLOAD[..input.small().min(PAYLOAD.len())],
                    ..syn
                };
                if segment.ack.is_some() && ack <= container.sent {
                    container.acknowledged = container.acknowledged.max(ack);
                }
                container.allowed = container.allowed.max(ack + (usize::from(segment.window) << container.scale));
                let mut turn = Turn { wire: &mut container, now, scratch: &mut scratch };
                match connection.receive(&segment, &mut turn) {
                    Life::Over => Life::Over,
                    _ if action & 0x80 != 0 => Life::On,
                    _ => connection.flush(&mut turn),
                }
            }
        };
        if life == Life::Over {
            return None;
        }
        assert!(host.borrow().dropped <= container.acknowledged);
    }
    Some(())
}
