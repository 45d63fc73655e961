//! When is a record there, and when is it durable?
//!
//! A record is in the page cache before its operation is answered: the death of the server loses nothing. It is on the
//! disk after the next flush. The file is written out with zeros ahead of the tail, so that a flush has no metadata of
//! the host's filesystem to write, and so that operations that free space still find room on a full disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::format::{Change, MAX_RECORD, Operation, RECORD_HEADER, Stamp, can_be_read, encode_record};
use crate::disk::{Disk, write_full, write_zeros};
use crate::error::{Error, Result};

/// Proof that everything acknowledged before is on the disk. Only the journal makes one.
#[derive(Debug)]
#[must_use = "an fsync is answered with this"]
pub struct Durable(());

/// May an operation use the last of the journal's space?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// It adds something: it leaves the reserve alone.
    Ordinary,
    /// It removes something, which is how a full disk gets room again.
    Reserve,
}

/// Bytes kept written out ahead of the tail for [`Room::Reserve`].
const RESERVE: u64 = 64 * 1024;
/// The journal grows by at least this, and by an eighth of its length, up to [`MOST_GROWTH`].
const LEAST_GROWTH: u64 = 64 * 1024;
const MOST_GROWTH: u64 = 4 << 20;

/// The open journal, at its tail.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Box<dyn Disk>,
    salt: u32,
    tail: Mutex<Tail>,
    /// How much is known to be on the disk: 0 nothing, 1 the header, `n + 1` all up to the record `n`.
    durable: AtomicU64,
    /// Held by the one who flushes; others that wait here mostly find their record flushed.
    flushing: Mutex<()>,
    /// A flush failed. The kernel then takes the unwritten pages for written, so a later flush that succeeds proves
    /// nothing: until the journal is opened again, no fsync is answered with success.
    lost: AtomicBool,
}

#[derive(Debug)]
struct Tail {
    /// Where the next record goes.
    offset: u64,
    /// Sequence of the last record.
    sequence: u64,
    /// The file is written up to here.
    ready: u64,
    /// Reused for encoding.
    buffer: Vec<u8>,
}

impl Log {
    /// Goes on behind the record `sequence`, which ends at `offset` of a file of `ready` bytes. Everything there may
    /// still be only in the page cache.
    pub(crate) fn new(disk: Box<dyn Disk>, salt: u32, offset: u64, sequence: u64, ready: u64) -> Log {
        let tail = Tail {
            offset,
            sequence,
            ready,
            buffer: Vec::new(),
        };
        Log {
            disk,
            salt,
            tail: Mutex::new(tail),
            durable: AtomicU64::new(0),
            flushing: Mutex::new(()),
            lost: AtomicBool::new(false),
        }
    }

    /// Appends one operation and gives its sequence. If this fails, the operation did not happen: what was written of
    /// it is overwritten by the next, or cut as a torn tail.
    pub(crate) fn append(
        &self,
        operation: Operation,
        unique: u64,
        changes: &[Change<'_>],
        room: Room,
    ) -> Result<u64> {
        let mut guard = self.tail.lock();
        let tail = &mut *guard;
        let sequence = tail.sequence + 1;
        let pending = tail.sequence - self.durable().min(tail.sequence);
        let stamp = Stamp {
            sequence,
            unique,
            pending: u32::try_from(pending).unwrap_or(u32::MAX),
        };
        tail.buffer.clear();
        encode_record(&mut tail.buffer, self.salt, stamp, operation, changes);
        debug_assert!(can_be_read(
            tail.buffer.get(RECORD_HEADER..).unwrap_or_default(),
            changes
        ));
        let length = tail.buffer.len();
        if length > MAX_RECORD {
            return Err(Error(Errno::ENOSPC));
        }
        self.make_ready(tail, length as u64, room)?;
        write_full(&*self.disk, &tail.buffer, tail.offset)?;
        tail.offset += length as u64;
        tail.sequence = sequence;
        if tail.buffer.capacity() > 1 << 20 {
            tail.buffer = Vec::new();
        }
        Ok(sequence)
    }

    /// Sees to it that `length` bytes and the reserve are written out at the tail.
    fn make_ready(&self, tail: &mut Tail, length: u64, room: Room) -> Result<()> {
        let end = tail.offset + length;
        if end + RESERVE <= tail.ready {
            return Ok(());
        }
        let growth = (tail.ready / 8).clamp(LEAST_GROWTH, MOST_GROWTH);
        let target = (end + RESERVE + growth).next_multiple_of(LEAST_GROWTH);
        match write_zeros(&*self.disk, tail.ready, target - tail.ready) {
            Ok(()) => {
                tail.ready = target;
                Ok(())
            }
            Err(_) if room == Room::Reserve && end <= tail.ready => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when every record appended before the call is on the disk.
    pub(crate) fn flush(&self) -> Result<Durable> {
        let wanted = self.tail.lock().sequence + 1;
        if self.durable.load(Ordering::Acquire) < wanted {
            let _one_at_a_time = self.flushing.lock();
            if self.durable.load(Ordering::Acquire) < wanted {
                self.flush_now()?;
            }
        }
        Ok(Durable(()))
    }

    fn flush_now(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error(Errno::EIO));
        }
        let reached = self.tail.lock().sequence;
        if let Err(error) = self.disk.flush() {
            self.lost.store(true, Ordering::Relaxed);
            tracing::error!(%error, "writing the journal to disk");
            return Err(error.into());
        }
        self.durable.store(reached + 1, Ordering::Release);
        Ok(())
    }

    /// Sequence of the last record known to be on the disk.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire).saturating_sub(1)
    }

    /// Sequence of the last record.
    pub(crate) fn sequence(&self) -> u64 {
        self.tail.lock().sequence
    }

    /// Bytes of records so far.
    pub(crate) fn length(&self) -> u64 {
        self.tail.lock().offset
    }

    /// Blocks of 4096 bytes on its filesystem: all, free, free for ordinary users.
    pub(crate) fn space(&self) -> Result<[u64; 3]> {
        Ok(self.disk.space()?)
    }
}
