//! The journal after checkpoints: as short as what it has to say, and as true, wherever one was cut short.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fuse_overlay::attr::Ino;
use fuse_overlay::disk::Disk;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Limits, OpenError, Rename, SetGroupId, SetXattr, Storage, Tree};
use proptest::prelude::*;

use super::disk::{MemoryDisk, MemoryFile};
use super::dump::{Dump, dump, without_content};
use super::harness::{Both, Image, list, name};
use super::ops::{self, CALLER, LayerEntry, Op};

const REGULAR: u32 = 0o100_644;

fn open(image: &Image, disk: &MemoryDisk) -> Result<Tree, OpenError> {
    Tree::open_on(image.lower(), disk.storage(), Limits::default())
}

fn seen(image: &Image, disk: &MemoryDisk) -> Result<Dump, TestCaseError> {
    let tree = open(image, disk).map_err(|error| TestCaseError::fail(error.to_string()))?;
    Ok(dump(&tree))
}

/// Is it one of these, but for contents that are not the same in all of them?
fn is_among(dump: &Dump, all: &[(usize, Dump)]) -> bool {
    let settled = |path: &String| {
        let mut contents = all
            .iter()
            .map(|(_, dump)| dump.get(path).map(|seen| &seen.content));
        let first = contents.next().unwrap();
        contents
            .all(|content| content == first)
            .then_some(first)
            .flatten()
    };
    let same = |(_, other): &(usize, Dump)| without_content(other) == without_content(dump);
    let whole = |(path, seen): (&String, &super::dump::Seen)| {
        settled(path).is_none_or(|content| *content == seen.content)
    };
    all.iter().any(same) && dump.iter().all(whole)
}

