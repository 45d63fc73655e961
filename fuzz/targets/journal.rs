//! Bytes as a journal: the layer opens or refuses, and what opens can be walked, written and opened again.
#![no_main]

mod memory;
mod tree;

use std::path::PathBuf;

use fuse_overlay::attr::Ino;
use fuse_overlay::index::View;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Caller, Limits, Storage, Tree};
use libfuzzer_sys::fuzz_target;
use memory::Memory;
use tree::{lower, walk};

const HEADER: usize = 4096;
const SALT: u32 = 1;
/// This start of the host, and the operation of the mark that names it: what follows counts without a sync.
const BOOT: [u8; 16] = [1; 16];
const MARK_BOOT: u16 = 15;
const MARK_SYNCED: u16 = 16;
const SET_ATTR: u16 = 1;
/// A record of a checkpoint.
const STATE: u16 = 100;
/// Where the first of the two places for the journal's start lies.
const START: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let Some(lower) = lower() else { return };
    let journal = Memory::from(sealed(&lower.view, bytes));
    let data = Memory::default();
    let storage = || Storage {
        journal: Box::new(journal.clone()),
        data: Box::new(data.clone()),
        path: PathBuf::from("fuzz"),
        boot: BOOT,
    };
    let limits = Limits { bytes: Some(1 << 20), inodes: Some(1000) };
    let Ok(tree) = Tree::open_on(lower, storage(), limits) else { return };
    let mut budget = 2000;
    walk(&tree, Ino::ROOT, &mut budget, 0);
    let caller = Caller { uid: 0, gid: 0, umask: 0, unique: 0 };
    if let Ok(name) = Name::new(b"new")
        && let Ok(attr) = tree.mknod(&caller, Ino::ROOT, name, 0o100_644, 0)
    {
        let _full = tree.write(&caller, attr.ino, 5, b"hello", false);
        let _lost = tree.sync();
    }
    let _full = tree.checkpoint(&|| true);
    drop(tree);
    if let Some(lower) = self::lower() {
        assert!(Tree::open_on(lower, storage(), limits).is_ok(), "opened once, refused the second time");
    }
});

/// The input as payloads with a length each, in records whose checksums hold: else no input would get past them. Those of
/// odd length are a checkpoint's; of an input of odd length the first half of the records is one that the journal begins with.
fn sealed(view: &View, mut input: &[u8]) -> Vec<u8> {
    let mut journal = b"BRYOJNL1".to_vec();
    journal.extend(2u32.to_le_bytes());
    journal.extend(view.node_count().to_le_bytes());
    journal.extend(view.source());
    journal.extend(view.checksum().to_le_bytes());
    journal.extend(SALT.to_le_bytes());
    journal.extend(crc32c::crc32c(&journal).to_le_bytes());
    journal.resize(HEADER, 0);
    append(&mut journal, 1, MARK_BOOT, &BOOT);
    let begins = input.len() % 2 == 1;
    let mut sequence = 2u64;
    while let Some((&length, rest)) = input.split_first() {
        let (payload, rest) = rest.split_at(rest.len().min(length.into()));
        input = rest;
        append(&mut journal, sequence, if length % 2 == 1 { STATE } else { SET_ATTR }, payload);
        sequence += 1;
    }
    if begins {
        let end = sequence / 2;
        append(&mut journal, sequence, MARK_SYNCED, &end.to_le_bytes());
        // Generation, offset, sequence, end, freed, boot.
        let mut start: Vec<u8> = [2, HEADER as u64, 1, end, HEADER as u64].map(u64::to_le_bytes).concat();
        start.extend(BOOT);
        start.extend(crc32c::crc32c_append(SALT, &start).to_le_bytes());
        journal[START..START + start.len()].copy_from_slice(&start);
    }
    journal
}

/// A record: length, sum, sequence, unique, operation, check, pending, payload.
fn append(journal: &mut Vec<u8>, sequence: u64, operation: u16, payload: &[u8]) {
    let length = (32 + payload.len() as u32).to_le_bytes();
    let fields = |check: u16| {
        let mut fields = sequence.to_le_bytes().to_vec();
        fields.extend(0u64.to_le_bytes());
        fields.extend(operation.to_le_bytes());
        fields.extend(check.to_le_bytes());
        fields.extend(0u32.to_le_bytes());
        fields
    };
    let bare: Vec<u8> = [&length[..], &[0; 4], &fields(0)].concat();
    let fields = fields(crc32c::crc32c_append(SALT, &bare) as u16);
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(SALT, &fields), payload);
    journal.extend([&length[..], &sum.to_le_bytes(), &fields, payload].concat());
    journal.resize(journal.len().next_multiple_of(8), 0);
}
