//! Which link counts may the kernel get wrong? It counts a lost name itself, after it has its answer
//! (`fuse_entry_unlinked`). A question for attributes that it asks before and we answer after the unlink tells it a count
//! that is one less already: it counts that name twice, and nothing would ever make it ask again. A file that has a name
//! would look as if it had none, and could be linked no more.
//!
//! When the kernel counts, nobody tells us; it takes a moment, or as long as a task may lie in wait for a core. So what is
//! said of a file that lost a name and has others is not to be kept while that is fresh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::reply::FOR_EVER;
use crate::attr::Ino;

/// How long a count is in doubt, in ns.
const FRESH: u64 = 1_000_000_000;
/// Files to remember at most: as many as can lose a name in that time, by far.
const MOST: usize = 1 << 17;

/// How long may the kernel keep attributes?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lasting {
    /// Until something outdates them.
    ForEver,
    /// It asks again the next time.
    Once,
}

impl Lasting {
    /// As `attr_valid` says it.
    pub(super) fn seconds(self) -> u64 {
        match self {
            Lasting::ForEver => FOR_EVER,
            Lasting::Once => 0,
        }
    }
}

/// The files that lost a name a moment ago and have others.
pub(super) struct Unlinked {
    since: Instant,
    /// When the last one did, in ns after `since`; 0: none yet. Nothing else is read of an answer unless it is fresh.
    last: AtomicU64,
    files: Mutex<HashMap<Ino, u64>>,
}

impl Default for Unlinked {
    fn default() -> Unlinked {
        Unlinked {
            since: Instant::now(),
            last: AtomicU64::new(0),
            files: Mutex::default(),
        }
    }
}

impl Unlinked {
    /// `ino` has just lost a name.
    pub(super) fn add(&self, ino: Ino) {
        let now = self.now();
        let mut files = self.files.lock();
        if now - self.last.fetch_max(now, Ordering::AcqRel).min(now) >= FRESH {
            files.clear();
        } else if files.len() >= MOST {
            files.retain(|_, lost| now.saturating_sub(*lost) < FRESH);
        }
        if files.len() < MOST {
            files.insert(ino, now);
        }
    }

    /// What the kernel may do with the attributes of `ino`.
    pub(super) fn lasting(&self, ino: Ino) -> Lasting {
        match self.last.load(Ordering::Acquire) {
            0 => Lasting::ForEver,
            last => self.lasting_at(ino, last, self.now()),
        }
    }

    fn lasting_at(&self, ino: Ino, last: u64, now: u64) -> Lasting {
        let fresh = |lost: u64| now.saturating_sub(lost) < FRESH;
        if fresh(last) && self.files.lock().get(&ino).is_some_and(|lost| fresh(*lost)) {
            return Lasting::Once;
        }
        Lasting::ForEver
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_in_doubt_for_a_while() {
        let unlinked = Unlinked::default();
        assert_eq!(unlinked.lasting(Ino(7)), Lasting::ForEver);
        unlinked.add(Ino(7));
        assert_eq!(unlinked.lasting(Ino(7)), Lasting::Once);
        assert_eq!(unlinked.lasting(Ino(8)), Lasting::ForEver);
        let last = unlinked.last.load(Ordering::Relaxed);
        let lasting = |ago| unlinked.lasting_at(Ino(7), last, last + ago);
        assert_eq!(
            (lasting(FRESH - 1), lasting(FRESH)),
            (Lasting::Once, Lasting::ForEver)
        );
    }

    #[test]
    fn what_is_stale_is_not_kept() {
        let unlinked = Unlinked::default();
        (0..MOST as u64 + 10).for_each(|ino| unlinked.add(Ino(ino)));
        assert!(unlinked.files.lock().len() <= MOST);
    }
}