proptest! {
    #![proptest_config(super::config(48))]

    /// Before each call of the disk, from the beginning of a checkpoint to its end, the server is killed, and the power lost.
    #[test]
    fn a_checkpoint_cut_anywhere_loses_nothing(
        layers in ops::layers(),
        before in prop::collection::vec(ops::op(), 1..30),
        meanwhile in prop::collection::vec(ops::simple(), 0..15),
        written in prop::collection::vec(any::<bool>(), 61),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let disk = MemoryDisk::new();
        let mut both = Both::on(&image, disk.clone());
        both.step(&Op::Checkpoint(Vec::new()));
        before.iter().for_each(|op| both.step(op));
        // So that there are pages to be given back.
        for perm in 0o700..0o770 {
            both.step(&Op::Chmod(ops::File::At(vec![]), perm));
        }
        both.step(&Op::Sync);
        both.keep_history();
        both.step(&Op::Checkpoint(meanwhile));
        both.step(&Op::Sync);
        let history = both.history.take().unwrap();
        let moments = disk.plan.lock().moments.take().unwrap();
        let mut choices = written.iter().copied().cycle();
        for (call, moment) in moments.into_iter().enumerate() {
            // The operation that made the call may have happened, and may not.
            let last = history.iter().rposition(|(calls, _)| *calls <= call).unwrap();
            let possible = &history[last..history.len().min(last + 2)];
            let killed = MemoryDisk::at(moment.clone());
            prop_assert!(is_among(&seen(&image, &killed)?, possible), "killed before call {call}");
            let lost = MemoryDisk::at(moment).after_power_loss(|| choices.next().unwrap());
            let after = seen(&image, &lost)?;
            prop_assert!(is_among(&after, &history), "power lost before call {call}");
            // What is there can be used, and have its checkpoint, too.
            let tree = open(&image, &lost).unwrap();
            tree.checkpoint(&|| true).unwrap();
            drop(tree);
            prop_assert_eq!(&seen(&image, &lost.after_power_loss(|| false))?, &after);
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_nobodys(
        before in prop::collection::vec(ops::simple(), 1..20),
        after in prop::collection::vec(ops::simple(), 1..5),
        places in prop::collection::vec(any::<prop::sample::Index>(), 6),
        bit in 0..8u8,
    ) {
        let image = Image::new(&[]).unwrap();
        let disk = MemoryDisk::new();
        let mut both = Both::on(&image, disk.clone());
        before.iter().for_each(|op| both.step(op));
        both.step(&Op::Checkpoint(Vec::new()));
        let checkpoint = dump(both.tree());
        both.keep_history();
        after.iter().for_each(|op| both.step(op));
        let history = both.history.take().unwrap();
        let [journal, data] = [&disk.journal, &disk.data].map(|file| file.bytes.lock().cache.clone());
        let used: Vec<usize> = (0..journal.len()).filter(|at| journal[*at] != 0).collect();
        for place in places {
            let mut journal = journal.clone();
            journal[*place.get(&used)] ^= 1 << bit;
            match open(&image, &MemoryDisk::holding(journal, data.clone())) {
                // The first start has gone with what it named: without the second there is nothing.
                Err(OpenError::Damaged { .. } | OpenError::Version { .. }) => {}
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
                Ok(tree) => {
                    let seen = dump(&tree);
                    prop_assert!(is_among(&seen, &history) || seen == checkpoint);
                }
            }
        }
    }
}

/// Enough names and runs that each takes several records, and changes between these: to what was said, and to what was not.
#[test]
fn what_changes_between_two_parts_is_not_lost() {
    let entries = (0..1300).map(|i| LayerEntry::File(vec!["d", leaked(format!("low{i:04}"))], 1));
    let image = Image::new(&[entries.collect()]).unwrap();
    let disk = MemoryDisk::new();
    let tree = open(&image, &disk).unwrap();
    let dir = tree.lookup(Ino::ROOT, name("d")).unwrap().ino;
    let new = tree.mkdir(&CALLER, Ino::ROOT, name("new"), 0o755).unwrap().ino;
    let file = tree
        .mknod(&CALLER, Ino::ROOT, name("file"), REGULAR, 0)
        .unwrap()
        .ino;
    for i in 0..1300 {
        let made = tree
            .mknod(&CALLER, new, name(&format!("up{i:04}")), REGULAR, 0)
            .unwrap();
        tree.forget(made.ino, 1);
        tree.write(&CALLER, file, i * 3 * 4096, &[1; 10], false).unwrap();
        let low = format!("low{i:04}");
        match i % 3 {
            0 => drop(tree.unlink(&CALLER, dir, name(&low)).unwrap()),
            1 => drop(
                tree.rename(
                    &CALLER,
                    (dir, name(&low)),
                    (dir, name(&format!("moved{i:04}"))),
                    Rename::Whiteout,
                )
                .unwrap(),
            ),
            _ => {}
        }
    }
    let step = Cell::new(0);
    // Which are there is up to chance; what is left counts. First names come and go, then they only trade places: new ones
    // would hide what a mistake left at the places after the last.
    let change = |i: usize| {
        let any = |factor: usize| i * factor % 1301;
        let up = |factor| format!("up{:04}", any(factor));
        let low = |factor| format!("low{:04}", any(factor));
        for (dir, from, to) in [
            (new, up(7919), up(6007)),
            (new, up(523), format!("again{i}")),
            (new, format!("again{}", any(31)), up(997)),
            (dir, low(7919), low(6007)),
            (dir, low(997), format!("again{i}")),
            (dir, format!("again{}", any(31)), low(523)),
        ] {
            let how = if i < 100 {
                Rename::Replace
            } else {
                Rename::Exchange
            };
            let _any = tree.rename(&CALLER, (dir, name(&from)), (dir, name(&to)), how);
        }
        for (factor, length) in [(7919, 9000), (997, 4096)] {
            let offset = any(factor) as u64 * 3 * 4096 + 4096;
            tree.write(&CALLER, file, offset, &[2; 9000][..length], false)
                .unwrap();
        }
    };
    let go_on = || {
        let i = step.replace(step.get() + 1);
        (0..8).for_each(|n| change(8 * i + n));
        true
    };
    tree.checkpoint(&go_on).unwrap();
    assert!(step.get() > 2000, "{} parts", step.get());
    let before = (dump(&tree), places(&tree, dir), places(&tree, new));
    assert!(before.1.len() > 600 && before.2.len() > 600);
    drop(tree);
    let tree = open(&image, &disk).unwrap();
    assert!(before == (dump(&tree), places(&tree, dir), places(&tree, new)));
    // New names go on behind the last.
    tree.mknod(&CALLER, new, name("last"), REGULAR, 0).unwrap();
    assert_eq!(places(&tree, new).last().unwrap().1, b"last");
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Cookies and names.
fn places(tree: &Tree, dir: Ino) -> Vec<(u64, Vec<u8>)> {
    let mut places = Vec::new();
    tree.readdir(dir, 0, &mut |listed| {
        places.push((listed.cookie, listed.name.to_vec()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    places
}

#[test]
fn inode_numbers_are_not_given_twice() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk::new();
    let tree = open(&image, &disk).unwrap();
    let made = |tree: &Tree, text: &str| {
        tree.mknod(&CALLER, Ino::ROOT, name(text), REGULAR, 0)
            .unwrap()
            .ino
    };
    let last = made(&tree, "a");
    tree.unlink(&CALLER, Ino::ROOT, name("a")).unwrap();
    tree.forget(last, 1);
    tree.checkpoint(&|| true).unwrap();
    drop(tree);
    assert!(made(&open(&image, &disk).unwrap(), "b") > last);
}

#[test]
fn a_journal_of_version_1_becomes_one_of_version_2_with_its_first_checkpoint() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk::new();
    let mut both = Both::on(&image, disk.clone());
    both.step(&Op::Create(vec!["a"], 0o644));
    let before = dump(both.tree());
    drop(both);
    let version = |disk: &MemoryDisk| disk.journal.bytes.lock().cache[8];
    {
        let mut bytes = disk.journal.bytes.lock();
        bytes.cache[8] = 1;
        let sum = crc32c::crc32c(&bytes.cache[..56]);
        bytes.cache[56..60].copy_from_slice(&sum.to_le_bytes());
    }
    let tree = open(&image, &disk).unwrap();
    assert_eq!((version(&disk), dump(&tree)), (1, before.clone()));
    tree.checkpoint(&|| false).unwrap();
    drop(tree);
    assert_eq!(version(&disk), 2);
    let tree = open(&image, &disk).unwrap();
    tree.checkpoint(&|| true).unwrap();
    drop(tree);
    assert_eq!(dump(&open(&image, &disk).unwrap()), before);
}

/// Bytes that the journal and the data take on the disk.
fn on_disk(dir: &std::path::Path) -> [u64; 2] {
    ["journal", "data"].map(|file| std::fs::metadata(dir.join(file)).unwrap().blocks() * 512)
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let image = Image::new(&[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(image.lower(), dir.path(), Limits::default()).unwrap();
    let kept = tree
        .mknod(&CALLER, Ino::ROOT, name("kept"), REGULAR, 0)
        .unwrap()
        .ino;
    tree.write(&CALLER, kept, 0, &[7; 50_000], false).unwrap();
    let (mut checkpoints, mut most, mut written) = (0, 0, 0);
    for round in 0..100 {
        for i in 0..500 {
            let text = format!("file{i}");
            let ino = tree
                .mknod(&CALLER, Ino::ROOT, name(&text), REGULAR, 0)
                .unwrap()
                .ino;
            tree.write(&CALLER, ino, 0, &[round; 6000], false).unwrap();
            tree.write(&CALLER, kept, i % 7 * 3000, &[round; 3000], false)
                .unwrap();
            tree.unlink(&CALLER, Ino::ROOT, name(&text)).unwrap();
            tree.forget(ino, 1);
        }
        // As the timer does.
        drop(tree.sync().unwrap());
        let before = on_disk(dir.path())[0];
        if tree.checkpoint_is_due() {
            tree.checkpoint(&|| true).unwrap();
            checkpoints += 1;
            written += before;
        }
        most = most.max(before);
    }
    let [journal, data] = on_disk(dir.path());
    assert!(
        checkpoints >= 2 && written > 8 << 20,
        "{checkpoints} checkpoints, {written} bytes"
    );
    assert!(most < 7 << 20, "the journal took {most} bytes");
    assert!(
        journal < 7 << 20 && data < 1 << 20,
        "journal {journal}, data {data}"
    );
    let before = dump(&tree);
    drop(tree);
    let tree = Tree::open(image.lower(), dir.path(), Limits::default()).unwrap();
    assert!(before == dump(&tree));
}

/// Someone else's look at a journal, during which a checkpoint is made: at the n-th read.
#[derive(Debug)]
struct Look {
    file: MemoryFile,
    reads: AtomicUsize,
    at: usize,
    tree: Arc<Tree>,
}

impl Disk for Look {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.reads.fetch_add(1, Ordering::Relaxed) == self.at {
            self.tree.checkpoint(&|| true).unwrap();
        }
        self.file.read_at(out, offset)
    }

    fn write_at(&self, bytes: &[u8], _offset: u64) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _length: u64) {}

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn allocate(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn punch(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn shorten(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<[u64; 3]> {
        Ok([0; 3])
    }
}

#[test]
fn who_looks_during_a_checkpoint_sees_all_or_looks_again() {
    let image = Image::new(&[]).unwrap();
    let (mut whole, mut again) = (0, 0);
    for at in 0..20 {
        let disk = MemoryDisk::new();
        let tree = Arc::new(open(&image, &disk).unwrap());
        // A journal of several windows, before and behind a checkpoint, after which nothing is said by a new one alone.
        for i in 0..24 {
            let ino = tree
                .mknod(&CALLER, Ino::ROOT, name(&format!("file{i}")), REGULAR, 0)
                .unwrap()
                .ino;
            tree.setxattr(
                &CALLER,
                ino,
                b"user.x",
                &[i; 60_000],
                SetXattr::Any,
                SetGroupId::Keep,
            )
            .unwrap();
            if i == 12 {
                tree.checkpoint(&|| true).unwrap();
            }
        }
        let look = Look {
            file: disk.journal.clone(),
            reads: AtomicUsize::new(0),
            at,
            tree: Arc::clone(&tree),
        };
        let storage = Storage {
            journal: Box::new(look),
            ..disk.storage()
        };
        match Tree::open_on(image.lower(), storage, Limits::default()) {
            Ok(seen) => {
                assert!(dump(&seen) == dump(&tree), "a checkpoint at read {at}");
                whole += 1;
            }
            Err(OpenError::Damaged { .. }) => again += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(whole > 2 && again > 5, "{whole} {again}");
}

#[test]
fn who_looks_while_checkpoints_are_made_sees_all() {
    let image = Image::new(&[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(image.lower(), dir.path(), Limits::default()).unwrap();
    let names: Vec<String> = (0..50).map(|i| format!("name{i}")).collect();
    for text in &names {
        tree.mknod(&CALLER, Ino::ROOT, name(text), REGULAR, 0).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for text in &names {
                    let all: (&Name, &Name) = (name(text), name("other"));
                    for (from, to) in [all, (all.1, all.0)] {
                        tree.rename(&CALLER, (Ino::ROOT, from), (Ino::ROOT, to), Rename::Replace)
                            .unwrap();
                    }
                }
                tree.checkpoint(&|| true).unwrap();
            }
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..100 {
                let seen = Tree::snapshot(dir.path(), || Ok::<_, OpenError>(image.lower())).unwrap();
                assert_eq!(list(&seen, Ino::ROOT).len(), 2 + names.len());
            }
        }));
        // Also when that failed: the other would go on for ever.
        done.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A directory with more names, and a file with more runs, than one record says.
fn much(tree: &Tree) {
    let dir = tree.mkdir(&CALLER, Ino::ROOT, name("dir"), 0o755).unwrap().ino;
    let file = tree.mknod(&CALLER, dir, name("file"), REGULAR, 0).unwrap().ino;
    for i in 0..1300 {
        let made = tree
            .mknod(&CALLER, dir, name(&format!("{i}")), REGULAR, 0)
            .unwrap();
        tree.forget(made.ino, 1);
        tree.write(&CALLER, file, i * 2 * 4096, &[1; 10], false).unwrap();
    }
    let _durable = tree.sync().unwrap();
}

#[test]
fn a_checkpoint_that_ends_between_two_parts_says_nothing() {
    let image = Image::new(&[]).unwrap();
    for parts in 0..12u32 {
        let disk = MemoryDisk::new();
        let tree = open(&image, &disk).unwrap();
        much(&tree);
        let before = dump(&tree);
        let left = Cell::new(parts);
        let go_on = || {
            // Who looks meanwhile sees the whole, too.
            let [journal, data] = [&disk.journal, &disk.data].map(|file| file.bytes.lock().cache.clone());
            assert!(
                seen(&image, &MemoryDisk::holding(journal, data)).unwrap() == before,
                "meanwhile"
            );
            let _durable = tree.sync().unwrap();
            left.replace(left.get().saturating_sub(1)) > 0
        };
        tree.checkpoint(&go_on).unwrap();
        drop(tree);
        assert!(
            seen(&image, &disk).unwrap() == before,
            "ended after {parts} parts"
        );
        let lost = disk.after_power_loss(|| false);
        assert!(
            seen(&image, &lost).unwrap() == before,
            "power lost after {parts} parts"
        );
        // What is there can have its checkpoint, and is the same after that.
        open(&image, &disk).unwrap().checkpoint(&|| true).unwrap();
        assert!(
            seen(&image, &disk).unwrap() == before,
            "{parts} parts, then a checkpoint"
        );
    }
}

/// A hole that grows to the left over the place where the next part begins is still a hole.
#[test]
fn a_hole_that_joins_another_over_the_border_of_two_parts_is_not_lost() {
    let image = Image::new(&[vec![LayerEntry::File(vec!["file"], 5_000_000)]]).unwrap();
    let disk = MemoryDisk::new();
    let tree = open(&image, &disk).unwrap();
    let file = tree.lookup(Ino::ROOT, name("file")).unwrap().ino;
    let size = tree.getattr(file).unwrap().size;
    let pages = size / 4096;
    assert!(pages > 1200, "{size} bytes");
    let punch = |page: u64, tree: &Tree| {
        let how = fuse_overlay::union::Allocate::PunchHole;
        tree.fallocate(&CALLER, file, how, page * 4096, 4096).unwrap();
    };
    (0..pages / 2).for_each(|i| punch(i * 2 + 1, &tree));
    // Whichever page the second part begins with, the one before it becomes a hole, too.
    let step = Cell::new(0);
    let go_on = || {
        if step.replace(step.get() + 1) == 1 {
            (0..pages / 2).for_each(|i| punch(i * 2, &tree));
        }
        true
    };
    tree.checkpoint(&go_on).unwrap();
    assert!(step.get() > 1, "the file took one part");
    let before = dump(&tree);
    drop(tree);
    assert!(seen(&image, &disk).unwrap() == before);
}
