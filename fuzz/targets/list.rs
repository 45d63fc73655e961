//! Numbers as parts of a journal's list: whatever it says, the layer opens, and what it gives can be walked, written, have a
//! checkpoint and be opened again.
#![no_main]

mod memory;
mod tree;

use std::path::PathBuf;

use fuse_overlay::attr::Ino;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Caller, Limits, Storage, Tree};
use libfuzzer_sys::fuzz_target;
use memory::Memory;
use tree::{lower, walk};

const CALLER: Caller = Caller { uid: 0, gid: 0, umask: 0, unique: 0 };
const LIMITS: Limits = Limits { bytes: Some(1 << 20), inodes: Some(1000) };
/// The operations of a list's records: `Places` and `List`.
const LIST: std::ops::RangeInclusive<u16> = 102..=103;
/// Bytes of a record's header.
const HEADER: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    let journal = Memory::default();
    let data = Memory::default();
    let open = || {
        let storage = Storage {
            journal: Box::new(journal.clone()),
            data: Box::new(data.clone()),
            path: PathBuf::from("fuzz"),
            boot: [1; 16],
        };
        Tree::open_on(lower().expect("an image"), storage, LIMITS)
    };
    let made = open().map(|tree| fill(&tree));
    assert_eq!(made.ok().flatten(), Some(true), "the layer and its list");
    journal.with(|journal| overwrite(journal, bytes));
    // All that the list is made of is there.
    let tree = open().expect("the list is needed by nobody");
    let mut budget = 2000;
    walk(&tree, Ino::ROOT, &mut budget, 0);
    if let Ok(name) = Name::new(b"new")
        && let Ok(attr) = tree.mknod(&CALLER, Ino::ROOT, name, 0o100_644, 0)
    {
        let _full = tree.write(&CALLER, attr.ino, 5, b"hello", false);
        let _lost = tree.sync();
    }
    for name in [&b"a1"[..], b"a2", b"d"].iter().filter_map(|name| Name::new(name).ok()) {
        let _damaged = tree.unlink(&CALLER, Ino::ROOT, name);
    }
    drop(tree);
    let tree = open().expect("opened once, refused the second time");
    let _damaged = tree.checkpoint(&|| true);
    let _damaged = tree.list();
    drop(tree);
    assert!(open().is_ok(), "refused the third time");
});

/// Some files with bytes, in two directories, one without a name; then a list.
fn fill(tree: &Tree) -> Option<bool> {
    let dir = tree.mkdir(&CALLER, Ino::ROOT, Name::new(b"d").ok()?, 0o755).ok()?.ino;
    for number in b'0'..b'9' {
        let parent = if number % 2 == 0 { dir } else { Ino::ROOT };
        let file = tree.mknod(&CALLER, parent, Name::new(&[b'a', number]).ok()?, 0o100_644, 0).ok()?;
        tree.write(&CALLER, file.ino, 0, &[number; 5000], false).ok()?;
    }
    tree.tmpfile(&CALLER, dir, 0o600).ok()?;
    tree.list().ok()
}

/// Puts numbers into the list's records, whose checksums are right then: of each ten bytes of the input the first says which
/// record, the second which of its numbers, and the others what it becomes, if they are not to be added to it.
fn overwrite(journal: &mut [u8], input: &[u8]) {
    let salt = u32_at(journal, 52);
    let records = list(journal);
    for change in input.chunks_exact(10) {
        let Some(&(at, length)) = records.get(usize::from(change[0]) % records.len().max(1)) else { return };
        let words = (length - HEADER) / 8;
        let word = at + HEADER + usize::from(change[1]) % words.max(1) * 8;
        let value = u64::from_le_bytes(change[2..].try_into().unwrap_or_default());
        let old = u64::from_le_bytes(journal[word..word + 8].try_into().unwrap_or_default());
        let new = if change[0] < 128 { value } else { old.wrapping_add(value) };
        journal[word..word + 8].copy_from_slice(&new.to_le_bytes());
        let sum = crc32c::crc32c_append(salt, &journal[at + 8..at + length]);
        journal[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Where the list's records lie, and how long they are.
fn list(journal: &[u8]) -> Vec<(usize, usize)> {
    // All starts behind the first record of the journal's: the newest start names it.
    let word = |at: usize| u64::from_le_bytes(journal[at..at + 8].try_into().unwrap_or_default());
    let start = if word(512) > word(1024) { 512 } else { 1024 };
    let (mut at, mut found) = (word(start + 8) as usize, Vec::new());
    while at + HEADER <= journal.len() && u32_at(journal, at) > 0 {
        let length = u32_at(journal, at) as usize;
        let operation = u16::from_le_bytes([journal[at + 24], journal[at + 25]]);
        if LIST.contains(&operation) {
            found.push((at, length));
        }
        at += length.next_multiple_of(8);
    }
    found
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}
