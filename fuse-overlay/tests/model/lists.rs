//! A layer that was closed with a list of its inodes: opened without reading them, it is the same in all that can be seen,
//! whatever became of the list, and whoever asks first.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fuse_overlay::attr::Ino;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Limits, OpenError, SetAttr, Tree};
use nix::errno::Errno;
use proptest::prelude::*;

use super::disk::{LIST, MemoryDisk};
use super::dump::{Dump, dump};
use super::harness::{Both, Image, name};
use super::ops::{self, CALLER, LayerEntry, Op};

const REGULAR: u32 = 0o100_644;
/// So that what is used shows in what is free.
const LIMITS: Limits = Limits {
    bytes: Some(1 << 30),
    inodes: Some(1 << 20),
};

pub(super) fn open(image: &Image, disk: &MemoryDisk) -> Tree {
    try_open(image, disk).unwrap()
}

fn try_open(image: &Image, disk: &MemoryDisk) -> Result<Tree, OpenError> {
    Tree::open_on(image.lower(), disk.storage(), LIMITS)
}

/// The same files, without what says where the list is.
pub(super) fn without_list(disk: &MemoryDisk) -> MemoryDisk {
    let copy = disk.copy();
    copy.lose_list();
    copy
}

/// Blocks and inodes, all and free.
pub(super) fn space(tree: &Tree) -> ([u64; 3], [u64; 2]) {
    let space = tree.statfs().unwrap();
    (space.blocks, space.inodes)
}

proptest! {
    #![proptest_config(super::config(64))]

    #[test]
    fn who_reads_the_list_sees_what_who_reads_all_sees(
        layers in ops::layers(),
        before in prop::collection::vec(ops::op(), 1..40),
        after in prop::collection::vec(ops::simple(), 0..20),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let disk = MemoryDisk::new();
        let mut both = Both::on(&image, disk.clone());
        before.iter().for_each(|op| both.step(op));
        both.step(&Op::List);
        for killed in [false, true] {
            let (listed, all) = (open(&image, &disk.copy()), open(&image, &without_list(&disk)));
            prop_assert_eq!(space(&listed), space(&all), "killed: {}", killed);
            prop_assert!(dump(&listed) == dump(&all), "killed: {killed}");
            // What each has freed is free in both.
            for tree in [&listed, &all] {
                drop(tree.sync().unwrap());
            }
            prop_assert_eq!(space(&listed), space(&all), "killed: {}", killed);
            both.step(&Op::Remount);
            after.iter().for_each(|op| both.step(op));
            both.compare();
        }
    }

    /// Before each call of the disk, from the beginning of the list's checkpoint to its end, the server is killed, and the power
    /// lost.
    #[test]
    fn a_list_cut_anywhere_loses_nothing(
        layers in ops::layers(),
        before in prop::collection::vec(ops::op(), 1..30),
        written in prop::collection::vec(any::<bool>(), 61),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let disk = MemoryDisk::new();
        let mut both = Both::on(&image, disk.clone());
        before.iter().for_each(|op| both.step(op));
        both.step(&Op::Sync);
        let seen = dump(both.tree());
        both.keep_history();
        both.step(&Op::List);
        let moments = disk.plan.lock().moments.take().unwrap();
        let mut choices = written.iter().copied().cycle();
        for (call, moment) in moments.into_iter().enumerate() {
            let killed = MemoryDisk::at(moment.clone());
            prop_assert!(dump(&open(&image, &killed)) == seen, "killed before call {call}");
            let lost = MemoryDisk::at(moment).after_power_loss(|| choices.next().unwrap());
            let tree = open(&image, &lost);
            prop_assert!(dump(&tree) == seen, "power lost before call {call}");
            // What is there can be used, and have its list, too.
            prop_assert!(tree.list().unwrap());
            drop(tree);
            prop_assert!(dump(&open(&image, &lost.after_power_loss(|| false))) == seen);
        }
    }
}

