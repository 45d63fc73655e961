//! Inodes that are in the journal's list and not yet in the table: each is read when it is first asked for.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use super::inode::{Inode, State};
use super::journal::format::{ALIGN, Change, Mark, Operation};
use super::journal::list::{BLOCK, Bits, Block, List, Places, bit, set};
use super::journal::reader::Reader;
use crate::attr::Ino;
use crate::disk::Disk;
use crate::error::{Error, Result};

/// Gives an image's inode as it is without changes.
pub(crate) type CopyUp<'a> = &'a dyn Fn(Ino) -> Result<Inode>;

/// What the list has, and which of it the table has had: that does not come back from here, whatever became of it.
#[derive(Debug)]
pub(crate) struct Listed {
    /// In the order of their numbers; what each has is read when one of its inodes is first asked for.
    blocks: Vec<(Block, OnceLock<Box<Had>>)>,
    /// Where all states stand.
    states: Range<u64>,
    salt: u32,
    /// The journal's length when it was opened: all that the list speaks of lies before.
    size: u64,
    image_end: u64,
}

/// A bit for each inode of a block.
#[derive(Debug)]
struct Had {
    listed: Bits,
    /// The table has had it.
    taken: [AtomicU64; (BLOCK / 64) as usize],
    /// Where they stand, if the record that says so is damaged: it takes all states to find that out, so it is kept.
    found: Option<Box<Places>>,
}

/// What the list says of an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nothing.
    Absent,
    /// The table had it: what that says counts.
    Taken,
    /// It is to be read.
    Waiting,
}

/// How it is known where a block's inodes stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// A record says it.
    Said,
    /// That is damaged, and the states were gone through.
    Found,
}

impl Had {
    fn of(places: Places, known: Known) -> Had {
        Had {
            listed: places.listed,
            taken: Default::default(),
            found: (known == Known::Found).then(|| Box::new(places)),
        }
    }

    fn all_taken(&self) -> bool {
        set(&self.listed).all(|at| self.standing(at) == Standing::Taken)
    }

    fn standing(&self, at: usize) -> Standing {
        let word = self
            .taken
            .get(at / 64)
            .map_or(0, |word| word.load(Ordering::Acquire));
        match (bit(&self.listed, at), bit(&[word], at % 64)) {
            (false, _) => Standing::Absent,
            (true, true) => Standing::Taken,
            (true, false) => Standing::Waiting,
        }
    }
}

impl Listed {
    pub(crate) fn new(list: &List, image_end: u64) -> Listed {
        let blocks = list.blocks.iter();
        Listed {
            blocks: blocks.map(|block| (*block, OnceLock::new())).collect(),
            states: list.first..list.checkpoint,
            salt: list.salt,
            size: list.size,
            image_end,
        }
    }

    /// The block that would have the inode, and the inode's place in it.
    fn block(&self, ino: Ino) -> Option<(&Block, &OnceLock<Box<Had>>, usize)> {
        let (number, at) = Block::of(ino);
        let found = self
            .blocks
            .binary_search_by_key(&number, |(block, _)| block.number);
        let (block, had) = self.blocks.get(found.ok()?)?;
        Some((block, had, at))
    }

    /// What the list says of an inode.
    pub(crate) fn standing(&self, ino: Ino, disk: &dyn Disk) -> Result<Standing> {
        let Some((block, had, at)) = self.block(ino) else {
            return Ok(Standing::Absent);
        };
        Ok(self.had(block, had, disk)?.standing(at))
    }

