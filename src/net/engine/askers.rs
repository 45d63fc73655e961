//! Questions for names that come by TCP, as resolvers ask for what a datagram has no room for. While somebody beside us knows
//! names, such a connection ends here: each question is answered by who knows, or asked of the host's servers.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::names::Asker;
use super::{Engine, Token};
use crate::net::connections::begin;
use crate::net::packet::{Ends, Segment};

/// More at once are refused.
const MOST: usize = 64;
/// Each is told once; what was not done then is tried again after the next step.
const EVENTS: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLET);

/// The connections on which questions come.
#[derive(Debug, Default)]
pub(super) struct Askers {
    by_id: HashMap<u64, Stream>,
    last: u64,
}

/// One of them: its other end is a [`Connection`](crate::net::tcp::Connection) like any other.
#[derive(Debug)]
struct Stream {
    socket: UnixStream,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// A question comes.
    Hearing(Message),
    /// Somebody beside us looks for the name.
    Waiting,
    /// One of the host's servers is asked.
    Asking(Box<Outside>),
}

#[derive(Debug)]
struct Outside {
    server: TcpStream,
    address: SocketAddr,
    question: Vec<u8>,
    sent: usize,
    answer: Message,
    /// How many servers have failed before.
    failed: usize,
}

/// A message with its length before it (RFC 1035, section 4.2.2), as far as it has come.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

/// How many bytes the length has.
const LENGTH: usize = 2;

impl Message {
    fn framed(message: &[u8]) -> Option<Vec<u8>> {
        let length = u16::try_from(message.len()).ok()?;
        Some([&length.to_be_bytes(), message].concat())
    }

    /// Reads on, and not beyond its end; the message, once it is whole.
    ///
    /// # Errors
    /// `WouldBlock` if the rest has not come; `UnexpectedEof` if it never will.
    fn read(&mut self, from: &mut impl Read) -> io::Result<Vec<u8>> {
        loop {
            let wanted = match *self.0.as_slice() {
                [high, low, ..] => LENGTH + usize::from(u16::from_be_bytes([high, low])),
                _ => LENGTH,
            };
            let held = self.0.len();
            if held >= LENGTH && held == wanted {
                return Ok(std::mem::take(&mut self.0).split_off(LENGTH));
            }
            self.0.resize(wanted, 0);
            let read = from.read(&mut self.0[held..]);
            self.0.truncate(held + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Outside {
    /// Asks on; the answer, once it is whole.
    fn ask(&mut self) -> io::Result<Vec<u8>> {
        while self.sent < self.question.len() {
            match self.server.write(&self.question[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.answer.read(&mut self.server)
    }
}

impl Engine {
    /// The container begins a connection to the name server, for which we are to answer.
    ///
    /// # Errors
    /// There can be none.
    pub(super) fn listen_to(&mut self, ends: Ends, syn: &Segment<'_>) -> io::Result<()> {
        if self.askers.by_id.len() >= MOST {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        self.askers.last += 1;
        let id = self.askers.last;
        let event = EpollEvent::new(EVENTS, Token::Asker(id).into());
        self.epoll.add(&socket, event)?;
        self.connections.join(ends, theirs, syn)?;
        let step = Step::Hearing(Message::default());
        self.askers.by_id.insert(id, Stream { socket, step });
        Ok(())
    }

    /// Something happened at our end.
    pub(super) fn asker_ready(&mut self, id: u64, events: EpollFlags) {
        if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.askers.by_id.remove(&id);
        }
        self.hear_asker(id);
    }

    /// Takes the next question, if it has come and none is being answered.
    fn hear_asker(&mut self, id: u64) {
        let Some(stream) = self.askers.by_id.get_mut(&id) else {
            return;
        };
        let Step::Hearing(message) = &mut stream.step else {
            return;
        };
        match message.read(&mut stream.socket) {
            Ok(question) => {
                stream.step = Step::Waiting;
                self.question(Asker::Stream(id), &question);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.hang_up(id),
        }
    }

    /// Ends one that gets no answer: who asked sees it, and asks again.
    pub(super) fn hang_up(&mut self, id: u64) {
        self.askers.by_id.remove(&id);
    }

    /// Gives one its answer.
    pub(super) fn tell_asker(&mut self, id: u64, answer: &[u8]) {
        let Some(stream) = self.askers.by_id.get_mut(&id) else {
            return;
        };
        let told = Message::framed(answer).is_some_and(|answer| {
            stream
                .socket
                .write(&answer)
                .is_ok_and(|told| told == answer.len())
        });
        if !told {
            // It takes no answers.
            return self.hang_up(id);
        }
        stream.step = Step::Hearing(Message::default());
        self.hear_asker(id);
    }

    /// Asks the host's servers for one, after so many have failed.
    pub(super) fn ask_outside(&mut self, id: u64, question: &[u8], mut failed: usize) {
        let servers = self.servers.order(self.now);
        let Some(question) = Message::framed(question).filter(|_| failed < servers.len()) else {
            return self.hang_up(id);
        };
        for address in servers {
            let server = match begin(address) {
                Ok(server) => server,
                Err(_) => {
                    self.servers.failed(address, self.now);
                    failed += 1;
                    continue;
                }
            };
            let event = EpollEvent::new(EVENTS, Token::Server(id).into());
            let (Ok(()), Some(stream)) = (self.epoll.add(&server, event), self.askers.by_id.get_mut(&id))
            else {
                break;
            };
            let answer = Message::default();
            stream.step = Step::Asking(Box::new(Outside {
                server,
                address,
                question,
                sent: 0,
                answer,
                failed,
            }));
            return;
        }
        self.hang_up(id);
    }

    /// Something happened at the end of one of the host's servers.
    pub(super) fn server_ready(&mut self, id: u64) {
        let Some(stream) = self.askers.by_id.get_mut(&id) else {
            return;
        };
        let Step::Asking(outside) = &mut stream.step else {
            return;
        };
        let address = outside.address;
        match outside.ask() {
            Ok(answer) => {
                self.servers.answered(address);
                self.tell_asker(id, &answer);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                let question = outside.question.split_off(LENGTH);
                let failed = outside.failed + 1;
                self.servers.failed(address, self.now);
                self.ask_outside(id, &question, failed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_pieces_and_one_after_the_other() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut message = Message::default();
        let mut read = || message.read(&mut ours).map_err(|error| error.kind());
        for piece in [&b"\0"[..], b"\x03", b"ab"] {
            assert_eq!(read(), Err(ErrorKind::WouldBlock));
            theirs.write_all(piece).unwrap();
        }
        assert_eq!(read(), Err(ErrorKind::WouldBlock));
        theirs.write_all(b"c\0\0\0\x01d\0").unwrap();
        assert_eq!(read().unwrap(), b"abc");
        assert_eq!(read().unwrap(), b"");
        assert_eq!(read().unwrap(), b"d");
        drop(theirs);
        assert_eq!(read(), Err(ErrorKind::UnexpectedEof));
        assert_eq!(Message::framed(b"abc").unwrap(), b"\0\x03abc");
        assert!(Message::framed(&[0; 1 << 16]).is_none());
    }
}