proptest! {
    #![proptest_config(super::config(200))]

    /// Checksums hold, and the numbers are others: what is there can be looked at and used, and opened again.
    #[test]
    fn whatever_a_list_says_its_layer_can_be_opened(
        steps in prop::collection::vec(ops::simple(), 1..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), number(), any::<bool>()), 1..6),
    ) {
        let image = Image::new(&[vec![LayerEntry::File(vec!["a"], 5000)]]).unwrap();
        let disk = MemoryDisk::new();
        let mut both = Both::on(&image, disk.clone());
        steps.iter().for_each(|op| both.step(op));
        both.step(&Op::List);
        drop(both);
        let journal = disk.journal.bytes.lock().cache.clone();
        let mut lists = records(&journal);
        lists.retain(|record| [PLACES, LIST_END].contains(&record.1));
        for (record, word, value, adds) in changes {
            let (at, _, length) = *record.get(&lists);
            let mut bytes = disk.journal.bytes.lock();
            let record = &mut bytes.cache[at..at + length];
            let word = 32 + word.index((length - 32) / 8) * 8;
            let old = u64::from_le_bytes(record[word..word + 8].try_into().unwrap());
            let new = if adds { old.wrapping_add(value) } else { value };
            record[word..word + 8].copy_from_slice(&new.to_le_bytes());
            let salt = u32::from_le_bytes(journal[52..56].try_into().unwrap());
            let sum = crc32c::crc32c_append(salt, &record[8..]);
            record[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        for _ in 0..3 {
            let tree = open(&image, &disk);
            look(&tree, Ino::ROOT, 4);
            for text in ["a", "b", "c"] {
                if let Ok(made) = tree.mknod(&CALLER, Ino::ROOT, name(text), REGULAR, 0) {
                    let _damaged = tree.write(&CALLER, made.ino, 100, &[3; 9000], false);
                    tree.forget(made.ino, 1);
                }
                let _damaged = tree.unlink(&CALLER, Ino::ROOT, name(text));
            }
            drop(tree.sync().unwrap());
            let _damaged = tree.checkpoint(&|| false);
        }
        let tree = open(&image, &disk);
        let _damaged = tree.list();
        drop(tree);
        open(&image, &disk);
    }
}

/// Looks at all that can be seen, down to a depth; what fails is damaged.
fn look(tree: &Tree, dir: Ino, depth: usize) {
    let mut entries = Vec::new();
    let _damaged = tree.readdir(dir, 0, &mut |listed| {
        entries.push((listed.name.to_vec(), listed.ino));
        std::ops::ControlFlow::Continue(())
    });
    for (entry, ino) in entries.into_iter().skip(2) {
        let found = tree.lookup(dir, Name::new(&entry).unwrap());
        let _damaged = tree.read(ino, 0, &mut [0; 9000]);
        if let Ok(found) = found {
            tree.forget(found.ino, 1);
        }
        if depth > 0 {
            look(tree, ino, depth - 1);
        }
    }
}

/// A number as a list may have it, or as none may.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20u64,
        4000..9000u64,
        any::<u64>(),
        Just(u64::MAX),
        Just(1 << 62)
    ]
}

