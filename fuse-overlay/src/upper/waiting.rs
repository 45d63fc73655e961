//! What does a thread let go of before it waits for another? One that reads a layer may be held up for as long as the layer's
//! disk hangs, with an inode locked. Who waits for that inode then must not keep what those need who want nothing of it.

use std::cell::Cell;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

thread_local! {
    static LET_GO: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// From now on, `let_go` is called before the calling thread waits for a lock that another may hold for long.
pub(crate) fn before(let_go: fn()) {
    LET_GO.set(Some(let_go));
}

/// To be called before any other wait that may be long.
pub(super) fn begins() {
    if let Some(let_go) = LET_GO.get() {
        let_go();
    }
}

/// Locks for reading.
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.try_read().unwrap_or_else(|| {
        begins();
        lock.read()
    })
}

/// Locks for writing.
pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.try_write().unwrap_or_else(|| {
        begins();
        lock.write()
    })
}

/// Locks.
pub(crate) fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.try_lock().unwrap_or_else(|| {
        begins();
        lock.lock()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(0) };
    }

    fn count() {
        LEFT.set(LEFT.get() + 1);
    }

    #[test]
    fn who_must_wait_lets_go_before_and_who_need_not_keeps_it() {
        before(count);
        let (state, moving) = (RwLock::new(()), Mutex::new(()));
        drop(write(&state));
        drop((read(&state), read(&state)));
        drop(lock(&moving));
        assert_eq!(LEFT.get(), 0);
        type Take = fn(&RwLock<()>, &Mutex<()>);
        let ways: [Take; 3] = [
            |state, _| drop(read(state)),
            |state, _| drop(write(state)),
            |_, moving| drop(lock(moving)),
        ];
        for take in ways {
            let (told, tells) = mpsc::channel();
            std::thread::scope(|scope| {
                let held = (state.write(), moving.lock());
                let (state, moving) = (&state, &moving);
                scope.spawn(move || {
                    thread_local! { static TELL: Cell<Option<mpsc::Sender<()>>> = const { Cell::new(None) }; }
                    TELL.set(Some(told));
                    // The channel ends when it is let go of.
                    before(|| drop(TELL.take()));
                    take(state, moving);
                });
                assert!(tells.recv().is_err());
                drop(held);
            });
        }
    }
}
