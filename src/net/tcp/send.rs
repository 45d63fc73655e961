//! What goes to the container, and when again?

use std::io::ErrorKind;

use super::{Connection, Life, Phase, Side, Stream, Turn};
use super::{LONGEST, RETRY, STILL_THERE, SYN_RETRY, SYN_TRIES, TRIES};
use crate::net::packet::Flags;

/// What a connection may fetch from its socket before others have their turn, in fillings of the scratch.
const FILLINGS: usize = 4;

impl<S: Stream> Connection<S> {
    /// Sends what there is to send, and what is owed.
    pub fn flush(&mut self, turn: &mut Turn<'_>) -> Life {
        if self.phase != Phase::Open {
            return Life::On;
        }
        if self.refused && self.room() > 0 {
            // The first tells the window, and three that repeat it have the container send again at once (RFC 5681).
            self.acknowledge(turn);
            (0..3).for_each(|_| self.repeat(turn));
            self.refused = false;
        }
        let life = self.send_new(turn);
        if life == Life::Over {
            return self.broken(turn);
        }
        if self.owes_ack {
            self.acknowledge(turn);
        }
        self.arm(turn);
        life
    }

    /// Sends what the host's side has and the container takes.
    fn send_new(&mut self, turn: &mut Turn<'_>) -> Life {
        for _ in 0..FILLINGS {
            if !self.readable || self.fin_sent {
                return Life::On;
            }
            let flight = self.in_flight();
            let reach = self.window.min(self.stream.most_skipped());
            let room = reach.saturating_sub(flight);
            // Of more than there is room for no small pieces, if something else makes the container open its window further
            // (RFC 9293, 3.8.6.2.1). What fits goes at once.
            let little = flight > 0 && room < self.mss.min(self.largest / 2);
            if room == 0 || (little && self.plenty) {
                return Life::On;
            }
            let length = turn.scratch.len();
            let whole = (length / self.mss).max(1) * self.mss;
            let wanted = room.min(whole).min(length);
            match self.stream.peek(flight, &mut turn.scratch[..wanted]) {
                Ok(0) => return self.send_fin(turn),
                Ok(bytes) => {
                    self.plenty = bytes == room;
                    if little && self.plenty {
                        return Life::On;
                    }
                    self.send_peeked(bytes, turn);
                    // Then no more was there, but for what lies behind an urgent byte. What comes is told; that the end came
                    // with it, not again.
                    self.readable = bytes == wanted || self.ending || self.urgent;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    (self.readable, self.plenty) = (false, false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Life::Over,
            }
        }
        Life::Busy
    }

    /// Sends the first `bytes` of the scratch, in segments.
    fn send_peeked(&mut self, bytes: usize, turn: &mut Turn<'_>) {
        let scratch = std::mem::take(&mut turn.scratch);
        for part in scratch[..bytes].chunks(self.mss) {
            self.put(
                turn,
                self.next,
                Flags {
                    push: true,
                    ..Flags::default()
                },
                part,
            );
            self.next = self.next.plus(part.len());
        }
        turn.scratch = scratch;
    }

    fn send_fin(&mut self, turn: &mut Turn<'_>) -> Life {
        self.put(
            turn,
            self.next,
            Flags {
                fin: true,
                ..Flags::default()
            },
            &[],
        );
        self.next = self.next.plus(1);
        (self.fin_sent, self.readable) = (true, false);
        Life::On
    }

    /// Sends the first segment again that is not acknowledged.
    pub(super) fn send_first_again(&mut self, turn: &mut Turn<'_>) -> Life {
        let bytes = self.in_flight().min(self.mss).min(turn.scratch.len());
        if bytes == 0 {
            if self.fin_sent {
                self.put(
                    turn,
                    self.unacknowledged,
                    Flags {
                        fin: true,
                        ..Flags::default()
                    },
                    &[],
                );
            }
            return Life::On;
        }
        let scratch = std::mem::take(&mut turn.scratch);
        let peeked = self.stream.peek(0, &mut scratch[..bytes]);
        if let Ok(peeked) = peeked {
            self.put(
                turn,
                self.unacknowledged,
                Flags {
                    push: true,
                    ..Flags::default()
                },
                &scratch[..peeked],
            );
        }
        turn.scratch = scratch;
        // They were there before.
        if peeked.is_ok_and(|peeked| peeked > 0) {
            Life::On
        } else {
            Life::Over
        }
    }

    /// Is something to be done if nothing happens?
    fn arm(&mut self, turn: &Turn<'_>) {
        let waits = self.next != self.unacknowledged;
        let closed = self.readable && !self.fin_sent && self.window == 0;
        let wait = match waits || closed {
            true => (RETRY * (1 << self.tries.min(6))).min(LONGEST),
            false => STILL_THERE,
        };
        // The earlier one counts, so that it comes though there is always something.
        let deadline = turn.now + wait;
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    /// The deadline came.
    pub fn wake(&mut self, turn: &mut Turn<'_>) -> Life {
        self.deadline = None;
        self.tries = self.tries.saturating_add(1);
        self.unheard = self.unheard.saturating_add(1);
        match self.phase {
            Phase::Connecting => return Life::On,
            Phase::Offered { by } => {
                if self.tries > SYN_TRIES {
                    return match by {
                        Side::Host => self.aborted(),
                        Side::Container => self.broken(turn),
                    };
                }
                self.put_syn(turn);
                self.deadline = Some(turn.now + SYN_RETRY * (1 << self.tries.min(4)));
                return Life::On;
            }
            Phase::Open => {}
        }
        if self.next == self.unacknowledged {
            // Nothing of ours is out: asks where the container is, by a number that it knows already.
            self.put(turn, self.next.plus(u32::MAX as usize), Flags::default(), &[]);
        } else if self.unheard > TRIES {
            return self.broken(turn);
        } else {
            self.recover = Some(self.next);
            if self.send_first_again(turn) == Life::Over {
                return self.broken(turn);
            }
        }
        self.arm(turn);
        Life::On
    }
}