/// A directory of 1200 files, with bytes in some, in the layer and of the image; and the places of the journal that are no zeros.
fn filled() -> (Image, MemoryDisk) {
    let entries = (0..40).map(|i| LayerEntry::File(vec!["low", leaked(format!("low{i:02}"))], 100));
    let image = Image::new(&[entries.collect()]).unwrap();
    let disk = MemoryDisk::new();
    let tree = open(&image, &disk);
    let dir = tree.mkdir(&CALLER, Ino::ROOT, name("up"), 0o755).unwrap().ino;
    for i in 0..1200 {
        let file = tree
            .mknod(&CALLER, dir, name(&format!("up{i:04}")), REGULAR, 0)
            .unwrap();
        if i % 16 == 0 {
            tree.write(&CALLER, file.ino, 0, &[i as u8; 5000], false).unwrap();
        }
        tree.forget(file.ino, 1);
    }
    let low = tree.lookup(Ino::ROOT, name("low")).unwrap().ino;
    for i in (0..40).step_by(3) {
        let file = tree.lookup(low, name(&format!("low{i:02}"))).unwrap().ino;
        let set = SetAttr {
            perm: Some(0o600),
            ..SetAttr::default()
        };
        tree.setattr(&CALLER, file, &set).unwrap();
        tree.forget(file, 1);
    }
    assert!(tree.list().unwrap());
    (image, disk)
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Offsets, kinds and lengths of the journal's records, from the first that is there.
fn records(journal: &[u8]) -> Vec<(usize, u16, usize)> {
    let word = |at: usize| u64::from_le_bytes(journal[at..at + 8].try_into().unwrap());
    // The newest start's offset.
    let start = [512, 1024].into_iter().max_by_key(|at| word(*at)).unwrap();
    let (mut at, mut found) = (word(start + 8) as usize, Vec::new());
    loop {
        let length = u32::from_le_bytes(journal[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return found;
        }
        let operation = u16::from_le_bytes(journal[at + 24..at + 26].try_into().unwrap());
        found.push((at, operation, length));
        at += length.next_multiple_of(8);
    }
}

/// The journal with one byte of each record of this kind changed.
fn damaged(disk: &MemoryDisk, operation: u16) -> Vec<MemoryDisk> {
    let journal = disk.journal.bytes.lock().cache.clone();
    let data = disk.data.bytes.lock().cache.clone();
    let of_kind = records(&journal)
        .into_iter()
        .filter(|record| record.1 == operation);
    of_kind
        .map(|(at, _, length)| {
            let mut journal = journal.clone();
            journal[at + length - 1] ^= 4;
            MemoryDisk::holding(journal, data.clone())
        })
        .collect()
}

const STATE: u16 = 100;
const CHECKPOINT: u16 = 101;
const PLACES: u16 = 102;
const LIST_END: u16 = 103;

#[test]
fn a_damaged_list_hides_nothing() {
    let (image, disk) = filled();
    let seen = dump(&open(&image, &disk));
    let mut journals = damaged(&disk, PLACES);
    assert_eq!(journals.len(), 3);
    journals.extend(damaged(&disk, LIST_END));
    for at in (LIST..LIST + 36).step_by(5) {
        let copy = disk.copy();
        copy.journal.bytes.lock().cache[at as usize] ^= 1;
        journals.push(copy);
    }
    for disk in journals {
        let tree = open(&image, &disk);
        assert!(dump(&tree) == seen);
        // All are read for the next, whether somebody has asked for them or not.
        assert!(open(&image, &disk).list().unwrap());
        assert!(dump(&open(&image, &disk)) == seen);
    }
}

/// It takes all states to find again what a damaged block says: once, not for each of its inodes.
#[test]
fn a_damaged_block_is_searched_for_once() {
    let (image, disk) = filled();
    let states = records(&disk.journal.bytes.lock().cache);
    let states: usize = states
        .iter()
        .filter(|record| record.1 == STATE)
        .map(|record| record.2)
        .sum();
    for (block, disk) in damaged(&disk, PLACES).into_iter().enumerate() {
        let tree = open(&image, &disk);
        let read = |ino: u64| {
            disk.plan.lock().read = 0;
            tree.getattr(Ino(ino)).unwrap();
            disk.plan.lock().read
        };
        // The image and the directory have the first numbers.
        let first = block as u64 * 512 + 100;
        let searched = read(first);
        assert!(searched > states / 4 * block, "{searched} of {states}");
        for ino in first + 1..first + 50 {
            assert!(read(ino) < 32 * 1024, "block {block}");
        }
    }
}

/// Who reads all refuses it. Who reads the list tells of the one that is damaged when somebody asks for it.
#[test]
fn a_damaged_inode_is_eio_and_no_other() {
    let (image, disk) = filled();
    let whole: Dump = dump(&open(&image, &disk));
    for disk in damaged(&disk, STATE).into_iter().skip(20).step_by(97) {
        let refused = try_open(&image, &without_list(&disk));
        assert!(matches!(refused, Err(OpenError::Damaged { .. })));
        let tree = open(&image, &disk);
        let lost: Vec<Ino> = whole
            .values()
            .map(|seen| seen.ino)
            .filter(|ino| tree.getattr(*ino).is_err())
            .collect();
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert_eq!(tree.getattr(lost[0]).unwrap_err().0, Errno::EIO);
        // It cannot be said again, so the journal stays.
        assert_eq!(tree.checkpoint(&|| true).unwrap_err().0, Errno::EIO);
        assert!(!matches!(tree.list(), Ok(true)));
        tree.mknod(&CALLER, Ino::ROOT, name("new"), REGULAR, 0).unwrap();
        drop(tree);
        let tree = open(&image, &disk);
        tree.lookup(Ino::ROOT, name("new")).unwrap();
        assert!(tree.getattr(lost[0]).is_err());
    }
}

/// The record that ends the checkpoint is read even with a list.
#[test]
fn a_damaged_checkpoint_is_refused() {
    let (image, disk) = filled();
    for disk in damaged(&disk, CHECKPOINT) {
        assert!(matches!(try_open(&image, &disk), Err(OpenError::Damaged { .. })));
    }
}

/// What is read is what is asked for: the rest of the states may be anything.
#[test]
fn opening_reads_no_states() {
    let (image, disk) = filled();
    let journal = disk.journal.bytes.lock().cache.clone();
    for (at, operation, length) in records(&journal) {
        if operation == STATE {
            disk.journal.bytes.lock().cache[at..at + length].fill(7);
        }
    }
    let tree = open(&image, &disk);
    assert_eq!(tree.getattr(Ino::ROOT).unwrap_err().0, Errno::EIO);
}

#[test]
fn an_operation_during_the_list_leaves_none() {
    let (image, disk) = filled();
    let tree = open(&image, &disk);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = tree.lookup(Ino::ROOT, name("up")).unwrap().ino;
            let mut i = 0;
            while !done.load(Ordering::Relaxed) {
                let made = tree.mknod(&CALLER, dir, name(&format!("new{i}")), REGULAR, 0);
                tree.forget(made.unwrap().ino, 1);
                i += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        // Whether or not one came in between, what is there is all.
        let end = Instant::now() + Duration::from_secs(60);
        while tree.list().unwrap() {
            assert!(Instant::now() < end, "waited in vain: none came in between");
        }
        done.store(true, Ordering::Relaxed);
    });
    let seen = dump(&tree);
    drop(tree);
    assert!(dump(&open(&image, &disk)) == seen);
}

#[test]
fn threads_that_ask_at_once_get_the_same() {
    let (image, disk) = filled();
    for round in 0..8 {
        let disk = disk.copy();
        let tree = open(&image, &disk);
        let dir = tree.lookup(Ino::ROOT, name("up")).unwrap().ino;
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (tree, barrier) = (&tree, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for i in 0..200 {
                        let file = tree.lookup(dir, name(&format!("up{i:04}"))).unwrap().ino;
                        // Each has a part of the change: if two inodes were made, one is lost.
                        let key = format!("user.{thread}");
                        let value = round.to_string();
                        tree.setxattr(
                            &CALLER,
                            file,
                            key.as_bytes(),
                            value.as_bytes(),
                            fuse_overlay::union::SetXattr::Any,
                            fuse_overlay::union::SetGroupId::Keep,
                        )
                        .unwrap();
                        tree.forget(file, 1);
                    }
                    // What was read may be given back while others read it.
                    tree.checkpoint(&|| true).unwrap();
                });
            }
        });
        for tree in [tree, open(&image, &disk)] {
            for i in 0..200 {
                let file = tree.lookup(dir, name(&format!("up{i:04}"))).unwrap().ino;
                assert_eq!(tree.listxattr(file).unwrap().len(), 4, "file {i}");
            }
        }
    }
}

