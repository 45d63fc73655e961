//! How often does the kernel hold each inode of the image? A count per node, in memory that is only there once touched:
//! an inode that is merely looked at costs four bytes.

use std::sync::atomic::{AtomicU32, Ordering};

use zerocopy::FromZeros;

use crate::attr::Ino;

/// Lookup counts of the image's inodes.
#[derive(Debug)]
pub(crate) struct Lookups {
    counts: Box<[AtomicU32]>,
}

impl Lookups {
    pub(crate) fn new(nodes: u32) -> Lookups {
        // Zeroed by the allocator, so for large images by the kernel, page by page at first touch.
        let counts = <[AtomicU32]>::new_box_zeroed_with_elems(nodes as usize)
            .unwrap_or_else(|_| (0..nodes).map(|_| AtomicU32::new(0)).collect());
        Lookups { counts }
    }

    fn count(&self, ino: Ino) -> Option<&AtomicU32> {
        self.counts.get(usize::try_from(ino.0.checked_sub(1)?).ok()?)
    }

    /// Is the inode one of the image's?
    pub(crate) fn counts(&self, ino: Ino) -> bool {
        self.count(ino).is_some()
    }

    /// Its count.
    pub(crate) fn get(&self, ino: Ino) -> Option<u32> {
        Some(self.count(ino)?.load(Ordering::Acquire))
    }

    /// Adds one; false if the inode is none of the image's. A count that reaches the top stays there: the inode is then
    /// never let go, which is safe.
    pub(crate) fn add(&self, ino: Ino) -> bool {
        let Some(count) = self.count(ino) else {
            return false;
        };
        if count.fetch_add(1, Ordering::AcqRel) >= u32::MAX - 1024 {
            count.store(u32::MAX - 1024, Ordering::Release);
        }
        true
    }

    /// Takes some back and gives what is left; `None` if the inode is none of the image's.
    pub(crate) fn take(&self, ino: Ino, amount: u64) -> Option<u64> {
        let count = self.count(ino)?;
        let step = |now: u32| {
            let stuck = now >= u32::MAX - 1024;
            Some(if stuck {
                now
            } else {
                now.saturating_sub(u32::try_from(amount).unwrap_or(u32::MAX))
            })
        };
        let before = count
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, step)
            .unwrap_or_default();
        step(before).map(u64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_and_never_below_zero() {
        let lookups = Lookups::new(3);
        assert!(lookups.add(Ino(1)) && lookups.add(Ino(1)) && lookups.add(Ino(3)));
        assert!(!lookups.add(Ino(4)) && !lookups.add(Ino(0)));
        assert_eq!(lookups.take(Ino(1), 1), Some(1));
        assert_eq!(lookups.take(Ino(1), 5), Some(0));
        assert_eq!(lookups.take(Ino(4), 1), None);
        assert_eq!(lookups.get(Ino(3)), Some(1));
    }
}
