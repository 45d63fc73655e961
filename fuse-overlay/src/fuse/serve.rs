//! Who reads the requests, and when? One thread per device. One of them at a time has the *seat*: it alone waits for the
//! next request, and while requests follow closely upon each other it polls instead of sleeping, for being woken costs
//! eight times what a request does. It gives the seat away before work that may wait for a disk, and when requests
//! queue up; so a lone program is served by one hot thread, and many by all. Whoever must wait for a lock while it answers
//! gives it away, too: who has that lock may wait for a disk that hangs.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};
use zerocopy::FromBytes;

use super::adapter::{Adapter, Answering, End};
use super::crash::{self, Point};
use super::ids::IdMap;
use super::negotiate;
use super::reply::{Reply, outdated};
use super::touched::Notes;
use super::wire::{InHeader, InitIn, opcode};
use super::{mount, patience::Patience};
use crate::error::Error;
use crate::ledger::{Ledger, Left, MESSAGE, Slot};
use crate::union::Tree;
use crate::upper::waiting;

/// Room for the largest message: a WRITE with its headers. The kernel refuses to fill a smaller buffer.
const _: () = assert!(MESSAGE == negotiate::MAX_WRITE as usize + 4096);

/// Requests that were there at once, one after the other, before another thread is asked to help.
const QUEUE: u32 = 3;

/// Bytes of all requests but WRITE and SETXATTR of much.
const SMALL: usize = 64 * 1024;

/// How long a container takes to start, about.
const SETTLED: Duration = Duration::from_millis(200);

/// What becomes of the writable layer when its mount is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// It is made durable, and ready to be opened again, which may take about as long as opening it all did.
    List,
    /// It is made durable.
    Sync,
    /// It is removed: nothing more is written to the disk, which may have had nothing of it yet.
    Discard,
}

/// Serves `tree` on an already mounted connection until it is unmounted, and ends as `at_end` says.
///
/// `devices` are descriptors of `/dev/fuse`, all opened in the mount's user namespace (the kernel clones a connection
/// only between such): the first is the mounted one, the others become clones of it, one thread each. `tree` was opened
/// under `ledger`. If another server has used it before and was killed, this one goes on in its place: then the devices are
/// the same descriptors in the same order, since the kernel takes an answer only on the one that the request was read from.
///
/// The calling thread blocks SIGXFSZ from then on, as do those that it starts.
///
/// # Errors
/// Fails if the kernel's INIT cannot be answered, if there are more devices than slots, or if the last sync fails; an
/// aborted connection is no error.
pub fn serve(
    tree: Tree,
    ids: IdMap,
    devices: Vec<OwnedFd>,
    ledger: &Ledger,
    at_end: AtEnd,
) -> io::Result<()> {
    serve_noting(tree, ids, devices, ledger, (at_end, None))
}

/// The same; what programs touch first is noted in a file, if there is one ([`super::touched`]).
///
/// # Errors
/// As for [`serve`].
pub fn serve_noting(
    tree: Tree,
    ids: IdMap,
    devices: Vec<OwnedFd>,
    ledger: &Ledger,
    (at_end, notes): (AtEnd, Option<File>),
) -> io::Result<()> {
    // A file that grows beyond `ulimit -f` is an errno then, not the end of the process. Our threads inherit it.
    SigSet::from_iter([Signal::SIGXFSZ]).thread_block()?;
    let succeeds = ledger.is_connected();
    // Before the handshake's memory: once that is given back, malloc takes such pieces from its heap, and clears them.
    let replies: Vec<Reply> = devices.iter().map(|_| Reply::new()).collect();
    let mut devices = devices;
    let ended = match devices.split_first_mut() {
        None => return Err(Errno::EINVAL.into()),
        Some(_) if succeeds => Connection::Open,
        Some((mounted, clones)) => {
            for clone in clones {
                mount::join(clone, mounted)?;
            }
            handshake(mounted)?
        }
    };
    let adapter = Adapter::new(tree, ids, Notes::new(notes));
    if ended == Connection::Ended {
        return end(&adapter, at_end, ledger);
    }
    ledger.set_connected();
    let server = Server {
        adapter,
        seat: Arc::default(),
    };
    let desks = devices
        .into_iter()
        .zip(replies)
        .enumerate()
        .map(|(number, (device, reply))| {
            let slot = ledger
                .slot(number)
                .ok_or_else(|| malformed("more threads than slots"))?;
            let device = Arc::new(mount::nonblocking(device)?);
            Ok(Desk { device, slot, reply })
        });
    let mut desks = desks.collect::<io::Result<Vec<Desk>>>()?;
    if succeeds {
        ledger.populate(0..desks.len(), MESSAGE);
        server.take_over(&mut desks, ledger);
    }
    let served = server.run(desks, ledger);
    served.and(end(&server.adapter, at_end, ledger))
}

