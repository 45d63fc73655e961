//! When is a record there, and when is it durable?
//!
//! A record is in the page cache before its operation is answered: the death of the server loses nothing. It is on the
//! disk after the next flush. The file is written out with zeros ahead of the tail, so that a flush has no metadata of
//! the host's filesystem to write, and so that operations that free space still find room on a full disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ThreadId;

use nix::errno::Errno;
use parking_lot::Mutex;

use zerocopy::IntoBytes;

use super::format::{
    BootId, Change, HEADER_SIZE, Header, LISTED, MAX_RECORD, Mark, Operation, PAGE, RECORD_HEADER, Stamp,
    VERSION, can_be_read, encode_record, encode_words,
};
use super::list::{List, Pointer};
use super::replay::Read;
use super::start::Start;
use crate::attr::Ino;
use crate::disk::{Disk, uninterrupted, write_full, write_zeros};
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
    /// It changes what is there and takes no pages: bytes in their place, modes, times. Limits do not count it, and half of
    /// the reserve is its to use.
    InPlace,
    /// It removes something, which is how a full disk gets room again.
    Reserve,
    /// The mark of a sync, without which freed space cannot be given back: all of it.
    Last,
}

/// Bytes kept written out ahead of the tail for [`Room::Reserve`].
const RESERVE: u64 = 64 * 1024;
/// Bytes of these that are kept for [`Room::Last`].
const LAST: u64 = 4 * 1024;
/// The journal grows by at least this, and by an eighth of its length, up to [`MOST_GROWTH`].
const LEAST_GROWTH: u64 = 64 * 1024;
const MOST_GROWTH: u64 = 4 << 20;

/// The open journal, at its tail.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Box<dyn Disk>,
    salt: u32,
    /// As it lies in the file, and where the records begin that are read.
    head: Mutex<(Header, Start)>,
    tail: Mutex<Tail>,
    /// How much is known to be on the disk: 0 nothing, 1 the header, `n + 1` all up to the record `n`.
    durable: AtomicU64,
    /// The data of all records up to this is on the disk, as far as is known to those who flush.
    covered: AtomicU64,
    /// All records up to this, and their data, survive a loss of power.
    promised: AtomicU64,
    /// The host's boot.
    boot: BootId,
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
    /// Sequence of the last record that is an operation and counts.
    changed: u64,
    /// What the last [`Mark::Synced`] says.
    marked: u64,
    /// Is the last [`Mark::Boot`] this boot's?
    booted: bool,
    /// The file is written up to here.
    ready: u64,
    /// Where the records begin, in bytes, and where the checkpoint ends that they begin with.
    began: u64,
    checkpoint: u64,
    /// Where the list of that checkpoint ends, if it has one.
    listed: Option<u64>,
    /// Bytes of a checkpoint that is being made.
    unfinished: u64,
    /// Operations appended so far.
    operations: u64,
    /// What each thread did last for a request. It works on one at a time, so no other of its requests waits for an answer.
    done: Vec<(ThreadId, Done)>,
    /// Reused for encoding.
    buffer: Vec<u8>,
}

/// What a request did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    /// Its record's.
    pub sequence: u64,
    pub unique: u64,
    /// The inode that it made.
    pub made: Option<Ino>,
}

/// Threads that are remembered: more than serve requests, whatever other threads there were.
const MOST_THREADS: usize = 256;

/// Where a checkpoint begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    offset: u64,
    sequence: u64,
    operations: u64,
}

/// A record's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Appended {
    /// In bytes.
    pub offset: u64,
    pub sequence: u64,
}

