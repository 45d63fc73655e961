//! How does a connection begin? The container hears that it is open when the host's side is, and the other way round.

use std::io;

use super::{Connection, Life, MSS_V4, MSS_V6, Phase, SCALE, SYN_RETRY, Side, Stream, Turn};
use super::{LEAST_MSS, packet};
use crate::net::packet::{Ends, Flags, Reply, Segment, Seq};

impl<S: Stream> Connection<S> {
    /// The container's SYN came, and `stream` connects.
    pub fn asked(ends: Ends, stream: S, first: Seq, syn: &Segment<'_>) -> Connection<S> {
        let mut connection = Connection::new(ends, stream, Phase::Connecting, first);
        connection.agree(syn);
        connection
    }

    /// A client of the host came by `stream`; the container is asked whether it takes it.
    pub fn offered(ends: Ends, stream: S, first: Seq, turn: &mut Turn<'_>) -> Connection<S> {
        let mut connection = Connection::new(ends, stream, Phase::Offered { by: Side::Host }, first);
        connection.own_scale = SCALE;
        connection.next = first.plus(1);
        connection.put_syn(turn);
        connection.deadline = Some(turn.now + SYN_RETRY);
        connection
    }

    /// The number of the container's SYN.
    pub(in crate::net) fn syn(&self) -> Seq {
        self.expected.plus(u32::MAX as usize)
    }

    /// Takes what the container's SYN says.
    fn agree(&mut self, syn: &Segment<'_>) {
        self.expected = syn.seq.plus(1);
        self.edge = self.expected;
        let largest = if self.ends.remote.is_ipv4() {
            MSS_V4
        } else {
            MSS_V6
        };
        self.mss = syn.mss.unwrap_or(536).clamp(LEAST_MSS, largest).into();
        self.own_scale = if syn.scale.is_some() { SCALE } else { 0 };
        // RFC 7323: more than 14 means 14.
        self.scale = syn.scale.unwrap_or(0).min(14);
        // In a SYN it is never scaled.
        self.window = syn.window.into();
    }

    /// The socket has connected, or failed to: then the caller tells the container why.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) fn connected(&mut self, turn: &mut Turn<'_>) -> io::Result<()> {
        if let Some(error) = self.stream.failure() {
            return Err(error);
        }
        self.phase = Phase::Offered { by: Side::Container };
        self.next = self.unacknowledged.plus(1);
        self.put_syn(turn);
        self.tries = 0;
        self.deadline = Some(turn.now + SYN_RETRY);
        Ok(())
    }

    pub(super) fn put_syn(&mut self, turn: &mut Turn<'_>) {
        let v4 = self.ends.remote.is_ipv4();
        let answers = self.phase == Phase::Offered { by: Side::Container };
        // Never scaled, so not more than 16 bits say.
        let window = u16::try_from(self.stream.room()).unwrap_or(u16::MAX);
        if answers {
            self.edge = self.expected.plus(window.into());
        }
        let reply = Reply {
            seq: self.unacknowledged,
            ack: answers.then_some(self.expected),
            flags: Flags {
                syn: true,
                ..Flags::default()
            },
            window,
            mss: Some(if v4 { MSS_V4 } else { MSS_V6 }),
            scale: (self.own_scale > 0).then_some(SCALE),
        };
        let head = packet::segment(&self.ends, &reply, 0);
        turn.wire.put(&head, &[]);
    }

    /// A segment before the connection is open.
    pub(super) fn opening(&mut self, segment: &Segment<'_>, turn: &mut Turn<'_>) -> Life {
        let answers_ours = segment.ack == Some(self.next);
        match self.phase {
            // Nothing is answered until the host's side is there. Only the container itself may think better of it.
            Phase::Connecting if segment.rst => self.aborted(),
            Phase::Connecting if segment.syn => {
                // A second attempt from the same port.
                self.agree(segment);
                Life::On
            }
            Phase::Offered { by: Side::Host } if segment.rst && answers_ours => self.aborted(),
            Phase::Offered { by: Side::Host } if segment.syn && answers_ours => {
                self.agree(segment);
                self.opened();
                self.owes_ack = true;
                Life::On
            }
            Phase::Offered { by: Side::Container } if segment.rst && segment.seq == self.expected => {
                self.aborted()
            }
            Phase::Offered { by: Side::Host } if segment.ack.is_some() && !segment.rst => {
                // Of an earlier connection between the same ends, which is over on our side: the container hears so, and
                // takes our next SYN (RFC 9293, 3.10.7.3).
                super::refuse(&self.ends, segment, turn.wire);
                Life::On
            }
            Phase::Offered { by: Side::Container } if segment.syn => {
                // It did not hear us.
                if segment.seq.plus(1) == self.expected {
                    self.put_syn(turn);
                }
                Life::On
            }
            Phase::Offered { by: Side::Container } if answers_ours => {
                self.window = usize::from(segment.window) << self.scale;
                self.opened();
                self.arrived(segment, turn)
            }
            Phase::Connecting | Phase::Offered { .. } | Phase::Open => Life::On,
        }
    }

    fn opened(&mut self) {
        self.phase = Phase::Open;
        self.unacknowledged = self.next;
        self.readable = true;
        (self.tries, self.unheard) = (0, 0);
        self.deadline = None;
    }
}
