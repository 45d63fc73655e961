//! Which inodes does the upper know? A map in shards, so that no lock is common to all requests.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
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
    shards: [RwLock<Shard>; SHARDS],
}

type Shard = HashSet<Numbered, BuildHasherDefault<Spread>>;

/// Spreads numbers that are given one after the other, of which a shard has every [`SHARDS`]th. Nobody outside chooses
/// them, so it need not be secret.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The upper half is the well mixed one, and the set looks at the lowest bits.
        self.0 ^ self.0 >> 32
    }
}

/// An inode that is found by its number, which it holds itself.
#[derive(Debug)]
struct Numbered(Arc<Inode>);

impl Borrow<Ino> for Numbered {
    fn borrow(&self) -> &Ino {
        &self.0.ino
    }
}

impl Hash for Numbered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.ino.hash(state);
    }
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Numbered) -> bool {
        self.0.ino == other.0.ino
    }
}

impl Eq for Numbered {}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            shards: std::array::from_fn(|_| RwLock::new(Shard::default())),
        }
    }

    fn shard(&self, ino: Ino) -> &RwLock<Shard> {
        // The remainder is below the number of shards.
        #[allow(clippy::indexing_slicing)]
        &self.shards[(ino.0 % SHARDS as u64) as usize]
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.shard(ino).read().get(&ino).map(|found| Arc::clone(&found.0))
    }

    /// The inode, made by `make` if it is not there yet.
    pub(crate) fn get_or(&self, ino: Ino, make: impl FnOnce() -> Result<Inode>) -> Result<Arc<Inode>> {
        if let Some(found) = self.get(ino) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        let mut shard = self.shard(ino).write();
        if let Some(found) = shard.get(&ino) {
            return Ok(Arc::clone(&found.0));
        }
        shard.insert(Numbered(Arc::clone(&made)));
        Ok(made)
    }

    pub(crate) fn insert(&self, inode: Arc<Inode>) {
        self.shard(inode.ino).write().replace(Numbered(inode));
    }

    pub(crate) fn remove(&self, ino: Ino) {
        self.shard(ino).write().remove(&ino);
    }

    /// Is this the inode of its number?
    pub(crate) fn holds(&self, inode: &Arc<Inode>) -> bool {
        self.shard(inode.ino)
            .read()
            .get(&inode.ino)
            .is_some_and(|held| Arc::ptr_eq(&held.0, inode))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Those that are there now.
    pub(crate) fn all(&self) -> Vec<Arc<Inode>> {
        self.shards
            .iter()
            .flat_map(|shard| {
                shard
                    .read()
                    .iter()
                    .map(|held| Arc::clone(&held.0))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}
