//! The writable layer: an inode table in memory, a journal that makes it again, and a data file.
//!
//! An operation of the tree locks the inodes that it changes ([`Locked`]), writes the bytes that it brings, and commits
//! a list of changes ([`Upper::commit`]): one journal record, then the same changes applied in memory. If the record
//! cannot be written, nothing happened.

mod checkpoint;
pub(crate) mod content;
pub(crate) mod data;
pub(crate) mod directory;
pub(crate) mod inode;
pub(crate) mod journal;
mod listed;
mod locked;
mod lookups;
mod names;
mod pieces;
mod replayed;
mod table;
pub(crate) mod waiting;
pub(crate) mod xattrs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::{Mutex, RwLock};

use self::data::Data;
use self::inode::{Body, Inode, State};
use self::journal::format::{Change, Image, LISTED, Operation, PAGE};
use self::journal::list::List;
use self::journal::log::{Log, Room};
use self::journal::replay::{self, ReplayError};
pub(crate) use self::listed::CopyUp;
pub(crate) use self::locked::Locked;
use self::lookups::Lookups;
use self::replayed::Replayed;
use self::table::Table;
use crate::attr::Ino;
use crate::disk::{Disk, HostFile, Snapshot};
use crate::error::{Error, Result};
use crate::ledger::Ledger;

pub use self::journal::Durable;

/// Limits on what a container may keep, so that a hostile one cannot fill the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Most bytes of data and journal in the upper; `None` is unlimited.
    pub bytes: Option<u64>,
    /// Most inodes made in the upper that have a name.
    pub inodes: Option<u64>,
}

/// Why a writable layer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{path}: in use by another process")]
    InUse {
        /// The journal.
        path: String,
    },
    /// The journal was written over another image.
    #[error("{path}: belongs to another image")]
    OtherImage {
        /// The journal.
        path: String,
    },
    /// Written by another version.
    #[error("{path}: journal of version {version}, written by a newer program: this one reads versions 1 to {most}", most = LISTED)]
    Version {
        /// The journal.
        path: String,
        /// What it says.
        version: u32,
    },
    /// A damaged record with good ones behind it.
    #[error("{path}: damaged at byte {offset}")]
    Damaged {
        /// The journal.
        path: String,
        /// Offset of the record in bytes.
        offset: u64,
    },
    /// The merged index is damaged or names other layers than were given.
    #[error("image index: {0}")]
    Lower(String),
}

/// The two files of a writable layer.
#[derive(Debug)]
pub struct Storage {
    /// What happened. Empty for a new layer.
    pub journal: Box<dyn Disk>,
    /// The bytes of files.
    pub data: Box<dyn Disk>,
    /// Where they lie, for messages.
    pub path: PathBuf,
    /// Which start of the host this is: what an earlier one wrote and did not sync may be lost in part.
    pub boot: [u8; 16],
}

impl Storage {
    /// Opens `journal` and `data` in a directory, made empty if they are missing.
    ///
    /// # Errors
    /// Fails if a file cannot be opened, or if another process has the layer open.
    pub fn open(dir: &Path) -> std::result::Result<Storage, OpenError> {
        let failed = |name: &str| {
            let path = dir.join(name).display().to_string();
            move |source| OpenError::Io { path, source }
        };
        let journal = HostFile::open(dir, "journal").map_err(failed("journal"))?;
        if !journal.try_own() {
            return Err(OpenError::InUse {
                path: dir.join("journal").display().to_string(),
            });
        }
        // Its flush comes before each of the journal's.
        let data = HostFile::open(dir, "data").and_then(|data| data.with_names(dir));
        let data = data.map_err(failed("data"))?;
        Storage::of(Box::new(journal), Box::new(data), dir)
    }

    /// The layer in a directory as it is now, to be looked at: another process may have it open and change it.
    ///
    /// # Errors
    /// Fails if a file cannot be opened.
    pub fn snapshot(dir: &Path) -> std::result::Result<Storage, OpenError> {
        let open = |name: &str| {
            Snapshot::open(dir, name).map_err(|source| OpenError::Io {
                path: dir.join(name).display().to_string(),
                source,
            })
        };
        Storage::of(Box::new(open("journal")?), Box::new(open("data")?), dir)
    }

