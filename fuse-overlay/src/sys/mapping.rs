//! A mapped index file whose loss is an error, not a death.
//!
//! Reading a mapped page whose file was cut, or whose disk fails, raises SIGBUS. Every [`Mapping`] stands in a table that the
//! signal's handler can read: a fault inside one marks the page as lost and puts a page of zeros there, so that the reader
//! goes on and then sees [`Mapping::is_lost`]; any other SIGBUS goes to whoever was there before.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use memmap2::Mmap;

/// Mappings at one time in one process: an image's merged index and those of its layers, several times over.
const SLOTS: usize = 4096;

/// x86-64 and most arm64 systems have pages of this size; on others a lost page ends the process.
const PAGE: usize = 4096;

/// One mapping as the handler sees it. `start` is 0 in a free slot and `TAKEN` in one being filled.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    /// The mapping's own, which outlives every read of it.
    lost: AtomicPtr<Lost>,
}

/// What a mapping has lost. A page is noted before zeros can be read in it, and never becomes whole again.
#[derive(Debug)]
struct Lost {
    count: AtomicUsize,
    /// A bit for each page.
    pages: Box<[AtomicU64]>,
}

impl Lost {
    fn add(&self, page: usize) {
        if let Some(word) = self.pages.get(page / 64) {
            word.fetch_or(1 << (page % 64), Ordering::Release);
        }
        self.count.fetch_add(1, Ordering::Release);
    }

    fn has(&self, page: usize) -> bool {
        let word = self.pages.get(page / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (page % 64)) != 0)
    }
}

const FREE: usize = 0;
const TAKEN: usize = usize::MAX;

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(FREE),
        end: AtomicUsize::new(0),
        lost: AtomicPtr::new(ptr::null_mut()),
    }
}; SLOTS];

/// The action that was there before ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A file mapped for reading.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Mmap,
    slot: usize,
    lost: Box<Lost>,
}

impl Mapping {
    /// Maps all of `file`. Fails on an empty file and when too many mappings exist: then read it instead.
    pub(crate) fn new(file: &File) -> io::Result<Mapping> {
        install_handler()?;
        // SAFETY: the bytes are plain data for which every value is valid; that another process may change or cut the
        // file is why every access goes through checksums and `is_lost`.
        let map = unsafe { Mmap::map(file)? };
        let claim = |slot: &Slot| {
            slot.start
                .compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        let slot = TABLE.iter().position(claim).ok_or(io::ErrorKind::ResourceBusy)?;
        let Range { start, end } = map.as_ptr_range();
        let words = map.len().div_ceil(PAGE).div_ceil(64);
        let lost = Box::new(Lost {
            count: AtomicUsize::new(0),
            pages: (0..words).map(|_| AtomicU64::new(0)).collect(),
        });
        TABLE[slot]
            .lost
            .store(ptr::from_ref(&*lost).cast_mut(), Ordering::Relaxed);
        TABLE[slot].end.store(end.addr(), Ordering::Relaxed);
        TABLE[slot].start.store(start.addr(), Ordering::Release);
        Ok(Mapping { map, slot, lost })
    }

    /// The bytes; zeros where the file was lost. Ask [`Mapping::is_lost`] after reading them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Has any read found these bytes' pages cut or unreadable?
    pub(crate) fn is_lost(&self, bytes: Range<usize>) -> bool {
        let mut pages = bytes.start / PAGE..bytes.end.div_ceil(PAGE);
        self.lost.count.load(Ordering::Acquire) > 0 && pages.any(|page| self.lost.has(page))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        TABLE[self.slot].start.store(FREE, Ordering::Release);
    }
}

fn install_handler() -> io::Result<()> {
    static DONE: parking_lot::Mutex<bool> = parking_lot::Mutex::new(false);
    let mut done = DONE.lock();
    if *done {
        return Ok(());
    }
    // SAFETY: an all-zero `sigaction` is valid; the handler has the signature that SA_SIGINFO asks for and calls nothing
    // but system calls; SA_ONSTACK uses the alternate stack that Rust gives its threads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        let mut previous = MaybeUninit::zeroed();
        if libc::sigaction(libc::SIGBUS, &action, previous.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        // Set once only, under the lock.
        let _ = PREVIOUS.set(previous.assume_init());
    }
    *done = true;
    Ok(())
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo, and for a fault it holds the address.
    let (address, code) = unsafe { ((*info).si_addr().addr(), (*info).si_code) };
    // Codes above 0 are the kernel's: a fault, not a signal that a process sent.
    let is_fault = code > 0;
    let inside = |slot: &&Slot| {
        let start = slot.start.load(Ordering::Acquire);
        start != FREE && start <= address && address < slot.end.load(Ordering::Relaxed)
    };
    if let Some(slot) = TABLE.iter().find(inside).filter(|_| is_fault) {
        // SAFETY: whoever reads the mapping has borrowed it, and so what the slot points to.
        if let Some(lost) = unsafe { slot.lost.load(Ordering::Relaxed).as_ref() } {
            // First, so that no thread reads the zeros and believes them.
            lost.add((address - slot.start.load(Ordering::Relaxed)) / PAGE);
            if put_zero_page(address) {
                return;
            }
        }
    }
    // SAFETY: the action was filled by the kernel, or is the default. A fault is repeated when we return, and then meets
    // that action; a signal that was sent must be sent again.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, PREVIOUS.get().unwrap_or(&default), ptr::null_mut());
        if !is_fault {
            libc::raise(signal);
        }
    }
}

