//! How does a connection of the container's become one of the host's? Each segment's bytes go into a socket, and only what the
//! socket took is acknowledged; bytes that the socket has are shown to the container, and leave the socket when the container
//! has them. So the kernel's buffers are the only ones, and a slow reader slows down the other side as it should.
//!
//! What RFC 9293 asks of a TCP is done by one of a host beside us, without a link between: no congestion, nothing out of order.
//! But the device's queue may overflow, so what is sent is sent again until it is acknowledged.

mod arrive;
mod close;
mod open;
mod send;
mod stream;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use close::Ready;
pub(in crate::net) use stream::Socket;
pub use stream::Stream;

use super::packet::{self, Ends, Flags, Reply, Segment, Seq};

/// How a connection's sockets, packets and time are reached while something is done for it.
pub struct Turn<'a> {
    /// Where packets to the container go.
    pub wire: &'a mut dyn Wire,
    /// When this is.
    pub now: Instant,
    /// What is peeked at passes through here.
    pub scratch: &'a mut [u8],
}

/// Takes packets to the container.
pub trait Wire {
    /// Sends a packet, or loses it.
    fn put(&mut self, head: &[u8], payload: &[u8]);
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It goes on.
    On,
    /// It goes on, and has more to do at once: others are let in between.
    Busy,
    /// It is over.
    Over,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The container's SYN is here; the host's socket connects.
    Connecting,
    /// Our SYN went to the container, after or before its own.
    Offered { by: Side },
    /// Both have said that they are there.
    Open,
}

/// Who began a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Container,
    Host,
}

/// One connection.
#[derive(Debug)]
pub struct Connection<S> {
    ends: Ends,
    stream: S,
    phase: Phase,
    /// The first number that the container has not acknowledged, and the first that we have not sent.
    unacknowledged: Seq,
    next: Seq,
    /// What the container takes beyond the former, and how it writes that.
    window: usize,
    scale: u8,
    /// The largest window that it had.
    largest: usize,
    /// The largest payload that it takes.
    mss: usize,
    /// The next number that we expect of it.
    expected: Seq,
    /// The first that we did not allow it.
    edge: Seq,
    /// How we write windows.
    own_scale: u8,
    /// The host's side may have bytes, or its end, that we have not seen.
    readable: bool,
    /// It has more than the container's window lets through.
    plenty: bool,
    /// It has said that no more will come.
    ending: bool,
    /// It has sent urgent bytes.
    urgent: bool,
    /// Our FIN was sent; the container's has come.
    fin_sent: bool,
    fin_received: bool,
    /// The socket took less than the container was allowed to send: it must send again.
    refused: bool,
    /// It takes no more, whatever its buffer has room for, until it says so.
    blocked: bool,
    /// The container is to hear of us, even if nothing is to be sent.
    owes_ack: bool,
    /// Acknowledgements of the same number one after another, and up to where what was lost is sent again.
    repeated: u8,
    recover: Option<Seq>,
    /// When something is to be done if nothing happens; how often it was done since anything went on, which makes it rarer,
    /// and since the container was heard at all, after which it is given up.
    deadline: Option<Instant>,
    tries: u8,
    unheard: u8,
}

/// The largest payloads in packets of the device's MTU.
pub(super) const MSS_V4: u16 = super::device::MTU - 40;
pub(super) const MSS_V6: u16 = super::device::MTU - 60;
/// Windows up to 16 MiB, more than sockets hold.
const SCALE: u8 = 8;
/// Payloads smaller than this nobody asks for who wants to be served (RFC 1122's default is 536).
const LEAST_MSS: u16 = 88;
/// Until what was not acknowledged is sent again, at first: as Linux, with no network between.
const RETRY: Duration = Duration::from_millis(200);
/// Of a SYN, as Linux.
const SYN_RETRY: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(10);
/// So often a SYN is sent again, and anything else.
const SYN_TRIES: u8 = 5;
const TRIES: u8 = 15;
/// How often a container is asked whether it still knows the connection, if all is quiet. Its last word may never come: when
/// thousands close at once, the device's queue overflows, and its kernel gives up saying so after eight times.
const STILL_THERE: Duration = Duration::from_secs(75);

impl<S: Stream> Connection<S> {
    fn new(ends: Ends, stream: S, phase: Phase, first: Seq) -> Connection<S> {
        Connection {
            ends,
            stream,
            phase,
            unacknowledged: first,
            next: first,
            window: 0,
            scale: 0,
            largest: 0,
            mss: 536,
            expected: Seq(0),
            edge: Seq(0),
            own_scale: 0,
            readable: false,
            plenty: false,
            ending: false,
            urgent: false,
            fin_sent: false,
            fin_received: false,
            refused: false,
            blocked: false,
            owes_ack: false,
            repeated: 0,
            recover: None,
            deadline: None,
            tries: 0,
            unheard: 0,
        }
    }

    /// Its two ends.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// When [`Connection::wake`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Bytes that the container has not acknowledged.
    fn in_flight(&self) -> usize {
        let numbers = self.next.since(self.unacknowledged).unwrap_or(0);
        numbers - usize::from(self.fin_sent && numbers > 0)
    }

    fn put(&mut self, turn: &mut Turn<'_>, seq: Seq, flags: Flags, payload: &[u8]) {
        let window = if std::mem::take(&mut self.owes_ack) {
            self.new_window()
        } else {
            self.told_window()
        };
        let reply = Reply {
            seq,
            ack: Some(self.expected),
            flags,
            window,
            mss: None,
            scale: None,
        };
        let head = packet::segment(&self.ends, &reply, payload.len());
        turn.wire.put(&head, payload);
    }

    /// The window as the socket's room allows it now. What was allowed once stays allowed, but if it was refused.
    fn new_window(&mut self) -> u16 {
        let room = self.room();
        if self.refused && room == 0 {
            self.edge = self.expected;
        }
        let open = self.edge.since(self.expected).unwrap_or(0).max(room);
        let told = u16::try_from(open >> self.own_scale).unwrap_or(u16::MAX);
        self.edge = self.expected.plus(usize::from(told) << self.own_scale);
        told
    }

    /// What the socket takes now, as far as it can be known (a kernel short of memory, or `tcp_notsent_lowat`, may refuse
    /// what the buffer has room for).
    fn room(&mut self) -> usize {
        if self.blocked { 0 } else { self.stream.room() }
    }

    /// The window as the container knows it.
    fn told_window(&self) -> u16 {
        let open = self.edge.since(self.expected).unwrap_or(0);
        u16::try_from(open >> self.own_scale).unwrap_or(u16::MAX)
    }

    /// Tells what has arrived, and a new window.
    fn acknowledge(&mut self, turn: &mut Turn<'_>) {
        self.owes_ack = true;
        self.put(turn, self.next, Flags::default(), &[]);
    }

    /// Tells the same once more.
    fn repeat(&mut self, turn: &mut Turn<'_>) {
        let owes_ack = std::mem::take(&mut self.owes_ack);
        self.put(turn, self.next, Flags::default(), &[]);
        self.owes_ack = owes_ack;
    }
}

/// The answer to a segment that belongs to no connection (RFC 9293, 3.10.7.1).
pub(super) fn refuse(ends: &Ends, segment: &Segment<'_>, wire: &mut dyn Wire) {
    if segment.rst {
        return;
    }
    let ack = segment.ack.is_none().then(|| segment.seq.plus(segment.length()));
    let reply = Reply::reset(segment.ack.unwrap_or(Seq(0)), ack);
    wire.put(&packet::segment(ends, &reply, 0), &[]);
}
