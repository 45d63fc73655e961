//! How does the journal stay as short as what it has to say?
//!
//! A *checkpoint* says of every inode that the upper knows what it is like, in records between those of the operations that
//! go on meanwhile. Each is appended under its inode's lock, so it stands exactly where it is true: all changes to the inode
//! before it are in it, all others follow. When all are said and on the disk, the journal begins where the checkpoint began
//! ([`super::journal::start`]). A directory of many names, or a file of many runs, is said in parts, under its lock one by
//! one: what changes between two parts is either said by a later one or follows it.
//!
//! If nothing else happens meanwhile, as when the layer is closed, a list of what was said can follow
//! ([`super::journal::list`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;

use super::Upper;
use super::content::Content;
use super::directory::{Directory, Known};
use super::inode::{Body, Inode, State};
use super::journal::format::{Below, Change, Operation};
use super::journal::list::{BLOCK, List};
use super::journal::log::{Appended, Beginning, Room};
use super::listed::{CopyUp, Listing};
use crate::attr::{Ino, Kind};
use crate::error::{Error, Result};

/// A journal below this is not worth the work: it is read in some hundredths of a second.
const LEAST: u64 = 4 << 20;
/// The same once somebody found no room at the limit, which the history counts against.
const LEAST_WHEN_SHORT: u64 = 128 << 10;
/// The journal may be so many times as long as what it has to say: then a checkpoint writes no more than was written since
/// the last.
const GROWTH: u64 = 3;
/// Bytes that an inode takes in a checkpoint, at least.
const INODE: u64 = 128;
/// Names or runs that a record says at once: some tens of microseconds under the inode's lock.
const PART: usize = 500;
/// A journal of which less must be read needs no list: some five thousand inodes, in five milliseconds.
const LEAST_LISTED: u64 = 1 << 20;
/// What must be read may be this part of what the list spares: a new one is written when that pays.
const UNLISTED: u64 = 4;
/// How long an inode is waited for before `go_on` is asked again: who reads a layer that hangs may hold it for as long.
const MOMENT: Duration = Duration::from_millis(100);
/// Bytes appended before the host is asked to write them out, so that the flush in the end is short.
const WRITEBACK: u64 = 1 << 20;

impl Upper {
    /// Is the journal so much longer than what it has to say that a checkpoint pays? And is there room for one?
    pub(crate) fn checkpoint_is_due(&self) -> bool {
        let length = self.log.length();
        let live = self.log.checkpoint_length().max(self.table.len() as u64 * INODE);
        let (least, growth) = match self.is_short.swap(false, Ordering::Relaxed) {
            true => (LEAST_WHEN_SHORT, 2),
            false => (LEAST, GROWTH),
        };
        let wanted = least
            .max(live.saturating_mul(growth))
            .max(*self.checkpointing.lock());
        length > wanted && self.can_say(live)
    }

    /// Is there room for a checkpoint, and a disk to write it to? `live`: bytes that the last took, or so. Twice that is a guess, and if
    /// it is wrong, the next waits until the journal has grown much longer.
    fn can_say(&self, live: u64) -> bool {
        let room =
            |[_, _, available]: [u64; 3]| available.saturating_mul(4096) > LEAST + live.saturating_mul(2);
        !self.log.is_lost() && !self.data.is_lost() && self.log.space().is_ok_and(room)
    }

    /// Has the layer so much to say that is not in a list that a new one pays? Asked when it is closed.
    pub(crate) fn list_is_due(&self) -> bool {
        let live = self.log.checkpoint_length();
        self.log.unlisted() > LEAST_LISTED.max(live / UNLISTED) && self.list_fits() && self.can_say(live)
    }

    /// Would a list fit into a record? Of a layer that is scattered over a million runs it would not, which is known before any
    /// work is done for it.
    fn list_fits(&self) -> bool {
        let (named, _) = self.inodes();
        let made = self.next.load(Ordering::Relaxed).saturating_sub(self.image_end);
        let blocks = self.image_end / BLOCK + named.min(made / BLOCK) + 2;
        List::fits(self.data.runs(), blocks)
    }

    /// Makes a checkpoint, while operations go on, unless `go_on` says no. A journal whose checkpoint was not finished is as
    /// good as before, but longer.
    pub(crate) fn checkpoint(&self, go_on: &dyn Fn() -> bool, copy_up: CopyUp<'_>) -> Result<()> {
        self.alone(|| {
            self.try_checkpoint(go_on, copy_up, &mut Listing::default())
                .map(drop)
        })
    }

    /// Makes a checkpoint and its list, so that the layer is opened without reading all. Nothing else should happen
    /// meanwhile: there is no list then, which is said by false.
    pub(crate) fn list(&self, copy_up: CopyUp<'_>) -> Result<bool> {
        self.alone(|| {
            let mut listing = Listing::default();
            match self.try_checkpoint(&|| true, copy_up, &mut listing)? {
                Some((began, end)) => self.write_list(listing, began, end),
                None => Ok(false),
            }
        })
    }