    /// The same; while it lives, the bytes of files stay as they are now. (Not on a network's filesystems.)
    ///
    /// # Errors
    /// As [`Storage::snapshot`].
    pub fn held(dir: &Path) -> std::result::Result<Storage, OpenError> {
        let failed = |name: &str| {
            let path = dir.join(name).display().to_string();
            move |source| OpenError::Io { path, source }
        };
        // First: what the journal then says of bytes is true until the end.
        let data = Snapshot::hold(dir, "data").map_err(failed("data"))?;
        let journal = Snapshot::open(dir, "journal").map_err(failed("journal"))?;
        Storage::of(Box::new(journal), Box::new(data), dir)
    }

    fn of(
        journal: Box<dyn Disk>,
        data: Box<dyn Disk>,
        dir: &Path,
    ) -> std::result::Result<Storage, OpenError> {
        let boot = crate::disk::boot_id().map_err(|source| OpenError::Io {
            path: crate::disk::BOOT_ID.to_owned(),
            source,
        })?;
        Ok(Storage {
            boot,
            journal,
            data,
            path: dir.to_owned(),
        })
    }
}

/// How long an operation that finds no room waits for those who look.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// What became of an inode whose lookups were taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// It is still there.
    Kept,
    /// It had no name: it is gone, and its space free after the next sync.
    Gone,
}

/// The open writable layer.
#[derive(Debug)]
pub(crate) struct Upper {
    table: Table,
    log: Log,
    pub(crate) data: Data,
    lookups: Lookups,
    /// The highest inode number of the image.
    image_end: u64,
    /// What happened under this connection before this server began: see [`Upper::happened`].
    happened: HashMap<u64, Option<Ino>>,
    /// The next new inode number. Numbers are never used twice.
    next: AtomicU64,
    /// Inodes made in the upper that have a name. One that lost its last goes when the kernel forgets it, of which nobody
    /// knows when; who removes a file may make another at once.
    named: AtomicU64,
    limits: Limits,
    /// Held for reading from an operation's record until it is applied.
    applying: RwLock<()>,
    /// Held by the one who makes a checkpoint. None is due before the journal has this length.
    checkpointing: Mutex<u64>,
    /// Somebody was refused room at the limit, which counts the journal's history, too.
    is_short: AtomicBool,
}

impl Upper {
    /// Replays the journal over the image. `copy_up` gives an image's inode as it is without changes. Under a ledger that
    /// another server has used before, inodes without names that the kernel still holds stay.
    pub(crate) fn open(
        storage: Storage,
        image: Image,
        limits: Limits,
        ledger: &Ledger,
        copy_up: CopyUp<'_>,
    ) -> std::result::Result<Upper, OpenError> {
        let Storage {
            journal,
            data,
            path,
            boot,
        } = storage;
        let image_end = image.node_count.into();
        let read = |list: Option<&List>| Replayed::read(&*journal, image, boot, ledger, list, copy_up);
        let list = replay::list(&*journal, image);
        let unusable = |why: &_| tracing::warn!(?why, "journal: its list cannot be used; all of it is read");
        let listed = list.as_ref();
        let listed = listed.and_then(|list| read(Some(list)).inspect_err(unusable).ok());
        let list = list.filter(|_| listed.is_some());
        let (read, replayed) = match listed {
            Some(listed) => listed,
            None => read(None).map_err(|error| open_error(&path.join("journal"), error))?,
        };
        let log = Log::new(journal, &read, list.as_ref(), boot);
        ledger.begin(log.last_change());
        let lookups = Lookups::new(ledger.clone());
        let told: Vec<Ino> = replayed.happened.values().flatten().copied().collect();
        let (used, named) = replayed.drop_orphans(|ino| lookups.get(ino) > 0 || told.contains(&ino));
        let pages = limits.bytes.map(|bytes| bytes / PAGE);
        let data = Data::open(data, used, log.last_change(), pages)
            .map_err(|error| open_error(&path.join("data"), error.into()))?;
        if ledger.is_lost() {
            // The files are open anew, but what was lost stays lost.
            data.lose();
            log.lose();
        }
        Ok(Upper {
            table: replayed.table,
            log,
            data,
            lookups,
            image_end,
            happened: replayed.happened,
            next: AtomicU64::new(replayed.last.0 + 1),
            named: AtomicU64::new(named),
            limits,
            applying: RwLock::new(()),
            checkpointing: Mutex::new(0),
            is_short: AtomicBool::new(false),
        })
    }

    /// The inode, if the upper knows it. EIO if what the journal says of it is damaged.
    pub(crate) fn find(&self, ino: Ino, copy_up: CopyUp<'_>) -> Result<Option<Arc<Inode>>> {
        self.table.find(ino, self.log.disk(), copy_up)
    }