fn end(adapter: &Adapter, at_end: AtEnd, ledger: &Ledger) -> io::Result<()> {
    match at_end {
        AtEnd::List | AtEnd::Sync => {
            let told = adapter.untold_refusals();
            let synced = adapter.tree.sync().map_err(|error| io::Error::from(error.0));
            if at_end == AtEnd::List && synced.is_ok() {
                list(&adapter.tree, ledger);
            }
            synced.and(told)
        }
        AtEnd::Discard => Ok(()),
    }
}

/// Makes the next opening quick, if that pays. Nothing depends on it; so if it kills a server, as for want of memory, the one
/// that follows does not try again.
fn list(tree: &Tree, ledger: &Ledger) {
    if !crash::hurries() && !tree.list_is_due() || !ledger.begin_list() {
        return;
    }
    crash::pass(crash::Point::List, &[]);
    let made = catch_unwind(AssertUnwindSafe(|| tree.list()));
    if let Err(error) = made.unwrap_or(Err(Error(Errno::EIO))) {
        tracing::warn!(%error, "the writable layer has no list; opening it again reads all of it");
    }
}

/// Whether there is still somebody to serve.
#[derive(PartialEq, Eq)]
enum Connection {
    Open,
    Ended,
}

/// Reads and answers INIT, which is always the first request.
fn handshake(mounted: &OwnedFd) -> io::Result<Connection> {
    let device = &mount::nonblocking(mounted.try_clone()?)?;
    let mut message = vec![0; MESSAGE];
    let mut reply = Reply::new();
    loop {
        let Some(len) = wait_for_message(device, &mut message)? else {
            return Ok(Connection::Ended);
        };
        let bytes = message.get(..len).unwrap_or_default();
        let (header, body) =
            InHeader::read_from_prefix(bytes).map_err(|_| malformed("INIT without a header"))?;
        if header.opcode != opcode::INIT {
            return Err(malformed("the first request is not INIT"));
        }
        let (init, _) = InitIn::read_from_prefix(body).map_err(|_| malformed("INIT of an old kernel"))?;
        let answer = negotiate::answer(&init);
        reply.clear();
        let result = match &answer {
            Ok(out) => reply.push_struct(out),
            Err(_) => Err(Errno::EPROTO),
        };
        reply.finish(header.unique, result);
        send(device, reply.message());
        tracing::debug!(
            minor = init.minor,
            flags = init.flags,
            flags2 = init.flags2,
            "INIT"
        );
        answer?;
        if init.major == super::wire::MAJOR {
            return Ok(Connection::Open);
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/dev/fuse: {what}"))
}

/// Sleeps until there is a message and reads it. `None`: the connection has ended.
fn wait_for_message(device: &File, message: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match take(device, message)? {
            Taken::Message(len) => return Ok(Some(len)),
            Taken::Ended => return Ok(None),
            Taken::Nothing => sleep_until_message(device)?,
        }
    }
}

fn sleep_until_message(device: &File) -> io::Result<()> {
    match poll(
        &mut [PollFd::new(device.as_fd(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    ) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

enum Taken {
    Message(usize),
    Nothing,
    Ended,
}

/// Takes a message if there is one.
fn take(mut device: &File, message: &mut [u8]) -> io::Result<Taken> {
    match device.read(message) {
        Ok(len) => Ok(Taken::Message(len)),
        Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            // ENOENT: the request that was there has been interrupted.
            Errno::EAGAIN | Errno::EINTR | Errno::ENOENT => Ok(Taken::Nothing),
            // Unmounted, or aborted.
            Errno::ENODEV | Errno::ECONNABORTED => Ok(Taken::Ended),
            _ => Err(error),
        },
    }
}

/// Where one thread works: all that is its own.
struct Desk {
    device: Arc<File>,
    slot: Slot,
    reply: Reply,
}

struct Server {
    adapter: Adapter,
    /// Whoever holds it waits for the next request.
    seat: Arc<Mutex<Patience>>,
}

type Seat = ArcMutexGuard<RawMutex, Patience>;

thread_local! {
    /// The seat, while its holder answers a request.
    static KEPT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

impl Server {
    fn run(&self, desks: Vec<Desk>, ledger: &Ledger) -> io::Result<()> {
        let threads = desks.len();
        let device = desks.first().map(|desk| Arc::clone(&desk.device));
        thread::scope(|scope| {
            let timer = thread::Builder::new().name("fuse-sync".into());
            let timer = timer.spawn_scoped(scope, move || {
                // Not while the container starts: large requests come later.
                if !crash::hurries() && !self.adapter.unsynced.ends_within(SETTLED) {
                    ledger.populate(0..threads, MESSAGE);
                }
                let sync = || {
                    let synced = self.adapter.tree.sync();
                    if let Some(device) = &device {
                        let grown = self.adapter.grown.take_all();
                        grown
                            .into_iter()
                            .for_each(|ino| send(device, outdated(ino).as_ref()));
                    }
                    synced.map(|_durable| ())
                };
                self.adapter.unsynced.run(sync, |go_on| self.tidy(go_on));
            })?;
            let mut threads = Vec::new();
            let mut desks = desks.into_iter();
            let own = desks.next();
            // Each thread makes ready its own: the container's first request waits for the first that is.
            let work = move |number, desk| {
                ledger.populate(number..number + 1, SMALL);
                self.work(desk)
            };
            for (number, desk) in (1..).zip(desks) {
                let builder = thread::Builder::new().name(format!("fuse-{number}"));
                match builder.spawn_scoped(scope, move || work(number, desk)) {
                    Ok(thread) => threads.push(thread),
                    // The others serve as well, with less in parallel.
                    Err(error) => tracing::warn!(%error, "one server thread less"),
                }
            }
            let mut results: Vec<_> = own.into_iter().map(|desk| work(0, desk)).collect();
            results.extend(threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(malformed("panic in the loop")))
            }));
            self.adapter.unsynced.end();
            results.push(timer.join().map_err(|_| malformed("panic in the sync timer")));
            results.into_iter().collect()
        })
    }

    /// Keeps the journal short.
    fn tidy(&self, go_on: &dyn Fn() -> bool) {
        let tree = &self.adapter.tree;
        if !crash::hurries() && !tree.checkpoint_is_due() {
            return;
        }
        let go_on = || {
            crash::pass(Point::Checkpoint, &[]);
            go_on()
        };
        // A bug there must not end the timer, which syncs.
        let made = catch_unwind(AssertUnwindSafe(|| tree.checkpoint(&go_on)));
        if let Err(error) = made.unwrap_or(Err(Error(Errno::EIO))) {
            tracing::warn!(%error, "the journal cannot be made shorter; trying again later");
        }
    }

    /// Serves one descriptor until the connection ends.
    fn work(&self, mut desk: Desk) -> io::Result<()> {
        let mut counts = Counts([0; 64]);
        waiting::before(|| drop(KEPT.take()));
        let mut seat = self.seat.lock_arc();
        loop {
            let (len, waited) = match next_message(&mut seat, &desk.device, desk.slot.buffer())? {
                Some(next) => next,
                None => {
                    counts.log();
                    return Ok(());
                }
            };
            let asked = opcode(desk.slot.message(len));
            counts.add(asked);
            if seat.queued(waited) >= QUEUE || may_wait(asked) {
                drop(seat);
            } else {
                KEPT.set(Some(seat));
            }
            self.answer(&mut desk, len, Answering::First);
            seat = KEPT.take().unwrap_or_else(|| self.seat.lock_arc());
        }
    }

    /// Answers the request in the desk's slot.
    fn answer(&self, desk: &mut Desk, len: usize, answering: Answering) {
        let Desk { device, slot, reply } = desk;
        if answering != Answering::Refuse {
            crash::pass(Point::Read, slot.message(len));
        }
        if matches!(opcode(slot.message(len)), opcode::FORGET | opcode::BATCH_FORGET) {
            slot.save_nothing();
        }
        let end = self.adapter.handle(slot.message(len), reply, answering);
        crash::pass(Point::Happened, slot.message(len));
        for notification in reply.notifications() {
            send(device, &notification);
        }
        if end == End::Answered {
            slot.save(reply.message());
            if let Some(ino) = reply.told() {
                // Whoever follows sends the same.
                self.adapter.refused.heard(ino);
            }
            crash::pass(Point::Saved, slot.message(len));
            send(device, reply.message());
            crash::pass(Point::Sent, slot.message(len));
        }
        for notification in reply.afterwards() {
            send(device, &notification);
        }
        slot.clear();
    }

    /// Finishes what a dead server has left.
    fn take_over(&self, desks: &mut [Desk], ledger: &Ledger) {
        ledger.count_successor();
        if desks.iter().any(|desk| desk.slot.left() != Left::Nothing) {
            ledger.count_busy();
        }
        // What it changed last may not be on the disk.
        self.adapter.unsynced.mark();
        for desk in desks {
            let len = desk.slot.length();
            match desk.slot.left() {
                // Clean also if it was left half cleared.
                Left::Nothing => desk.slot.clear(),
                Left::Answer => {
                    ledger.count_found();
                    ledger.count_happened();
                    if !desk.slot.saved().is_empty() {
                        send(&desk.device, desk.slot.saved());
                    }
                    desk.slot.clear();
                }
                Left::Request => {
                    let happened = self.adapter.tree.happened(desk.slot.unique()).is_some();
                    ledger.count_found();
                    if happened {
                        ledger.count_happened();
                    }
                    // What was done already is told as done, whoever died of it.
                    let answering = match desk.slot.is_deadly() && !happened {
                        true => Answering::Refuse,
                        false => Answering::Again,
                    };
                    desk.slot.mark_tried();
                    self.answer(desk, len, answering);
                }
            }
        }
    }
}

/// Polls, then sleeps, until there is a message: its length and how long that took. `None`: the connection has ended.
fn next_message(
    seat: &mut Patience,
    device: &File,
    message: &mut [u8],
) -> io::Result<Option<(usize, Duration)>> {
    match take(device, message)? {
        Taken::Message(len) => return Ok(Some((len, Duration::ZERO))),
        Taken::Ended => return Ok(None),
        Taken::Nothing => {}
    }
    let start = Instant::now();
    let window = seat.window();
    loop {
        if start.elapsed() >= window {
            sleep_until_message(device)?;
        } else {
            // Whoever else wants this core, most of all the program whose request we wait for, goes first.
            thread::yield_now();
        }
        match take(device, message)? {
            Taken::Message(len) => {
                let waited = start.elapsed();
                seat.learn(waited);
                return Ok(Some((len, waited)));
            }
            Taken::Ended => return Ok(None),
            Taken::Nothing => {}
        }
    }
}

/// Requests that may wait for a disk, or move so many bytes that another can be served meanwhile.
fn may_wait(opcode: u32) -> bool {
    matches!(
        opcode,
        opcode::READ | opcode::WRITE | opcode::FSYNC | opcode::FSYNCDIR | opcode::FALLOCATE
    )
}

/// Sends an answer.
fn send(device: &File, answer: &[u8]) {
    match nix::unistd::write(device, answer) {
        // One write is one message: the kernel takes all of it or refuses it.
        Ok(_) => {}
        // The caller was killed or the connection has ended meanwhile: nobody waits.
        Err(Errno::ENOENT | Errno::ENODEV | Errno::ECONNABORTED | Errno::EPERM) => {}
        // The kernel has taken the request off its list before it found fault, so its caller has EIO.
        Err(errno) => tracing::error!(%errno, "a reply was refused"),
    }
}

/// What a message asks for; 0 if it is no message.
fn opcode(message: &[u8]) -> u32 {
    InHeader::read_from_prefix(message).map_or(0, |(header, _)| header.opcode)
}

/// Requests of one thread by opcode, for whoever looks why something is slow (level `debug`).
struct Counts([u64; 64]);

impl Counts {
    fn add(&mut self, opcode: u32) {
        if let Some(count) = self.0.get_mut(opcode as usize) {
            *count += 1;
        }
    }

    fn log(&self) {
        let counts: Vec<_> = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .collect();
        tracing::debug!(?counts, "requests by opcode");
    }
}
