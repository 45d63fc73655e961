//! Which content had a file of the context when it was last looked at? As long as its inode, size and times are the same, it
//! need not be read again to know that nothing has changed.
//!
//! The time of the last change (ctime) cannot be set by a program, so any write alters what a hash is remembered under; but
//! for one in the same tick of the clock as the reading. So what changed a moment ago is not remembered.
//!
//! Files of stored layers, of other stages and images, are remembered with them, by their stack and path.
//!
//! A file per context, `$BRYO_STATE/hashes/<device>-<inode>`, of one that is no directory `0-0`: [`MAGIC`], records of [`RECORD`] bytes, and the sha256 of all
//! that. One that cannot be read is as good as none.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuse_overlay::attr::Time;
use rustix::fs::Stat;
use sha2::{Digest as _, Sha256};

use crate::store::write::replace;
use crate::store::{ChainId, Durability, Store};

const MAGIC: &[u8; 8] = b"BRYOHSH1";
/// Device, inode, size, two times of 12 bytes, sha256; little-endian.
const RECORD: usize = 8 + 8 + 8 + 12 + 12 + 32;
/// The clock's tick is 10 ms at most; network filesystems may be a second behind.
const RECENT: Duration = Duration::from_secs(2);
/// Files remembered at most: 80 MB.
const MOST: usize = 1_000_000;

/// A file of the host as it was at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

