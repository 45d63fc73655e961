//! The supervisor's side of health checks: a process that makes them, kept alive as long as the container runs. There is
//! none, and nothing to wait for, if the container has no check.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::containers::health;
use crate::containers::record::Held;
use crate::containers::role;
use crate::store::Store;

/// Between two starts, at first; longer each time that it ends early.
const PAUSE: Duration = Duration::from_secs(1);
/// At most.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) struct Checker<'a> {
    store: &'a Store,
    id: String,
    running: Option<(Child, OwnedFd)>,
    /// When it is to be started again.
    due: Option<Instant>,
    /// When it was started last, and how long the pause before was.
    begun: Instant,
    pause: Duration,
}

impl Checker<'_> {
    /// Starts it, if there is a check. To be called once it is recorded that the container runs.
    pub(super) fn start<'a>(held: &Held, store: &'a Store) -> Checker<'a> {
        let has_check = held.record.settings.upkeep.health.is_some();
        let mut checker = Checker {
            store,
            id: held.record.id.clone(),
            running: None,
            due: has_check.then(Instant::now),
            begun: Instant::now(),
            pause: Duration::ZERO,
        };
        checker.look();
        checker
    }

    /// Readable when it has died.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    /// How long until [`Checker::look`] has something to do; `None`: for ever.
    pub(super) fn rest(&self) -> Option<Duration> {
        let due = self.due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Reaps it if it has died, and starts it again when it is time.
    pub(super) fn look(&mut self) {
        if let Some((child, _)) = &mut self.running
            && !matches!(child.try_wait(), Ok(None))
        {
            self.running = None;
            // On a full disk there may be no record that it could go by.
            self.pause = match self.begun.elapsed() > LONGEST {
                true => PAUSE,
                false => (self.pause * 2).clamp(PAUSE, LONGEST),
            };
            self.due = Some(Instant::now() + self.pause);
        }
        if self.due.is_some_and(|due| due <= Instant::now()) {
            let mut command = role::command_in(self.store, health::NAME);
            self.running = role::start(command.arg(&self.id)).ok();
            self.begun = Instant::now();
            self.due = match self.running {
                Some(_) => None,
                // No memory, no descriptors: perhaps in a moment.
                None => Some(Instant::now() + PAUSE),
            };
        }
    }
}

impl Drop for Checker<'_> {
    /// The container has ended.
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
