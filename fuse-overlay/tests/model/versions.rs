//! Layers that earlier programs wrote. `tests/golden/upper-N.journal` and `.data` are a layer after [`history`], of version N of
//! the journal, without the zeros behind its records: the first two were written by this file in the trees of the last programs
//! that wrote those (commits f3bfcc6 and bfa2af2), the third by `BRYO_BLESS=1`.

use std::fs;
use std::path::PathBuf;

use fuse_overlay::attr::Ino;
use fuse_overlay::union::{Allocate, Limits, OpenError, Rename, SetXattr, Tree};

use super::disk::MemoryDisk;
use super::dump::dump;
use super::harness::{Both, Image, name};
use super::ops::{CALLER, File, LayerEntry, Op};

fn image() -> Image {
    Image::new(&[vec![
        LayerEntry::Dir(vec!["d"]),
        LayerEntry::File(vec!["d", "a"], 9000),
        LayerEntry::File(vec!["b"], 5000),
        LayerEntry::HardLink(vec!["c"], vec!["b"]),
    ]])
    .unwrap()
}

/// Two parts; where a program knew checkpoints, and lists, it made one after the first.
fn history() -> [Vec<Op>; 2] {
    use File::{At, Open};
    let write = Op::write;
    let own = || At(vec!["d", "own"]);
    [
        vec![
            Op::Create(vec!["d", "own"], 0o4755),
            write(own(), 10, 5000),
            write(At(vec!["d", "a"]), 5000, 10),
            Op::Allocate(own(), Allocate::Grow, 3000, 30_000),
            Op::Allocate(own(), Allocate::PunchHole, 100, 9000),
            Op::Mkdir(vec!["new"], 0o755),
            Op::Symlink(vec!["link"], "a"),
            Op::Fifo(vec!["new", "a"]),
            Op::Link(At(vec!["d", "a"]), vec!["new", "b"]),
            Op::SetXattr(own(), "user.x", 200, SetXattr::Any),
            Op::Chmod(At(vec!["b"]), 0o600),
        ],
        vec![
            write(own(), 1000, 20_000),
            Op::Truncate(own(), 7000),
            Op::Rename(vec!["d"], vec!["new", "d"], Rename::Whiteout),
            Op::Rename(vec!["new"], vec!["b"], Rename::Exchange),
            Op::TmpFile(vec!["b"]),
            write(Open(0), 0, 20_000),
            Op::Link(Open(0), vec!["kept"]),
            Op::Unlink(vec!["b", "b"]),
            Op::Chown(At(vec!["c"]), 1, 2, true),
            Op::RemoveXattr(At(vec!["b", "d", "own"]), "user.x"),
            Op::Unlink(vec!["c"]),
        ],
    ]
}

/// Does all of the history on an empty disk, `between` between its parts.
fn written<'a>(image: &'a Image, between: Op) -> (MemoryDisk, Both<'a>) {
    let disk = MemoryDisk::new();
    let mut both = Both::on(image, disk.clone());
    let [first, second] = history();
    first.iter().for_each(|op| both.step(op));
    both.step(&between);
    second.iter().for_each(|op| both.step(op));
    both.step(&Op::Sync);
    (disk, both)
}