    /// One checkpoint at a time.
    fn alone<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut not_before = self.checkpointing.lock();
        let made = make();
        if self.log.is_lost() {
            self.lookups.ledger().set_lost();
        }
        *not_before = match made {
            Ok(_) => 0,
            Err(_) => self.log.length().saturating_mul(2),
        };
        made
    }

    /// Gives where it began and where its last record is; `None` if `go_on` said no.
    fn try_checkpoint(
        &self,
        go_on: &dyn Fn() -> bool,
        copy_up: CopyUp<'_>,
        listing: &mut Listing,
    ) -> Result<Option<(Beginning, Appended)>> {
        // What is only in a list lies before this checkpoint, hence is given back.
        self.table.find_all(self.log.disk(), copy_up)?;
        let beginning = {
            // Whatever has a record before this place is in the table when it is gone through.
            let _no_operation = self.applying.write();
            self.log.begin()?
        };
        let mut written_back = self.log.end();
        let mut all = self.table.all();
        // Read again in this order: what belongs together then lies together.
        all.sort_unstable_by_key(|inode| inode.ino);
        for inode in all {
            match self.say(&inode, go_on)? {
                Said::Stopped => return Ok(None),
                Said::Gone => {}
                Said::At(offset) => listing.note(&inode, self.is_made(inode.ino), offset),
            }
            if self.log.end() > written_back + WRITEBACK {
                written_back = self.log.start_writeback(written_back);
            }
        }
        let given = Ino(self.next.load(Ordering::Relaxed) - 1);
        let mut changes = vec![Change::Given { ino: given }];
        changes.extend(self.log.done().into_iter().map(|done| Change::Done {
            ino: done.made.unwrap_or(Ino(0)),
            sequence: done.sequence,
            unique: done.unique,
        }));
        let end = self
            .log
            .append(Operation::Checkpoint, 0, &changes, Room::Ordinary)?;
        let durable = self.sync()?;
        self.log.start_from(beginning, end.sequence, durable)?;
        Ok(Some((beginning, end)))
    }

    /// Writes the list of a checkpoint that the journal begins with.
    fn write_list(&self, listing: Listing, began: Beginning, end: Appended) -> Result<bool> {
        let append = |operation, words: &[u64]| {
            let appended = self.log.append_list(began, operation, words)?;
            // An operation came in between: not this time.
            appended.ok_or(Error(Errno::EBUSY))
        };
        let written = listing
            .write(end.offset, |places| {
                append(Operation::Places, places).map(|appended| appended.offset)
            })
            .and_then(|list| append(Operation::List, &list.encode()));
        let list = match written {
            Ok(list) => list,
            Err(Error(Errno::EBUSY)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let durable = self.sync()?;
        self.log.point_to(end, list, durable)?;
        // What is not given back is only looked through.
        let _ = self.log.trim();
        Ok(true)
    }

    /// Records what an inode is like, part by part.
    fn say(&self, inode: &Arc<Inode>, go_on: &dyn Fn() -> bool) -> Result<Said> {
        let (mut from, mut first) = (None, None);
        loop {
            if !go_on() {
                return Ok(Said::Stopped);
            }
            let Some(state) = inode.read_within(MOMENT) else {
                continue;
            };
            // Who lets an inode go holds its lock, so this stays as it is.
            if !self.table.holds(inode) {
                return Ok(Said::Gone);
            }
            let mut changes = Vec::new();
            let next = state.part(inode, self.is_made(inode.ino), from, &mut changes);
            let part = self.log.append(Operation::State, 0, &changes, Room::Ordinary)?;
            let first = *first.get_or_insert(part.offset);
            if next.is_none() {
                return Ok(Said::At(first));
            }
            from = next;
        }
    }
}

/// What became of an inode whose turn it was.
enum Said {
    /// All of it stands in the journal from this place on.
    At(u64),
    /// It is none of the layer's any more.
    Gone,
    /// The checkpoint is to end.
    Stopped,
}

impl State {
    /// The changes that make this state out of nothing, or of the image's inode if it was not made here; with `from`, the
    /// rest from there on. Gives where to go on.
    fn part<'a>(
        &'a self,
        inode: &Inode,
        is_made: bool,
        from: Option<u64>,
        changes: &mut Vec<Change<'a>>,
    ) -> Option<u64> {
        let ino = inode.ino;
        if from.is_none() {
            self.begin(ino, is_made, changes);
        }
        match &self.body {
            Body::Directory(directory) => directory_part(directory, ino, from, changes),
            Body::Regular(content) => content_part(content, ino, from, changes),
            Body::Symlink(_) | Body::Special(_) => None,
        }
    }

    /// All but names and runs.
    fn begin<'a>(&'a self, ino: Ino, is_made: bool, changes: &mut Vec<Change<'a>>) {
        let parent = match &self.body {
            Body::Directory(directory) => directory.parent,
            _ => Ino(0),
        };
        let (meta, kind) = (self.meta, self.kind());
        if is_made {
            let target = match &self.body {
                Body::Symlink(target) => &target[..],
                _ => &b""[..],
            };
            changes.push(Change::Make {
                ino,
                kind,
                meta,
                target,
                parent,
            });
        } else {
            changes.extend([Change::Reset { ino }, Change::Meta { ino, meta }]);
            if kind == Kind::Directory {
                changes.push(Change::Parent { ino, parent });
            }
        }
        if let Body::Regular(content) = &self.body {
            // Cut to what still shows of the image's file, then as long as it is.
            if !is_made {
                let size = content.below_end();
                changes.push(Change::Resize { ino, size });
            }
            let size = self.size;
            changes.push(Change::Resize { ino, size });
        }
        changes.extend(self.xattrs.iter().map(|(name, value)| Change::Xattr {
            ino,
            name,
            value: Some(value),
        }));
    }
}

