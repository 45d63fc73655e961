//! What a connection says to a container, second by second, without a kernel on either side.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::*;
use crate::net::packet::{Body, Packet};

/// The host's side: what it has, what it takes.
#[derive(Default)]
struct Host {
    has: VecDeque<u8>,
    ended: bool,
    /// Where there is an urgent byte, before which a read ends.
    mark: Option<usize>,
    room: usize,
    /// Takes nothing, though there is room.
    lacking: bool,
    took: Vec<u8>,
    failed: bool,
}

impl Stream for Host {
    fn peek(&mut self, skip: usize, into: &mut [u8]) -> io::Result<usize> {
        let end = self.mark.filter(|mark| *mark > skip).unwrap_or(self.has.len());
        let rest = self.has.iter().take(end).skip(skip);
        let read = into.iter_mut().zip(rest).map(|(to, from)| *to = *from).count();
        if read == 0 && !self.ended {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(read)
        }
    }
    fn most_skipped(&self) -> usize {
        usize::MAX
    }
    fn discard(&mut self, bytes: usize) -> io::Result<()> {
        self.has.drain(..bytes);
        Ok(())
    }
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room) * usize::from(!self.lacking);
        self.room -= count;
        self.took.extend(&bytes[..count]);
        if count == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }
    fn room(&mut self) -> usize {
        self.room
    }
    fn end(&mut self) {}
    fn abort(&mut self) {}
    fn failure(&mut self) -> Option<io::Error> {
        self.failed.then(|| ErrorKind::ConnectionReset.into())
    }
}

/// What was said: number and acknowledgement from where each began, window, payload; and FIN or RST.
#[derive(Debug, PartialEq)]
struct Said {
    seq: u32,
    ack: u32,
    window: u16,
    payload: Vec<u8>,
    end: bool,
}

#[derive(Default)]
struct Ear(Vec<Said>);

/// Where the numbers of both begin.
const OURS: Seq = Seq(u32::MAX - 2);
const THEIRS: Seq = Seq(u32::MAX);

impl Wire for Ear {
    fn put(&mut self, head: &[u8], payload: &[u8]) {
        let bytes = [head, payload].concat();
        let Some(Packet {
            body: Body::Tcp(segment),
            ..
        }) = Packet::read(&bytes)
        else {
            panic!("no whole segment");
        };
        self.0.push(Said {
            seq: segment.seq.0.wrapping_sub(OURS.0),
            ack: segment.ack.map_or(0, |ack| ack.0.wrapping_sub(THEIRS.0)),
            window: segment.window,
            payload: payload.to_vec(),
            end: segment.fin || segment.rst,
        });
    }
}

struct Talk {
    connection: Connection<Host>,
    ear: Ear,
    now: Instant,
    scratch: Vec<u8>,
}

impl Talk {
    /// One that is open; windows are not scaled, and payloads have at most 100 bytes.
    fn open(room: usize) -> Talk {
        let ends = Ends {
            container: "10.0.2.100:80".parse().unwrap(),
            remote: "192.0.2.1:4000".parse().unwrap(),
        };
        let syn = Segment {
            syn: true,
            mss: Some(100),
            ..segment(0, 0, 1000, &[])
        };
        let host = Host {
            room,
            ..Host::default()
        };
        let mut talk = Talk {
            connection: Connection::asked(ends, host, OURS, &Segment { ack: None, ..syn }),
            ear: Ear::default(),
            now: Instant::now(),
            scratch: vec![0; 1 << 16],
        };
        let ready = Ready {
            writable: true,
            ..Ready::default()
        };
        talk.with(|connection, turn| connection.ready(ready, turn).unwrap());
        talk.ear.0.clear();
        talk.hear(segment(1, 1, 1000, &[]));
        talk.ear.0.clear();
        talk
    }

    /// One whose client has come; the container has heard our SYN.
    fn offered() -> Talk {
        let mut talk = Talk::open(1000);
        let ends = talk.connection.ends();
        talk.connection = talk.with(|_, turn| {
            let host = Host {
                room: 1000,
                ..Host::default()
            };
            Connection::offered(ends, host, OURS, turn)
        });
        talk.ear.0.clear();
        talk
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Connection<Host>, &mut Turn<'_>) -> T) -> T {
        let mut turn = Turn {
            wire: &mut self.ear,
            now: self.now,
            scratch: &mut self.scratch,
        };
        act(&mut self.connection, &mut turn)
    }

