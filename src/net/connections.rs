//! Which connections are there, and which of them has something to do?

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::epoll::Epoll;
use socket2::{Domain, SockAddr, Type};

use super::engine::Token;
use super::packet::{Ends, Reason, Segment, Seq};
use super::tcp::{Connection, Life, Ready, Socket, Turn};
use super::timers::Timers;

/// More are refused: each is a descriptor and some hundred bytes of ours, and buffers of the kernel's.
const MOST: usize = 32_768;
/// Of which so many may be clients of published ports, who may be anybody: some are left for what the container begins.
const MOST_CLIENTS: usize = MOST / 4 * 3;

/// Room for so many is kept when there are none.
const KEPT: usize = 256;

/// All connections of a container.
pub(super) struct Connections {
    by_id: HashMap<u64, Entry>,
    by_ends: HashMap<Ends, u64>,
    clients: usize,
    last: u64,
    epoll: Rc<Epoll>,
    /// Those to be flushed when all packets that are here have been looked at.
    touched: Vec<u64>,
    secret: RandomState,
    began: Instant,
}

struct Entry {
    connection: Connection<Socket>,
    /// Where it connects to, if the container began it.
    to: Option<SocketAddr>,
    /// The earliest time that its timer comes anyway.
    queued: Option<Instant>,
    touched: bool,
}

impl Connections {
    pub(super) fn new(epoll: &Rc<Epoll>) -> Connections {
        Connections {
            by_id: HashMap::new(),
            by_ends: HashMap::new(),
            clients: 0,
            last: 0,
            epoll: Rc::clone(epoll),
            touched: Vec::new(),
            secret: RandomState::new(),
            began: Instant::now(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_id.len() >= MOST
    }

    /// Is no further client taken?
    pub(super) fn has_most_clients(&self) -> bool {
        self.is_full() || self.clients >= MOST_CLIENTS
    }

    /// Is there something between these ends already?
    pub(super) fn contains(&self, ends: &Ends) -> bool {
        self.by_ends.contains_key(ends)
    }

    /// Gives a segment to its connection; `false` if it has none.
    pub(super) fn receive(&mut self, ends: &Ends, segment: &Segment<'_>, turn: &mut Turn<'_>) -> bool {
        let Some(&id) = self.by_ends.get(ends) else {
            return false;
        };
        let Some(entry) = self.by_id.get_mut(&id) else {
            return false;
        };
        match entry.connection.receive(segment, turn) {
            Life::Over => self.remove(id),
            Life::On | Life::Busy => {
                if !std::mem::replace(&mut entry.touched, true) {
                    self.touched.push(id);
                }
            }
        }
        true
    }

    /// The container wants a connection to `to`, which it calls `ends.remote`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn connect(&mut self, ends: Ends, to: SocketAddr, syn: &Segment<'_>) -> io::Result<()> {
        let socket = begin(to)?;
        let id = self.next_id();
        let stream = Socket::new(socket, &self.epoll, Token::Connection(id).into())?;
        let connection = Connection::asked(ends, stream, self.first(&ends), syn);
        self.insert(id, connection, Some(to));
        Ok(())
    }

    /// The container wants a connection that ends with us, at the other end of `socket`.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(super) fn join(&mut self, ends: Ends, socket: UnixStream, syn: &Segment<'_>) -> io::Result<()> {
        let id = self.next_id();
        let stream = Socket::joined(socket, &self.epoll, Token::Connection(id).into())?;
        let connection = Connection::asked(ends, stream, self.first(&ends), syn);
        self.insert(id, connection, Some(ends.remote));
        Ok(())
    }

    /// A client came, which the container is to see as `ends.remote`.
    pub(super) fn offer(
        &mut self,
        ends: Ends,
        stream: TcpStream,
        timers: &mut Timers,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        let id = self.next_id();
        let stream = Socket::new(stream, &self.epoll, Token::Connection(id).into())?;
        let connection = Connection::offered(ends, stream, self.first(&ends), turn);
        self.insert(id, connection, None);
        self.watch(id, timers);
        Ok(())
    }

    /// A socket has changed. Answers if it did not connect: the connection is gone, and the container knows nothing yet.
    pub(super) fn ready(
        &mut self,
        id: u64,
        ready: Ready,
        timers: &mut Timers,
        turn: &mut Turn<'_>,
    ) -> Option<Unconnected> {
        // It may have ended since epoll said so.
        let entry = self.by_id.get_mut(&id)?;
        match entry.connection.ready(ready, turn) {
            Ok(life) => {
                self.settle(id, life, timers);
                None
            }
            Err(error) => {
                let Entry { connection, to, .. } = self.take(id)?;
                Some(Unconnected {
                    connection,
                    to,
                    error,
                })
            }
        }
    }

    /// Sends what the packets called for that were looked at.
    pub(super) fn flush(&mut self, timers: &mut Timers, turn: &mut Turn<'_>) {
        for id in std::mem::take(&mut self.touched) {
            let Some(entry) = self.by_id.get_mut(&id) else {
                continue;
            };
            entry.touched = false;
            let life = entry.connection.flush(turn);
            self.settle(id, life, timers);
        }
    }

    /// Is somebody waiting for [`Connections::flush`]?
    pub(super) fn is_busy(&self) -> bool {
        !self.touched.is_empty()
    }

