//! A call on the store fails, at any moment and in any way. What was acknowledged stays, what failed did not happen, and
//! the next try succeeds.

use fuse_overlay::error::Error;
use fuse_overlay::union::{Allocate, Limits, OpenError, Rename, SetXattr, Tree};
use nix::errno::Errno;
use proptest::prelude::*;

use super::disk::{Fault, MemoryDisk};
use super::dump::{self, dump};
use super::harness::{Both, Image, STORE_ERRNOS};
use super::ops::{self, File, LayerEntry, Op};

/// All ways to fail.
fn ways() -> Vec<Fault> {
    let hard = STORE_ERRNOS.into_iter();
    let hard = hard.flat_map(|errno| [Fault::Errno(errno), Fault::Torn(errno)]);
    hard.chain([Fault::Errno(Errno::EINTR), Fault::Short]).collect()
}

/// The errno that callers must get; `None` where they must not notice.
fn told(fault: Fault) -> Option<Errno> {
    match fault {
        Fault::Short | Fault::Errno(Errno::EINTR) => None,
        Fault::Errno(errno) | Fault::Torn(errno) => Some(errno),
    }
}

proptest! {
    #![proptest_config(super::config(400))]

    #[test]
    fn a_failed_call_changes_nothing(
        layers in ops::layers(),
        steps in prop::collection::vec(ops::op(), 1..40),
        faults in prop::collection::vec((2..120usize, prop::sample::select(ways())), 1..6),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let disk = MemoryDisk::new();
        let mut both = Both::on(&image, disk.clone());
        disk.plan.lock().faults = faults;
        for step in &steps {
            both.step(step);
            both.compare();
        }
        disk.plan.lock().faults.clear();
        both.step(&Op::Remount);
        both.compare();
    }
}

fn image() -> Image {
    Image::new(&[vec![
        LayerEntry::Dir(vec!["d"]),
        LayerEntry::File(vec!["d", "a"], 9000),
        LayerEntry::File(vec!["b"], 5000),
    ]])
    .unwrap()
}

/// Every kind of operation, over files of the image and others, with and without room set aside.
fn history() -> Vec<Op> {
    use File::{At, Open};
    let write = Op::write;
    let own = || At(vec!["d", "own"]);
    let lower = || At(vec!["d", "a"]);
    vec![
        Op::Create(vec!["d", "own"], 0o4755),
        write(own(), 10, 5000),
        write(own(), 100, 100),
        write(own(), 4000, 9000),
        write(lower(), 5000, 10),
        write(lower(), 12_000, 10),
        Op::Sync,
        Op::Truncate(own(), 100),
        Op::Truncate(own(), 6000),
        Op::Allocate(own(), Allocate::Grow, 3000, 30_000),
        Op::Allocate(own(), Allocate::KeepSize, 40_000, 5000),
        write(own(), 41_000, 10),
        Op::Allocate(own(), Allocate::PunchHole, 100, 9000),
        Op::Allocate(own(), Allocate::ZeroGrow, 50, 60_000),
        Op::Allocate(lower(), Allocate::ZeroKeepSize, 1, 8191),
        Op::Allocate(lower(), Allocate::PunchHole, 0, 5000),
        Op::Mkdir(vec!["new"], 0o755),
        Op::Symlink(vec!["link"], "a"),
        Op::Fifo(vec!["new", "a"]),
        Op::Link(lower(), vec!["new", "b"]),
        Op::SetXattr(own(), "user.x", 200, SetXattr::Any),
        Op::RemoveXattr(own(), "user.x"),
        Op::Chmod(At(vec!["b"]), 0o600),
        Op::Chown(At(vec!["b"]), 1, 2, true),
        Op::Sync,
        // From here on, an inode that is asked for is read first.
        Op::List,
        Op::Remount,
        Op::Rename(vec!["d"], vec!["new", "d"], Rename::Whiteout),
        Op::Rename(vec!["new"], vec!["b"], Rename::Exchange),
        Op::TmpFile(vec!["b"]),
        write(Open(0), 0, 20_000),
        Op::Link(Open(0), vec!["kept"]),
        Op::Close(0),
        Op::Unlink(vec!["b", "d", "a"]),
        Op::Unlink(vec!["b", "b"]),
        Op::Unlink(vec!["kept"]),
        Op::Unlink(vec!["b", "a"]),
        Op::Sync,
        write(At(vec!["b", "d", "own"]), 0, 30_000),
        Op::Sync,
    ]
}

