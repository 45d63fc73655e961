//! Where do the upper's bytes lie? The data file: its free space and its reads and writes.
//!
//! Free pages read as zeros. Pages that a change frees may be written again only after that change's record is on the
//! disk: else a loss of power brings back the file that had them, with another file's bytes. Until then they wait; then
//! they are punched, which gives the space back and makes them zero.
//!
//! Somebody else may look at the layer and want its bytes as they are at one moment (`commit` of a container that runs). While
//! they do, nothing is written in place, and no page that was used becomes free: see [`Data::alone`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::content::Run;
use super::journal::format::PAGE;
use crate::attr::MAX_FILE;
use crate::disk::{Disk, read_full, uninterrupted, write_full, write_zeros};
use crate::error::{Error, Result};

/// Most pages set aside for one file's growth (16 MiB).
const MOST_RESERVE: u64 = 4096;

/// Between two questions whether those who look are gone.
const BETWEEN: Duration = Duration::from_millis(10);

/// The data file.
#[derive(Debug)]
pub(crate) struct Data {
    disk: Box<dyn Disk>,
    /// How many have kept others from looking, for the moment.
    alone: Mutex<u32>,
    space: Mutex<Space>,
    /// Held while freed pages are punched: whoever finds no room waits for those that are on their way.
    reclaiming: Mutex<()>,
    /// Counts writes that ended: a flush covers those counted before it began.
    writes: AtomicU64,
    /// All writes up to this count are on the disk.
    durable: Mutex<u64>,
    /// A flush failed: what it should have written may be gone, so later ones must not claim it.
    lost: AtomicBool,
}

/// While there is one, nobody looks: bytes may change where they are.
#[derive(Debug)]
pub(crate) struct Alone<'a>(&'a Data);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut alone = self.0.alone.lock();
        *alone -= 1;
        if *alone == 0 {
            self.0.disk.let_in();
        }
    }
}

#[derive(Debug, Default)]
struct Space {
    /// Free pages as first → count, and the same by size.
    free: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    /// Everything from here on is free.
    end: u64,
    /// Freed by the record of this sequence, not yet known to be on the disk.
    waiting: Vec<(u64, Run)>,
    /// Pages given out and not free again.
    used: u64,
    /// Most pages to give out.
    limit: Option<u64>,
}

impl Data {
    /// Opens a data file of which the pages in `used` belong to files; all others wait for the flush that makes the
    /// replayed journal, whose last record is `sequence`, durable.
    pub(crate) fn open(
        disk: Box<dyn Disk>,
        mut used: Vec<Run>,
        sequence: u64,
        limit: Option<u64>,
    ) -> std::io::Result<Data> {
        let size = uninterrupted(|| disk.size())?.div_ceil(PAGE);
        used.sort_unstable_by_key(|run| run.start);
        let mut space = Space {
            limit,
            ..Space::default()
        };
        for run in used {
            if space.end < run.start {
                space.waiting.push((sequence, space.end..run.start));
            }
            space.used += run.end - run.start;
            space.end = space.end.max(run.end);
        }
        if space.end < size {
            space.waiting.push((sequence, space.end..size));
            space.end = size;
        }
        space.used += space
            .waiting
            .iter()
            .map(|(_, run)| run.end - run.start)
            .sum::<u64>();
        Ok(Data {
            disk,
            alone: Mutex::new(0),
            space: Mutex::new(space),
            reclaiming: Mutex::new(()),
            // What the last server wrote may not be on the disk either.
            writes: AtomicU64::new(1),
            durable: Mutex::new(0),
            lost: AtomicBool::new(false),
        })
    }

    /// Takes up to `want` free pages for a file that already has `size` pages there, best right at `after`. A file that
    /// grows gets a reserve as long as itself, so that its next pages follow.
    pub(crate) fn take(
        &self,
        want: u64,
        size: u64,
        after: Option<u64>,
        reserve: &mut Option<Run>,
    ) -> Result<Run> {
        let mut space = self.space.lock();
        if let Some(kept) = reserve.as_mut().filter(|kept| Some(kept.start) == after) {
            let taken = kept.start..kept.end.min(kept.start + want.min(space.allowed()));
            if taken.is_empty() {
                return Err(Error(Errno::ENOSPC));
            }
            space.used += taken.end - taken.start;
            kept.start = taken.end;
            if kept.is_empty() {
                *reserve = None;
            }
            return Ok(taken);
        }
        let extra = if after.is_some() {
            size.min(MOST_RESERVE)
        } else {
            0
        };
        let run = match space.take(want + extra, want) {
            Some(run) => run,
            None => return Err(Error(Errno::ENOSPC)),
        };
        let taken = run.start..run.end.min(run.start + want);
        if taken.end < run.end {
            // What is only set aside does not count as used.
            space.used -= run.end - taken.end;
            if let Some(old) = reserve.replace(taken.end..run.end) {
                space.put_back(old);
            }
        }
        Ok(taken)
    }