    /// A time came that was set for it.
    pub(super) fn wake(&mut self, id: u64, when: Instant, timers: &mut Timers, turn: &mut Turn<'_>) {
        let Some(entry) = self.by_id.get_mut(&id) else {
            return;
        };
        if entry.queued != Some(when) {
            // An earlier one came in between.
            return;
        }
        entry.queued = None;
        let due = entry
            .connection
            .deadline()
            .is_some_and(|deadline| deadline <= turn.now);
        let life = if due {
            entry.connection.wake(turn)
        } else {
            Life::On
        };
        self.settle(id, life, timers);
    }

    /// How many lack what the container sent last, and a number that changes when one of them gets on.
    pub(super) fn left(&self) -> (usize, u32) {
        let heard = self
            .by_id
            .values()
            .filter_map(|entry| entry.connection.lacks_end());
        heard.fold((0, 0), |(count, sum): (usize, u32), seq| {
            (count + 1, sum.wrapping_add(seq.0))
        })
    }

    /// Ends all: the others have the container's end, or a reset.
    pub(super) fn end(&mut self) {
        for (_, mut entry) in self.by_id.drain() {
            entry.connection.cut();
        }
        self.by_ends.clear();
        self.touched.clear();
        self.clients = 0;
    }

    fn settle(&mut self, id: u64, life: Life, timers: &mut Timers) {
        match life {
            Life::Over => self.remove(id),
            Life::On => self.watch(id, timers),
            Life::Busy => {
                self.watch(id, timers);
                if let Some(entry) = self.by_id.get_mut(&id)
                    && !std::mem::replace(&mut entry.touched, true)
                {
                    self.touched.push(id);
                }
            }
        }
    }

    fn watch(&mut self, id: u64, timers: &mut Timers) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            timers.set(
                Token::Connection(id),
                entry.connection.deadline(),
                &mut entry.queued,
            );
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn insert(&mut self, id: u64, connection: Connection<Socket>, to: Option<SocketAddr>) {
        self.by_ends.insert(connection.ends(), id);
        self.clients += usize::from(to.is_none());
        let entry = Entry {
            connection,
            to,
            queued: None,
            touched: false,
        };
        self.by_id.insert(id, entry);
    }

    fn remove(&mut self, id: u64) {
        drop(self.take(id));
    }

    fn take(&mut self, id: u64) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.by_ends.remove(&entry.connection.ends());
        self.clients -= usize::from(entry.to.is_none());
        if self.by_id.is_empty() && self.by_id.capacity() > KEPT {
            (self.by_id, self.by_ends) = (HashMap::new(), HashMap::new());
        }
        Some(entry)
    }

    /// The number of our first byte: not to be guessed, and later for the same ends at a later time (RFC 6528).
    fn first(&self, ends: &Ends) -> Seq {
        let clock = self.began.elapsed().as_micros() as u32 / 4;
        Seq((self.secret.hash_one(ends) as u32).wrapping_add(clock))
    }
}

/// A connection that the host could not make.
pub(super) struct Unconnected {
    connection: Connection<Socket>,
    to: Option<SocketAddr>,
    error: io::Error,
}

impl Unconnected {
    /// Its ends, and how the container is to hear of it: `None` is a refusal.
    pub(super) fn reason(&self) -> (Ends, Option<Reason>) {
        (self.connection.ends(), reason(&self.error))
    }

    /// Where it led.
    pub(super) fn to(&self) -> Option<SocketAddr> {
        self.to
    }

    /// The number of the container's SYN.
    pub(super) fn syn(&self) -> Seq {
        self.connection.syn()
    }

    pub(super) fn refuse(self, turn: &mut Turn<'_>) {
        self.connection.refused(turn);
    }
}

/// How a container hears of an error: by ICMP, or, `None`, by a reset.
pub(super) fn reason(error: &io::Error) -> Option<Reason> {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH) => Some(Reason::Network),
        Some(libc::EHOSTUNREACH | libc::ETIMEDOUT | libc::EHOSTDOWN) => Some(Reason::Host),
        Some(libc::EACCES | libc::EPERM) => Some(Reason::Forbidden),
        _ => None,
    }
}

/// Begins a connection, and does not wait for it.
pub(super) fn begin(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        Domain::for_address(to),
        Type::STREAM.nonblocking().cloexec(),
        None,
    )?;
    match socket.connect(&SockAddr::from(to)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tcp::Wire;
    use nix::sys::epoll::EpollCreateFlags;

    struct Nowhere;

    impl Wire for Nowhere {
        fn put(&mut self, _head: &[u8], _payload: &[u8]) {}
    }

    #[test]
    fn clients_that_were_ended_count_no_more() {
        let epoll = Rc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap());
        let mut connections = Connections::new(&epoll);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ends = Ends {
            container: "10.0.2.15:80".parse().unwrap(),
            remote: client.local_addr().unwrap(),
        };
        let (stream, _) = listener.accept().unwrap();
        let mut turn = Turn {
            wire: &mut Nowhere,
            now: Instant::now(),
            scratch: &mut [0; 100],
        };
        let mut timers = Timers::default();
        connections.offer(ends, stream, &mut timers, &mut turn).unwrap();
        assert_eq!(connections.clients, 1);
        connections.end();
        assert_eq!((connections.clients, connections.by_id.len()), (0, 0));
    }
}
