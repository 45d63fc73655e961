//! When has the kernel had something synced? Each sync that was not known to be needless leaves a mark in the journal, after
//! the data was flushed and before the journal is.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Ids, Inside, Layer, in_mount};

fn image() -> [Layer; 1] {
    [Layer::new().file("below", vec![7; 5000])]
}

/// How many marks of syncs there are. `ARCHITECTURE.md`: behind 4096 bytes there are records, each beginning with its
/// length, at 24 its operation, padded to 8 bytes.
fn marks(inside: &Inside) -> usize {
    const SYNCED: u16 = 16;
    let journal = fs::read(inside.root.join("../upper/journal")).unwrap();
    let (mut at, mut marks) = (4096, 0);
    loop {
        let number = |from: usize, length: usize| {
            let bytes = journal.get(at + from..at + from + length).unwrap_or_default();
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        match number(0, 4) {
            0 => return marks,
            length => {
                marks += usize::from(number(24, 2) == usize::from(SYNCED));
                at += length.next_multiple_of(8);
            }
        }
    }
}

#[test]
fn whoever_is_told_that_it_is_durable_was_synced() {
    let ways = [
        (
            "fsync",
            "f = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(f, b'x'); os.fsync(f)",
        ),
        (
            "fdatasync",
            "f = os.open('f', os.O_WRONLY); os.write(f, b'x'); os.fdatasync(f)",
        ),
        ("O_SYNC", "os.write(os.open('f', os.O_WRONLY | os.O_SYNC), b'x')"),
        (
            "O_DSYNC",
            "os.write(os.open('below', os.O_WRONLY | os.O_DSYNC), b'x')",
        ),
        (
            "RWF_DSYNC",
            "os.pwritev(os.open('f', os.O_WRONLY), [b'x'], 5000, os.RWF_DSYNC)",
        ),
        (
            "msync",
            "m = mmap.mmap(os.open('f', os.O_RDWR), 100); m[0] = 1; m.flush()",
        ),
        (
            "a directory's",
            "os.rename('f', 'g'); os.fsync(os.open('.', os.O_RDONLY))",
        ),
        (
            "O_DIRECT",
            "f = os.open('g', os.O_RDWR | os.O_DIRECT | os.O_SYNC); os.write(f, mmap.mmap(-1, 4096))",
        ),
    ];
    in_mount(Ids::One, &image(), |inside| {
        for (way, script) in ways {
            let before = marks(inside);
            inside.sh(&format!("python3 -c \"import mmap, os; {script}\""));
            assert!(marks(inside) > before, "{way}");
        }
    });
}

/// sync(2) and syncfs(2) ask a FUSE server for nothing.
#[test]
fn what_nobody_syncs_is_synced_all_the_same() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh("echo text > new; mv below newer; sync -f .");
        let (before, end) = (marks(inside), Instant::now() + Duration::from_secs(60));
        while marks(inside) == before {
            assert!(Instant::now() < end, "waited in vain: nobody syncs");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}