    /// All inodes that it knows now.
    pub(crate) fn all(&self, copy_up: CopyUp<'_>) -> Result<Vec<Arc<Inode>>> {
        self.table.find_all(self.log.disk(), copy_up)?;
        Ok(self.table.all())
    }

    /// The inode; an image's one is taken in by `copy_up` if the upper does not know it yet.
    pub(crate) fn find_or(&self, ino: Ino, copy_up: CopyUp<'_>) -> Result<Arc<Inode>> {
        match self.find(ino, copy_up)? {
            Some(found) => Ok(found),
            None => self.table.get_or(ino, || copy_up(ino)),
        }
    }

    /// A number for a new inode; ENOSPC at the limit.
    pub(crate) fn new_ino(&self) -> Result<Ino> {
        self.may_name()?;
        Ok(Ino(self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// May one more inode get a name? ENOSPC at the limit.
    pub(crate) fn may_name(&self) -> Result<()> {
        let (named, most) = self.inodes();
        match most {
            Some(most) if named >= most => Err(Error(Errno::ENOSPC)),
            _ => Ok(()),
        }
    }

    /// Makes an operation happen: records it, then applies its changes to the locked inodes and to those that it makes.
    /// After an error nothing has changed.
    pub(crate) fn commit(
        &self,
        operation: Operation,
        unique: u64,
        changes: &[Change<'_>],
        room: Room,
        locked: &mut Locked<'_>,
    ) -> Result<()> {
        if room == Room::Ordinary && self.over_limit() {
            self.is_short.store(true, Ordering::Relaxed);
            return Err(Error(Errno::ENOSPC));
        }
        let misfit = |change: &&Change<'_>| locked.get(change.ino()).is_some_and(|state| !state.fits(change));
        if let Some(change) = changes.iter().find(misfit) {
            tracing::error!(?change, "a change that does not fit its inode");
            return Err(Error(Errno::EIO));
        }
        let _applying = self.applying.read();
        let sequence = self.log.append(operation, unique, changes, room)?.sequence;
        let mut freed = Vec::new();
        let mut made: Vec<Arc<Inode>> = Vec::new();
        for change in changes {
            let fits = match *change {
                Change::Make {
                    ino,
                    kind,
                    meta,
                    target,
                    parent,
                } => {
                    self.count(ino, 0, meta.nlink);
                    let state = State::made(kind, meta, target, parent);
                    made.push(Arc::new(Inode::new(ino, state)));
                    true
                }
                _ => match locked.get_mut(change.ino()) {
                    Some(state) => {
                        let before = state.meta.nlink;
                        let fits = state.apply(change, &mut freed);
                        self.count(change.ino(), before, state.meta.nlink);
                        fits
                    }
                    // An inode that this very operation made: nobody else has it yet.
                    None => made
                        .iter()
                        .find(|inode| inode.ino == change.ino())
                        .is_some_and(|inode| inode.write().apply(change, &mut freed)),
                },
            };
            if !fits {
                tracing::error!(?change, "a change that does not fit its inode");
            }
        }
        // As a whole: a checkpoint finds all that is in the table.
        made.into_iter().for_each(|inode| self.table.insert(inode));
        self.data.free(sequence, &mut freed);
        Ok(())
    }

    fn over_limit(&self) -> bool {
        self.limits
            .bytes
            .is_some_and(|most| self.log.charged() + self.data.usage().0 * PAGE >= most)
    }

    /// Was it made here, and is none of the image's?
    pub(crate) fn is_made(&self, ino: Ino) -> bool {
        ino.0 > self.image_end
    }

    /// The ledger that it was opened under.
    pub(crate) fn ledger(&self) -> &Ledger {
        self.lookups.ledger()
    }

    /// Counts a lookup.
    pub(crate) fn looked_up(&self, ino: Ino) {
        self.lookups.add(ino);
    }

    /// Takes back lookups; an inode without names and lookups goes.
    pub(crate) fn forget(&self, ino: Ino, count: u64) -> Released {
        if self.lookups.take(ino, count) == 0 {
            self.release(ino)
        } else {
            Released::Kept
        }
    }

    /// Had the request `unique` changed something before this server took over from another? If so, the inode that it made,
    /// if it made one.
    pub(crate) fn happened(&self, unique: u64) -> Option<Option<Ino>> {
        self.happened.get(&unique).copied()
    }

    fn is_looked_up(&self, ino: Ino) -> bool {
        self.lookups.get(ino) > 0
    }

    /// Lets go of an inode that has neither names nor lookups. Not to be called with locks held.
    pub(crate) fn release(&self, ino: Ino) -> Released {
        let Some(inode) = self.table.get(ino).filter(|inode| !self.is_looked_up(inode.ino)) else {
            return Released::Kept;
        };
        self.give_reserve(&inode);
        if inode.read().meta.nlink > 0 {
            return Released::Kept;
        }
        let mut released = Released::Kept;
        let mut locked = Locked::new(&[&inode]);
        // Under the lock once more: another thread may have released it, or given it a name.
        let unused = self.table.get(ino).is_some()
            && !self.is_looked_up(ino)
            && locked.get_mut(ino).is_some_and(|state| state.meta.nlink == 0);
        if unused {
            let changes = [Change::Forget { ino }];
            match self.with_space(|| self.commit(Operation::Forget, 0, &changes, Room::Reserve, &mut locked))
            {
                Ok(()) => {
                    released = Released::Gone;
                    self.table.remove(ino);
                }
                // Its space stays taken until the layer is opened again, which drops inodes without names.
                Err(error) => tracing::warn!(?ino, %error, "cannot record that a removed file was closed"),
            }
        }
        released
    }

    /// Gives back what was set aside for the growth of a file that nobody uses now.
    fn give_reserve(&self, inode: &Inode) {
        if let Body::Regular(content) = &mut inode.write().body
            && let Some(run) = content.take_reserve()
        {
            self.data.put_back(run);
        }
    }

    /// The same for what changes bytes: what finds no room only because somebody looks must not fail, since the kernel has told
    /// the writer of success before. No locks may be held.
    pub(crate) fn with_space_for_bytes<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        match self.with_space(&mut operation) {
            Err(Error(Errno::ENOSPC | Errno::EDQUOT)) if self.data.alone().is_none() => {
                tracing::warn!("no room while somebody looks at the writable layer: waiting for them");
                waiting::begins();
                self.data.wait_for_lookers(LONGEST_LOOK);
                self.with_space(operation)
            }
            done => done,
        }
    }

    /// Runs an operation; if there is no space, once more after freed space was given back.
    pub(crate) fn with_space<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        match operation() {
            Err(full @ Error(Errno::ENOSPC | Errno::EDQUOT)) => {
                // Freed pages can be used again once the records that freed them are on the disk. A flush that fails is
                // told to those who ask for one.
                waiting::begins();
                let Ok(Durable { .. }) = self.sync() else {
                    return Err(full);
                };
                self.reclaim();
                operation()
            }
            other => other,
        }
    }

    /// Makes everything acknowledged so far durable. Records can reach the disk before their data, so those count after
    /// a loss of power whose data a flush that began after them has covered.
    pub(crate) fn sync(&self) -> Result<Durable> {
        let wanted = self.log.last_change();
        let synced = self.data.flush().and_then(|()| self.log.flush(wanted));
        if self.data.is_lost() || self.log.is_lost() {
            self.lookups.ledger().set_lost();
        }
        synced
    }

    /// Gives freed space back to the disk, as far as the records that freed it are durable.
    pub(crate) fn reclaim(&self) {
        self.data.reclaim(self.log.promised());
    }

    /// Blocks of 4096 bytes on its filesystem (all, free, free for users), cut to the limit.
    pub(crate) fn space(&self) -> Result<[u64; 3]> {
        let [all, free, available] = self.log.space()?;
        Ok(match (self.limits.bytes, self.data.usage()) {
            (Some(bytes), (_, Some(left))) => {
                let left = left.saturating_sub(self.log.charged() / PAGE);
                [all.min(bytes / PAGE), free.min(left), available.min(left)]
            }
            _ => [all, free, available],
        })
    }

    /// Inodes made that have a name, and how many may be.
    pub(crate) fn inodes(&self) -> (u64, Option<u64>) {
        (self.named.load(Ordering::Relaxed), self.limits.inodes)
    }

    /// Counts an inode whose number of names goes from one to another.
    fn count(&self, ino: Ino, before: u32, after: u32) {
        if !self.is_made(ino) {
            return;
        }
        match (before, after) {
            (0, 1..) => self.named.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => self.named.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }
}

fn open_error(path: &Path, error: ReplayError) -> OpenError {
    let path = path.display().to_string();
    match error {
        ReplayError::Io(source) => OpenError::Io { path, source },
        ReplayError::OtherImage => OpenError::OtherImage { path },
        ReplayError::Version(version) => OpenError::Version { path, version },
        ReplayError::Damaged(offset) => OpenError::Damaged { path, offset },
    }
}
