//! Which user namespace does a container share with the user's others of the same id map? The holder: no process, but a
//! descriptor that every supervisor of such a container keeps. Entering it saves newuidmap and newgidmap (2.4–3 ms).
//!
//! Under `$BRYO_RUN/holders/<digest of the id maps>/` each such supervisor has an empty file, whose name says where its
//! descriptor is: `<pid>.<start time>.<descriptor>.<inode of the namespace>`. Start time and inode are compared before it
//! is believed, since pids and inode numbers are used again. The file goes with its container, the namespace with the last
//! descriptor. Only making a namespace takes the lock; a later start takes none. Who makes one may be stopped: others wait
//! for it only so long, and make one then; whoever finds at last that there is one, throws its own away.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::getuid;

use super::channel::Failure;
use crate::host::{IdMaps, process};
use crate::line::chain;
use crate::store::lock::{Lock, Mode};
use crate::store::{Digest, failpoint};
use crate::sys;

/// How long one waits for whoever makes a namespace. It takes milliseconds, unless that process is stopped or newuidmap asks
/// far away.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(2);

/// A share in a holder.
#[derive(Debug)]
pub(super) struct Holder {
    namespace: OwnedFd,
    record: PathBuf,
    /// Forked processes inherit this memory; the record is not theirs to remove.
    owner: u32,
}

/// A search for a holder of one id map.
#[derive(Debug, Default)]
pub(super) enum Search {
    /// No holder is looked for.
    #[default]
    Needless,
    /// There is one; this process has its share in it.
    Found(Holder),
    /// There is none. The lock is ours until one is made, or somebody has it for too long.
    Missing { directory: PathBuf, _lock: Option<Lock> },
}

/// What became of a namespace that was made.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is the one that others will find, if others are to find it.
    Ours(Option<Holder>),
    /// Somebody else made one meanwhile: that is the one to join.
    Late,
}

impl Search {
    pub(super) fn begin(run: &Path, maps: &IdMaps) -> Result<Search, Failure> {
        let directory = directory_of(run, maps);
        let failed = |error: io::Error| Failure::new(directory.display().to_string(), error);
        if let Some(holder) = join_any(&directory)? {
            return Ok(Search::Found(holder));
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed)?;
        Search::beside_others(directory, PATIENCE)
    }

    /// Is there a holder? No share in it is taken.
    pub(super) fn finds_one(run: &Path, maps: &IdMaps) -> bool {
        find(&directory_of(run, maps)).is_some()
    }

    /// The same without waiting, for who can do without: none if there is a holder, or somebody else makes one.
    pub(super) fn unless_there(run: &Path, maps: &IdMaps) -> Option<Search> {
        let directory = directory_of(run, maps);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .ok()?;
        let lock = Lock::try_acquire(&directory.join("lock"), Mode::Exclusive).ok()??;
        find(&directory)
            .is_none()
            .then(|| Search::missing(directory, Some(lock)))
    }

    fn missing(directory: PathBuf, lock: Option<Lock>) -> Search {
        Search::Missing {
            directory,
            // It is held while processes are forked.
            _lock: lock.map(|mut lock| {
                lock.still();
                lock
            }),
        }
    }

    /// Who has the lock has it for longer than until the namespace can be found: its children have it, too. So that is
    /// what is looked for, rather than that the lock is free.
    fn beside_others(directory: PathBuf, patience: Duration) -> Result<Search, Failure> {
        let end = Instant::now() + patience;
        let path = directory.join("lock");
        let lock = loop {
            let lock = Lock::try_acquire(&path, Mode::Exclusive).map_err(|error| {
                Failure::new("find the user namespace of other containers", chain(&error))
            })?;
            if let Some(holder) = join_any(&directory)? {
                return Ok(Search::Found(holder));
            }
            if lock.is_some() || Instant::now() >= end {
                break lock;
            }
            std::thread::sleep(LOOK);
        };
        Ok(Search::missing(directory, lock))
    }

