//! What stands in the journal? Reads it from the start, cuts a torn tail, refuses damage to what was promised.

use std::hash::{BuildHasher, Hasher};
use std::io;

use zerocopy::{FromBytes, IntoBytes};

use super::format::{
    ALIGN, Change, HEADER_SIZE, Header, Image, MAGIC, MAX_RECORD, RECORD_HEADER, RecordHeader, VERSION,
    header_check, record_sum,
};
use super::log::Log;
use crate::disk::{Disk, write_full, write_zeros};

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

/// Gives each change of each record, in order, to `apply`, which says false if it cannot be; then opens the journal
/// behind the last good record. A file without a header (of nothing, or zeros where it should be) becomes a new journal.
pub(crate) fn replay(
    disk: Box<dyn Disk>,
    image: Image,
    apply: &mut dyn FnMut(Change<'_>) -> bool,
) -> Result<Log, ReplayError> {
    let size = disk.size()?;
    let mut reader = Reader {
        disk: &*disk,
        size,
        start: 0,
        window: Vec::new(),
    };
    let Some(salt) = read_header(&mut reader, image)? else {
        return start(disk, image);
    };
    let mut offset = HEADER_SIZE;
    let mut sequence = 0;
    while let Some(record) = reader
        .record(offset, salt)?
        .filter(|record| record.sequence == sequence + 1)
    {
        let mut payload = reader.bytes(offset + RECORD_HEADER as u64, record.length - RECORD_HEADER)?;
        while !payload.is_empty() {
            let change = Change::decode(&mut payload).ok_or(ReplayError::Damaged(offset))?;
            if !apply(change) {
                return Err(ReplayError::Damaged(offset));
            }
        }
        sequence = record.sequence;
        offset += record.length.next_multiple_of(ALIGN) as u64;
    }
    cut(&mut reader, salt, offset, sequence)?;
    Ok(Log::new(disk, salt, offset, sequence, size.max(offset)))
}

/// Checks the header; `None` if there is none yet, or none any more: the first flush makes it durable, so where it is all
/// zeros nothing was ever promised. Gives the salt.
fn read_header(reader: &mut Reader<'_>, image: Image) -> Result<Option<u32>, ReplayError> {
    let first = reader.next_data(0)?;
    if first.is_none_or(|at| at >= HEADER_SIZE) {
        if first.is_some() {
            tracing::warn!("journal: the power was lost before its first sync; it starts anew");
        }
        return Ok(None);
    }
    let bytes = reader.bytes(0, size_of::<Header>())?;
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| ReplayError::Damaged(0))?;
    if header.magic != MAGIC {
        return Err(ReplayError::Damaged(0));
    }
    if header.version.get() != VERSION {
        return Err(ReplayError::Version(header.version.get()));
    }
    if header.crc.get() != header.sum() {
        return Err(ReplayError::Damaged(0));
    }
    if !header.is_over(&image) {
        return Err(ReplayError::OtherImage);
    }
    Ok(Some(header.salt.get()))
}

/// Writes a new journal's header.
fn start(disk: Box<dyn Disk>, image: Image) -> Result<Log, ReplayError> {
    // The hasher's keys are the standard library's own randomness: no further dependency for 32 bits.
    let salt = std::hash::RandomState::new().build_hasher().finish() as u32;
    let mut block = vec![0; HEADER_SIZE as usize];
    let header = Header::new(&image, salt);
    if let Some(place) = block.get_mut(..size_of::<Header>()) {
        place.copy_from_slice(header.as_bytes());
    }
    write_full(&*disk, &block, 0)?;
    let size = disk.size()?;
    // Records whose header was lost with the power. Their salt is another, so that none is taken for one of ours.
    write_zeros(&*disk, HEADER_SIZE, size.saturating_sub(HEADER_SIZE))?;
    Ok(Log::new(disk, salt, HEADER_SIZE, 0, size.max(HEADER_SIZE)))
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
    tracing::warn!(offset, sequence, "journal: cutting a torn tail");
    write_zeros(reader.disk, offset, reader.size - offset)?;
    reader.disk.flush()?;
    Ok(())
}

/// A record that is whole.
struct Found {
    sequence: u64,
    pending: u32,
    /// Bytes with the header, without padding.
    length: usize,
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

impl Reader<'_> {
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
