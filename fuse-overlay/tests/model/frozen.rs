//! Who looks at a layer and wants it as it is ([`Tree::frozen`]) sees that, whatever happens to it meanwhile; and who writes to it
//! meanwhile notices nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fuse_overlay::attr::Ino;
use fuse_overlay::disk::Disk;
use fuse_overlay::union::{Allocate, Limits, OpenError, Storage, Tree};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::disk::MemoryDisk;
use super::dump::dump;
use super::harness::{Both, Image, name};
use super::ops::{self, CALLER, Op};

proptest! {
    #![proptest_config(super::config(150))]

    #[test]
    fn a_tree_that_is_looked_at_stays_as_it_is(
        layers in ops::layers(),
        before in prop::collection::vec(ops::op(), 1..40),
        during in prop::collection::vec(ops::op(), 1..60),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let mut both = Both::new(&image);
        for step in &before {
            both.step(step);
        }
        let seen = Tree::frozen(both.directory(), || Ok::<_, OpenError>(image.lower())).unwrap();
        let first = dump(&seen);
        prop_assert!(first == dump(both.tree()));
        for step in &during {
            both.step(step);
            both.compare();
        }
        both.step(&Op::Sync);
        prop_assert!(dump(&seen) == first);
        drop(seen);
        for step in &before {
            both.step(step);
            both.compare();
        }
    }
}