/// Puts a page of zeros where `address`, inside a mapping of ours, has lost its file.
fn put_zero_page(address: usize) -> bool {
    let page = ptr::with_exposed_provenance_mut(address & !(PAGE - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page lies in a read-only mapping of ours, whose readers expect any bytes; a raw system call, so it may
    // be made in a signal handler.
    let mapped = unsafe { libc::mmap(page, PAGE, libc::PROT_READ, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// Two pages of ones.
    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8192], 0).unwrap();
        file
    }

    #[test]
    fn what_was_cut_reads_as_zeros_and_is_lost() {
        let (cut, whole) = (file(), file());
        let (cut_map, whole_map) = (Mapping::new(&cut).unwrap(), Mapping::new(&whole).unwrap());
        assert_eq!(cut_map.bytes()[8191], 1);
        cut.set_len(4096).unwrap();
        assert_eq!((cut_map.bytes()[0], cut_map.is_lost(0..8192)), (1, false));
        assert_eq!((cut_map.bytes()[8191], cut_map.is_lost(8191..8192)), (0, true));
        assert_eq!((cut_map.bytes()[0], cut_map.is_lost(0..4096)), (1, false));
        assert!(cut_map.is_lost(4095..4097));
        assert_eq!((whole_map.bytes()[8191], whole_map.is_lost(0..8192)), (1, false));
    }

    #[test]
    fn slots_are_used_again() {
        let file = file();
        for _ in 0..SLOTS + 10 {
            Mapping::new(&file).unwrap();
        }
    }

    /// Names the test that a child process runs to its death.
    const DIE: &str = "BRYO_TEST_DIE_BY";

    #[test]
    fn other_faults_and_sent_signals_still_end_the_process() {
        match std::env::var(DIE).as_deref() {
            Ok("fault") => {
                let (ours, other) = (file(), file());
                let _ours = Mapping::new(&ours).unwrap();
                // SAFETY: nobody but this thread knows the file.
                let map = unsafe { Mmap::map(&other).unwrap() };
                other.set_len(0).unwrap();
                std::process::exit(map[0].into());
            }
            Ok("signal") => {
                let ours = file();
                let _ours = Mapping::new(&ours).unwrap();
                // std's own handler lets a first one pass: it takes it for a fault that will come again.
                for _ in 0..2 {
                    nix::sys::signal::raise(nix::sys::signal::Signal::SIGBUS).unwrap();
                }
                std::process::exit(0);
            }
            _ => {}
        }
        for way in ["fault", "signal"] {
            let name = "sys::mapping::tests::other_faults_and_sent_signals_still_end_the_process";
            let mut child = Command::new(std::env::current_exe().unwrap());
            let status = child
                .args(["--exact", name])
                .env(DIE, way)
                .output()
                .unwrap()
                .status;
            assert_eq!(status.signal(), Some(libc::SIGBUS), "{way}: {status}");
        }
    }
}
