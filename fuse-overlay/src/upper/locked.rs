//! Inodes locked for one operation, always in the order of their numbers, so that no two operations wait for each other.

use std::sync::Arc;

use parking_lot::RwLockWriteGuard;

use super::inode::{Inode, State};
use crate::attr::Ino;

/// Inodes locked for writing.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    inodes: Vec<(Ino, RwLockWriteGuard<'a, State>)>,
}

impl<'a> Locked<'a> {
    /// Locks each of `inodes` once, waiting for those who hold them.
    pub(crate) fn new(inodes: &[&'a Arc<Inode>]) -> Locked<'a> {
        let mut sorted = inodes.to_vec();
        sorted.sort_unstable_by_key(|inode| inode.ino);
        sorted.dedup_by_key(|inode| inode.ino);
        Locked {
            inodes: sorted
                .into_iter()
                .map(|inode| (inode.ino, inode.write()))
                .collect(),
        }
    }

    /// One of them.
    pub(crate) fn get(&self, ino: Ino) -> Option<&State> {
        self.inodes
            .iter()
            .find(|(held, _)| *held == ino)
            .map(|(_, state)| &**state)
    }

    /// One of them, for changing what no journal records (a file's reserve); all else goes through a commit.
    pub(crate) fn get_mut(&mut self, ino: Ino) -> Option<&mut State> {
        self.inodes
            .iter_mut()
            .find(|(held, _)| *held == ino)
            .map(|(_, state)| &mut **state)
    }
}
