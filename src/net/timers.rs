//! Who is to be woken when?

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::engine::Token;

/// The times at which something is to be done. One that is put off stays in the heap until its old time comes, which costs
/// less than to take it out: most are put off again and again.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Token)>>,
}

impl Timers {
    /// Has `token` woken at `deadline`. `queued` is when it will be anyway.
    pub(super) fn set(&mut self, token: Token, deadline: Option<Instant>, queued: &mut Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if queued.is_none_or(|queued| deadline < queued) {
            self.heap.push(Reverse((deadline, token)));
            *queued = Some(deadline);
        }
    }

    /// The next one whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Instant, Token)> {
        let Reverse((when, _)) = self.heap.peek()?;
        if *when > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// How long nothing is to be done.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let Reverse((when, _)) = self.heap.peek()?;
        Some(when.saturating_duration_since(now))
    }
}