impl FileId {
    pub(super) fn of(stat: &Stat) -> FileId {
        FileId {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Of a file of stored layers, which never changes: by the hash of its stack and path. No device has this number.
    pub(super) fn stored(chain: &ChainId, path: &[u8], size: u64) -> FileId {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(chain.0)
            .chain_update(path)
            .finalize()
            .into();
        let part = |at: usize| {
            let bytes = hash.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        FileId {
            device: u64::MAX,
            inode: part(0),
            size,
            mtime: Time {
                sec: part(8).cast_signed(),
                nsec: 0,
            },
            ctime: Time {
                sec: 0,
                nsec: (part(16) & 0x1fff_ffff) as u32,
            },
        }
    }
}

/// A time as stat(2) gives it.
pub(super) fn time(sec: i64, nsec: u64) -> Time {
    let nsec = u32::try_from(nsec).unwrap_or(0);
    Time { sec, nsec }
}

/// What is known of one context's files.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    known: RefCell<HashMap<FileId, [u8; 32]>>,
    /// Those asked for or learned since.
    used: RefCell<HashMap<FileId, [u8; 32]>>,
    /// Where it is kept.
    path: Option<PathBuf>,
}

impl Hashes {
    /// Reads what is known of the context that lies at this device and inode.
    pub(super) fn of(store: &Store, (device, inode): (u64, u64)) -> Hashes {
        let path = store.state().join("hashes").join(format!("{device:x}-{inode:x}"));
        let known = fs::read(&path)
            .ok()
            .and_then(|bytes| read(&bytes))
            .unwrap_or_default();
        Hashes {
            known: RefCell::new(known),
            used: RefCell::default(),
            path: Some(path),
        }
    }

    /// The sha256 of a file's content, if it is known.
    pub(super) fn find(&self, file: &FileId) -> Option<[u8; 32]> {
        let found = self.known.borrow().get(file).copied();
        if let Some(hash) = found {
            self.used.borrow_mut().insert(*file, hash);
        }
        found
    }

    /// Remembers a content that was read after `file` was looked at; says whether the file's times can tell of a change.
    pub(super) fn learn(&self, file: FileId, hash: [u8; 32]) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(u64::try_from(file.ctime.sec).unwrap_or(0), file.ctime.nsec);
        let can_tell = changed + RECENT < now;
        if can_tell {
            self.known.borrow_mut().insert(file, hash);
            self.used.borrow_mut().insert(file, hash);
        }
        can_tell
    }

    /// What was asked for or learned since [`Hashes::forget_use`], for [`Hashes::take_in`].
    pub(super) fn used(&self) -> Vec<u8> {
        written(&self.used.borrow())
    }

    /// Begins anew to note what is used.
    pub(super) fn forget_use(&self) {
        self.used.borrow_mut().clear();
    }

    /// Takes what another process learned of the same context.
    pub(super) fn take_in(&self, told: &[u8]) {
        let told = read(told).unwrap_or_default();
        self.known.borrow_mut().extend(&told);
        self.used.borrow_mut().extend(&told);
    }

    /// Keeps what is known for the next build. Failing, it costs that one some reading.
    pub(super) fn keep(&self, store: &Store) {
        let Some(path) = &self.path else { return };
        let (known, used) = (self.known.borrow(), self.used.borrow());
        // Many are of files that are gone.
        let kept = if known.len() > MOST.min(4 * used.len()) {
            &used
        } else {
            &known
        };
        let bytes = written(kept);
        let made = path.parent().map(fs::create_dir_all).transpose();
        let done = made.map_err(|error| error.to_string()).and_then(|_| {
            replace(&store.tmp(), path, &bytes, Durability::Volatile).map_err(|error| error.to_string())
        });
        if let Err(error) = done {
            tracing::warn!(path = %path.display(), error, "hashes of the context's files are not kept");
        }
    }
}

fn written(hashes: &HashMap<FileId, [u8; 32]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + hashes.len() * RECORD + 32);
    bytes.extend_from_slice(MAGIC);
    for (file, hash) in hashes {
        for number in [file.device, file.inode, file.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [file.mtime, file.ctime] {
            bytes.extend_from_slice(&time.sec.to_le_bytes());
            bytes.extend_from_slice(&time.nsec.to_le_bytes());
        }
        bytes.extend_from_slice(hash);
    }
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn read(bytes: &[u8]) -> Option<HashMap<FileId, [u8; 32]>> {
    let (body, sum) = bytes.split_last_chunk::<32>()?;
    let records = body.strip_prefix(MAGIC)?;
    if Sha256::digest(body)[..] != sum[..] || records.len() % RECORD != 0 {
        return None;
    }
    records.chunks_exact(RECORD).map(record).collect()
}

fn record(mut bytes: &[u8]) -> Option<(FileId, [u8; 32])> {
    let mut number = || {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        bytes = rest;
        Some(*number)
    };
    let [device, inode, size] = [number()?, number()?, number()?].map(u64::from_le_bytes);
    let mut time = || {
        let (sec, rest) = bytes.split_first_chunk::<8>()?;
        let (nsec, rest) = rest.split_first_chunk::<4>()?;
        bytes = rest;
        Some(Time {
            sec: i64::from_le_bytes(*sec),
            nsec: u32::from_le_bytes(*nsec),
        })
    };
    let (mtime, ctime) = (time()?, time()?);
    let file = FileId {
        device,
        inode,
        size,
        mtime,
        ctime,
    };
    Some((file, bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;

    fn file(inode: u64, sec: i64) -> FileId {
        FileId {
            device: 1,
            inode,
            size: 3,
            mtime: Time { sec: -1, nsec: 999 },
            ctime: Time { sec, nsec: 1 },
        }
    }

    #[test]
    fn what_is_learned_is_known_to_the_next_build() {
        let (_dir, store) = scratch();
        let hashes = Hashes::of(&store, (7, 9));
        assert_eq!(hashes.find(&file(1, 5)), None);
        hashes.learn(file(1, 5), [3; 32]);
        hashes.keep(&store);
        let next = Hashes::of(&store, (7, 9));
        assert_eq!(next.find(&file(1, 5)), Some([3; 32]));
        assert_eq!(next.find(&file(1, 6)), None, "changed since");
        assert_eq!(
            Hashes::of(&store, (7, 8)).find(&file(1, 5)),
            None,
            "another context"
        );
    }

    #[test]
    fn what_changed_a_moment_ago_is_not_remembered() {
        let hashes = Hashes::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let now = i64::try_from(now).unwrap();
        hashes.learn(file(1, now), [1; 32]);
        hashes.learn(file(2, now - 10), [2; 32]);
        assert_eq!(
            (hashes.find(&file(1, now)), hashes.find(&file(2, now - 10))),
            (None, Some([2; 32]))
        );
    }

    #[test]
    fn a_stored_file_is_known_by_its_stack_and_path() {
        let (one, two) = (ChainId([1; 32]), ChainId([2; 32]));
        let id = FileId::stored(&one, b"a/b", 3);
        assert_eq!(id, FileId::stored(&one, b"a/b", 3));
        assert_ne!(id, FileId::stored(&two, b"a/b", 3));
        assert_ne!(id, FileId::stored(&one, b"a/c", 3));
        let hashes = Hashes::default();
        assert!(hashes.learn(id, [7; 32]), "it is of no time");
        let kept = read(&written(&[(id, [7; 32])].into())).unwrap();
        assert_eq!(kept.get(&id), Some(&[7; 32]));
    }

    #[test]
    fn a_damaged_file_is_none() {
        let whole = written(&[(file(1, 5), [3; 32])].into());
        assert_eq!(read(&whole).unwrap().len(), 1);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).is_none(), "byte {at}");
            assert!(read(&whole[..at]).is_none(), "cut at {at}");
        }
    }
}
