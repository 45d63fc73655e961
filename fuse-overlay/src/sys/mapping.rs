//! A mapped index file whose loss is an error, not a death.
//!
//! Reading a mapped page whose file was cut, or whose disk fails, raises SIGBUS. Every [`Mapping`] stands in a table that the
//! signal's handler can read: a fault inside one gets a page of zeros and marks the mapping as lost, so that the reader goes
//! on and then sees [`Mapping::is_lost`]; any other SIGBUS goes to whoever was there before.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::Mmap;

/// Mappings at one time in one process: an image's merged index and those of its layers, several times over.
const SLOTS: usize = 4096;

/// One mapping as the handler sees it. `start` is 0 in a free slot and `TAKEN` in one being filled.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

const FREE: usize = 0;
const TAKEN: usize = usize::MAX;

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(FREE),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; SLOTS];

/// The action that was there before ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A file mapped for reading.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Mmap,
    slot: usize,
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
        TABLE[slot].lost.store(false, Ordering::Relaxed);
        TABLE[slot].end.store(end.addr(), Ordering::Relaxed);
        TABLE[slot].start.store(start.addr(), Ordering::Release);
        Ok(Mapping { map, slot })
    }

    /// The bytes; zeros where the file was lost. Ask [`Mapping::is_lost`] after reading them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Has any read found the file cut or unreadable?
    pub(crate) fn is_lost(&self) -> bool {
        TABLE[self.slot].lost.load(Ordering::Acquire)
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

extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo, and for SIGBUS it holds the faulting address.
    let address = unsafe { (*info).si_addr() }.addr();
    let inside = |slot: &&Slot| {
        let start = slot.start.load(Ordering::Acquire);
        start != FREE && start <= address && address < slot.end.load(Ordering::Relaxed)
    };
    match TABLE.iter().find(inside) {
        Some(slot) if put_zero_page(address) => slot.lost.store(true, Ordering::Release),
        // The instruction faults again, now into the action that was there before.
        // SAFETY: the action was filled by the kernel, or is the default.
        _ => unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, PREVIOUS.get().unwrap_or(&default), ptr::null_mut());
        },
    }
}

/// Puts a page of zeros where `address`, inside a mapping of ours, has lost its file.
fn put_zero_page(address: usize) -> bool {
    /// x86-64 and most arm64 systems have pages of this size; on others the call fails, and so do we.
    const PAGE: usize = 4096;
    let page = ptr::with_exposed_provenance_mut(address & !(PAGE - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page lies in a read-only mapping of ours, whose readers expect any bytes; a raw system call, so it may
    // be made in a signal handler.
    let mapped = unsafe { libc::mmap(page, PAGE, libc::PROT_READ, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}
