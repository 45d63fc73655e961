//! How does a connection end? Each side by itself, or both at once by a reset, which the other side then hears too.

use std::io;

use super::{Connection, Life, Phase, Stream, Turn};
use crate::net::packet::{self, Reply, Seq};

/// What epoll told of a socket.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Ready {
    pub readable: bool,
    /// There are urgent bytes, before which the kernel ends a read.
    pub urgent: bool,
    pub writable: bool,
    /// The other side will send no more.
    pub ending: bool,
    /// Something went wrong.
    pub failed: bool,
}

impl<S: Stream> Connection<S> {
    /// The host's side has changed.
    ///
    /// # Errors
    /// It did not connect: the caller tells the container why.
    pub fn ready(&mut self, ready: Ready, turn: &mut Turn<'_>) -> io::Result<Life> {
        self.readable |= ready.readable || ready.ending || ready.failed;
        self.ending |= ready.ending;
        self.urgent |= ready.urgent;
        self.blocked &= !ready.writable;
        match self.phase {
            Phase::Connecting if ready.writable || ready.failed => self.connected(turn).map(|()| Life::On),
            Phase::Connecting => Ok(Life::On),
            // What comes before the container has answered is looked at when it has; a client that is gone already, then too.
            Phase::Offered { .. } => Ok(Life::On),
            // It was told that all is well, so nobody else would ask; before that, what is there comes first.
            Phase::Open if self.fin_sent && ready.failed && self.stream.failure().is_some() => {
                Ok(self.broken(turn))
            }
            Phase::Open => {
                // The socket takes bytes again, which the container should know if it could do little.
                let open = self.edge.since(self.expected).unwrap_or(0);
                self.owes_ack |= ready.writable && open < LITTLE;
                Ok(self.flush(turn))
            }
        }
    }

    /// The container reset it: so does the host's side.
    pub(super) fn aborted(&mut self) -> Life {
        self.stream.abort();
        Life::Over
    }

    /// The host's side is broken: the container hears so, and who is at the other side if there is anyone.
    pub(super) fn broken(&mut self, turn: &mut Turn<'_>) -> Life {
        let reply = Reply::reset(self.next, Some(self.expected));
        turn.wire.put(&packet::segment(&self.ends, &reply, 0), &[]);
        self.aborted()
    }

    /// The host's side refused: the container hears so, as its SYN was refused.
    pub fn refused(mut self, turn: &mut Turn<'_>) {
        self.broken(turn);
    }

    /// How far the host's side is, while it lacks something that the container sent, or its end.
    pub fn lacks_end(&self) -> Option<Seq> {
        (self.phase == Phase::Open && !self.fin_received).then_some(self.expected)
    }

    /// The container is no more: the host's side sees that, unless it has heard the last word.
    pub fn cut(&mut self) {
        if !self.fin_received {
            self.stream.abort();
        }
    }

    /// Both have said their last word, and heard each other's.
    pub(super) fn is_over(&self) -> bool {
        self.fin_sent && self.fin_received && self.unacknowledged == self.next
    }
}

/// A window smaller than this is told as soon as there is more.
const LITTLE: usize = 256 << 10;