fn golden(version: u8, file: &str) -> PathBuf {
    let name = format!("tests/golden/upper-{version}.{file}");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn keep(version: u8, disk: &MemoryDisk) {
    for (name, file) in [("journal", &disk.journal), ("data", &disk.data)] {
        let bytes = file.bytes.lock().cache.clone();
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        fs::write(
            golden(version, name),
            &bytes[..end.next_multiple_of(4096).min(bytes.len())],
        )
        .unwrap();
    }
}

fn version(disk: &MemoryDisk) -> u8 {
    disk.journal.bytes.lock().cache[8]
}

fn open(image: &Image, disk: &MemoryDisk) -> Result<Tree, OpenError> {
    Tree::open_on(image.lower(), disk.storage(), Limits::default())
}

/// Paths, numbers, attributes without times, and contents.
fn timeless(tree: &Tree) -> Vec<(String, Ino, String, Vec<u8>)> {
    let without_times = |meta: String| {
        let (before, rest) = meta.split_once(", atime: ").unwrap();
        let (_, behind) = rest.split_once(" } }").unwrap();
        format!("{before}{behind}")
    };
    let all = dump(tree).into_iter();
    all.map(|(path, seen)| (path, seen.ino, without_times(seen.meta), seen.content))
        .collect()
}

#[test]
fn layers_of_all_versions_are_read_and_go_on() {
    let image = image();
    let (now, both) = written(&image, Op::List);
    let expected = timeless(both.tree());
    drop(both);
    if std::env::var_os("BRYO_BLESS").is_some() {
        keep(3, &now);
    }
    for wrote in 1..=3 {
        let [journal, data] = ["journal", "data"].map(|file| fs::read(golden(wrote, file)).unwrap());
        // After a restart of the host, too.
        for boot in [[1; 16], [2; 16]] {
            let disk = MemoryDisk {
                boot,
                ..MemoryDisk::holding(journal.clone(), data.clone())
            };
            let tree = open(&image, &disk).unwrap();
            assert_eq!(version(&disk), wrote);
            assert_eq!(timeless(&tree), expected, "version {wrote}");
            let made = tree.mkdir(&CALLER, Ino::ROOT, name("late"), 0o755).unwrap().ino;
            tree.forget(made, 1);
            drop(tree.sync().unwrap());
            let expected = timeless(&tree);
            drop(tree);
            // It stays what it is until its first checkpoint, and its first list; each is whole after the next loss of power.
            type Step = fn(&Tree);
            let steps: [(u8, Step); 3] = [
                (1, |_| ()),
                (2, |tree| tree.checkpoint(&|| true).unwrap()),
                (3, |tree| assert!(tree.list().unwrap())),
            ];
            let mut disk = disk;
            for (least, step) in steps {
                let tree = open(&image, &disk).unwrap();
                step(&tree);
                assert_eq!(timeless(&tree), expected, "version {wrote}");
                drop(tree);
                assert_eq!(version(&disk), wrote.max(least));
                disk = disk.after_power_loss(|| false);
            }
            assert_eq!(
                timeless(&open(&image, &disk).unwrap()),
                expected,
                "version {wrote}"
            );
        }
    }
}

/// The version may be there, and its checksum not yet.
#[test]
fn a_version_that_is_raised_by_half_is_read() {
    let image = image();
    for wrote in 1..=2 {
        let [journal, data] = ["journal", "data"].map(|file| fs::read(golden(wrote, file)).unwrap());
        let before = MemoryDisk::holding(journal.clone(), data.clone());
        let seen = timeless(&open(&image, &before).unwrap());
        let tree = open(&image, &before).unwrap();
        assert!(tree.list().unwrap());
        drop(tree);
        let after = before.journal.bytes.lock().cache.clone();
        // The version and, from byte 56 on, the checksum are others.
        for cut in (0..=56).chain([60]) {
            let mut journal = journal.clone();
            journal[..cut].copy_from_slice(&after[..cut]);
            let disk = MemoryDisk::holding(journal, data.clone());
            assert_eq!(
                timeless(&open(&image, &disk).unwrap()),
                seen,
                "version {wrote}, {cut} bytes"
            );
        }
    }
}

#[test]
fn a_newer_version_is_refused_in_one_line() {
    let image = image();
    let (disk, both) = written(&image, Op::List);
    drop(both);
    {
        let mut bytes = disk.journal.bytes.lock();
        bytes.cache[8] = 4;
        let sum = crc32c::crc32c(&bytes.cache[..56]);
        bytes.cache[56..60].copy_from_slice(&sum.to_le_bytes());
    }
    let before = disk.journal.bytes.lock().cache.clone();
    let error = open(&image, &disk).unwrap_err();
    assert!(matches!(error, OpenError::Version { version: 4, .. }));
    assert_eq!(
        error.to_string(),
        "memory/journal: journal of version 4, written by a newer program: this one reads versions 1 to 3"
    );
    assert!(disk.journal.bytes.lock().cache == before, "and it stays as it is");
}