impl Tail {
    /// Notes what the calling thread did for a request.
    fn remember(&mut self, sequence: u64, unique: u64, changes: &[Change<'_>]) {
        let made = changes.iter().find_map(|change| match change {
            Change::Make { ino, .. } => Some(*ino),
            _ => None,
        });
        let done = Done {
            sequence,
            unique,
            made,
        };
        let thread = std::thread::current().id();
        match self.done.iter_mut().find(|(of, _)| *of == thread) {
            Some((_, last)) if last.unique == unique => {
                *last = Done {
                    made: made.or(last.made),
                    ..done
                }
            }
            Some((_, last)) => *last = done,
            None => {
                if self.done.len() >= MOST_THREADS {
                    let oldest =
                        (0..self.done.len()).min_by_key(|i| self.done.get(*i).map(|(_, last)| last.sequence));
                    oldest.map(|oldest| self.done.swap_remove(oldest));
                }
                self.done.push((thread, done));
            }
        }
    }
}

impl Log {
    /// Goes on where reading ended, under the host's boot `boot`. Everything there may still be only in the page cache.
    pub(crate) fn new(disk: Box<dyn Disk>, read: &Read, list: Option<&List>, boot: BootId) -> Log {
        let Read {
            header,
            start,
            end,
            ready,
        } = read;
        let (header, start) = (*header, *start);
        let salt = header.salt.get();
        let booted = end.boot == Some(boot);
        let tail = Tail {
            offset: end.offset,
            sequence: end.sequence,
            changed: if booted { end.changed } else { end.synced },
            marked: end.synced,
            booted,
            ready: *ready,
            began: start.offset.get(),
            checkpoint: end.checkpoint,
            listed: list.map(|list| list.end),
            unfinished: 0,
            operations: 0,
            done: Vec::new(),
            buffer: Vec::new(),
        };
        Log {
            disk,
            salt,
            head: Mutex::new((header, start)),
            tail: Mutex::new(tail),
            durable: AtomicU64::new(0),
            covered: AtomicU64::new(end.synced),
            promised: AtomicU64::new(0),
            boot,
            flushing: Mutex::new(()),
            lost: AtomicBool::new(false),
        }
    }

    /// Appends one operation and says where. If this fails, the operation did not happen: what was written of
    /// it is overwritten by the next, or cut as a torn tail.
    pub(crate) fn append(
        &self,
        operation: Operation,
        unique: u64,
        changes: &[Change<'_>],
        room: Room,
    ) -> Result<Appended> {
        let mut tail = self.tail.lock();
        let appended = self.append_with(&mut tail, operation, unique, room, &mut |out, stamp| {
            let start = out.len();
            encode_record(out, self.salt, stamp, operation, changes);
            debug_assert!(can_be_read(
                out.get(start + RECORD_HEADER..).unwrap_or_default(),
                changes
            ));
        })?;
        if unique != 0 {
            tail.remember(appended.sequence, unique, changes);
        }
        Ok(appended)
    }

    /// Appends a record that `encode` makes.
    fn append_with(
        &self,
        tail: &mut Tail,
        operation: Operation,
        unique: u64,
        room: Room,
        encode: &mut dyn FnMut(&mut Vec<u8>, Stamp),
    ) -> Result<Appended> {
        tail.buffer.clear();
        let mut sequence = tail.sequence + 1;
        if !tail.booted {
            let stamp = self.stamp(tail, sequence, 0);
            Mark::Boot(self.boot).encode(&mut tail.buffer, self.salt, stamp);
            sequence += 1;
        }
        let offset = tail.offset + tail.buffer.len() as u64;
        let stamp = self.stamp(tail, sequence, unique);
        encode(&mut tail.buffer, stamp);
        if tail.buffer.len() > MAX_RECORD {
            return Err(Error(Errno::ENOSPC));
        }
        self.write_buffer(tail, sequence, room)?;
        if operation.is_checkpoint() {
            tail.unfinished += tail.buffer.len() as u64;
        } else {
            tail.operations += 1;
        }
        tail.booted = true;
        tail.changed = sequence;
        if tail.buffer.capacity() > 1 << 20 {
            tail.buffer = Vec::new();
        }
        Ok(Appended { offset, sequence })
    }

    fn stamp(&self, tail: &Tail, sequence: u64, unique: u64) -> Stamp {
        let flushed = self.durable.load(Ordering::Acquire).saturating_sub(1);
        let pending = sequence - 1 - flushed.min(tail.sequence);
        Stamp {
            sequence,
            unique,
            pending: u32::try_from(pending).unwrap_or(u32::MAX),
        }
    }

    /// Writes the buffer's records, the last of which is `sequence`, at the tail.
    fn write_buffer(&self, tail: &mut Tail, sequence: u64, room: Room) -> Result<()> {
        let length = tail.buffer.len() as u64;
        self.make_ready(tail, length, room)?;
        write_full(&*self.disk, &tail.buffer, tail.offset)?;
        tail.offset += length;
        tail.sequence = sequence;
        Ok(())
    }

    /// Says in the journal that the data of all records up to `upto` is on the disk, unless it says so already.
    fn mark_synced(&self, tail: &mut Tail, upto: u64) -> Result<()> {
        if tail.marked >= upto {
            return Ok(());
        }
        let sequence = tail.sequence + 1;
        let stamp = self.stamp(tail, sequence, 0);
        tail.buffer.clear();
        Mark::Synced(upto).encode(&mut tail.buffer, self.salt, stamp);
        self.write_buffer(tail, sequence, Room::Last)?;
        tail.marked = upto;
        Ok(())
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
            Err(_) if room == Room::InPlace && end + RESERVE / 2 <= tail.ready => Ok(()),
            Err(_) if room == Room::Reserve && end + LAST <= tail.ready => Ok(()),
            Err(_) if room == Room::Last && end <= tail.ready => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// No flush succeeds any more: see [`Log::lost`].
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Has a flush failed?
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns when the records up to `wanted` would survive a loss of power. Their data must be on the disk already.
    pub(crate) fn flush(&self, wanted: u64) -> Result<Durable> {
        self.covered.fetch_max(wanted, Ordering::AcqRel);
        if self.is_lost() {
            return Err(Error(Errno::EIO));
        }
        if !self.is_promised(wanted) {
            let _one_at_a_time = self.flushing.lock();
            if !self.is_promised(wanted) {
                self.flush_now()?;
            }
        }
        Ok(Durable(()))
    }

    fn is_promised(&self, wanted: u64) -> bool {
        // The header, too, must be there.
        self.durable.load(Ordering::Acquire) > 0 && self.promised() >= wanted
    }

    fn flush_now(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error(Errno::EIO));
        }
        let (reached, promised) = {
            let mut tail = self.tail.lock();
            self.mark_synced(&mut tail, self.covered.load(Ordering::Acquire))?;
            (tail.sequence, tail.marked)
        };
        self.flush_disk()?;
        self.durable.store(reached + 1, Ordering::Release);
        self.promised.store(promised, Ordering::Release);
        Ok(())
    }

