//! What must outlive a server? It may be killed at any moment, and another goes on in its place, on the same connection,
//! unseen by those who use the mount. The journal tells the successor what happened to the tree; the *ledger*, one
//! memory file that the supervisor keeps, tells it the rest:
//!
//! - a *slot* per thread, into which the thread reads its requests, so that one in hand is not lost with the thread's
//!   memory: the kernel waits for its answer and sends it to nobody else. Before an answer goes out it is saved in the
//!   slot, so that the successor sends the same one again rather than doing the work twice;
//! - how often the kernel holds each inode: an inode without names that is still open must stay;
//! - whether the connection was ever answered, and where the journal stood when it began;
//! - of which files pages were refused that nobody heard of yet.
//!
//! The states of a slot, and what the successor does about each:
//!
//! | header | state | meaning | the successor |
//! | --- | --- | --- | --- |
//! | zero | any | nothing in hand | nothing |
//! | a request | `READING` | in hand, answered for certain not | looks in the journal whether it happened, else does it |
//! | a request | `SAVED` | the answer is saved, and perhaps sent | sends it; the kernel refuses what it has already |
//!
//! The kernel itself writes the header, so there is no moment at which a request is in hand and the slot does not say so.
//! A request that wants no answer (FORGET) is marked as saved before it is done: counts can only come out too high.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::attr::Ino;
use crate::sys::{Lent, Shared, memory_file};

/// Bytes of a message: the largest WRITE with its headers.
pub(crate) const MESSAGE: usize = (1 << 20) + 4096;
/// Most slots, that is, most threads of a server.
pub(crate) const SLOTS: usize = 16;

/// A slot's first page: its words and the saved answer.
const HEAD: usize = 4096;
const SLOT: usize = HEAD + MESSAGE;
const SAVED_AT: usize = 64;
/// Bytes of the head: a [`State`]; how many servers died with the request in hand; whether a successor has tried it.
const STATE: usize = 0;
const DEATHS: usize = 1;
const TRIED: usize = 2;
/// The saved answer's length, four bytes.
const SAVED_LENGTH: usize = 4;
/// Where the counters begin.
const WORDS_AT: usize = SLOTS * SLOT;
/// Counters for this and the next; then the inodes' lookup counts.
const OWN_WORDS: usize = 1024;
/// Where among the own counters the files are whose pages were refused, two words each: the inode's number, 0 where there is
/// none, and the errno. Older servers leave them zero.
const REFUSED_AT: usize = 64;
/// Inodes that can be counted: 2³⁰ numbers, 4 GiB of addresses, of which only touched pages take memory.
const INODES: usize = 1 << 30;
/// With less address space than this there is no server.
const LEAST: usize = WORDS_AT + (8 << 20);

/// Raised with each change of what the bytes mean: a successor of another version is refused, not misled.
const VERSION: u32 = 1;

/// The ledger's own counters.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Word {
    Version = 0,
    /// 1 once the kernel's INIT was answered.
    Connected = 1,
    /// The sequence of the journal's last record before the connection began, low and high half, and whether it is set.
    BeganLow = 2,
    BeganHigh = 3,
    Began = 4,
    /// Servers that took over.
    Successors = 5,
    /// Requests that they found in hand.
    Found = 6,
    /// Those among them that had happened already.
    Happened = 7,
    /// 1 once a flush failed: no fsync may succeed any more.
    Lost = 8,
    /// 1 once a server began to make the list at its end.
    Listing = 9,
    /// Servers that took over and found at least one request in hand.
    Busy = 10,
    /// The errno of refused pages whose file found no place in the list.
    RefusedMore = 11,
}

/// Makes a new ledger.
///
/// # Errors
/// The system call's.
pub fn create() -> io::Result<OwnedFd> {
    memory_file((WORDS_AT + (OWN_WORDS + INODES) * size_of::<AtomicU32>()) as u64)
}

/// An open ledger. Only one process may use it at a time: the next opens it when the last is dead.
#[derive(Debug, Clone)]
pub struct Ledger {
    memory: Arc<Shared>,
    slots: Arc<Mutex<Vec<Option<Slot>>>>,
}

/// What successors have found, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeovers {
    /// Servers that took over from another.
    pub successors: u32,
    /// Those of them that found a request in hand, or several.
    pub busy: u32,
    /// Requests that they found in hand.
    pub found: u32,
    /// Those among them whose work had been done, but for the answer.
    pub happened: u32,
}