/// Runs the history on a disk whose `n`-th call fails; says how many there were, and how many failed.
fn spoiled(image: &Image, steps: &[Op], fault: Option<(usize, Fault)>) -> (usize, usize) {
    let disk = MemoryDisk::new();
    let mut both = Both::on(image, disk.clone());
    disk.plan.lock().faults.extend(fault);
    let way = fault.map_or(Fault::Short, |(_, way)| way);
    for step in steps {
        both.step_on_failing_disk(step, way);
    }
    both.compare();
    both.step(&Op::Sync);
    let counted = {
        let plan = disk.plan.lock();
        (plan.calls, plan.fired)
    };
    both.step(&Op::Remount);
    both.compare();
    both.step(&Op::Sync);
    counted
}

#[test]
fn each_call_fails_once_in_each_way() {
    let (image, steps) = (image(), history());
    let opened = {
        let disk = MemoryDisk::new();
        drop(Both::on(&image, disk.clone()));
        disk.plan.lock().calls
    };
    let (calls, _) = spoiled(&image, &steps, None);
    assert!(calls - opened > 70, "{calls}");
    for n in opened..calls {
        let fired: usize = ways()
            .into_iter()
            .map(|way| spoiled(&image, &steps, Some((n, way))).1)
            .sum();
        // A write in place is recorded only if the clock has moved on, so the last calls may not come.
        assert!(fired > 0 || n + 10 > calls, "no call {n} of {calls}");
    }
}

/// A layer with all of the history in it, closed without a sync, and half a record at its end.
fn torn_layer(image: &Image) -> (MemoryDisk, dump::Dump) {
    let disk = MemoryDisk::new();
    let mut both = Both::on(image, disk.clone());
    history().iter().for_each(|step| both.step(step));
    both.step(&Op::Create(vec!["last"], 0o600));
    let seen = dump(both.tree());
    let end = super::crash::journal_end(&disk);
    disk.journal.bytes.lock().cache[end..end + 50].fill(9);
    (disk, seen)
}

#[test]
fn a_layer_that_cannot_be_opened_now_can_be_opened_later() {
    let image = image();
    let open = |disk: &MemoryDisk| Tree::open_on(image.lower(), disk.storage(), Limits::default());
    let (torn, seen) = torn_layer(&image);
    let empty = MemoryDisk::new();
    let nothing = dump(&open(&empty.copy()).unwrap());
    for (whole, seen) in [(torn, seen), (empty, nothing)] {
        let calls = {
            let disk = whole.copy();
            disk.plan.lock().looks = true;
            drop(open(&disk).unwrap());
            disk.plan.lock().calls
        };
        assert!(calls > 3, "{calls}");
        for (n, way) in (0..calls).flat_map(|n| ways().into_iter().map(move |way| (n, way))) {
            let disk = whole.copy();
            disk.plan.lock().looks = true;
            disk.plan.lock().faults = vec![(n, way)];
            match (open(&disk), told(way)) {
                (Ok(tree), _) => assert!(dump(&tree) == seen, "call {n}, {way:?}"),
                (Err(OpenError::Io { source, .. }), Some(errno)) => {
                    assert_eq!(source.raw_os_error(), Some(errno as i32));
                }
                (Err(error), _) => panic!("call {n}, {way:?}: {error}"),
            }
            disk.plan.lock().looks = false;
            assert!(dump(&open(&disk).unwrap()) == seen, "call {n}, {way:?}");
        }
    }
}

#[test]
fn a_read_that_fails_says_why_and_the_next_succeeds() {
    let image = image();
    let disk = MemoryDisk::new();
    let mut both = Both::on(&image, disk.clone());
    history().iter().for_each(|step| both.step(step));
    let ino = both
        .tree()
        .lookup(fuse_overlay::attr::Ino::ROOT, super::harness::name("b"))
        .unwrap()
        .ino;
    let ino = both.tree().lookup(ino, super::harness::name("d")).unwrap().ino;
    let file = both.tree().lookup(ino, super::harness::name("own")).unwrap();
    let whole = dump::content(both.tree(), &file);
    let read = |fault: Option<(usize, Fault)>| {
        let mut plan = disk.plan.lock();
        (plan.calls, plan.looks, plan.faults) = (0, true, fault.into_iter().collect());
        drop(plan);
        let mut out = vec![7; whole.len()];
        let n = both.tree().read(file.ino, 0, &mut out);
        n.map(|n| assert!(n == whole.len() && out == whole, "{fault:?}"))
    };
    read(None).unwrap();
    let calls = disk.plan.lock().calls;
    assert!(calls > 1, "{calls}");
    for (n, way) in (0..calls).flat_map(|n| ways().into_iter().map(move |way| (n, way))) {
        // Torn is a way of writes.
        assert_eq!(read(Some((n, way))).err(), told(way).map(Error), "{way:?}");
        read(None).unwrap();
    }
}
