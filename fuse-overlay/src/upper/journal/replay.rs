//! What stands in the journal? Reads it from the start, cuts a torn tail, refuses damage to what was promised.

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::iter::Peekable;
use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use super::format::{
    ALIGN, BootId, Change, HEADER_SIZE, Header, Image, MAGIC, MAX_RECORD, Mark, Operation, RECORD_HEADER,
    RecordHeader, VERSION, header_check, record_sum,
};
use super::log::Log;
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

/// Gives each change of each record, in order, to `apply`, which says false if it cannot be; then opens the journal
/// behind the last good record. A file without a header (of nothing, or zeros where it should be) becomes a new journal.
pub(crate) fn replay(
    disk: Box<dyn Disk>,
    image: Image,
    boot: BootId,
    apply: &mut dyn FnMut(Origin, Change<'_>) -> bool,
) -> Result<Log, ReplayError> {
    let size = uninterrupted(|| disk.size())?;
    let mut reader = Reader::new(&*disk, size);
    let Some((header, start)) = read_header(&mut reader, image)? else {
        return begin(disk, image, boot);
    };
    let salt = header.salt.get();
    let end = survey(&mut reader, salt, &start)?;
    let mut voids = end.voids(boot);
    let mut offset = start.offset.get();
    while let Some(record) = reader.record(offset, salt)?.filter(|_| offset < end.offset) {
        let at = offset;
        offset += record.length.next_multiple_of(ALIGN) as u64;
        while voids.next_if(|void| void.end <= record.sequence).is_some() {}
        if Mark::is(record.operation) || voids.peek().is_some_and(|void| void.contains(&record.sequence)) {
            continue;
        }
        // A checkpoint that no start names may have ended between two parts of an inode. Nothing that it says is needed:
        // all that happened before it is still there.
        if record.origin(&start).part == Part::State && record.sequence > start.end.get() {
            continue;
        }
        let mut payload = reader.bytes(at + RECORD_HEADER as u64, record.length - RECORD_HEADER)?;
        while !payload.is_empty() {
            let change = Change::decode(&mut payload).ok_or(ReplayError::Damaged(at))?;
            if !apply(record.origin(&start), change) {
                return Err(ReplayError::Damaged(at));
            }
        }
    }
    cut(&mut reader, salt, end.offset, end.sequence)?;
    // Who only looks at a journal may have seen records go that a checkpoint has made needless meanwhile.
    let mut again = Reader::new(&*disk, size);
    if read_header(&mut again, image)?.map(|(_, start)| start) != Some(start) {
        return Err(ReplayError::Damaged(start.offset.get()));
    }
    Ok(Log::new(disk, header, start, &end, size.max(end.offset), boot))
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
    fn voids(&self, boot: BootId) -> Peekable<impl Iterator<Item = Range<u64>>> {
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

/// Reads all records once, without applying any: which of them count is said by later ones.
fn survey(reader: &mut Reader<'_>, salt: u32, start: &Start) -> Result<End, ReplayError> {
    let whole = start.end.get();
    let mut end = End {
        offset: start.offset.get(),
        sequence: start.sequence.get() - 1,
        boot: (whole > 0).then_some(start.boot),
        ..End::default()
    };
    while let Some(record) = reader
        .record(end.offset, salt)?
        .filter(|record| record.sequence == end.sequence + 1)
    {
        if Mark::is(record.operation) {
            let payload = reader.bytes(end.offset + RECORD_HEADER as u64, record.length - RECORD_HEADER)?;
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

/// Checks the header; `None` if there is none yet, or none any more: the first flush makes it durable, so where it is all
/// zeros nothing was ever promised. Gives it, and where the records begin.
fn read_header(reader: &mut Reader<'_>, image: Image) -> Result<Option<(Header, Start)>, ReplayError> {
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
    if !(1..=VERSION).contains(&header.version.get()) {
        return Err(ReplayError::Version(header.version.get()));
    }
    if header.crc.get() != header.sum() {
        return Err(ReplayError::Damaged(0));
    }
    if !header.is_over(&image) {
        return Err(ReplayError::OtherImage);
    }
    let start = Start::newest(block, header.salt.get());
    Ok(Some((header, start)))
}

/// Writes a new journal's header.
fn begin(disk: Box<dyn Disk>, image: Image, boot: BootId) -> Result<Log, ReplayError> {
    // The hasher's keys are the standard library's own randomness: no further dependency for 32 bits.
    let salt = std::hash::RandomState::new().build_hasher().finish() as u32;
    let mut block = vec![0; HEADER_SIZE as usize];
    let header = Header::new(&image, salt);
    if let Some(place) = block.get_mut(..size_of::<Header>()) {
        place.copy_from_slice(header.as_bytes());
    }
    write_full(&*disk, &block, 0)?;
    let size = uninterrupted(|| disk.size())?;
    // Records whose header was lost with the power. Their salt is another, so that none is taken for one of ours.
    write_zeros(&*disk, HEADER_SIZE, size.saturating_sub(HEADER_SIZE))?;
    let end = End {
        offset: HEADER_SIZE,
        ..End::default()
    };
    Ok(Log::new(
        disk,
        header,
        Start::first(),
        &end,
        size.max(HEADER_SIZE),
        boot,
    ))
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

/// A record that is whole.
struct Found {
    sequence: u64,
    unique: u64,
    operation: u16,
    pending: u32,
    /// Bytes with the header, without padding.
    length: usize,
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

/// Reads the file through a window that moves forward.
struct Reader<'a> {
    disk: &'a dyn Disk,
    size: u64,
    /// Offset of the window in the file.
    start: u64,
    window: Vec<u8>,
}

/// Least bytes of a window.
const WINDOW: usize = 256 * 1024;

impl<'a> Reader<'a> {
    fn new(disk: &'a dyn Disk, size: u64) -> Reader<'a> {
        Reader {
            disk,
            size,
            start: 0,
            window: Vec::new(),
        }
    }

    /// Bytes of the file; fewer if it ends before.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let length = (length as u64).min(self.size.saturating_sub(offset)) as usize;
        let inside = offset
            .checked_sub(self.start)
            .filter(|from| from + length as u64 <= self.window.len() as u64);
        if inside.is_none() {
            let want = (length.max(WINDOW) as u64).min(self.size.saturating_sub(offset)) as usize;
            self.window.resize(want, 0);
            self.start = offset;
            crate::disk::read_full(self.disk, &mut self.window, offset)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.window.get(from..from + length).unwrap_or_default())
    }

    /// The whole record at `offset`, if its checksum holds.
    fn record(&mut self, offset: u64, salt: u32) -> io::Result<Option<Found>> {
        let Ok(header) = RecordHeader::read_from_bytes(self.bytes(offset, RECORD_HEADER)?) else {
            return Ok(None);
        };
        let length = header.length.get() as usize;
        let fits = (RECORD_HEADER..=MAX_RECORD).contains(&length) && length as u64 <= self.size - offset;
        if !fits || header.check.get() != header_check(salt, &header) {
            return Ok(None);
        }
        let payload = self.bytes(offset + RECORD_HEADER as u64, length - RECORD_HEADER)?;
        if record_sum(salt, &header, payload) != header.crc.get() {
            return Ok(None);
        }
        Ok(Some(Found {
            sequence: header.sequence.get(),
            unique: header.unique.get(),
            operation: header.operation.get(),
            pending: header.pending.get(),
            length,
        }))
    }

    /// The first word of [`ALIGN`] bytes from `offset` on that is not all zeros.
    fn next_data(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        while offset < self.size {
            let part = self.bytes(offset, ZEROS.len())?;
            if Some(part) != ZEROS.get(..part.len()) {
                let word = part
                    .chunks(ALIGN)
                    .position(|word| word.iter().any(|byte| *byte != 0));
                return Ok(word.map(|word| offset + (word * ALIGN) as u64));
            }
            offset += part.len() as u64;
        }
        Ok(None)
    }
}

/// What much of a journal is: compared in one go.
const ZEROS: &[u8] = &[0; 4096];
