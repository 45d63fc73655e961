//! Many threads at once: nothing hangs, nothing is lost, and what is left is what the reopened layer shows.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use fuse_overlay::attr::{Ino, Kind};
use fuse_overlay::union::{Limits, Rename, Tree};

use super::common::chance::Chance;
use super::disk::MemoryDisk;
use super::dump::{dump, without_content};
use super::harness::{Image, list, name, pattern};
use super::ops::{CALLER, LayerEntry};

const THREADS: usize = 6;

fn image() -> Image {
    let dirs = ["a", "b", "c"].into_iter().flat_map(|dir| {
        [
            LayerEntry::Dir(vec![dir]),
            LayerEntry::File(vec![dir, "a"], 9000),
            LayerEntry::Dir(vec![dir, "b"]),
        ]
    });
    Image::new(&[dirs.collect()]).unwrap()
}

/// A random operation in the three directories; which fail is up to the others.
fn anything(tree: &Tree, dirs: &[Ino; 3], chance: &mut Chance) {
    let names = ["a", "b", "c", "d"].map(name);
    let (from, to) = (dirs[chance.below(3)], dirs[chance.below(3)]);
    let (one, other) = (names[chance.below(4)], names[chance.below(4)]);
    let forget = |made: fuse_overlay::error::Result<fuse_overlay::attr::Attr>| {
        if let Ok(attr) = made {
            tree.forget(attr.ino, 1);
        }
    };
    let how = [Rename::Replace, Rename::Exchange, Rename::NoReplace][chance.below(3)];
    match chance.below(9) {
        0 => forget(tree.mknod(&CALLER, from, one, 0o100_644, 0)),
        1 => forget(tree.mkdir(&CALLER, from, one, 0o755)),
        2 => drop(tree.unlink(&CALLER, from, one)),
        3 => drop(tree.rmdir(&CALLER, from, one)),
        4 | 5 => drop(tree.rename(&CALLER, (from, one), (to, other), how)),
        6 => {
            if let Ok(found) = tree.lookup(from, one) {
                forget(tree.link(&CALLER, found.ino, to, other));
                tree.forget(found.ino, 1);
            }
        }
        7 => {
            if let Ok(found) = tree.lookup(from, one) {
                let mut out = vec![0; 5000];
                let _any = tree.write(
                    &CALLER,
                    found.ino,
                    chance.below(9000) as u64,
                    &pattern(1, 3000),
                    true,
                );
                let _any = tree.read(found.ino, 0, &mut out);
                tree.forget(found.ino, 1);
            }
        }
        _ => drop(list(tree, from)),
    }
}

#[test]
fn many_threads_leave_a_whole_tree() {
    let image = image();
    let upper = tempfile::tempdir().unwrap();
    let tree = Tree::open(image.lower(), upper.path(), Limits::default()).unwrap();
    let dirs = ["a", "b", "c"].map(|dir| tree.lookup(Ino::ROOT, name(dir)).unwrap().ino);
    let barrier = Barrier::new(THREADS);
    let end = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < end {
                tree.checkpoint(&|| true).unwrap();
            }
        });
        for thread in 0..THREADS {
            let (tree, dirs, barrier) = (&tree, &dirs, &barrier);
            scope.spawn(move || {
                let mut chance = Chance(thread as u64 + 1);
                barrier.wait();
                while Instant::now() < end {
                    (0..200).for_each(|_| anything(tree, dirs, &mut chance));
                    drop(tree.sync().unwrap());
                }
            });
        }
    });
    check_links(&tree);
    let before = dump(&tree);
    drop(tree);
    let tree = Tree::open(image.lower(), upper.path(), Limits::default()).unwrap();
    let after = dump(&tree);
    assert_eq!(without_content(&before), without_content(&after));
    assert!(before == after, "contents differ after opening again");
}

/// Every link count is the number of names.
fn check_links(tree: &Tree) {
    let mut names = std::collections::BTreeMap::<Ino, u32>::new();
    let mut waiting = vec![Ino::ROOT];
    while let Some(dir) = waiting.pop() {
        let entries = list(tree, dir);
        let subdirectories = entries
            .iter()
            .skip(2)
            .filter(|entry| entry.2 == Kind::Directory)
            .count();
        assert_eq!(
            tree.getattr(dir).unwrap().nlink as usize,
            2 + subdirectories,
            "{dir:?}"
        );
        for (_, ino, kind) in entries.into_iter().skip(2) {
            match kind {
                Kind::Directory => waiting.push(ino),
                _ => *names.entry(ino).or_default() += 1,
            }
        }
    }
    for (ino, count) in names {
        assert_eq!(tree.getattr(ino).unwrap().nlink, count, "{ino:?}");
    }
}

/// Two find no room at once; what was freed before is enough for both, though one of them is still giving it back.
#[test]
fn space_that_another_gives_back_is_waited_for() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk {
        slow: true,
        ..MemoryDisk::new()
    };
    let limits = Limits {
        bytes: Some(8 << 20),
        inodes: None,
    };
    let tree = Tree::open_on(image.lower(), disk.storage(), limits).unwrap();
    let make = |called| {
        let made = tree.mknod(&CALLER, Ino::ROOT, name(called), 0o100_644, 0);
        made.unwrap().ino
    };
    let remove = |called, ino| {
        tree.unlink(&CALLER, Ino::ROOT, name(called)).unwrap();
        tree.forget(ino, 1);
    };
    for _ in 0..20 {
        let large = make("large");
        tree.write(&CALLER, large, 0, &[1; 7 << 20], false).unwrap();
        remove("large", large);
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            for called in ["a", "b"] {
                let (tree, barrier, remove, ino) = (&tree, &barrier, &remove, make(called));
                scope.spawn(move || {
                    barrier.wait();
                    tree.write(&CALLER, ino, 0, &[2; 2 << 20], false).unwrap();
                    remove(called, ino);
                });
            }
        });
    }
}

#[test]
fn writers_of_one_file_do_not_tear_each_other() {
    let image = image();
    let upper = tempfile::tempdir().unwrap();
    let tree = Tree::open(image.lower(), upper.path(), Limits::default()).unwrap();
    let ino = tree
        .mknod(&CALLER, Ino::ROOT, name("shared"), 0o100_644, 0)
        .unwrap()
        .ino;
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u8 {
            let tree = &tree;
            scope.spawn(move || {
                for i in 0..200 {
                    tree.write(&CALLER, ino, i % 5 * 10_000, &[thread + 1; 10_000], false)
                        .unwrap();
                    let mut out = vec![0; 10_000];
                    let n = tree.read(ino, i % 5 * 10_000, &mut out).unwrap();
                    assert!(out[..n].iter().all(|byte| *byte == out[0] && *byte > 0));
                }
            });
        }
    });
}