    /// What it knows of a block, read if it is the first time.
    fn had<'a>(&self, block: &Block, had: &'a OnceLock<Box<Had>>, disk: &dyn Disk) -> Result<&'a Had> {
        if let Some(had) = had.get() {
            return Ok(had);
        }
        let read = self.read_places(block, &mut Reader::small(disk, self.size));
        match (read, had.get()) {
            (Ok((places, known)), _) => Ok(had.get_or_init(|| Box::new(Had::of(places, known)))),
            // Another thread has read it meanwhile, and a checkpoint given its place back.
            (Err(_), Some(had)) => Ok(had),
            (Err(error), None) => Err(error),
        }
    }

    /// The table takes it now, under the lock that readers of the table need. False if it had it before.
    pub(crate) fn take(&self, ino: Ino) -> bool {
        let Some((_, had, at)) = self.block(ino) else {
            return false;
        };
        let bit = 1 << (at % 64);
        let word = had.get().and_then(|had| had.taken.get(at / 64));
        word.is_some_and(|word| word.fetch_or(bit, Ordering::AcqRel) & bit == 0)
    }

    /// Reads one inode; EIO if what the journal says of it is damaged.
    pub(crate) fn read(&self, disk: &dyn Disk, ino: Ino, copy_up: CopyUp<'_>) -> Result<Inode> {
        let mut reader = Reader::small(disk, self.size);
        let (block, had, at) = self.block(ino).ok_or(Error(Errno::EIO))?;
        let range = self.places(block, had, &mut reader)?.range(at);
        self.read_at(&mut reader, ino, range, copy_up)
    }

    /// Reads all that the table has not had, in the order in which they lie in the file, and gives each to `take`.
    pub(crate) fn read_all(
        &self,
        disk: &dyn Disk,
        copy_up: CopyUp<'_>,
        mut take: impl FnMut(Ino, Result<Inode>) -> Result<()>,
    ) -> Result<()> {
        let mut lists = Reader::small(disk, self.size);
        let mut states = Reader::new(disk, self.size);
        for (block, had) in &self.blocks {
            let is_done = || had.get().is_some_and(|had| had.all_taken());
            if is_done() {
                continue;
            }
            let places = match self.places(block, had, &mut lists) {
                // As in `had`.
                Err(_) if is_done() => continue,
                places => places?,
            };
            for at in set(&places.listed) {
                let ino = Ino(block.number * BLOCK + at as u64);
                if self.standing(ino, disk)? == Standing::Waiting {
                    take(ino, self.read_at(&mut states, ino, places.range(at), copy_up))?;
                }
            }
        }
        Ok(())
    }

    /// Where the states of a block's inodes stand.
    fn places<'a>(
        &self,
        block: &Block,
        had: &'a OnceLock<Box<Had>>,
        reader: &mut Reader<'_>,
    ) -> Result<Cow<'a, Places>> {
        match &self.had(block, had, reader.disk)?.found {
            Some(places) => Ok(Cow::Borrowed(places)),
            None => Ok(Cow::Owned(self.read_places(block, reader)?.0)),
        }
    }

    /// Reads where they stand. What says so is derived from the states, so they say it, too.
    fn read_places(&self, block: &Block, reader: &mut Reader<'_>) -> Result<(Places, Known)> {
        if let Some(places) = block.read(reader, self.salt)? {
            return Ok((places, Known::Said));
        }
        let mut all = Reader::new(reader.disk, self.size);
        let found = block.find(&mut all, self.salt, self.states.start, self.states.end)?;
        let found = found.ok_or(Error(Errno::EIO))?;
        tracing::warn!(
            number = block.number,
            "the list of the writable layer is damaged, but not needed"
        );
        Ok((found, Known::Found))
    }

    fn read_at(
        &self,
        reader: &mut Reader<'_>,
        ino: Ino,
        range: Option<Range<u64>>,
        copy_up: CopyUp<'_>,
    ) -> Result<Inode> {
        let damaged = Error(Errno::EIO);
        let Range {
            start: mut offset,
            end,
        } = range.ok_or(damaged)?;
        let mut inode = None;
        while offset < end {
            let found = reader.record(offset, self.salt)?.ok_or(damaged)?;
            if found.operation == Operation::State as u16 {
                let mut payload = reader.payload(offset, &found)?;
                while !payload.is_empty() {
                    let change = Change::decode(&mut payload).filter(|change| change.ino() == ino);
                    self.apply(&mut inode, change.ok_or(damaged)?, copy_up)?;
                }
            } else if !Mark::is(found.operation) {
                return Err(damaged);
            }
            offset += found.length.next_multiple_of(ALIGN) as u64;
        }
        inode.filter(|_| offset == end).ok_or(damaged)
    }

    fn apply(&self, inode: &mut Option<Inode>, change: Change<'_>, copy_up: CopyUp<'_>) -> Result<()> {
        let damaged = Error(Errno::EIO);
        match (change, &mut *inode) {
            (
                Change::Make {
                    ino,
                    kind,
                    meta,
                    target,
                    parent,
                },
                None,
            ) if ino.0 > self.image_end => {
                *inode = Some(Inode::new(ino, State::made(kind, meta, target, parent)));
            }
            (Change::Reset { ino }, None) => *inode = Some(reset(ino, copy_up)?),
            (change, Some(known)) => {
                let applied = known.get_mut().apply(&change, &mut Vec::new());
                return applied.then_some(()).ok_or(damaged);
            }
            _ => return Err(damaged),
        }
        Ok(())
    }
}

/// An image's inode as [`Change::Reset`] says.
pub(crate) fn reset(ino: Ino, copy_up: CopyUp<'_>) -> Result<Inode> {
    let mut inode = copy_up(ino)?;
    inode.get_mut().xattrs.clear();
    Ok(inode)
}

/// What a checkpoint gathers for its list while it is made.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    list: List,
    /// Inode numbers in order, and where their states stand.
    places: Vec<(Ino, u64)>,
}

impl Listing {
    /// Notes an inode whose state stands at `offset`.
    pub(crate) fn note(&mut self, inode: &Inode, is_made: bool, offset: u64) {
        let state = inode.read();
        if state.meta.nlink == 0 {
            self.list.nameless.push(inode.ino);
        } else {
            self.list.named += u64::from(is_made);
        }
        if let super::inode::Body::Regular(content) = &state.body {
            self.list.used.extend(content.runs());
        }
        self.places.push((inode.ino, offset));
    }

    /// Appends the places of each block by `append`, which gives where; `end` is where the last state ends. Gives what the
    /// list's last record is to say.
    pub(crate) fn write(mut self, end: u64, mut append: impl FnMut(&[u64]) -> Result<u64>) -> Result<List> {
        let mut rest = &self.places[..];
        while let Some((first, _)) = rest.first() {
            let (number, _) = Block::of(*first);
            let (block, behind) = rest.split_at(rest.partition_point(|next| Block::of(next.0).0 <= number));
            let mut places = Places::default();
            for (ino, offset) in block {
                places.add(Block::of(*ino).1, *offset);
                self.list.last = *ino;
            }
            places
                .offsets
                .push(behind.first().map_or(end, |(_, offset)| *offset));
            let places = append(&places.encode())?;
            self.list.blocks.push(Block { number, places });
            rest = behind;
        }
        self.list.used.sort_unstable_by_key(|run| run.start);
        self.list.used.dedup_by(|next, run| {
            let joined = run.end == next.start;
            if joined {
                run.end = next.end;
            }
            joined
        });
        Ok(self.list)
    }
}