    /// The container says something; gives what it hears.
    fn hear(&mut self, segment: Segment<'_>) -> Vec<Said> {
        self.with(|connection, turn| {
            if connection.receive(&segment, turn) != Life::Over {
                connection.flush(turn);
            }
        });
        std::mem::take(&mut self.ear.0)
    }

    /// The host has more; gives what the container hears.
    fn comes(&mut self, bytes: &[u8]) -> Vec<Said> {
        self.connection.stream.has.extend(bytes);
        let ready = Ready {
            readable: true,
            ..Ready::default()
        };
        self.with(|connection, turn| connection.ready(ready, turn).unwrap());
        std::mem::take(&mut self.ear.0)
    }

    /// Nothing is to be done but to ask after it.
    fn is_quiet(&self) -> bool {
        self.connection.deadline() == Some(self.now + STILL_THERE)
    }

    /// Time passes until something is to be done.
    fn wait(&mut self) -> (Duration, Vec<Said>) {
        let deadline = self.connection.deadline().expect("something to wait for");
        let waited = deadline.saturating_duration_since(self.now);
        self.now = deadline;
        self.with(|connection, turn| connection.wake(turn));
        (waited, std::mem::take(&mut self.ear.0))
    }
}

fn segment(seq: u32, ack: u32, window: u16, payload: &[u8]) -> Segment<'_> {
    Segment {
        source: 80,
        destination: 4000,
        seq: THEIRS.plus(seq as usize),
        ack: Some(OURS.plus(ack as usize)),
        syn: false,
        fin: false,
        rst: false,
        window,
        mss: None,
        scale: None,
        payload,
    }
}

fn numbers(said: &[Said]) -> Vec<(u32, usize)> {
    said.iter().map(|said| (said.seq, said.payload.len())).collect()
}

#[test]
fn a_closed_window_is_asked_after_and_opens() {
    let mut talk = Talk::open(1000);
    assert_eq!(
        numbers(&talk.comes(&[1; 1500])),
        (0..10).map(|n| (1 + 100 * n, 100)).collect::<Vec<_>>()
    );
    assert_eq!(talk.hear(segment(1, 1001, 0, &[])), []);
    for times in [1, 2, 4, 8] {
        let (waited, asked) = talk.wait();
        assert_eq!((waited, numbers(&asked)), (RETRY * times, vec![(1000, 0)]));
    }
    // Its answer that it is still closed changes nothing; that it is open does.
    assert_eq!(talk.hear(segment(1, 1001, 0, &[])), []);
    assert_eq!(
        numbers(&talk.hear(segment(1, 1001, 250, &[]))),
        [(1001, 100), (1101, 100), (1201, 50)]
    );
    assert_eq!(numbers(&talk.hear(segment(1, 1251, 30, &[]))), [(1251, 30)]);
}

#[test]
fn what_fits_goes_at_once() {
    let mut talk = Talk::open(1000);
    talk.comes(&[1; 950]);
    // Less than a whole payload fits, with others on their way: what is there does.
    assert_eq!(numbers(&talk.comes(&[2; 20])), [(951, 20)]);
    // This does not, so it waits for what an acknowledgement lets through.
    assert_eq!(talk.comes(&[3; 100]), []);
    assert_eq!(talk.hear(segment(1, 21, 980, &[])), []);
    assert_eq!(numbers(&talk.hear(segment(1, 101, 1000, &[]))), [(971, 100)]);
}