    /// Keeps this user namespace, found by others from here on, unless they have found another.
    pub(super) fn keep(self, namespace: OwnedFd) -> Result<Kept, Failure> {
        let Search::Missing { directory, .. } = &self else {
            return Ok(Kept::Ours(None));
        };
        if join_any(directory)?.is_some() {
            return Ok(Kept::Late);
        }
        Holder::register(directory, namespace).map(|holder| Kept::Ours(Some(holder)))
    }
}

impl Holder {
    /// A descriptor for a child to enter by.
    pub(super) fn descriptor(&self) -> Result<OwnedFd, Failure> {
        self.namespace
            .try_clone()
            .map_err(|error| Failure::new("user namespace", error))
    }

    fn register(directory: &Path, namespace: OwnedFd) -> Result<Holder, Failure> {
        let failed = |error: io::Error| Failure::new(directory.display().to_string(), error);
        let owner = std::process::id();
        let file = File::from(namespace);
        let record = Record {
            pid: owner.cast_signed(),
            start: process::own_start().map_err(failed)?,
            descriptor: file.as_raw_fd(),
            inode: file.metadata().map_err(failed)?.ino(),
        };
        let path = directory.join(record.name());
        failpoint::step()
            .and_then(|()| File::create(&path))
            .map_err(failed)?;
        Ok(Holder {
            namespace: file.into(),
            record: path,
            owner,
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // A record that stays is found to be stale by its start time.
            let _ = fs::remove_file(&self.record);
        }
    }
}

/// Where a supervisor keeps its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    pid: i32,
    /// In clock ticks since boot (proc_pid_stat(5), field 22).
    start: u64,
    descriptor: i32,
    inode: u64,
}

impl Record {
    fn name(&self) -> String {
        format!("{}.{}.{}.{}", self.pid, self.start, self.descriptor, self.inode)
    }

    fn parse(name: &str) -> Option<Record> {
        let mut fields = name.split('.');
        let record = Record {
            pid: fields.next()?.parse().ok()?,
            start: fields.next()?.parse().ok()?,
            descriptor: fields.next()?.parse().ok()?,
            inode: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(record)
    }

    /// The supervisor that wrote this has ended.
    fn is_stale(&self) -> bool {
        process::start(self.pid).is_ok_and(|start| start != Some(self.start))
    }

    /// Its namespace, if that is what lies there.
    fn open(&self) -> Option<OwnedFd> {
        let namespace = File::open(format!("/proc/{}/fd/{}", self.pid, self.descriptor)).ok()?;
        let same = namespace.metadata().ok()?.ino() == self.inode;
        let (kind, owner) = sys::user_namespace_owner(namespace.as_fd()).ok()?;
        (same && kind == libc::CLONE_NEWUSER && owner == getuid().as_raw()).then(|| namespace.into())
    }
}

fn directory_of(run: &Path, maps: &IdMaps) -> PathBuf {
    run.join("holders")
        .join(Digest::of(format!("{maps:?}").as_bytes()).hex())
}

fn join_any(directory: &Path) -> Result<Option<Holder>, Failure> {
    let found = find(directory);
    found
        .map(|namespace| Holder::register(directory, namespace))
        .transpose()
}

fn find(directory: &Path) -> Option<OwnedFd> {
    let entries = fs::read_dir(directory).ok()?; // not there yet
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(record) = name.to_str().and_then(Record::parse) else {
            continue;
        };
        if record.is_stale() {
            // Left by a killed supervisor; two that see it at once are both right.
            let _ = fs::remove_file(entry.path());
        } else if let Some(namespace) = record.open() {
            return Some(namespace);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_name() {
        let record = Record {
            pid: 7,
            start: 99,
            descriptor: 5,
            inode: 4_026_531_837,
        };
        assert_eq!(Record::parse(&record.name()), Some(record));
        assert_eq!(Record::parse("lock"), None);
        assert_eq!(Record::parse("1.2.3.4.5"), None);
    }

    #[test]
    fn a_pid_used_again_is_another_process() {
        let own = Record {
            pid: std::process::id().cast_signed(),
            start: process::own_start().unwrap(),
            descriptor: 0,
            inode: 1,
        };
        assert!(!own.is_stale());
        let start = own.start + 1;
        assert!(Record { start, ..own }.is_stale());
        assert!(own.open().is_none(), "standard input is no user namespace");
    }
}
