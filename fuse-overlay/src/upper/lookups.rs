//! How often does the kernel hold each inode? A count per inode number, in the ledger: an inode that is merely looked at
//! costs four bytes, and the counts outlive the server.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::attr::Ino;
use crate::ledger::Ledger;

/// Lookup counts of all inodes. One whose number the ledger has no room for counts as always held: it is never let go,
/// which costs space but is safe. The same goes for a count that reaches the top.
#[derive(Debug)]
pub(crate) struct Lookups {
    ledger: Ledger,
}

/// Where a count stays for ever.
const TOP: u32 = u32::MAX - 1024;

impl Lookups {
    pub(crate) fn new(ledger: Ledger) -> Lookups {
        Lookups { ledger }
    }

    /// The ledger that holds them.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn count(&self, ino: Ino) -> Option<&AtomicU32> {
        self.ledger
            .inodes()
            .get(usize::try_from(ino.0.checked_sub(1)?).ok()?)
    }

    /// An inode's count.
    pub(crate) fn get(&self, ino: Ino) -> u32 {
        self.count(ino).map_or(TOP, |count| count.load(Ordering::Acquire))
    }

    /// Adds one.
    pub(crate) fn add(&self, ino: Ino) {
        if let Some(count) = self.count(ino)
            && count.fetch_add(1, Ordering::AcqRel) >= TOP
        {
            count.store(TOP, Ordering::Release);
        }
    }

    /// Takes some back and gives what is left.
    pub(crate) fn take(&self, ino: Ino, amount: u64) -> u32 {
        let Some(count) = self.count(ino) else { return TOP };
        let amount = u32::try_from(amount).unwrap_or(u32::MAX);
        let step = |now: u32| {
            if now >= TOP {
                now
            } else {
                now.saturating_sub(amount)
            }
        };
        let before = count
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| Some(step(now)))
            .unwrap_or_default();
        step(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_and_never_below_zero() {
        let lookups = Lookups::new(Ledger::alone().unwrap());
        lookups.add(Ino(1));
        lookups.add(Ino(1));
        lookups.add(Ino(1 << 20));
        assert_eq!(lookups.take(Ino(1), 1), 1);
        assert_eq!(lookups.take(Ino(1), 5), 0);
        assert_eq!((lookups.get(Ino(1 << 20)), lookups.get(Ino(2))), (1, 0));
    }

    #[test]
    fn what_cannot_be_counted_is_held_for_ever() {
        let lookups = Lookups::new(Ledger::alone().unwrap());
        for far in [Ino(0), Ino(1 << 40), Ino(u64::MAX)] {
            lookups.add(far);
            assert!(lookups.take(far, 1) > 0 && lookups.get(far) > 0);
        }
        for _ in 0..2 {
            lookups.count(Ino(1)).unwrap().store(TOP, Ordering::Release);
            lookups.add(Ino(1));
            assert_eq!(lookups.take(Ino(1), u64::MAX), TOP);
        }
    }
}