#[test]
fn what_is_lost_comes_again() {
    let mut talk = Talk::open(1000);
    talk.comes(&(0..250).collect::<Vec<u8>>());
    // The first was lost: the others repeat what is expected, and the third such has it come again.
    for answer in [0, 0, 1] {
        let again = talk.hear(segment(1, 1, 1000, &[]));
        assert_eq!(numbers(&again), vec![(1, 100); answer]);
    }
    // So was the second, which the container's answer shows.
    let again = talk.hear(segment(1, 101, 1000, &[]));
    assert_eq!(again[0].payload, (100..200).collect::<Vec<u8>>());
    assert_eq!(numbers(&talk.hear(segment(1, 251, 1000, &[]))), []);
    assert!(talk.is_quiet());
    // What nobody answers comes later and later, then the connection is given up.
    talk.comes(b"hello");
    let mut waits = Vec::new();
    let last = loop {
        let (waited, said) = talk.wait();
        waits.push(waited);
        if said[0].end {
            break said;
        }
        assert_eq!((said[0].seq, &said[0].payload[..]), (251, &b"hello"[..]));
    };
    assert_eq!(last[0].payload, b"");
    assert_eq!(waits.len(), usize::from(TRIES) + 1);
    assert!(waits.is_sorted() && waits[waits.len() - 1] == LONGEST);
}

#[test]
fn what_was_not_taken_is_asked_for_when_there_is_room() {
    let mut talk = Talk::open(150);
    let heard = talk.hear(segment(1, 1, 1000, &[7; 200]));
    assert_eq!((heard[0].ack, heard[0].window), (151, 0));
    talk.connection.stream.room = 500;
    let ready = Ready {
        writable: true,
        ..Ready::default()
    };
    talk.with(|connection, turn| connection.ready(ready, turn).unwrap());
    let heard = std::mem::take(&mut talk.ear.0);
    // The window, and three that look like it.
    assert_eq!(heard.len(), 4);
    assert!(heard.iter().all(|said| (said.ack, said.window) == (151, 500)));
    talk.hear(segment(151, 1, 1000, &[8; 50]));
    assert_eq!(
        talk.connection.stream.took,
        [[7; 150].as_slice(), &[8; 50]].concat()
    );
}

#[test]
fn what_lies_behind_an_urgent_byte_arrives_with_it() {
    let mut talk = Talk::open(1000);
    talk.connection.stream.has.extend(b"abc!def");
    talk.connection.stream.mark = Some(3);
    let ready = Ready {
        readable: true,
        urgent: true,
        ..Ready::default()
    };
    talk.with(|connection, turn| connection.ready(ready, turn).unwrap());
    assert_eq!(numbers(&talk.ear.0), [(1, 3), (4, 4)]);
}

#[test]
fn a_reset_after_the_end_is_told() {
    let mut talk = Talk::open(1000);
    talk.connection.stream.ended = true;
    let ending = Ready {
        readable: true,
        ending: true,
        ..Ready::default()
    };
    talk.with(|connection, turn| connection.ready(ending, turn).unwrap());
    talk.hear(segment(1, 2, 1000, &[]));
    assert!(talk.is_quiet());
    // Both ends in order are no failure.
    let ready = Ready {
        failed: true,
        ..ending
    };
    let life = talk.with(|connection, turn| connection.ready(ready, turn).unwrap());
    assert_eq!((life, talk.ear.0.len()), (Life::On, 0));
    talk.connection.stream.failed = true;
    let life = talk.with(|connection, turn| connection.ready(ready, turn).unwrap());
    assert_eq!(life, Life::Over);
    assert!(talk.ear.0[0].end);
}

#[test]
fn a_socket_that_refuses_what_it_has_room_for_is_waited_for() {
    let mut talk = Talk::open(1000);
    talk.connection.stream.lacking = true;
    let heard = talk.hear(segment(1, 1, 1000, &[7; 200]));
    let acks = |said: &[Said]| {
        said.iter()
            .map(|said| (said.ack, said.window))
            .collect::<Vec<_>>()
    };
    assert_eq!(acks(&heard), [(1, 0)]);
    // Something else happens to it.
    assert_eq!(numbers(&talk.comes(b"hello")), [(1, 5)]);
    talk.connection.stream.lacking = false;
    let ready = Ready {
        writable: true,
        ..Ready::default()
    };
    talk.with(|connection, turn| connection.ready(ready, turn).unwrap());
    assert_eq!(acks(&std::mem::take(&mut talk.ear.0)), [(1, 1000); 4]);
    // Without a word of the socket's, the container's question has it asked.
    talk.connection.stream.lacking = true;
    assert_eq!(acks(&talk.hear(segment(1, 6, 1000, &[7; 200]))), [(1, 0)]);
    assert_eq!(talk.hear(segment(0, 6, 1000, &[]))[0].window, 1000);
}

