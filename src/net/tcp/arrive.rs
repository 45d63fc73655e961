//! What does a segment from the container change?

use std::io::ErrorKind;

use super::{Connection, Life, Phase, Stream, Turn};
use crate::net::packet::Segment;

/// So many acknowledgements of the same number say that what follows it was lost (RFC 5681).
const LOST: u8 = 3;

impl<S: Stream> Connection<S> {
    /// A segment came. What it calls for is sent by [`Connection::flush`].
    pub fn receive(&mut self, segment: &Segment<'_>, turn: &mut Turn<'_>) -> Life {
        match self.phase {
            Phase::Open => self.arrived(segment, turn),
            Phase::Connecting | Phase::Offered { .. } => self.opening(segment, turn),
        }
    }

    pub(super) fn arrived(&mut self, segment: &Segment<'_>, turn: &mut Turn<'_>) -> Life {
        if segment.rst {
            // Where it is: on a device without a link nobody else can have sent it (RFC 5961 is for those who can).
            let within = segment.seq.since(self.expected);
            return match within.is_some_and(|ahead| ahead <= MOST_WINDOW) {
                true => self.aborted(),
                false => Life::On,
            };
        }
        let Some(ack) = segment.ack.filter(|_| !segment.syn) else {
            // A SYN in a connection, or nothing that a connection has: the container hears where we are.
            self.owes_ack = true;
            return Life::On;
        };
        let sent = self.next.since(self.unacknowledged).unwrap_or(0);
        // An old one acknowledges nothing, but its bytes may be new.
        if let Some(numbers) = ack.since(self.unacknowledged) {
            if numbers > sent {
                self.owes_ack = true;
                return Life::On;
            }
            if self.acknowledged(segment, numbers, turn) == Life::Over {
                return self.broken(turn);
            }
        }
        if segment.length() > 0 && self.take(segment, turn) == Life::Over {
            return self.broken(turn);
        }
        if segment.length() == 0 && segment.seq != self.expected {
            // It asks whether we are there, as it does more and more rarely: so the socket may be asked again, too.
            self.owes_ack = true;
            self.blocked = false;
        }
        match self.is_over() {
            true => {
                // The last acknowledgement goes before the end.
                self.acknowledge(turn);
                Life::Over
            }
            false => Life::On,
        }
    }

    /// The container has all before a number.
    fn acknowledged(&mut self, segment: &Segment<'_>, numbers: usize, turn: &mut Turn<'_>) -> Life {
        let window = usize::from(segment.window) << self.scale;
        let same = std::mem::replace(&mut self.window, window) == window;
        self.largest = self.largest.max(window);
        // It answers, so it is there, though it may lack memory for what comes: that is like a closed window.
        self.unheard = 0;
        if numbers == 0 {
            if same && segment.length() == 0 && self.in_flight() > 0 {
                self.repeated = self.repeated.saturating_add(1);
                if self.repeated == LOST && self.recover.is_none() {
                    self.recover = Some(self.next);
                    return self.send_first_again(turn);
                }
            } else if self.in_flight() == 0 && !self.fin_sent {
                (self.tries, self.deadline) = (0, None);
            }
            return Life::On;
        }
        let bytes = numbers.min(self.in_flight());
        self.unacknowledged = self.unacknowledged.plus(numbers);
        if self.stream.discard(bytes).is_err() {
            return Life::Over;
        }
        (self.repeated, self.tries, self.deadline) = (0, 0, None);
        // Some sockets tell their end only when nothing is before it.
        self.readable |= self.ending;
        match self.recover {
            Some(recover) if recover.since(self.unacknowledged).is_some_and(|left| left > 0) => {
                // RFC 6582: what is next was lost too.
                return self.send_first_again(turn);
            }
            _ => self.recover = None,
        }
        Life::On
    }

    /// Gives the host's side the bytes that are new to it.
    fn take(&mut self, segment: &Segment<'_>, turn: &mut Turn<'_>) -> Life {
        self.owes_ack = true;
        let Some(known) = self.expected.since(segment.seq) else {
            // Something before it was lost. Said at once and each time, so that it comes again soon; but not what was refused.
            if !self.refused {
                self.repeat(turn);
            }
            return Life::On;
        };
        if self.fin_received {
            return Life::On;
        }
        let Some(new) = segment.payload.get(known..) else {
            return Life::On;
        };
        let mut taken = 0;
        while taken < new.len() {
            match self.stream.send(&new[taken..]) {
                Ok(bytes) if bytes > 0 => taken += bytes,
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Life::Over,
            }
        }
        self.expected = self.expected.plus(taken);
        if taken < new.len() {
            (self.refused, self.blocked) = (true, true);
        } else if segment.fin {
            self.expected = self.expected.plus(1);
            self.fin_received = true;
            self.stream.end();
        }
        Life::On
    }
}

/// No window is larger.
const MOST_WINDOW: usize = (u16::MAX as usize) << super::SCALE;
