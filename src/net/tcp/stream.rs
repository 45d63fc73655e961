//! The host's side of a connection: a socket of the kernel's, which keeps all bytes until whoever they are for has them.

use std::cell::RefCell;
use std::io::{self, IoSliceMut, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, recv, recvmsg};
use socket2::SockRef;

use crate::sys::net::{send_buffer, set_peek_offset};

/// What a connection needs of the host's side; nothing of it waits.
pub trait Stream {
    /// Copies bytes that have arrived, without the first `skip`, and leaves them where they are. 0: no more will come.
    ///
    /// # Errors
    /// `WouldBlock` if there are none now; others if the connection is broken.
    fn peek(&mut self, skip: usize, into: &mut [u8]) -> io::Result<usize>;
    /// The most that a peek can leave out.
    fn most_skipped(&self) -> usize;
    /// Drops the first `bytes` of what has arrived.
    ///
    /// # Errors
    /// The connection is broken.
    fn discard(&mut self, bytes: usize) -> io::Result<()>;
    /// Sends bytes, as many as it takes.
    ///
    /// # Errors
    /// `WouldBlock` if it takes none now; others if the connection is broken.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// How many bytes [`Stream::send`] would take now. 0 is followed by a call that it can take some.
    fn room(&mut self) -> usize;
    /// Says that no more will be sent.
    fn end(&mut self);
    /// Makes its end a reset, when it is dropped.
    fn abort(&mut self);
    /// Why it could not connect, or broke.
    fn failure(&mut self) -> Option<io::Error>;
}

/// A socket of the host.
#[derive(Debug)]
pub(in crate::net) struct Socket {
    stream: TcpStream,
    token: u64,
    epoll: Rc<Epoll>,
    /// Does the kernel peek from an offset?
    offsets: bool,
}

/// What a peek passes over at most where the kernel cannot, and copies it.
const COPIED: usize = 256 << 10;
/// Dropped at once; nothing is written into it.
const DROPPED: usize = 1 << 20;

impl Socket {
    /// Takes a socket that is connected or connects, and will be called by `token`.
    pub(in crate::net) fn new(stream: TcpStream, epoll: &Rc<Epoll>, token: u64) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        // Where they are in the stream: left out, they would still be counted by what is peeked at.
        SockRef::from(&stream).set_out_of_band_inline(true)?;
        // Who is gone without a word is found out some time, though the container's side is always there.
        SockRef::from(&stream).set_keepalive(true)?;
        Socket::watched(stream, epoll, token)
    }

    /// The same with a socket whose other end is in this process: it is read and written as one of TCP.
    pub(in crate::net) fn joined(socket: UnixStream, epoll: &Rc<Epoll>, token: u64) -> io::Result<Socket> {
        Socket::watched(OwnedFd::from(socket).into(), epoll, token)
    }

    fn watched(stream: TcpStream, epoll: &Rc<Epoll>, token: u64) -> io::Result<Socket> {
        epoll.add(&stream, EpollEvent::new(events(), token))?;
        let offsets = set_peek_offset(stream.as_fd(), 0).is_ok();
        Ok(Socket {
            stream,
            token,
            epoll: Rc::clone(epoll),
            offsets,
        })
    }

    /// Passes over bytes by copying them too.
    fn peek_past(&self, skip: usize, into: &mut [u8]) -> io::Result<usize> {
        let mut passed = vec![0; skip];
        let mut buffers = [IoSliceMut::new(&mut passed), IoSliceMut::new(into)];
        let message = recvmsg::<()>(self.stream.as_raw_fd(), &mut buffers, None, MsgFlags::MSG_PEEK)?;
        match message.bytes.checked_sub(skip) {
            // Whether this is the end is told by the event alone.
            None | Some(0) if skip > 0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read.unwrap_or(0)),
        }
    }
}

/// Each is told once: what was not done then must be remembered.
fn events() -> EpollFlags {
    EpollFlags::EPOLLIN
        | EpollFlags::EPOLLPRI
        | EpollFlags::EPOLLOUT
        | EpollFlags::EPOLLRDHUP
        | EpollFlags::EPOLLET
}

impl Stream for Socket {
    fn peek(&mut self, skip: usize, into: &mut [u8]) -> io::Result<usize> {
        if !self.offsets && skip > 0 {
            return self.peek_past(skip, into);
        }
        if self.offsets {
            let offset = i32::try_from(skip).map_err(|_| io::ErrorKind::InvalidInput)?;
            set_peek_offset(self.stream.as_fd(), offset)?;
        }
        self.stream.peek(into)
    }

    fn most_skipped(&self) -> usize {
        if self.offsets { i32::MAX as usize } else { COPIED }
    }

