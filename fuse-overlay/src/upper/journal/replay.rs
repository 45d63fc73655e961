//! What stands in the journal? Reads it from the start, cuts a torn tail, refuses damage to what was promised.

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::iter::Peekable;
use std::ops::Range;

use zerocopy::{FromBytes as _, IntoBytes as _};

use super::format::{ALIGN, BootId, Change, HEADER_SIZE, Header, Image, LISTED, MAGIC, Mark, Operation};
use super::list::{List, Pointer};
use super::reader::{Found, Reader};
use super::start::Start;
use crate::disk::{Disk, uninterrupted, write_full, write_zeros};

/// Why a journal cannot be replayed.
#[derive(Debug)]
pub(crate) enum ReplayError {
    Io(io::Error),
    OtherImage,
    Version(u32),
    /// Offset of the record in bytes.
    Damaged(u64),
}

impl From<io::Error> for ReplayError {
    fn from(error: io::Error) -> Self {
        ReplayError::Io(error)
    }
}

/// Which record a change stands in, and the request that it came of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub sequence: u64,
    /// 0 outside FUSE.
    pub unique: u64,
    pub part: Part,
}

/// What a record is to a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// It says what an inode is like.
    State,
    /// An operation from before the end of the checkpoint that the journal begins with: what it changes may be said only
    /// later, as it was then.
    Within,
    /// An operation on what is known.
    Operation,
}

/// A journal that was read to its end.
#[derive(Debug)]
pub(crate) struct Read {
    pub header: Header,
    pub start: Start,
    pub end: End,
    /// The file is written up to here.
    pub ready: u64,
}

/// The list of the journal's inodes, if it has one that is whole and of the checkpoint that it begins with.
pub(crate) fn list(disk: &dyn Disk, image: Image) -> Option<List> {
    // Who only looks needs all, and may see the journal begin anew.
    if disk.is_live() {
        return None;
    }
    let size = uninterrupted(|| disk.size()).ok()?;
    let mut reader = Reader::small(disk, size);
    // Whatever is wrong, reading all of it tells.
    let head = read_header(&mut reader, image).ok()??;
    let pointer = head
        .list
        .filter(|list| list.generation == head.start.generation)?;
    List::read(
        &mut reader,
        head.header.salt.get(),
        head.start.offset.get(),
        &pointer,
    )
}