fn directory_part<'a>(
    directory: &'a Directory,
    ino: Ino,
    from: Option<u64>,
    changes: &mut Vec<Change<'a>>,
) -> Option<u64> {
    let mut said = directory.said(from.unwrap_or(0));
    changes.extend(said.by_ref().take(PART).map(|(place, name, known)| match known {
        Known::Entry(target, kind, Below::Absent) => Change::Place {
            ino,
            name,
            place,
            target,
            kind,
        },
        Known::Entry(target, kind, below @ Below::Hidden) => Change::Enter {
            ino,
            name,
            below,
            target,
            kind,
        },
        // A name is here for one of the two.
        Known::Whiteout | Known::Nothing => Change::Leave {
            ino,
            name,
            below: Below::Hidden,
        },
    }));
    changes.push(Change::Names {
        ino,
        count: directory.count,
        last: directory.last_place(),
    });
    said.next().map(|(place, ..)| place)
}

fn content_part(
    content: &Content,
    ino: Ino,
    from: Option<u64>,
    changes: &mut Vec<Change<'_>>,
) -> Option<u64> {
    let mut pieces = content.pieces(from.unwrap_or(0));
    changes.extend(pieces.by_ref().take(PART).map(|(page, count, at)| match at {
        Some(at) => Change::Map { ino, page, count, at },
        None => Change::Hole { ino, page, count },
    }));
    pieces.next().map(|(page, ..)| page)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ledger::Ledger;
    use crate::name::Name;
    use crate::upper::journal::format::{Image, Meta};
    use crate::upper::{Limits, Storage};

    fn open(dir: &Path) -> Upper {
        let image = Image {
            chain_id: [7; 32],
            node_count: 1,
            index_sum: 0,
        };
        Upper::open(
            storage(dir),
            image,
            Limits::default(),
            &Ledger::alone().unwrap(),
            &root,
        )
        .unwrap()
    }

    fn storage(dir: &Path) -> Storage {
        Storage::open(dir).unwrap()
    }

    /// An image of nothing but a root.
    fn root(ino: Ino) -> Result<Inode> {
        match ino {
            Ino::ROOT => {
                let meta = Meta {
                    nlink: 2,
                    ..Meta::default()
                };
                let state = State::made(Kind::Directory, meta, b"", Ino::ROOT);
                Ok(Inode::new(ino, state))
            }
            _ => Err(Error(Errno::ESTALE)),
        }
    }

    /// Each time that it is closed, it would be made in vain.
    #[test]
    fn no_list_is_begun_that_would_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let upper = open(dir.path());
        let change = Change::Xattr {
            ino: Ino::ROOT,
            name: b"user.a",
            value: Some(&[7; 60_000]),
        };
        for _ in 0..30 {
            upper
                .log
                .append(Operation::SetXattr, 0, &[change], Room::Ordinary)
                .unwrap();
        }
        assert!(upper.list_is_due());
        let most = (0..).find(|runs| !List::fits(*runs, 2)).unwrap();
        assert!(most > 1_000_000, "{most}");
        (1..most).for_each(|page| upper.data.put_back(2 * page..2 * page + 1));
        assert!(!upper.list_is_due());
    }

    /// Found by the fuzz target `journal`: an inode without names goes when the layer is opened, and if a name points to it all
    /// the same, which no operation leaves behind, a checkpoint must not say what cannot be read again.
    #[test]
    fn a_name_that_points_to_nothing_keeps_no_layer_from_being_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (ino, kind) = (Ino(2), Kind::Regular);
        let name = Name::new(b"a").unwrap();
        let changes = [
            Change::Make {
                ino,
                kind,
                meta: Meta::default(),
                target: b"",
                parent: Ino(0),
            },
            Change::Enter {
                ino: Ino::ROOT,
                name,
                below: Below::Absent,
                target: ino,
                kind,
            },
        ];
        let record = |upper: &Upper| upper.log.append(Operation::Mknod, 0, &changes, Room::Ordinary);
        record(&open(dir.path())).unwrap();
        open(dir.path()).checkpoint(&|| true, &root).unwrap();
        let upper = open(dir.path());
        assert!(upper.find(ino, &root).unwrap().is_none());
        let known = match &upper.find(Ino::ROOT, &root).unwrap().unwrap().read().body {
            Body::Directory(directory) => directory.known(name),
            _ => panic!("no directory"),
        };
        assert_eq!(known, Known::Entry(ino, kind, Below::Absent));
    }
}
