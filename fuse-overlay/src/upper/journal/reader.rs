//! Records as they lie in the file, each checked by its sums.

use std::io;

use zerocopy::FromBytes;

use super::format::{ALIGN, MAX_RECORD, RECORD_HEADER, RecordHeader, header_check, record_sum};
use crate::disk::Disk;

/// A record that is whole.
pub(crate) struct Found {
    pub sequence: u64,
    pub unique: u64,
    pub operation: u16,
    pub pending: u32,
    /// Bytes with the header, without padding.
    pub length: usize,
}

/// Reads the file through a window that moves forward.
pub(crate) struct Reader<'a> {
    pub disk: &'a dyn Disk,
    pub size: u64,
    /// Offset of the window in the file.
    start: u64,
    window: Vec<u8>,
    /// Least bytes that are read at once.
    least: usize,
}

/// Least bytes of a window that moves over much of the file.
const WINDOW: usize = 256 * 1024;
/// And of one that looks at a few places.
const SMALL: usize = 8 * 1024;

impl<'a> Reader<'a> {
    /// One that reads on from place to place.
    pub(crate) fn new(disk: &'a dyn Disk, size: u64) -> Reader<'a> {
        Reader {
            disk,
            size,
            start: 0,
            window: Vec::new(),
            least: WINDOW,
        }
    }

    /// One that reads little.
    pub(crate) fn small(disk: &'a dyn Disk, size: u64) -> Reader<'a> {
        Reader {
            least: SMALL,
            ..Reader::new(disk, size)
        }
    }

    /// Bytes of the file; fewer if it ends before.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let length = (length as u64).min(self.size.saturating_sub(offset)) as usize;
        let inside = offset
            .checked_sub(self.start)
            .filter(|from| from + length as u64 <= self.window.len() as u64);
        if inside.is_none() {
            let want = (length.max(self.least) as u64).min(self.size.saturating_sub(offset)) as usize;
            self.window.resize(want, 0);
            self.start = offset;
            crate::disk::read_full(self.disk, &mut self.window, offset)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.window.get(from..from + length).unwrap_or_default())
    }

    /// The whole record at `offset`, if its checksum holds.
    pub(crate) fn record(&mut self, offset: u64, salt: u32) -> io::Result<Option<Found>> {
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

    /// What a record found at `offset` holds.
    pub(crate) fn payload(&mut self, offset: u64, found: &Found) -> io::Result<&[u8]> {
        self.bytes(offset + RECORD_HEADER as u64, found.length - RECORD_HEADER)
    }

    /// The first word of [`ALIGN`] bytes from `offset` on that is not all zeros.
    pub(crate) fn next_data(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
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