/// The last name goes, the inode is forgotten, and neither it nor its pages come back from the list.
#[test]
fn what_was_removed_does_not_come_back() {
    let (image, disk) = filled();
    let remove = |disk: &MemoryDisk| {
        let tree = open(&image, disk);
        let dir = tree.lookup(Ino::ROOT, name("up")).unwrap().ino;
        let remove = |i: u32| {
            let text = format!("up{i:04}");
            let file = tree.lookup(dir, name(&text)).unwrap().ino;
            tree.unlink(&CALLER, dir, name(&text)).unwrap();
            tree.forget(file, 1);
            file
        };
        let removed: Vec<Ino> = (0..64).map(remove).collect();
        drop(tree.sync().unwrap());
        (space(&tree), removed)
    };
    let all = without_list(&disk);
    let (before, (after, removed)) = (space(&open(&image, &disk)), remove(&disk));
    assert_eq!(after.1[1], before.1[1] + 64);
    assert_eq!((after, removed.clone()), remove(&all));
    for disk in [disk, all] {
        let tree = open(&image, &disk);
        for ino in &removed {
            assert_eq!(tree.getattr(*ino).unwrap_err().0, Errno::ESTALE);
        }
        drop(tree.sync().unwrap());
        assert_eq!(space(&tree), after);
    }
}

/// The journal is then of version 3, which older programs refuse, and stays it.
#[test]
fn a_journal_is_of_version_3_with_its_first_list() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk::new();
    let version = || disk.journal.bytes.lock().cache[8];
    let tree = open(&image, &disk);
    tree.checkpoint(&|| true).unwrap();
    assert_eq!(version(), 2);
    assert!(!tree.list_is_due());
    assert!(tree.list().unwrap());
    assert_eq!(version(), 3);
    drop(tree);
    open(&image, &disk).checkpoint(&|| true).unwrap();
    assert_eq!(version(), 3);
}
