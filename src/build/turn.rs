//! Who makes a step that several want at once, be they builds or workers of one? The first to lock its key. The others
//! wait, and find the layer in the cache then. A lock goes with its holder, so when that fails or is killed the next one
//! makes the step. A hit takes no lock.
//!
//! Nobody waits in a circle, since whoever waits for a lock holds only such as come before it in this order:
//! 1. the step's key: nobody has two of them, for one is let go before the stage's next step begins, and a step needs
//!    of other stages only what is done;
//! 2. the caches that it mounts, by their names (`step/run.rs`), let go before the layer is listed;
//! 3. the lock of a layer, or of a merged index, when what it needs is fetched or what it made is stored;
//! 4. `references`, for a moment.
//!
//! Nor for being heard: a worker may hold its lock while it waits for the builder to read what it says, but the builder
//! waits for no step while there are workers. It goes through their stages by the steps that it was told, and takes their
//! layers or nothing. It may wait for a layer, whose lock nobody has who waits to be heard (`images/pull/layer.rs`).
//!
//! A step that has failed is nobody's any more: `--on-error shell` keeps its container, but not the right to make it. (A
//! cache with `sharing=locked` stays locked: the shell may write to it.)
//!
//! Under `--no-cache` a build makes its own steps: it lets others wait for it, if nobody has the lock, but waits for nobody.

use std::fs;
use std::path::PathBuf;

use crate::images::Error;
use crate::store::{Digest, Lock, Mode, Store};

/// The right to make a step. Dropping it gives others theirs.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) key: Digest,
    /// None if somebody else makes it, too.
    _held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    _lock: Lock,
}

impl Turn {
    /// Waits until it is ours; `told` is called if that takes time.
    pub(super) fn wait(store: &Store, key: Digest, told: impl FnOnce()) -> Result<Turn, Error> {
        let path = path(store, &key);
        let lock = match Lock::try_acquire(&path, Mode::Exclusive)? {
            Some(lock) => lock,
            None => {
                told();
                Lock::acquire(&path, Mode::Exclusive)?
            }
        };
        let held = Some(Held { path, _lock: lock });
        Ok(Turn { key, _held: held })
    }

    /// Ours at once, with others or without.
    pub(super) fn anyway(store: &Store, key: Digest) -> Result<Turn, Error> {
        let path = path(store, &key);
        let lock = Lock::try_acquire(&path, Mode::Exclusive)?;
        let held = lock.map(|lock| Held { path, _lock: lock });
        Ok(Turn { key, _held: held })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the lock goes, so that it is still ours: who waits for it makes the file again. What stays goes with the
        // next prune.
        let _ = fs::remove_file(&self.path);
    }
}

fn path(store: &Store, key: &Digest) -> PathBuf {
    store.locks().join(format!("step-{}", key.hex()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;

    #[test]
    fn one_waits_for_the_other_and_leaves_no_file() {
        let (_dir, store) = scratch();
        let key = Digest([1; 32]);
        let first = Turn::wait(&store, key, || panic!("nobody has it")).unwrap();
        let other = Turn::wait(&store, Digest([2; 32]), || panic!("another key")).unwrap();
        let beside = Turn::anyway(&store, key).unwrap();
        assert!(beside._held.is_none());
        drop(beside);
        let (say, hear) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Turn::wait(&store, key, || say.send(()).unwrap()).unwrap());
            hear.recv().unwrap();
            drop(first);
            assert!(waiting.join().unwrap()._held.is_some());
        });
        drop(other);
        assert_eq!(fs::read_dir(store.locks()).unwrap().count(), 0);
    }
}
