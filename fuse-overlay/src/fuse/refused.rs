//! Who hears that the disk is full? Under writeback a write(2) only fills the kernel's pages. When those are written out
//! and find no room, the writer has had its answer long since: it would hear of it at fsync or close alone, and one that
//! just goes on writing never.
//!
//! But the kernel wants to know the file's mode before each such write (`fuse_cache_write_iter`), and gives the writer what
//! the question is answered with. So when pages are refused, the file's attributes are outdated, and the question that
//! follows gets the error: one write(2) fails. The next is taken again; its pages are refused again if nothing has changed.
//! A stat(2) asks without an open file (no `FUSE_GETATTR_FH`) and is answered as always.
//!
//! A program may be gone by then, without having looked at what its close said. So what nobody heard of here is told at the
//! connection's end: whoever goes on from the tree, as a build does, must not take it for what the programs wrote.

use std::collections::HashMap;

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::attr::Ino;
use crate::ledger::Ledger;

/// Files to remember at most. The others' writers hear of it at fsync and close.
const MOST: usize = 1 << 16;

/// The files whose pages were refused since somebody heard of it. What the ledger holds of them outlives the server.
pub(super) struct Refused {
    files: Mutex<HashMap<Ino, Errno>>,
    ledger: Ledger,
    /// Why pages were refused of files that a server before this one knew, more than the ledger holds.
    unknown: Option<Errno>,
}

impl Refused {
    /// With what servers before this one left.
    pub(super) fn under(ledger: Ledger) -> Refused {
        let (known, unknown) = ledger.unheard();
        Refused {
            files: Mutex::new(known.into_iter().collect()),
            ledger,
            unknown,
        }
    }

    /// Pages of `ino` could not be written out.
    pub(super) fn add(&self, ino: Ino, why: Errno) {
        let mut files = self.files.lock();
        if files.get(&ino) != Some(&why) {
            self.ledger.refuse(ino, why);
        }
        if files.len() < MOST {
            files.insert(ino, why);
        }
    }

    /// Is there something that the next who writes to `ino` should hear?
    pub(super) fn has(&self, ino: Ino) -> bool {
        self.files.lock().contains_key(&ino)
    }

    /// All of which nobody heard, and why; and why pages of files that are no longer known.
    pub(super) fn left(&self) -> (HashMap<Ino, Errno>, Option<Errno>) {
        (self.files.lock().clone(), self.unknown)
    }

    /// Why pages of `ino` were refused, for the one who is to hear of it; or for nobody, since it is gone. The ledger keeps it
    /// until the answer is sure to be sent: [`Refused::heard`].
    pub(super) fn take(&self, ino: Ino) -> Option<Errno> {
        self.files.lock().remove(&ino)
    }

    /// Somebody hears of it, whatever becomes of this server.
    pub(super) fn heard(&self, ino: Ino) {
        let files = self.files.lock();
        if !files.contains_key(&ino) {
            self.ledger.heard(ino);
        }
        if files.is_empty() && self.unknown.is_none() {
            self.ledger.all_heard();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_next_server_knows_what_nobody_heard() {
        let ledger = Ledger::alone().unwrap();
        let next = || Refused::under(ledger.clone()).left().0;
        let first = Refused::under(ledger.clone());
        first.add(Ino(2), Errno::ENOSPC);
        first.add(Ino(3), Errno::EDQUOT);
        assert_eq!(first.take(Ino(2)), Some(Errno::ENOSPC));
        // Its answer may be lost with the server.
        assert_eq!(next().len(), 2);
        first.heard(Ino(2));
        assert_eq!(next(), [(Ino(3), Errno::EDQUOT)].into());
        // Refused again before the answer was out.
        assert_eq!(first.take(Ino(3)), Some(Errno::EDQUOT));
        first.add(Ino(3), Errno::ENOSPC);
        first.heard(Ino(3));
        assert_eq!(next(), [(Ino(3), Errno::ENOSPC)].into());
    }

    #[test]
    fn files_beyond_the_list_are_forgotten_with_the_last() {
        let ledger = Ledger::alone().unwrap();
        let first = Refused::under(ledger.clone());
        let all = 2..2002;
        all.clone().for_each(|ino| first.add(Ino(ino), Errno::ENOSPC));
        assert_eq!(Refused::under(ledger.clone()).left().1, Some(Errno::ENOSPC));
        for ino in all {
            assert_eq!(first.take(Ino(ino)), Some(Errno::ENOSPC));
            first.heard(Ino(ino));
        }
        let (left, unknown) = Refused::under(ledger).left();
        assert!(left.is_empty() && unknown.is_none());
    }
}
