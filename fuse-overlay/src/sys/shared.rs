//! Memory that outlives the process: a memory file, mapped by one server after the other.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;

/// A mapped memory file. Its first bytes can be lent piece by piece, the rest are shared as counters.
#[derive(Debug)]
pub(crate) struct Shared {
    map: MmapRaw,
    /// Where the counters begin, in bytes; a multiple of four.
    words: usize,
    lent: Mutex<Vec<Range<usize>>>,
}

/// Makes a memory file of up to `length` bytes, of which only those that are touched take memory; shorter where a limit
/// of the process (`ulimit -f`) says so.
pub(crate) fn memory_file(length: u64) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create(c"fuse-overlay", MFdFlags::MFD_CLOEXEC)?);
    let (most, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
    file.set_len(length.min(most))?;
    Ok(file.into())
}

impl Shared {
    /// Maps the file, or its first part if there is no address space for all (`ulimit -v`). From byte `words` on, a multiple
    /// of the page, it holds counters.
    ///
    /// # Errors
    /// Fails if not even `least` bytes, more than `words`, can be mapped.
    pub(crate) fn map(file: &OwnedFd, words: usize, least: usize) -> io::Result<Arc<Shared>> {
        let mut length = size(file)?;
        loop {
            let mapped = MmapOptions::new().len(length).no_reserve_swap().map_raw(file);
            match mapped {
                Ok(map) if map.len() >= least && words < least => {
                    let lent = Mutex::default();
                    return Ok(Arc::new(Shared { map, words, lent }));
                }
                Err(_) if length / 2 >= least => length /= 2,
                Err(error) => return Err(error),
                Ok(_) => {
                    let why = format!("files may not be as long as {least} bytes (ulimit -f)");
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
                }
            }
        }
    }

    /// The counters.
    pub(crate) fn words(&self) -> &[AtomicU32] {
        let count = (self.map.len() - self.words) / size_of::<AtomicU32>();
        // SAFETY: the range lies in the mapping, is aligned and lives as long as `self`; every value is a valid counter;
        // `lend` gives none of these bytes away, so they are only reached as atomics. The file is never cut.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.words).cast(), count) }
    }

    /// Sees to it that these bytes have their memory, so that no access to them can fail or wait (Linux 5.14; on older ones
    /// nothing happens).
    pub(crate) fn populate(&self, range: Range<usize>) {
        let length = range.len().min(self.map.len().saturating_sub(range.start));
        // Only a hint: what is not there comes at the first touch.
        let _ = self.map.advise_range(Advice::PopulateWrite, range.start, length);
    }

    /// Lends bytes for exclusive use, for good; `None` if any of them is a counter, is lent already or is not there.
    ///
    /// Other processes that map the file are not seen: one must be dead before the next lends.
    pub(crate) fn lend(self: &Arc<Self>, range: Range<usize>) -> Option<Lent> {
        let mut lent = self.lent.lock();
        let taken = |other: &Range<usize>| other.start < range.end && range.start < other.end;
        let inside = range.start <= range.end && range.end <= self.words;
        if !inside || lent.iter().any(taken) {
            return None;
        }
        lent.push(range.clone());
        Some(Lent {
            memory: Arc::clone(self),
            range,
        })
    }
}

fn size(file: &OwnedFd) -> io::Result<usize> {
    let size = nix::sys::stat::fstat(file.as_fd())?.st_size;
    usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// Bytes of a [`Shared`] that nobody else has.
#[derive(Debug)]
pub(crate) struct Lent {
    memory: Arc<Shared>,
    range: Range<usize>,
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping (checked by `lend`), which `self` keeps; nobody else has it.
        unsafe {
            std::slice::from_raw_parts(self.memory.map.as_ptr().add(self.range.start), self.range.len())
        }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory.map.as_mut_ptr().add(self.range.start),
                self.range.len(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_for_the_next() {
        let file = memory_file(1 << 20).unwrap();
        let memory = Shared::map(&file, 8192, 16384).unwrap();
        let mut lent = memory.lend(4096..8192).unwrap();
        memory.populate(4096..8192);
        lent[7] = 9;
        memory.words()[3].store(5, std::sync::atomic::Ordering::Relaxed);
        drop((lent, memory));
        let memory = Shared::map(&file, 8192, 16384).unwrap();
        assert_eq!(memory.lend(4096..8192).unwrap()[7], 9);
        assert_eq!(memory.words()[3].load(std::sync::atomic::Ordering::Relaxed), 5);
    }

    #[test]
    fn nothing_is_lent_twice_or_from_outside() {
        let file = memory_file(1 << 16).unwrap();
        let memory = Shared::map(&file, 32768, 65536).unwrap();
        let _lent = memory.lend(8192..12288).unwrap();
        for range in [8191..8193, 8192..12288, 12287..12300, 32767..32769, 65535..65537] {
            assert!(memory.lend(range.clone()).is_none(), "{range:?}");
        }
        assert!(memory.lend(12288..32768).is_some());
        assert_eq!(memory.words().len(), 8192);
    }
}