    fn discard(&mut self, mut bytes: usize) -> io::Result<()> {
        thread_local! {
            static NOWHERE: RefCell<Vec<u8>> = RefCell::new(vec![0; DROPPED]);
        }
        while bytes > 0 {
            // MSG_TRUNC: dropped, and nothing is copied.
            let dropped = NOWHERE.with_borrow_mut(|nowhere| {
                let part = &mut nowhere[..bytes.min(DROPPED)];
                recv(self.stream.as_raw_fd(), part, MsgFlags::MSG_TRUNC)
            });
            match dropped? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                dropped => bytes -= dropped,
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn room(&mut self) -> usize {
        let Ok(buffer) = send_buffer(self.stream.as_fd()) else {
            return 0;
        };
        let room = buffer.limit.saturating_sub(buffer.held);
        // As the kernel judges whether a socket is writable: a third is free.
        if room >= buffer.held / 2 && room > 0 {
            // The rest is for what the kernel needs beside each packet's bytes.
            return room - room / 8;
        }
        // Asked for again, it is told even if it can be written by now.
        if let Err(error) = self
            .epoll
            .modify(&self.stream, &mut EpollEvent::new(events(), self.token))
        {
            tracing::warn!(%error, "network: a connection may stop");
        }
        0
    }

    fn end(&mut self) {
        // A connection that broke meanwhile says so elsewhere.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn abort(&mut self) {
        // Without it the other side sees an end like any other.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.stream.take_error().unwrap_or_else(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _};
    use std::net::TcpListener;

    use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};

    use super::*;

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        let epoll = Rc::new(Epoll::new(EpollCreateFlags::empty()).unwrap());
        (Socket::new(ours, &epoll, 7).unwrap(), theirs)
    }

    fn peeked(socket: &mut Socket, skip: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut bytes = [0; 100];
        let read = socket.peek(skip, &mut bytes).map_err(|error| error.kind())?;
        Ok(bytes[..read].to_vec())
    }

    #[test]
    fn bytes_stay_until_they_are_dropped() {
        for has_offsets in [true, false] {
            let (mut socket, mut theirs) = pair();
            if has_offsets && !socket.offsets {
                continue; // An older kernel, whose way is the second.
            }
            if !has_offsets {
                let _ = set_peek_offset(socket.stream.as_fd(), -1);
                socket.offsets = false;
            }
            assert_eq!(peeked(&mut socket, 0), Err(ErrorKind::WouldBlock));
            theirs.write_all(b"abcdef").unwrap();
            let arrived = |socket: &mut Socket| while peeked(socket, 0).is_err() {};
            arrived(&mut socket);
            assert_eq!(peeked(&mut socket, 2).unwrap(), b"cdef");
            assert_eq!(peeked(&mut socket, 0).unwrap(), b"abcdef");
            assert_eq!(peeked(&mut socket, 6), Err(ErrorKind::WouldBlock));
            socket.discard(2).unwrap();
            assert_eq!(peeked(&mut socket, 0).unwrap(), b"cdef");
            assert_eq!(peeked(&mut socket, 3).unwrap(), b"f");
            theirs.shutdown(Shutdown::Write).unwrap();
            socket.discard(4).unwrap();
            arrived(&mut socket);
            assert_eq!(peeked(&mut socket, 0).unwrap(), b"");
            assert!(socket.discard(1).is_err());
        }
    }

    #[test]
    fn an_urgent_byte_is_told_and_lies_where_it_was_sent() {
        let (mut socket, mut theirs) = pair();
        theirs.write_all(b"abc").unwrap();
        SockRef::from(&theirs).send_out_of_band(b"!").unwrap();
        theirs.write_all(b"def").unwrap();
        while peeked(&mut socket, 3).map_or(0, |bytes| bytes.len()) < 4 {}
        let mut events = [EpollEvent::empty()];
        socket.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap();
        assert!(events[0].events().contains(EpollFlags::EPOLLPRI));
        // Two reads, though all of it is there.
        assert_eq!(peeked(&mut socket, 0).unwrap(), b"abc");
        assert_eq!(peeked(&mut socket, 3).unwrap(), b"!def");
        socket.discard(7).unwrap();
        assert_eq!(peeked(&mut socket, 0), Err(ErrorKind::WouldBlock));
    }

    #[test]
    fn a_full_socket_has_no_room_and_tells_when_it_has() {
        let (mut socket, mut theirs) = pair();
        let (mut sent, block) = (0, vec![0; 64 << 10]);
        while socket.room() > 0 {
            sent += socket.send(&block).unwrap();
        }
        let mut events = [EpollEvent::empty(); 4];
        let waits = |socket: &Socket, events: &mut [EpollEvent], patience| {
            let count = socket.epoll.wait(events, EpollTimeout::from(patience)).unwrap();
            events[..count]
                .iter()
                .any(|event| event.events().contains(EpollFlags::EPOLLOUT))
        };
        assert!(!waits(&socket, &mut events, 0_u16));
        let mut left = vec![0; sent];
        theirs.read_exact(&mut left).unwrap();
        assert!(waits(&socket, &mut events, 20_000_u16));
        assert!(socket.room() > 0);
    }
}