    fn flush_disk(&self) -> Result<()> {
        if let Err(error) = uninterrupted(|| self.disk.flush()) {
            self.lost.store(true, Ordering::Relaxed);
            tracing::error!(%error, "writing the journal to disk");
            return Err(error.into());
        }
        Ok(())
    }

    /// All records up to this would survive a loss of power, with their data. Only what these freed may be used again.
    pub(crate) fn promised(&self) -> u64 {
        self.promised.load(Ordering::Acquire)
    }

    /// Sequence of the last operation's record.
    pub(crate) fn last_change(&self) -> u64 {
        self.tail.lock().changed
    }

    /// Bytes of records that are read when it is opened again.
    pub(crate) fn length(&self) -> u64 {
        let tail = self.tail.lock();
        tail.offset - tail.began
    }

    /// Of these, those that count against a limit: not a checkpoint's while it is made, which is what will free the others.
    pub(crate) fn charged(&self) -> u64 {
        let tail = self.tail.lock();
        (tail.offset - tail.began).saturating_sub(tail.unfinished)
    }

    /// Of these, those up to the end of the checkpoint that they begin with.
    pub(crate) fn checkpoint_length(&self) -> u64 {
        let tail = self.tail.lock();
        tail.checkpoint.saturating_sub(tail.began)
    }

    /// Bytes of records that are read when it is opened again, if its list can be used.
    pub(crate) fn unlisted(&self) -> u64 {
        let tail = self.tail.lock();
        tail.offset - tail.listed.unwrap_or(tail.began)
    }

    /// The file.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Makes it a journal of at least this version.
    fn raise_version(&self, version: u32) -> Result<()> {
        let mut head = self.head.lock();
        if head.0.version.get() < version {
            let header = head.0.of_version(version);
            // If only half of it is written, it is read all the same.
            write_full(&*self.disk, header.as_bytes(), 0)?;
            head.0 = header;
        }
        Ok(())
    }

    /// A checkpoint may begin here, if no operation is under way.
    pub(crate) fn begin(&self) -> Result<Beginning> {
        self.raise_version(VERSION)?;
        let mut tail = self.tail.lock();
        tail.unfinished = 0;
        Ok(Beginning {
            offset: tail.offset,
            sequence: tail.sequence + 1,
            operations: tail.operations,
        })
    }