#[test]
fn a_container_that_answers_is_not_given_up() {
    let mut talk = Talk::open(1000);
    talk.comes(b"hello");
    for _ in 0..3 * TRIES {
        assert_eq!(numbers(&talk.wait().1), [(1, 5)]);
        // It has no memory for it.
        talk.hear(segment(1, 1, 0, &[]));
    }
    // Its questions come no more often for that.
    assert_eq!(talk.wait().0, LONGEST);
    assert_eq!(talk.hear(segment(1, 6, 1000, &[])), []);
    assert!(talk.is_quiet());
}

#[test]
fn what_an_earlier_connection_left_makes_way() {
    let mut talk = Talk::offered();
    let heard = talk.hear(segment(70, 500, 1000, &[]));
    assert_eq!((heard.len(), heard[0].seq, heard[0].end), (1, 500, true));
    // A reset of that is none of ours.
    let reset = Segment {
        rst: true,
        ..segment(70, 500, 0, &[])
    };
    assert_eq!(talk.hear(reset), []);
    // Our SYN comes again, and is answered.
    assert_eq!(numbers(&talk.wait().1), [(0, 0)]);
    let answer = Segment {
        syn: true,
        ..segment(0, 1, 1000, &[])
    };
    assert_eq!(talk.hear(answer)[0].ack, 1);
    assert_eq!(numbers(&talk.comes(b"hello")), [(1, 5)]);
}

#[test]
fn bytes_that_overlap_or_come_early_arrive_once() {
    let mut talk = Talk::open(1000);
    assert_eq!(talk.hear(segment(4, 1, 1000, b"def"))[0].ack, 1);
    assert_eq!(talk.hear(segment(1, 1, 1000, b"abc"))[0].ack, 4);
    assert_eq!(talk.hear(segment(1, 1, 1000, b"abcdef"))[0].ack, 7);
    assert_eq!(talk.hear(segment(2, 1, 1000, b"bcd"))[0].ack, 7);
    assert_eq!(talk.connection.stream.took, b"abcdef");
    // Of what was never sent nothing is acknowledged.
    assert_eq!(talk.hear(segment(7, 500, 1000, b"g"))[0].ack, 7);
    assert_eq!(talk.connection.stream.took, b"abcdef");
}

#[test]
fn a_lost_end_comes_again() {
    let mut talk = Talk::open(1000);
    talk.hear(Segment {
        fin: true,
        ..segment(1, 1, 1000, b"bye")
    });
    // Whether the container still listens is asked rarely.
    assert_eq!(talk.wait().0, STILL_THERE);
    talk.connection.stream.ended = true;
    let ready = Ready {
        readable: true,
        ending: true,
        ..Ready::default()
    };
    talk.with(|connection, turn| connection.ready(ready, turn).unwrap());
    assert!(std::mem::take(&mut talk.ear.0)[0].end);
    let (waited, again) = talk.wait();
    assert!(waited < STILL_THERE && again[0].end && again[0].seq == 1);
    let last = segment(5, 2, 1000, &[]);
    assert_eq!(
        talk.with(|connection, turn| connection.receive(&last, turn)),
        Life::Over
    );
}

#[test]
fn a_quiet_connection_is_asked_after() {
    let mut talk = Talk::open(1000);
    talk.hear(segment(1, 1, 1000, b"hello"));
    for _ in 0..3 {
        let (waited, said) = talk.wait();
        assert_eq!(waited, STILL_THERE);
        // By a number that the container has acknowledged, so that it answers.
        assert_eq!(numbers(&said), [(0, 0)]);
        talk.hear(segment(6, 1, 1000, &[]));
    }
    talk.wait();
    // Its last word was lost, and it knows nothing of it any more.
    let reset = Segment {
        rst: true,
        ..segment(6, 1, 0, &[])
    };
    assert_eq!(
        talk.with(|connection, turn| connection.receive(&reset, turn)),
        Life::Over
    );
}