    /// Gives back pages that were set aside and never written.
    pub(crate) fn put_back(&self, reserve: Run) {
        self.space.lock().put_back(reserve);
    }

    /// Hands over pages that the record `sequence` freed; 0 for pages that no record ever named.
    pub(crate) fn free(&self, sequence: u64, runs: &mut Vec<Run>) {
        if !runs.is_empty() {
            self.space
                .lock()
                .waiting
                .extend(runs.drain(..).map(|run| (sequence, run)));
        }
    }

    /// To be held while bytes are changed that a file already has, and until their record is written. `None`: somebody looks
    /// at them, or waits for that: writers of which one always begins before another has ended would never let them in.
    pub(crate) fn alone(&self) -> Option<Alone<'_>> {
        let mut alone = self.alone.lock();
        if self.disk.is_awaited() || (*alone == 0 && !self.disk.keep_out()) {
            return None;
        }
        *alone += 1;
        Some(Alone(self))
    }

    /// Waits for those who look to be gone, but not longer than that. Only for who finds no room: what is written in place
    /// needs none without them, and what was freed comes back.
    pub(crate) fn wait_for_lookers(&self, longest: Duration) {
        let since = Instant::now();
        while self.alone().is_none() && since.elapsed() < longest {
            std::thread::sleep(BETWEEN);
        }
    }

    /// Punches and frees what waited for records up to `durable`, unless somebody looks at it.
    pub(crate) fn reclaim(&self, durable: u64) {
        let Some(_nobody_looks) = self.alone() else { return };
        let _alone = self.reclaiming.lock();
        let mut ready: Vec<Run> = Vec::new();
        self.space.lock().waiting.retain(|(sequence, run)| {
            if *sequence <= durable {
                ready.push(run.clone());
            }
            *sequence > durable
        });
        ready.sort_unstable_by_key(|run| run.start);
        ready.dedup_by(|next, run| {
            let joined = run.end == next.start;
            if joined {
                run.end = next.end;
            }
            joined
        });
        for run in ready {
            self.punch(run, durable);
        }
    }

    /// Gives back pages that were taken for an operation which then failed: no record names them.
    pub(crate) fn discard(&self, runs: impl Iterator<Item = Run>) {
        runs.for_each(|run| self.punch(run, 0));
    }

    /// Makes pages zero and free; if that fails, they wait again, for the record `sequence`.
    fn punch(&self, run: Run, sequence: u64) {
        // What lies behind the file's end was never written: it is zero, and may be more than the host can address.
        let punched = uninterrupted(|| {
            let end = run.end.min(self.disk.size()?.div_ceil(PAGE));
            if run.start < end {
                self.disk.punch(run.start * PAGE, (end - run.start) * PAGE)
            } else {
                Ok(())
            }
        });
        match punched {
            Ok(()) => self.space.lock().give(run),
            Err(error) => {
                tracing::warn!(%error, "freeing space of the writable layer; trying again later");
                self.free(sequence, &mut vec![run]);
            }
        }
    }

    /// Reads all of `out` at a byte offset.
    pub(crate) fn read(&self, out: &mut [u8], offset: u64) -> Result<()> {
        Ok(read_full(&*self.disk, out, offset)?)
    }

    /// Writes all of `bytes` at a byte offset.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        write_full(&*self.disk, bytes, offset)?;
        self.writes.fetch_add(1, Ordering::Release);
        if bytes.len() >= 128 * 1024 {
            self.disk.start_writeback(offset, bytes.len() as u64);
        }
        Ok(())
    }

    /// Writes zeros over a range of bytes.
    pub(crate) fn write_zeros(&self, offset: u64, length: u64) -> Result<()> {
        write_zeros(&*self.disk, offset, length)?;
        self.writes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Reserves disk space for pages.
    pub(crate) fn allocate(&self, run: &Run) -> Result<()> {
        uninterrupted(|| self.disk.allocate(run.start * PAGE, (run.end - run.start) * PAGE))?;
        self.writes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// No flush succeeds any more: see [`Data::lost`].
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Has a flush failed?
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns when every write that ended before the call is on the disk.
    pub(crate) fn flush(&self) -> Result<()> {
        let wanted = self.writes.load(Ordering::Acquire);
        let mut durable = self.durable.lock();
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error(Errno::EIO));
        }
        if *durable < wanted {
            let reached = self.writes.load(Ordering::Acquire);
            if let Err(error) = uninterrupted(|| self.disk.flush()) {
                self.lost.store(true, Ordering::Relaxed);
                tracing::error!(%error, "writing the writable layer's data to disk");
                return Err(error.into());
            }
            *durable = reached;
        }
        Ok(())
    }

    /// Into how many runs its pages in use fall, at most, but for what is set aside for files that grow.
    pub(crate) fn runs(&self) -> u64 {
        let space = self.space.lock();
        (space.free.len() + space.waiting.len()) as u64 + 1
    }

    /// Pages in use, and how many more the limit allows.
    pub(crate) fn usage(&self) -> (u64, Option<u64>) {
        let space = self.space.lock();
        (
            space.used,
            space.limit.map(|limit| limit.saturating_sub(space.used)),
        )
    }
}