impl Ledger {
    /// Opens a ledger that [`create`] made.
    ///
    /// # Errors
    /// Fails if it cannot be mapped, or was used by a server of another version.
    pub fn open(file: &OwnedFd) -> io::Result<Ledger> {
        let memory = Shared::map(file, WORDS_AT, LEAST)?;
        let slots = (0..SLOTS).map(|number| Slot::in_memory(&memory, number * SLOT));
        let slots = Arc::new(Mutex::new(slots.collect()));
        let ledger = Ledger { memory, slots };
        let version = ledger.word(Word::Version).map_or(Ok(0), |word| {
            word.compare_exchange(0, VERSION, Ordering::AcqRel, Ordering::Acquire)
        });
        match version {
            Ok(_) | Err(VERSION) => Ok(ledger),
            Err(other) => {
                let what = format!("the ledger is of version {other}, this server's is {VERSION}");
                Err(io::Error::new(io::ErrorKind::Unsupported, what))
            }
        }
    }

    /// A ledger that nobody takes over.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn alone() -> io::Result<Ledger> {
        Ledger::open(&create()?)
    }

    fn word(&self, word: Word) -> Option<&AtomicU32> {
        self.memory.words().get(word as usize)
    }

    fn get(&self, word: Word) -> u32 {
        self.word(word).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Gives what was there before.
    fn swap(&self, word: Word, value: u32) -> u32 {
        self.word(word)
            .map_or(0, |word| word.swap(value, Ordering::AcqRel))
    }

    fn count(&self, word: Word) {
        if let Some(word) = self.word(word) {
            word.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Was the kernel's INIT answered? Before that there is nothing to take over.
    pub fn is_connected(&self) -> bool {
        self.get(Word::Connected) != 0
    }

    /// INIT was answered.
    pub(crate) fn set_connected(&self) {
        self.swap(Word::Connected, 1);
    }

    /// Notes where the journal stood when the connection began: `last` is the sequence of its last record. Only the first
    /// server does.
    pub(crate) fn begin(&self, last: u64) {
        if self.began().is_none() {
            self.swap(Word::BeganLow, last as u32);
            self.swap(Word::BeganHigh, (last >> 32) as u32);
            self.swap(Word::Began, 1);
        }
    }

    /// What [`Ledger::begin`] noted.
    pub(crate) fn began(&self) -> Option<u64> {
        let last = u64::from(self.get(Word::BeganLow)) | u64::from(self.get(Word::BeganHigh)) << 32;
        (self.get(Word::Began) != 0).then_some(last)
    }

    /// A flush failed: what it should have written may be gone, which a later one that succeeds does not bring back.
    pub(crate) fn set_lost(&self) {
        self.swap(Word::Lost, 1);
    }

    /// Has a flush of any server failed?
    pub(crate) fn is_lost(&self) -> bool {
        self.get(Word::Lost) != 0
    }

    /// The list is about to be made at the end. `false`: not again, since whoever began it was killed over it.
    pub(crate) fn begin_list(&self) -> bool {
        self.swap(Word::Listing, 1) == 0
    }

    /// The counters of inodes, by their number less one.
    pub(crate) fn inodes(&self) -> &[AtomicU32] {
        self.memory.words().get(OWN_WORDS..).unwrap_or_default()
    }

    fn refused(&self) -> impl Iterator<Item = (&AtomicU32, &AtomicU32)> {
        let words = self.memory.words().get(REFUSED_AT..OWN_WORDS);
        let (pairs, _) = words.unwrap_or_default().as_chunks();
        pairs.iter().map(|[of, why]| (of, why))
    }

    /// Keeps that pages of a file were refused, and why. One thread at a time may change the list.
    pub(crate) fn refuse(&self, ino: Ino, why: Errno) {
        let number = u32::try_from(ino.0).unwrap_or(0);
        let is = |wanted: u32| move |(of, _): &(&AtomicU32, _)| of.load(Ordering::Acquire) == wanted;
        let known = self
            .refused()
            .find(is(number))
            .or_else(|| self.refused().find(is(0)));
        match known {
            Some((of, errno)) if number != 0 => {
                errno.store(why as u32, Ordering::Release);
                of.store(number, Ordering::Release);
            }
            _ => drop(self.swap(Word::RefusedMore, why as u32)),
        }
    }

    /// Somebody heard of it.
    pub(crate) fn heard(&self, ino: Ino) {
        let mut refused = self.refused();
        if let Some((of, _)) = refused.find(|(of, _)| u64::from(of.load(Ordering::Acquire)) == ino.0) {
            of.store(0, Ordering::Release);
        }
    }

    /// Somebody heard of all.
    pub(crate) fn all_heard(&self) {
        self.swap(Word::RefusedMore, 0);
    }

    /// The files of whose refused pages nobody heard of yet, and why; and why those of others that were too many.
    pub(crate) fn unheard(&self) -> (Vec<(Ino, Errno)>, Option<Errno>) {
        let errno = |word: u32| Errno::from_raw(word.cast_signed());
        let kept = self.refused().filter_map(|(of, why)| {
            let of = of.load(Ordering::Acquire);
            (of != 0).then(|| (Ino(of.into()), errno(why.load(Ordering::Acquire))))
        });
        let more = self.get(Word::RefusedMore);
        (kept.collect(), (more != 0).then(|| errno(more)))
    }

    /// Another server takes over.
    pub(crate) fn count_successor(&self) {
        self.count(Word::Successors);
    }

    /// It found something in hand.
    pub(crate) fn count_busy(&self) {
        self.count(Word::Busy);
    }

    /// It found a request in hand.
    pub(crate) fn count_found(&self) {
        self.count(Word::Found);
    }

    /// And that had happened.
    pub(crate) fn count_happened(&self) {
        self.count(Word::Happened);
    }

    /// What was counted so far.
    pub fn takeovers(&self) -> Takeovers {
        Takeovers {
            successors: self.get(Word::Successors),
            busy: self.get(Word::Busy),
            found: self.get(Word::Found),
            happened: self.get(Word::Happened),
        }
    }

    /// The slot of a thread; `None` if it is taken, or beyond [`SLOTS`].
    pub(crate) fn slot(&self, number: usize) -> Option<Slot> {
        self.slots.lock().get_mut(number)?.take()
    }

    /// Puts memory behind the first `bytes` of the messages of these slots: a server that is killed while the kernel has
    /// to find memory for a request loses it, and the caller gets EIO.
    pub(crate) fn populate(&self, slots: Range<usize>, bytes: usize) {
        for number in slots.start..slots.end.min(SLOTS) {
            let start = number * SLOT;
            self.memory.populate(start..start + HEAD + bytes.min(MESSAGE));
        }
    }

    /// Says that the last server died by itself, not of a signal that somebody sent: of one of the requests in hand, and if it
    /// was trying one that was in hand before, of that.
    pub fn blame(&self) {
        let mut slots = self.slots.lock();
        let is_tried = |slot: &Slot| slot.left() == Left::Request && slot.byte(TRIED) != 0;
        let tried = slots.iter().flatten().any(is_tried);
        for slot in slots
            .iter_mut()
            .flatten()
            .filter(|slot| slot.left() == Left::Request)
        {
            if !tried || slot.byte(TRIED) != 0 {
                slot.set_byte(DEATHS, slot.byte(DEATHS).saturating_add(1));
            }
        }
    }

    /// Unique ids of the requests in the slots that are not taken.
    pub(crate) fn in_hand(&self) -> Vec<u64> {
        let slots = self.slots.lock();
        let in_hand = slots.iter().flatten().filter(|slot| slot.left() != Left::Nothing);
        in_hand.map(Slot::unique).collect()
    }
}

/// Where one thread keeps the request that it works on.
#[derive(Debug)]
pub(crate) struct Slot {
    head: Lent,
    message: Lent,
}

/// The request's length comes first in its header, then its opcode and its unique id: 16 bytes.
const REQUEST_HEADER: usize = 16;

/// What a slot says of its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum State {
    Reading = 0,
    Saved = 1,
}

/// What a dead server has left in a slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// No request.
    Nothing,
    /// One without an answer.
    Request,
    /// One whose answer is saved; empty if it wants none.
    Answer,
}

