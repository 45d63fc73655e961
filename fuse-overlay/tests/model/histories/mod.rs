//! Four threads at once: some order of their operations, one after the other, must explain every answer and the tree that
//! is left (linearizability). Histories go in rounds, short enough to look for that order (`explain`); between them
//! nothing runs, and the whole tree is read.
//!
//! Operations are those of the filesystem, on inodes and names: a path that is walked while others rename has no one
//! moment, in no filesystem.

mod explain;
mod mounted;
mod unmounted;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fuse_overlay::union::{Rename, SetXattr};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::ops::LayerEntry;
use super::reference::{Body, Id, Reference};
use explain::{Answer, Event, Unexplained};

const THREADS: usize = 4;

/// One operation. Directories and files are places in the lists of those that are there when a round begins; once the
/// round is made ready, the ids themselves.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Create(Id, &'static str),
    Mkdir(Id, &'static str),
    Unlink(Id, &'static str),
    Rmdir(Id, &'static str),
    Rename(Id, &'static str, Id, &'static str, Rename),
    Link(Id, Id, &'static str),
    Lookup(Id, &'static str),
    List(Id),
    Attributes(Id),
    Read(Id, usize, usize),
    Write(Id, usize, usize, u8),
    Truncate(Id, usize),
    Chmod(Id, u16),
    SetXattr(Id, u8, SetXattr),
    RemoveXattr(Id),
}

/// The one extended attribute of all histories.
pub const XATTR: &str = "user.x";

/// What each thread does, in its order.
pub type Round = Vec<Vec<Op>>;

/// A filesystem that four threads use.
trait Filesystem: Sync {
    /// Everything below the root, and the inodes that are held, which may have no name any more. Nothing else runs.
    fn observe(&self) -> Reference;
    /// Holds every inode of `tree`, so that operations can name it whatever becomes of its names; those held before
    /// are let go.
    fn hold(&mut self, tree: &Reference);
    /// Carries out one operation.
    fn apply(&self, op: &Op) -> Answer;
}

/// How an operation of a mounted tree differs: what the kernel does in several steps is left out.
#[derive(Clone, Copy, PartialEq)]
enum Through {
    Calls,
    Mount,
}

fn rounds(through: Through, most: usize) -> impl Strategy<Value = Vec<Round>> {
    let thread = |number| prop::collection::vec(op(number, through), 0..5);
    let threads: Vec<_> = (0..THREADS).map(thread).collect();
    prop::collection::vec(threads, 1..most)
}

fn op(thread: usize, through: Through) -> impl Strategy<Value = Op> {
    let own = ["0", "1", "2", "3"][thread];
    let name = move || prop_oneof![2 => Just(own), 3 => prop::sample::select(vec!["a", "b"])];
    let dir = || prop_oneof![2 => Just(0usize), 3 => 0..6usize];
    let file = || 0..4usize;
    let bytes = || prop::sample::select(vec![1usize, 100, 4000, 4096, 5000, 9000]);
    let how = prop::sample::select(vec![Rename::Replace, Rename::NoReplace, Rename::Exchange]);
    let set = prop::sample::select(vec![SetXattr::Any, SetXattr::Create, SetXattr::Replace]);
    let perm = prop::sample::select(vec![0o644u16, 0o755, 0o600]);
    let changes = prop_oneof![
        4 => (dir(), name()).prop_map(|(dir, name)| Op::Create(dir, name)),
        3 => (dir(), name()).prop_map(move |(dir, name)| match through {
            Through::Calls => Op::Mkdir(dir, name),
            // Its inode is asked for by name afterwards, and no other thread uses this name.
            Through::Mount => Op::Mkdir(dir, own),
        }),
        3 => (dir(), name()).prop_map(|(dir, name)| Op::Unlink(dir, name)),
        2 => (dir(), name()).prop_map(|(dir, name)| Op::Rmdir(dir, name)),
        6 => (dir(), name(), dir(), name(), how).prop_map(|(a, b, c, d, how)| Op::Rename(a, b, c, d, how)),
        3 => (file(), bytes(), bytes(), 1..255u8).prop_map(|(file, at, n, byte)| Op::Write(file, at, n, byte)),
        1 => (file(), bytes()).prop_map(|(file, size)| Op::Truncate(file, size)),
        1 => (file(), perm).prop_map(|(file, perm)| Op::Chmod(file, perm)),
        2 => (file(), 1..255u8, set).prop_map(|(file, byte, how)| Op::SetXattr(file, byte, how)),
        1 => file().prop_map(Op::RemoveXattr),
        3 => (dir(), name()).prop_map(|(dir, name)| Op::Lookup(dir, name)),
    ];
    let whole = prop_oneof![
        3 => (file(), dir(), name()).prop_map(|(file, dir, name)| Op::Link(file, dir, name)),
        2 => dir().prop_map(Op::List),
        1 => dir().prop_map(Op::Attributes),
        2 => (file(), bytes(), bytes()).prop_map(|(file, at, n)| Op::Read(file, at, n)),
    ];
    match through {
        Through::Calls => prop_oneof![3 => changes, 1 => whole].boxed(),
        Through::Mount => changes.boxed(),
    }
}

/// What lies below when a history begins.
fn tree_below(at: &'static str) -> Vec<LayerEntry> {
    let path = |names: &[&'static str]| {
        [at].iter()
            .chain(names)
            .filter(|n| !n.is_empty())
            .copied()
            .collect()
    };
    vec![
        LayerEntry::Dir(path(&["a"])),
        LayerEntry::File(path(&["a", "a"]), 9000),
        LayerEntry::Dir(path(&["a", "b"])),
        LayerEntry::File(path(&["b"]), 5000),
        LayerEntry::HardLink(path(&["1"]), path(&["b"])),
    ]
}

/// Puts the inodes of `tree` in the place of numbers; `None` if there is none of the kind.
fn ready(op: &Op, tree: &Reference) -> Option<Op> {
    let (dirs, files): (Vec<Id>, Vec<Id>) = tree
        .nodes
        .keys()
        .partition(|id| matches!(tree.nodes[*id].body, Body::Dir { .. }));
    let dir = |number: Id| dirs[number % dirs.len()];
    let file = |number: Id| files.get(number.checked_rem(files.len())?).copied();
    Some(match *op {
        Op::Create(d, name) => Op::Create(dir(d), name),
        Op::Mkdir(d, name) => Op::Mkdir(dir(d), name),
        Op::Unlink(d, name) => Op::Unlink(dir(d), name),
        Op::Rmdir(d, name) => Op::Rmdir(dir(d), name),
        Op::Rename(a, from, b, to, how) => Op::Rename(dir(a), from, dir(b), to, how),
        Op::Link(f, d, name) => Op::Link(file(f)?, dir(d), name),
        Op::Lookup(d, name) => Op::Lookup(dir(d), name),
        Op::List(d) => Op::List(dir(d)),
        Op::Attributes(d) => Op::Attributes(dir(d)),
        Op::Read(f, at, n) => Op::Read(file(f)?, at, n),
        Op::Write(f, at, n, byte) => Op::Write(file(f)?, at, n, byte),
        Op::Truncate(f, size) => Op::Truncate(file(f)?, size),
        Op::Chmod(f, perm) => Op::Chmod(file(f)?, perm),
        Op::SetXattr(f, byte, how) => Op::SetXattr(file(f)?, byte, how),
        Op::RemoveXattr(f) => Op::RemoveXattr(file(f)?),
    })
}

/// Runs a history; gives how many operations began while another thread's was under way.
fn run(filesystem: &mut impl Filesystem, history: &[Round]) -> Result<usize, Unexplained> {
    let mut overlapping = 0;
    for round in history {
        let before = filesystem.observe().reachable(&[]);
        filesystem.hold(&before);
        let ready = |ops: &Vec<Op>| ops.iter().filter_map(|op| ready(op, &before)).collect();
        let round: Round = round.iter().map(ready).collect();
        let threads = together(filesystem, &round);
        overlapping += overlaps(&threads);
        let after = filesystem.observe();
        explain::explain(&before, &threads, &after)?;
    }
    filesystem.hold(&Reference::default());
    Ok(overlapping)
}

/// Lets all threads go at once.
fn together(filesystem: &impl Filesystem, round: &Round) -> Vec<Vec<Event>> {
    let (barrier, clock) = (Barrier::new(THREADS), AtomicU64::new(0));
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let one = |op: &Op| {
        let begin = tick();
        let answer = filesystem.apply(op);
        let end = tick();
        Event {
            op: op.clone(),
            begin,
            end,
            answer,
        }
    };
    let thread = |ops: &Vec<Op>| {
        barrier.wait();
        ops.iter().map(one).collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = round.iter().map(|ops| scope.spawn(|| thread(ops))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn overlaps(threads: &[Vec<Event>]) -> usize {
    let all: Vec<_> = threads.iter().flatten().collect();
    let within = |event: &&&Event| {
        all.iter()
            .any(|other| other.begin < event.begin && event.begin < other.end)
    };
    all.iter().filter(within).count()
}

/// Once a history has failed, smaller ones are run many times: by chance they would often pass, and shrink to nothing.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Runs a history on fresh filesystems, once, or often.
fn check(mut once: impl FnMut() -> Result<(), Unexplained>) -> Result<(), TestCaseError> {
    let times = if FAILED.load(Ordering::Relaxed) { 60 } else { 1 };
    for _ in 0..times {
        once().map_err(|unexplained| {
            FAILED.store(true, Ordering::Relaxed);
            TestCaseError::fail(unexplained.to_string())
        })?;
    }
    Ok(())
}
