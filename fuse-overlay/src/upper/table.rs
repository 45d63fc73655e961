//! Which inodes does the upper know? A map in shards, so that no lock is common to all requests; and behind it the journal's
//! list, if it has one, of those that nobody has asked for yet.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;

use super::inode::Inode;
use super::listed::{CopyUp, Listed, Standing};
use crate::attr::Ino;
use crate::disk::Disk;
use crate::error::Result;

/// Neighbouring inode numbers fall into different shards.
const SHARDS: usize = 64;

/// All inodes that the container made or changed.
#[derive(Debug)]
pub(crate) struct Table {
    shards: [RwLock<Shard>; SHARDS],
    listed: Option<Listed>,
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
    /// An empty one.
    pub(crate) fn new(listed: Option<Listed>) -> Table {
        Table {
            shards: std::array::from_fn(|_| RwLock::new(Shard::default())),
            listed,
        }
    }

    fn shard(&self, ino: Ino) -> &RwLock<Shard> {
        // The remainder is below the number of shards.
        #[allow(clippy::indexing_slicing)]
        &self.shards[(ino.0 % SHARDS as u64) as usize]
    }

    /// The inode, if it is in memory.
    pub(crate) fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.shard(ino).read().get(&ino).map(|found| Arc::clone(&found.0))
    }

    /// The inode, read from the journal on `disk` if it is only in its list. No lock is held meanwhile: of several that read
    /// it at once, the first has read it for all.
    pub(crate) fn find(&self, ino: Ino, disk: &dyn Disk, copy_up: CopyUp<'_>) -> Result<Option<Arc<Inode>>> {
        let found = self.get(ino);
        let Some(listed) = self.listed.as_ref().filter(|_| found.is_none()) else {
            return Ok(found);
        };
        match listed.standing(ino, disk) {
            Ok(Standing::Absent) => Ok(None),
            Ok(Standing::Taken) => Ok(self.get(ino)),
            Err(error) => self.take_in(ino, disk, Err(error)),
            Ok(Standing::Waiting) => self.take_in(ino, disk, listed.read(disk, ino, copy_up)),
        }
    }

    /// Reads all that are only in the list.
    pub(crate) fn find_all(&self, disk: &dyn Disk, copy_up: CopyUp<'_>) -> Result<()> {
        let Some(listed) = &self.listed else { return Ok(()) };
        listed.read_all(disk, copy_up, |ino, read| self.take_in(ino, disk, read).map(drop))
    }

    /// Takes in what was read from the list.
    fn take_in(&self, ino: Ino, disk: &dyn Disk, read: Result<Inode>) -> Result<Option<Arc<Inode>>> {
        let Some(listed) = &self.listed else {
            return Ok(None);
        };
        let inode = match read {
            Ok(inode) => Arc::new(inode),
            // A checkpoint needs no more what another thread has read, and gives its place back.
            Err(_) if listed.standing(ino, disk) == Ok(Standing::Taken) => return Ok(self.get(ino)),
            Err(error) => {
                tracing::error!(?ino, %error, "an inode of the writable layer cannot be read");
                return Err(error);
            }
        };
        let mut shard = self.shard(ino).write();
        if listed.take(ino) {
            shard.replace(Numbered(Arc::clone(&inode)));
            return Ok(Some(inode));
        }
        Ok(shard.get(&ino).map(|found| Arc::clone(&found.0)))
    }

    /// Is it only in the list?
    pub(crate) fn is_waiting(&self, ino: Ino, disk: &dyn Disk) -> Result<bool> {
        match self.listed.as_ref().filter(|_| self.get(ino).is_none()) {
            Some(listed) => Ok(listed.standing(ino, disk)? == Standing::Waiting),
            None => Ok(false),
        }
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

    /// How many are in memory.
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
