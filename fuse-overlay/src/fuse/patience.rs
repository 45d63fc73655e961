//! How long does a thread poll for the next request before it sleeps? As long as the last requests make it likely that
//! the next one comes within that time, and not at all on an idle or crowded machine, where they do not.

use std::time::Duration;

/// The longest poll. A thread that sleeps answers its next request some 50 µs later, which is worth about as much.
const LONGEST: Duration = Duration::from_micros(100);
/// A shorter poll than this catches nothing.
const SHORTEST: Duration = Duration::from_micros(10);

/// What the reader of requests has learnt about the pace at which they come.
#[derive(Debug, Default)]
pub(super) struct Patience {
    window: Duration,
    queued: u32,
}

impl Patience {
    /// How long to poll now.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// Learns how long the last request took to come, polled for or slept for: one that came soon is worth polling for
    /// next time, each that did not halves the time spent in vain.
    pub(super) fn learn(&mut self, waited: Duration) {
        self.window = match self.window / 2 {
            _ if waited <= LONGEST => LONGEST,
            half if half < SHORTEST => Duration::ZERO,
            half => half,
        };
    }

    /// Counts the requests that were there without any wait, one after the other, this last one included.
    pub(super) fn queued(&mut self, waited: Duration) -> u32 {
        self.queued = if waited.is_zero() {
            self.queued.saturating_add(1)
        } else {
            0
        };
        self.queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(40);
    const LATE: Duration = Duration::from_millis(3);

    #[test]
    fn an_idle_server_does_not_poll() {
        let mut patience = Patience::default();
        assert_eq!(patience.window(), Duration::ZERO);
        patience.learn(SOON);
        let mut spent = Duration::ZERO;
        for _ in 0..1000 {
            spent += patience.window();
            patience.learn(LATE);
        }
        assert!(spent < LONGEST * 2, "{spent:?}");
        assert_eq!(patience.window(), Duration::ZERO);
    }

    #[test]
    fn requests_that_follow_closely_are_polled_for() {
        let mut patience = Patience::default();
        patience.learn(SOON);
        assert_eq!(patience.window(), LONGEST);
    }

    #[test]
    fn a_queue_is_one_that_was_never_waited_for() {
        let mut patience = Patience::default();
        assert_eq!(patience.queued(Duration::ZERO), 1);
        assert_eq!(patience.queued(Duration::ZERO), 2);
        assert_eq!(patience.queued(SOON), 0);
    }
}
