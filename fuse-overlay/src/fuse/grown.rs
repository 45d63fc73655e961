//! Which files have more blocks than the kernel believes? Under writeback it counts none itself. It asks again after a file
//! was closed (`fuse_flush`), but not after it has written pages out: whoever looks at a file that stays open, a log or a
//! database, would see the old count for ever.
//!
//! Were it told at once, each write(2) to a file that grows would cost one question more. So it is told at fsync, and by the
//! timer that syncs.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::attr::Ino;

/// Files to remember at most. The counts of others are right after a close.
const MOST: usize = 1 << 16;

/// The files whose blocks were written since the kernel was told.
#[derive(Default)]
pub(super) struct Grown {
    files: Mutex<HashSet<Ino>>,
}

impl Grown {
    /// `ino` has other blocks than before.
    pub(super) fn add(&self, ino: Ino) {
        let mut files = self.files.lock();
        if files.len() < MOST {
            files.insert(ino);
        }
    }

    /// Is there something that the kernel should be told of `ino`? It then is.
    pub(super) fn take(&self, ino: Ino) -> bool {
        self.files.lock().remove(&ino)
    }

    /// All of them, to be told.
    pub(super) fn take_all(&self) -> HashSet<Ino> {
        std::mem::take(&mut self.files.lock())
    }
}
