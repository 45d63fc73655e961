//! Which listings had the kernel better not keep? It keeps all (`NO_OPENDIR_SUPPORT`), so a directory that was listed once
//! is listed again without a message. But it does not keep what it knows of a file that was used: reading outdates the
//! access time (`fuse_invalidate_atime`), and under writeback each close the block count (`fuse_flush`), whether anything
//! was written or not. So tar, rsync, grep -r, an importing Python pay one GETATTR for each file that they opened the last
//! time, while a listing that must be asked for brings all attributes of a directory at once (READDIRPLUS).
//!
//! Hence: where several files' attributes have gone stale, the kernel is told to forget the listing. From then on the
//! directory is listed anew each time (two messages, which is why it takes more than two stale files), and the kernel
//! tells nobody that it no longer needs that; so once in a while a listing is left to it, and what follows is watched.
//!
//! Listing a directory outdates its own access time as well. Who walks a tree a second time would ask for the attributes of
//! each directory; so the listing of one whose subdirectories were listed is forgotten, too, but once: listed again, they
//! come from the kernel's keeping, which outdates nothing.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::attr::Ino;

/// Stale files of a directory that cost more than listing it anew.
const ENOUGH: u8 = 3;

/// Listings asked for anew before one is kept on trial.
const ANEW: u8 = 16;

/// Directories to remember at most. All this only saves time, so they may all be forgotten.
const MOST: usize = 1 << 16;

/// What is known of the listings that the kernel keeps.
#[derive(Default)]
pub(super) struct Listings {
    directories: Mutex<HashMap<Ino, Use>>,
}

/// How a directory's files are used.
#[derive(Clone, Copy)]
enum Use {
    /// The kernel keeps the listing; so many files' attributes have gone stale since.
    Kept { stale: u8 },
    /// It forgets it after each use, so many times more.
    Anew { times: u8 },
}

impl Listings {
    /// The kernel has to ask for attributes of a file in `dir`, or soon will. Says whether it should forget the listing.
    pub(super) fn outdated(&self, dir: Ino) -> bool {
        self.stale(dir, ANEW)
    }

    /// A directory in `dir` was listed. Says whether the kernel should forget the listing of `dir`.
    pub(super) fn listed(&self, dir: Ino) -> bool {
        self.stale(dir, 1)
    }

    /// What the kernel knows of something in `dir` has gone stale. If that is enough, `dir` is listed anew so many times.
    fn stale(&self, dir: Ino, times: u8) -> bool {
        let mut directories = self.directories.lock();
        if directories.len() >= MOST {
            directories.clear();
        }
        let seen = directories.entry(dir).or_insert(Use::Kept { stale: 0 });
        match seen {
            Use::Kept { stale } if *stale + 1 < ENOUGH => *stale += 1,
            Use::Kept { .. } => {
                *seen = Use::Anew { times };
                return true;
            }
            Use::Anew { .. } => {}
        }
        false
    }

    /// The kernel has been told all of a listing. Says whether it should forget it.
    pub(super) fn ended(&self, dir: Ino) -> bool {
        let mut directories = self.directories.lock();
        let Some(seen) = directories.get_mut(&dir) else {
            return false;
        };
        match seen {
            Use::Anew { times: 1 } => *seen = Use::Kept { stale: 0 },
            Use::Anew { times } => {
                *times -= 1;
                return true;
            }
            Use::Kept { .. } => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Ino = Ino(7);

    #[test]
    fn a_directory_whose_files_are_only_listed_is_kept() {
        let listings = Listings::default();
        assert!(!listings.ended(DIR));
        assert!((1..ENOUGH).all(|_| !listings.outdated(DIR)));
        assert!(!listings.ended(DIR));
        assert!(!listings.outdated(Ino(8)), "each directory has its own count");
    }

    #[test]
    fn one_whose_files_are_used_is_listed_anew_and_tried_again() {
        let listings = Listings::default();
        for _ in 0..2 {
            assert_eq!((0..10).filter(|_| listings.outdated(DIR)).count(), 1);
            assert!((1..ANEW).all(|_| listings.ended(DIR)));
            assert!(!listings.ended(DIR), "the trial");
        }
    }

    #[test]
    fn one_whose_directories_are_listed_is_listed_anew_once() {
        let listings = Listings::default();
        for _ in 0..2 {
            assert_eq!((0..10).filter(|_| listings.listed(DIR)).count(), 1);
            assert!(!listings.ended(DIR), "it is kept again");
        }
    }

    #[test]
    fn a_million_directories_are_not_remembered() {
        let listings = Listings::default();
        for ino in 0..1_000_000 {
            listings.outdated(Ino(ino));
        }
        assert!(listings.directories.lock().len() <= MOST);
    }
}