impl Slot {
    fn in_memory(memory: &Arc<Shared>, start: usize) -> Option<Slot> {
        Some(Slot {
            head: memory.lend(start..start + HEAD)?,
            message: memory.lend(start + HEAD..start + SLOT)?,
        })
    }

    /// Where the next request is to be read.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        &mut self.message
    }

    /// The request's first `length` bytes.
    pub(crate) fn message(&self, length: usize) -> &[u8] {
        self.message.get(..length).unwrap_or_default()
    }

    /// The length of the request in hand, as it says itself; 0 if there is none.
    pub(crate) fn length(&self) -> usize {
        let length = self.message.first_chunk().copied().map_or(0, u32::from_ne_bytes);
        usize::try_from(length).map_or(0, |length| length.min(MESSAGE))
    }

    /// The unique id of the request in hand.
    pub(crate) fn unique(&self) -> u64 {
        let bytes = self.message.get(8..).and_then(<[u8]>::first_chunk).copied();
        bytes.map_or(0, u64::from_ne_bytes)
    }

    /// What is left of a dead server's work.
    pub(crate) fn left(&self) -> Left {
        match (self.length(), self.byte(STATE)) {
            (0, _) => Left::Nothing,
            (_, state) if state == State::Saved as u8 => Left::Answer,
            _ => Left::Request,
        }
    }

    /// Saves an answer that is about to be sent; one too long to be saved is of a request that may be done again.
    pub(crate) fn save(&mut self, answer: &[u8]) {
        let place = SAVED_AT..SAVED_AT + answer.len();
        if let Some(place) = self.head.get_mut(place) {
            place.copy_from_slice(answer);
            self.mark_saved(answer.len() as u32);
        }
    }

    /// Says that the request wants no answer and counts as done.
    pub(crate) fn save_nothing(&mut self) {
        self.mark_saved(0);
    }

    fn mark_saved(&mut self, length: u32) {
        if let Some(place) = self.head.get_mut(SAVED_LENGTH..SAVED_LENGTH + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        // What the slot holds must be there before it says so, whatever the compiler thinks of the order.
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        self.set(State::Saved);
    }

    fn set(&mut self, state: State) {
        self.set_byte(STATE, state as u8);
    }

    /// The saved answer.
    pub(crate) fn saved(&self) -> &[u8] {
        let length = self
            .head
            .get(SAVED_LENGTH..)
            .and_then(<[u8]>::first_chunk)
            .copied();
        let length = length.map_or(0, u32::from_ne_bytes) as usize;
        self.head
            .get(SAVED_AT..)
            .and_then(|rest| rest.get(..length))
            .unwrap_or_default()
    }

    /// Notes that a successor tries the request.
    pub(crate) fn mark_tried(&mut self) {
        self.set_byte(TRIED, 1);
    }

    /// Has it killed two servers?
    pub(crate) fn is_deadly(&self) -> bool {
        self.byte(DEATHS) >= 2
    }

    fn byte(&self, at: usize) -> u8 {
        self.head.get(at).copied().unwrap_or_default()
    }

    fn set_byte(&mut self, at: usize, value: u8) {
        if let Some(place) = self.head.get_mut(at) {
            *place = value;
        }
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    /// The request is done with.
    pub(crate) fn clear(&mut self) {
        if let Some(header) = self.message.get_mut(..REQUEST_HEADER) {
            header.fill(0);
        }
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        self.set_byte(DEATHS, 0);
        self.set_byte(TRIED, 0);
        self.set(State::Reading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_REFUSED: usize = (OWN_WORDS - REFUSED_AT) / 2;

    /// What a server finds that opens the ledger after another.
    fn next(file: &OwnedFd) -> Slot {
        Ledger::open(file).unwrap().slot(0).unwrap()
    }

    fn write_request(slot: &mut Slot) {
        slot.buffer()[..4].copy_from_slice(&40u32.to_ne_bytes());
        slot.buffer()[8..16].copy_from_slice(&77u64.to_ne_bytes());
    }

    #[test]
    fn a_successor_finds_the_slot_as_it_was_left() {
        let file = create().unwrap();
        assert_eq!(next(&file).left(), Left::Nothing);
        let mut slot = next(&file);
        write_request(&mut slot);
        let mut slot = next(&file);
        assert_eq!((slot.left(), slot.length()), (Left::Request, 40));
        assert_eq!(Ledger::open(&file).unwrap().in_hand(), [77]);
        slot.save(b"an answer");
        let mut slot = next(&file);
        assert_eq!((slot.left(), slot.saved()), (Left::Answer, &b"an answer"[..]));
        slot.clear();
        assert_eq!(next(&file).left(), Left::Nothing);
        write_request(&mut slot);
        assert_eq!(next(&file).left(), Left::Request);
        slot.save_nothing();
        assert_eq!(
            (next(&file).left(), next(&file).saved()),
            (Left::Answer, &b""[..])
        );
    }

    #[test]
    fn a_slot_left_half_cleared_hides_no_later_request() {
        let file = create().unwrap();
        let mut slot = next(&file);
        write_request(&mut slot);
        slot.mark_tried();
        slot.save(b"old");
        // Killed in the middle of `clear`.
        slot.buffer()[..REQUEST_HEADER].fill(0);
        let mut second = next(&file);
        assert_eq!(second.left(), Left::Nothing);
        // As `take_over` does.
        second.clear();
        write_request(&mut second);
        assert_eq!(next(&file).left(), Left::Request);
        Ledger::open(&file).unwrap().blame();
        Ledger::open(&file).unwrap().blame();
        assert!(next(&file).is_deadly());
    }

    #[test]
    fn a_successor_hears_whose_pages_were_refused() {
        let file = create().unwrap();
        let unheard = || Ledger::open(&file).unwrap().unheard();
        let ledger = Ledger::open(&file).unwrap();
        for (ino, why) in [(7, Errno::ENOSPC), (9, Errno::EIO), (7, Errno::EDQUOT)] {
            ledger.refuse(Ino(ino), why);
        }
        let (seven, nine) = ((Ino(7), Errno::EDQUOT), (Ino(9), Errno::EIO));
        assert_eq!(unheard(), (vec![seven, nine], None));
        ledger.heard(Ino(7));
        ledger.heard(Ino(8));
        assert_eq!(unheard(), (vec![nine], None));
        for ino in 1..=MOST_REFUSED as u64 {
            ledger.refuse(Ino(ino), Errno::ENOSPC);
        }
        assert_eq!((unheard().0.len(), unheard().1), (MOST_REFUSED, None));
        ledger.refuse(Ino(1 << 20), Errno::ENOSPC);
        assert_eq!(
            (unheard().0.len(), unheard().1),
            (MOST_REFUSED, Some(Errno::ENOSPC))
        );
        ledger.all_heard();
        assert_eq!(unheard().1, None);
    }

    #[test]
    fn an_answer_too_long_to_be_saved_leaves_the_request() {
        let mut slot = Ledger::alone().unwrap().slot(1).unwrap();
        write_request(&mut slot);
        slot.save(&[1; HEAD]);
        assert_eq!(slot.left(), Left::Request);
    }

    #[test]
    fn a_slot_has_one_user() {
        let ledger = Ledger::alone().unwrap();
        let _slot = ledger.slot(3).unwrap();
        assert!(ledger.slot(3).is_none() && ledger.slot(SLOTS).is_none());
        assert!(ledger.slot(SLOTS - 1).is_some());
    }

    #[test]
    fn a_request_is_deadly_when_two_servers_died_of_it() {
        let file = create().unwrap();
        let open = || Ledger::open(&file).unwrap();
        let (mut guilty, mut other) = (open().slot(0).unwrap(), open().slot(1).unwrap());
        write_request(&mut guilty);
        write_request(&mut other);
        open().blame();
        assert!(!guilty.is_deadly() && !other.is_deadly());
        guilty.mark_tried();
        open().blame();
        assert!(guilty.is_deadly() && !other.is_deadly());
        guilty.clear();
        assert!(!guilty.is_deadly());
    }

    #[test]
    fn the_journals_place_is_said_once() {
        let file = create().unwrap();
        let place = u64::from(u32::MAX) + 5;
        let open = || Ledger::open(&file).unwrap();
        assert_eq!(open().began(), None);
        open().begin(place);
        open().begin(place + 9);
        assert_eq!(open().began(), Some(place));
    }

    #[test]
    fn a_list_is_begun_once() {
        let file = create().unwrap();
        assert!(Ledger::open(&file).unwrap().begin_list());
        assert!(!Ledger::open(&file).unwrap().begin_list());
    }

    #[test]
    fn another_version_is_refused() {
        let file = create().unwrap();
        Ledger::open(&file).unwrap().swap(Word::Version, VERSION + 1);
        for _ in 0..2 {
            assert!(Ledger::open(&file).unwrap_err().to_string().contains("version 2"));
        }
    }
}