/// Gives each change of each record, in order, to `apply`, which says false if it cannot be, up to the last good record; with
/// a list, only what follows it, and the end of its checkpoint. A file without a header (of nothing, or zeros where it should be) becomes
/// a new journal.
pub(crate) fn read(
    disk: &dyn Disk,
    image: Image,
    boot: BootId,
    list: Option<&List>,
    apply: &mut dyn FnMut(Origin, Change<'_>) -> bool,
) -> Result<Read, ReplayError> {
    let size = uninterrupted(|| disk.size())?;
    let mut reader = match list {
        Some(_) => Reader::small(disk, size),
        None => Reader::new(disk, size),
    };
    let Some(Head { header, start, .. }) = read_header(&mut reader, image)? else {
        return begin(disk, image);
    };
    let salt = header.salt.get();
    let (first, mut offset) = match list {
        Some(list) => (list.sequence, list.offset),
        None => (start.sequence.get(), start.offset.get()),
    };
    let mut end = survey(&mut reader, salt, &start, offset, first)?;
    if let Some(list) = list {
        // All that is said of the checkpoint as a whole stands in its last record.
        let at = list.checkpoint;
        let last = reader.record(at, salt)?.ok_or(ReplayError::Damaged(at))?;
        if (last.operation, last.sequence) != (Operation::Checkpoint as u16, start.end.get()) {
            return Err(ReplayError::Damaged(at));
        }
        apply_all(last.origin(&start), reader.payload(at, &last)?, at, apply)?;
        end.checkpoint = at + last.length.next_multiple_of(ALIGN) as u64;
    }
    let mut voids = end.voids(boot);
    while let Some(record) = reader.record(offset, salt)?.filter(|_| offset < end.offset) {
        let at = offset;
        offset += record.length.next_multiple_of(ALIGN) as u64;
        while voids.next_if(|void| void.end <= record.sequence).is_some() {}
        let is_silent = Mark::is(record.operation) || Operation::is_list(record.operation);
        if is_silent || voids.peek().is_some_and(|void| void.contains(&record.sequence)) {
            continue;
        }
        // A checkpoint that no start names may have ended between two parts of an inode. Nothing that it says is needed:
        // all that happened before it is still there.
        if record.origin(&start).part == Part::State && record.sequence > start.end.get() {
            continue;
        }
        apply_all(record.origin(&start), reader.payload(at, &record)?, at, apply)?;
    }
    cut(&mut reader, salt, end.offset, end.sequence)?;
    // Who only looks at a journal may have seen records go that a checkpoint has made needless meanwhile.
    let mut again = Reader::small(disk, size);
    if read_header(&mut again, image)?.map(|head| head.start) != Some(start) {
        return Err(ReplayError::Damaged(start.offset.get()));
    }
    let ready = size.max(end.offset);
    Ok(Read {
        header,
        start,
        end,
        ready,
    })
}

/// Applies the changes of the record at `offset`.
fn apply_all(
    origin: Origin,
    mut payload: &[u8],
    offset: u64,
    apply: &mut dyn FnMut(Origin, Change<'_>) -> bool,
) -> Result<(), ReplayError> {
    while !payload.is_empty() {
        let change = Change::decode(&mut payload).ok_or(ReplayError::Damaged(offset))?;
        if !apply(origin, change) {
            return Err(ReplayError::Damaged(offset));
        }
    }
    Ok(())
}

/// Where the good records end, and what they say of themselves.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// Behind the last record, in bytes.
    pub offset: u64,
    /// Sequence of the last record.
    pub sequence: u64,
    /// Sequence of the last that is an operation.
    pub changed: u64,
    /// What the last [`Mark::Synced`] says.
    pub synced: u64,
    /// What the last [`Mark::Boot`] says.
    pub boot: Option<BootId>,
    /// Behind the checkpoint that the journal begins with, in bytes.
    pub checkpoint: u64,
    /// Sequences of records that a loss of power made void, in order.
    voids: Vec<Range<u64>>,
}

impl End {
    /// Sequences of the records that do not count when read under `boot`: the host's page cache kept all that was written
    /// under the same; of another only what was synced is known to have its data.
    fn voids(&self, boot: BootId) -> Peekable<impl Iterator<Item = Range<u64>> + use<>> {
        let last = (self.boot != Some(boot) && self.synced < self.changed).then(|| {
            tracing::warn!(
                synced = self.synced,
                last = self.changed,
                "journal: the host was started anew; what was not synced is left out"
            );
            self.synced + 1..u64::MAX
        });
        self.voids.clone().into_iter().chain(last).peekable()
    }
}

/// Reads all records once from an offset on, without applying any: which of them count is said by later ones. `first` is the
/// sequence of the first.
fn survey(
    reader: &mut Reader<'_>,
    salt: u32,
    start: &Start,
    offset: u64,
    first: u64,
) -> Result<End, ReplayError> {
    let whole = start.end.get();
    let mut end = End {
        offset,
        sequence: first - 1,
        boot: (whole > 0).then_some(start.boot),
        ..End::default()
    };
    while let Some(record) = reader
        .record(end.offset, salt)?
        .filter(|record| record.sequence == end.sequence + 1)
    {
        if Mark::is(record.operation) {
            let payload = reader.payload(end.offset, &record)?;
            match Mark::decode(record.operation, payload) {
                Some(Mark::Boot(boot)) => {
                    end.voids.push(end.synced + 1..record.sequence);
                    end.boot = Some(boot);
                }
                Some(Mark::Synced(upto)) if (end.synced..record.sequence).contains(&upto) => {
                    end.synced = upto
                }
                _ => return Err(ReplayError::Damaged(end.offset)),
            }
        } else {
            end.changed = record.sequence;
        }
        end.sequence = record.sequence;
        end.offset += record.length.next_multiple_of(ALIGN) as u64;
        if record.sequence == whole {
            end.checkpoint = end.offset;
        }
    }
    // The start was written when all this was on the disk.
    if end.synced < whole {
        return Err(ReplayError::Damaged(end.offset));
    }
    Ok(end)
}

/// What the journal's first block says: what it is, where the records begin, and where their list lies.
struct Head {
    header: Header,
    start: Start,
    list: Option<Pointer>,
}

/// Checks the header; `None` if there is none yet, or none any more: the first flush makes it durable, so where it is all
/// zeros nothing was ever promised.
fn read_header(reader: &mut Reader<'_>, image: Image) -> Result<Option<Head>, ReplayError> {
    let first = reader.next_data(0)?;
    if first.is_none_or(|at| at >= HEADER_SIZE) {
        if first.is_some() {
            tracing::warn!("journal: the power was lost before its first sync; it starts anew");
        }
        return Ok(None);
    }
    let block = reader.bytes(0, HEADER_SIZE as usize)?;
    let (header, _) = Header::read_from_prefix(block).map_err(|_| ReplayError::Damaged(0))?;
    if header.magic != MAGIC {
        return Err(ReplayError::Damaged(0));
    }
    if header.version.get() > LISTED {
        return Err(ReplayError::Version(header.version.get()));
    }
    if header.version.get() == 0 || !header.is_whole() {
        return Err(ReplayError::Damaged(0));
    }
    if !header.is_over(&image) {
        return Err(ReplayError::OtherImage);
    }
    let salt = header.salt.get();
    Ok(Some(Head {
        header,
        start: Start::newest(block, salt),
        list: Pointer::of(block, salt),
    }))
}

/// Writes a new journal's header.
fn begin(disk: &dyn Disk, image: Image) -> Result<Read, ReplayError> {
    // The hasher's keys are the standard library's own randomness: no further dependency for 32 bits.
    let salt = std::hash::RandomState::new().build_hasher().finish() as u32;
    let mut block = vec![0; HEADER_SIZE as usize];
    let header = Header::new(&image, salt);
    if let Some(place) = block.get_mut(..size_of::<Header>()) {
        place.copy_from_slice(header.as_bytes());
    }
    write_full(disk, &block, 0)?;
    let size = uninterrupted(|| disk.size())?;
    // Records whose header was lost with the power. Their salt is another, so that none is taken for one of ours.
    write_zeros(disk, HEADER_SIZE, size.saturating_sub(HEADER_SIZE))?;
    let end = End {
        offset: HEADER_SIZE,
        ..End::default()
    };
    Ok(Read {
        header,
        start: Start::first(),
        end,
        ready: size.max(HEADER_SIZE),
    })
}

/// Decides about what follows the last good record: nothing (the usual case), a tail that was never promised, or
/// damage. A tail is zeroed at once, and durably, because its records could otherwise be taken for followers of new
/// ones that happen to be as long as the lost.
fn cut(reader: &mut Reader<'_>, salt: u32, offset: u64, sequence: u64) -> Result<(), ReplayError> {
    let Some(mut at) = reader.next_data(offset)? else {
        return Ok(());
    };
    while let Some(next) = reader.next_data(at)? {
        if let Some(later) = reader.record(next, salt)? {
            // The record knew how far the disk had got when it was written.
            let promised = later.sequence.saturating_sub(1 + u64::from(later.pending));
            if later.pending != u32::MAX && promised > sequence {
                return Err(ReplayError::Damaged(offset));
            }
        }
        at = next + ALIGN as u64;
    }
    if !reader.disk.is_live() {
        tracing::warn!(offset, sequence, "journal: cutting a torn tail");
    }
    write_zeros(reader.disk, offset, reader.size - offset)?;
    uninterrupted(|| reader.disk.flush())?;
    Ok(())
}

impl Found {
    fn origin(&self, start: &Start) -> Origin {
        let is = |operation: Operation| self.operation == operation as u16;
        Origin {
            sequence: self.sequence,
            unique: self.unique,
            part: if is(Operation::State) || is(Operation::Checkpoint) {
                Part::State
            } else if self.sequence < start.end.get() {
                Part::Within
            } else {
                Part::Operation
            },
        }
    }
}