    /// Appends a record of a list, unless an operation has happened since the checkpoint began: that one's list would not be
    /// true. `None` then.
    pub(crate) fn append_list(
        &self,
        began: Beginning,
        operation: Operation,
        words: &[u64],
    ) -> Result<Option<Appended>> {
        self.raise_version(LISTED)?;
        let mut tail = self.tail.lock();
        if tail.operations != began.operations {
            return Ok(None);
        }
        self.append_with(&mut tail, operation, 0, Room::Ordinary, &mut |out, stamp| {
            encode_words(out, self.salt, stamp, operation, words);
        })
        .map(Some)
    }

    /// Says where the list lies of the checkpoint that the journal begins with and that ended with the record `checkpoint`.
    /// The list is on the disk, as what it says of data.
    pub(crate) fn point_to(&self, checkpoint: Appended, list: Appended, synced: Durable) -> Result<()> {
        let Durable(()) = synced;
        let head = self.head.lock();
        if head.1.end.get() != checkpoint.sequence || self.promised() < list.sequence {
            return Err(Error(Errno::EIO));
        }
        let (pointer, place) = Pointer {
            generation: head.1.generation,
            checkpoint: checkpoint.offset.into(),
            list: list.offset.into(),
            sequence: list.sequence.into(),
            crc: 0.into(),
        }
        .sealed(self.salt);
        write_full(&*self.disk, pointer.as_bytes(), place)?;
        {
            let _one_at_a_time = self.flushing.lock();
            self.flush_disk()?;
        }
        let mut tail = self.tail.lock();
        tail.listed = Some(tail.offset);
        tail.unfinished = 0;
        Ok(())
    }

    /// Gives back most of what is written out ahead of the tail: who opens the journal looks there for records. Only to be
    /// called when no more are expected.
    pub(crate) fn trim(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        let kept = (tail.offset + RESERVE).next_multiple_of(LEAST_GROWTH);
        if kept < tail.ready {
            uninterrupted(|| self.disk.shorten(kept))?;
            tail.ready = kept;
        }
        Ok(())
    }

    /// What threads did last for requests, which may wait for their answers.
    pub(crate) fn done(&self) -> Vec<Done> {
        self.tail.lock().done.iter().map(|(_, done)| *done).collect()
    }

    /// Where the next record goes.
    pub(crate) fn end(&self) -> u64 {
        self.tail.lock().offset
    }

    /// Lets the host write out the records from a place on, so that the next flush has less to do. Gives their end.
    pub(crate) fn start_writeback(&self, from: u64) -> u64 {
        let end = self.end();
        self.disk.start_writeback(from, end.saturating_sub(from));
        end
    }

    /// Lets the journal begin with the checkpoint that began at `from` and ended with the record `end`, which is on the disk
    /// with all before it and their data. Gives back what lies before.
    pub(crate) fn start_from(&self, from: Beginning, end: u64, synced: Durable) -> Result<()> {
        let Durable(()) = synced;
        // That says so, and this is what it means.
        if self.promised() < end {
            return Err(Error(Errno::EIO));
        }
        let mut head = self.head.lock();
        let old = head.1;
        let new = Start {
            generation: (old.generation.get() + 1).into(),
            offset: from.offset.into(),
            sequence: from.sequence.into(),
            end: end.into(),
            freed: old.freed,
            boot: self.boot,
            crc: 0.into(),
        }
        .sealed(self.salt);
        write_full(&*self.disk, new.as_bytes(), new.place())?;
        {
            let _one_at_a_time = self.flushing.lock();
            self.flush_disk()?;
        }
        {
            let mut tail = self.tail.lock();
            tail.began = from.offset;
            tail.checkpoint = tail.offset;
            tail.listed = None;
            tail.unfinished = 0;
        }
        head.1 = new;
        let (first, last) = (new.freed.get().next_multiple_of(PAGE), from.offset / PAGE * PAGE);
        if first < last {
            uninterrupted(|| self.disk.punch(first, last - first))?;
        }
        // Not in the file before the next start: until then it is given back once more.
        head.1.freed = last.max(HEADER_SIZE).into();
        Ok(())
    }

    /// Blocks of 4096 bytes on its filesystem: all, free, free for ordinary users.
    pub(crate) fn space(&self) -> Result<[u64; 3]> {
        Ok(uninterrupted(|| self.disk.space())?)
    }
}