/// Two may look at once; what the file had before is free when both have gone.
#[test]
fn space_comes_back_when_nobody_looks_any_more() {
    let image = Image::new(&[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(image.lower(), dir.path(), Limits::default()).unwrap();
    let caller = super::ops::CALLER;
    let ino = tree
        .mknod(&caller, Ino::ROOT, name("file"), 0o100_644, 0)
        .unwrap()
        .ino;
    let write = |byte: u8| tree.write(&caller, ino, 0, &vec![byte; 1 << 20], false).unwrap();
    let on_disk = || {
        let _durable = tree.sync().unwrap();
        let meta = std::fs::metadata(dir.path().join("data")).unwrap();
        std::os::unix::fs::MetadataExt::blocks(&meta) * 512
    };
    let look = || Tree::frozen(dir.path(), || Ok::<_, OpenError>(image.lower())).unwrap();
    let has = |seen: &Tree, byte: u8| {
        let mut out = vec![0; 1 << 20];
        seen.read(ino, 0, &mut out).unwrap();
        assert!(out.iter().all(|found| *found == byte), "not {byte}");
    };
    write(1);
    let alone = on_disk();
    let one = look();
    write(2);
    let two = look();
    write(3);
    assert!(on_disk() >= 3 << 20);
    has(&one, 1);
    has(&two, 2);
    has(&tree, 3);
    drop(one);
    write(4);
    has(&two, 2);
    has(&tree, 4);
    drop(two);
    assert_eq!(on_disk(), alone);
    write(5);
    assert_eq!(on_disk(), alone);
    has(&tree, 5);
}

/// A file that is rewritten needs no room; while somebody looks it does, and waits for them where there is none.
#[test]
fn what_finds_no_room_while_somebody_looks_waits_for_them() {
    let image = Image::new(&[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: Some(1 << 20),
        ..Limits::default()
    };
    let tree = Tree::open(image.lower(), dir.path(), limits).unwrap();
    let ino = tree.mknod(&CALLER, Ino::ROOT, name("file"), 0o100_644, 0);
    let ino = ino.unwrap().ino;
    tree.write(&CALLER, ino, 0, &[1; 900_000], false).unwrap();
    let seen = Tree::frozen(dir.path(), || Ok::<_, OpenError>(image.lower())).unwrap();
    std::thread::scope(|scope| {
        let written = scope.spawn(|| tree.write(&CALLER, ino, 0, &[2; 900_000], false));
        let grown = scope.spawn(|| tree.write(&CALLER, ino, 900_000, &[3; 900_000], false));
        // Long enough for a writer that does not wait to have failed; shorter, and this shows nothing.
        std::thread::sleep(Duration::from_millis(300));
        let mut out = vec![0; 900_000];
        seen.read(ino, 0, &mut out).unwrap();
        assert!(out.iter().all(|byte| *byte == 1));
        drop(seen);
        written.join().unwrap().unwrap();
        // What has no room anyway still has none.
        assert!(grown.join().unwrap().is_err());
    });
    let mut out = vec![0; 900_000];
    tree.read(ino, 0, &mut out).unwrap();
    assert!(out.iter().all(|byte| *byte == 2));
}

/// A data file that keeps both files as they are whenever one who waits would be let in.
#[derive(Debug)]
struct Door {
    disk: MemoryDisk,
    /// Before how many times nobody is there.
    free: AtomicUsize,
    seen: Arc<Mutex<Vec<MemoryDisk>>>,
}

impl Disk for Door {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.data.read_at(out, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.data.write_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.data.flush()
    }

    fn start_writeback(&self, _offset: u64, _length: u64) {}

    fn size(&self) -> io::Result<u64> {
        self.disk.data.size()
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.data.allocate(offset, length)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.data.punch(offset, length)
    }

    fn shorten(&self, size: u64) -> io::Result<()> {
        self.disk.data.shorten(size)
    }

    fn space(&self) -> io::Result<[u64; 3]> {
        self.disk.data.space()
    }

    fn keep_out(&self) -> bool {
        let one_less = |free: usize| free.checked_sub(1);
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    fn let_in(&self) {
        self.seen.lock().push(self.disk.copy());
    }
}

/// Whoever comes in between two writes of the same operation, or between these and its record, sees it whole or not at all, and it
/// does what it should.
#[test]
fn who_comes_in_sees_all_of_an_operation_or_nothing() {
    type Work = fn(&Tree, Ino);
    let works: [Work; 4] = [
        |tree, ino| tree.write(&CALLER, ino, 50, &[2; 9000], false).unwrap(),
        |tree, ino| tree.write(&CALLER, ino, 5500, &[2; 100], false).unwrap(),
        |tree, ino| {
            tree.fallocate(&CALLER, ino, Allocate::ZeroGrow, 4100, 1200)
                .unwrap()
        },
        |tree, ino| {
            tree.fallocate(&CALLER, ino, Allocate::PunchHole, 10, 5000)
                .unwrap()
        },
    ];
    let image = Image::new(&[]).unwrap();
    for work in works {
        let mut results = Vec::new();
        for free in 0..6 {
            let disk = MemoryDisk::new();
            let ino = {
                let tree = Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap();
                let ino = tree
                    .mknod(&CALLER, Ino::ROOT, name("file"), 0o100_644, 0)
                    .unwrap()
                    .ino;
                tree.write(&CALLER, ino, 0, &[1; 5000], false).unwrap();
                ino
            };
            let seen = Arc::default();
            let door = Door {
                disk: disk.clone(),
                free: AtomicUsize::new(free),
                seen: Arc::clone(&seen),
            };
            let storage = Storage {
                data: Box::new(door),
                ..disk.storage()
            };
            let content = |tree: &Tree| {
                let mut out = vec![0; tree.getattr(ino).unwrap().size as usize];
                tree.read(ino, 0, &mut out).unwrap();
                out
            };
            let tree = Tree::open_on(image.lower(), storage, Limits::default()).unwrap();
            let before = content(&tree);
            work(&tree, ino);
            let after = content(&tree);
            for moment in std::mem::take(&mut *seen.lock()) {
                let found = Tree::open_on(image.lower(), moment.storage(), Limits::default()).unwrap();
                let found = content(&found);
                assert!(found == before || found == after, "half done, {free} times free");
            }
            results.push(after);
        }
        assert!(results.windows(2).all(|two| two[0] == two[1]));
    }
}
