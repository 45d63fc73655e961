//! When is a change made durable that nobody synced? Five seconds after it at the latest: sync(2) and syncfs(2) send
//! nothing to a FUSE server, so it looks after that itself. The timer runs only while there is something to sync.

use std::cell::Cell;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::crash;
use crate::error::Result;

/// How old an unsynced change may get. ARCHITECTURE.md and README.md promise it.
const AGE: Duration = Duration::from_secs(5);

/// Whether something is not yet durable.
pub(super) struct Unsynced {
    /// [`AGE`], but in tests.
    age: Duration,
    /// The same.
    age_while_tidying: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Everything is durable.
    #[default]
    Clean,
    /// Something is not.
    Dirty,
    /// The connection has ended, the last sync is another's.
    Ended,
}

impl Default for Unsynced {
    fn default() -> Unsynced {
        Unsynced {
            age: if crash::hurries() { Duration::ZERO } else { AGE },
            age_while_tidying: AGE,
            state: Mutex::default(),
            changed: Condvar::default(),
        }
    }
}

impl Unsynced {
    /// Something has changed. To be called after the change.
    pub(super) fn mark(&self) {
        let mut state = self.state.lock();
        if *state == State::Clean {
            *state = State::Dirty;
            self.changed.notify_one();
        }
    }

    /// Lets [`Unsynced::run`] return.
    pub(super) fn end(&self) {
        *self.state.lock() = State::Ended;
        self.changed.notify_one();
    }

    /// Does the connection end within this time? Waits for it.
    pub(super) fn ends_within(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed
            .wait_while_for(&mut state, |state| *state != State::Ended, time);
        *state == State::Ended
    }

    /// Calls `sync` whenever the oldest change that it has not seen is [`AGE`] old, and after it `tidy`, with what to ask in
    /// between whether to go on: changes get no older meanwhile.
    pub(super) fn run(&self, sync: impl Fn() -> Result<()>, tidy: impl Fn(&dyn Fn() -> bool)) {
        let sync = || {
            if let Err(error) = sync() {
                // Nobody waits for this sync; fsync tells its own caller. It is tried again in a while.
                tracing::error!(%error, "periodic sync failed");
                self.mark();
            }
            Instant::now()
        };
        let mut state = self.state.lock();
        loop {
            self.changed
                .wait_while(&mut state, |state| *state == State::Clean);
            // Only the end cuts the time short.
            self.changed
                .wait_while_for(&mut state, |state| *state != State::Ended, self.age);
            if *state == State::Ended {
                return;
            }
            *state = State::Clean;
            drop(state);
            let last = Cell::new(sync());
            tidy(&|| {
                if last.get().elapsed() >= self.age_while_tidying {
                    last.set(sync());
                }
                *self.state.lock() != State::Ended
            });
            state = self.state.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::errno::Errno;

    use super::*;
    use crate::error::Error;

    #[test]
    fn every_change_is_seen_by_a_sync_that_begins_after_it_and_succeeds() {
        let unsynced = Unsynced {
            age: Duration::ZERO,
            ..Unsynced::default()
        };
        let syncs = AtomicU32::new(0);
        let sync = || match syncs.fetch_add(1, Ordering::SeqCst) {
            0 => {
                // Too late for this one.
                unsynced.mark();
                Ok(())
            }
            1 => Err(Error(Errno::EIO)),
            _ => {
                unsynced.end();
                Ok(())
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| unsynced.run(sync, |_| ()));
            unsynced.mark();
        });
        assert_eq!(syncs.into_inner(), 3);
    }

    /// Of changes that never end, the timer waits for none: each sync begins a whole age after the first that the last one
    /// has not seen. How late a loaded machine lets it begin is not ours, so the age is read, not measured.
    #[test]
    fn changes_that_go_on_put_no_sync_off() {
        assert_eq!(Unsynced::default().age, Duration::from_secs(5));
        let unsynced = Unsynced {
            age: Duration::from_millis(20),
            ..Unsynced::default()
        };
        let syncs = AtomicU32::new(0);
        let sync = || {
            if syncs.fetch_add(1, Ordering::SeqCst) == 9 {
                unsynced.end();
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| unsynced.run(sync, |_| ()));
            // Without a pause as long as the age.
            while syncs.load(Ordering::SeqCst) < 10 {
                unsynced.mark();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }

    /// A checkpoint may take long; what changes meanwhile gets no older for it.
    #[test]
    fn tidying_syncs_in_between() {
        let unsynced = Unsynced {
            age: Duration::ZERO,
            age_while_tidying: Duration::from_millis(1),
            ..Unsynced::default()
        };
        let syncs = AtomicU32::new(0);
        let sync = || {
            syncs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let tidy = |go_on: &dyn Fn() -> bool| {
            let before = syncs.load(Ordering::SeqCst);
            while syncs.load(Ordering::SeqCst) < before + 3 {
                assert!(go_on());
                std::thread::sleep(Duration::from_millis(1));
            }
            unsynced.end();
            assert!(!go_on(), "the connection has ended");
        };
        std::thread::scope(|scope| {
            scope.spawn(|| unsynced.run(sync, tidy));
            unsynced.mark();
        });
    }
}