impl Space {
    /// `want` pages in one run if possible, else the largest that is at least `least`, else what there is.
    fn take(&mut self, want: u64, least: u64) -> Option<Run> {
        let allowed = self.allowed();
        if allowed < least {
            return None;
        }
        let want = want.min(allowed);
        let found = self
            .by_size
            .range((want, 0)..)
            .next()
            .or_else(|| self.by_size.range((least, 0)..).next());
        let run = match found.copied() {
            Some((count, first)) => {
                self.remove(first, count);
                let taken = want.min(count);
                if taken < count {
                    self.insert(first + taken, count - taken);
                }
                first..first + taken
            }
            None => {
                let first = self.end;
                let end = first.checked_add(want).filter(|end| *end <= MAX_FILE / PAGE)?;
                self.end = end;
                first..end
            }
        };
        self.used += run.end - run.start;
        Some(run)
    }

    /// How many more pages the limit leaves.
    fn allowed(&self) -> u64 {
        self.limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(self.used))
    }

    fn give(&mut self, run: Run) {
        self.used = self.used.saturating_sub(run.end - run.start);
        self.put_back(run);
    }

    fn put_back(&mut self, run: Run) {
        let (mut first, mut count) = (run.start, run.end - run.start);
        if count == 0 {
            return;
        }
        if let Some((&left, &left_count)) = self.free.range(..first).next_back()
            && left + left_count == first
        {
            self.remove(left, left_count);
            (first, count) = (left, left_count + count);
        }
        if let Some(&right_count) = self.free.get(&(first + count)) {
            self.remove(first + count, right_count);
            count += right_count;
        }
        if first + count == self.end {
            self.end = first;
        } else {
            self.insert(first, count);
        }
    }

    fn insert(&mut self, first: u64, count: u64) {
        self.free.insert(first, count);
        self.by_size.insert((count, first));
    }

    fn remove(&mut self, first: u64, count: u64) {
        self.free.remove(&first);
        self.by_size.remove(&(count, first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{HostFile, Snapshot};

    /// One of them always writes: who looks waits for those who had begun before alone.
    #[test]
    fn writers_one_after_the_other_leave_nobody_outside() {
        let dir = tempfile::tempdir().unwrap();
        let disk = HostFile::open(dir.path(), "data").unwrap();
        let data = Data::open(Box::new(disk), Vec::new(), 0, None).unwrap();
        let first = data.alone().unwrap();
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| Snapshot::hold(dir.path(), "data").unwrap());
            let since = Instant::now();
            while data.alone().is_some() {
                assert!(since.elapsed() < Duration::from_secs(120), "writers go on");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!looks.is_finished());
            drop(first);
            let held = looks.join().unwrap();
            assert!(data.alone().is_none());
            drop(held);
        });
        assert!(data.alone().is_some());
    }
}
