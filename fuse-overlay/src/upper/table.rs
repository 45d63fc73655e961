//! Which inodes does the upper know? A map in shards, so that no lock is common to all requests.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::inode::Inode;
use crate::attr::Ino;
use crate::error::Result;

/// Neighbouring inode numbers fall into different shards.
const SHARDS: usize = 64;

/// All inodes that the container made or changed.
#[derive(Debug)]
pub(crate) struct Table {
    shards: [RwLock<HashMap<Ino, Arc<Inode>>>; SHARDS],
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            shards: std::array::from_fn(|_| RwLock::new(HashMap::new())),
        }
    }

    fn shard(&self, ino: Ino) -> &RwLock<HashMap<Ino, Arc<Inode>>> {
        // The remainder is below the number of shards.
        #[allow(clippy::indexing_slicing)]
        &self.shards[(ino.0 % SHARDS as u64) as usize]
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.shard(ino).read().get(&ino).cloned()
    }

    /// The inode, made by `make` if it is not there yet.
    pub(crate) fn get_or(&self, ino: Ino, make: impl FnOnce() -> Result<Inode>) -> Result<Arc<Inode>> {
        if let Some(found) = self.get(ino) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        Ok(Arc::clone(self.shard(ino).write().entry(ino).or_insert(made)))
    }

    pub(crate) fn insert(&self, inode: Arc<Inode>) {
        self.shard(inode.ino).write().insert(inode.ino, inode);
    }

    pub(crate) fn remove(&self, ino: Ino) {
        self.shard(ino).write().remove(&ino);
    }

    /// Is this the inode of its number?
    pub(crate) fn holds(&self, inode: &Arc<Inode>) -> bool {
        self.shard(inode.ino)
            .read()
            .get(&inode.ino)
            .is_some_and(|held| Arc::ptr_eq(held, inode))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Those that are there now.
    pub(crate) fn all(&self) -> Vec<Arc<Inode>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>())
            .collect()
    }
}
