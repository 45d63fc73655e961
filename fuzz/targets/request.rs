//! Bytes as messages of the kernel's: each is answered as the protocol has it, or wants no answer, and what they have made of
//! the tree can be walked, synced, and opened again.
#![no_main]

mod memory;

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use fuse_overlay::attr::{Ino, Kind};
use fuse_overlay::fuse::{IdMap, Loose};
use fuse_overlay::index::{View, merge};
use fuse_overlay::layer;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Limits, Lower, LowerLayer, Storage, Tree};
use libfuzzer_sys::fuzz_target;
use memory::Memory;

const HEADER: usize = 40;
const ANSWER: usize = 16;

// A byte of settings, then messages: opcode, inode, two bytes of length, and what follows the kernel's header.
fuzz_target!(|bytes: &[u8]| {
    let Some((&settings, mut rest)) = bytes.split_first() else { return };
    let (journal, data) = (Memory::default(), Memory::default());
    let storage = || Storage {
        journal: Box::new(journal.clone()),
        data: Box::new(data.clone()),
        path: PathBuf::from("fuzz"),
        boot: [1; 16],
    };
    let limits = Limits { bytes: Some(4 << 20), inodes: Some(1000) };
    let tree = Tree::open_on(lower(), storage(), limits).expect("an empty layer");
    let ids = match settings & 1 {
        0 => IdMap::all(),
        _ => IdMap { uids: vec![0..1], gids: vec![0..1] },
    };
    let mut server = Loose::new(tree, ids);
    let mut unique = 2;
    while let Some((&[opcode, ino, low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        let message = message(opcode, ino, unique, body);
        // Cut off in its header, too.
        let message = if settings & 4 == 0 { &message[..] } else { &body[..] };
        if let Some(answer) = server.answer(message, settings & 2 != 0) {
            check(message, answer);
        }
        unique += 2;
    }
    let mut budget = 2000;
    walk(server.tree(), Ino::ROOT, &mut budget, 0);
    let _full = server.tree().sync();
    drop(server);
    assert!(Tree::open_on(lower(), storage(), limits).is_ok(), "what was made cannot be opened");
});

/// With the kernel's header: length, opcode, unique, inode, uid, gid, pid, extensions.
fn message(opcode: u8, ino: u8, unique: u64, body: &[u8]) -> Vec<u8> {
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(u32::from(opcode).to_ne_bytes());
    message.extend(unique.to_ne_bytes());
    message.extend(u64::from(ino).to_ne_bytes());
    message.extend([0; 16]);
    message.extend(body);
    message
}

/// The kernel refuses an answer of another form, and whoever waits for it has EIO.
fn check(message: &[u8], answer: &[u8]) {
    let number = |at: usize| u32::from_ne_bytes(*answer[at..].first_chunk().expect("a header"));
    let error = number(4) as i32;
    assert_eq!(number(0) as usize, answer.len());
    assert!((-511..=0).contains(&error), "{error}");
    assert!(error == 0 || answer.len() == ANSWER, "an error with {} bytes", answer.len());
    assert_eq!(answer[8..16], message[8..16], "another's answer");
}

/// An image with a file, a link to it, a directory and a name in it.
fn lower() -> Lower {
    static TAR: LazyLock<(File, Vec<u8>)> = LazyLock::new(|| {
        let mut tar = Vec::new();
        entry(&mut tar, b"file", b'0', b"", &[7; 5000]);
        entry(&mut tar, b"dir/", b'5', b"", b"");
        entry(&mut tar, b"dir/link", b'1', b"file", b"");
        entry(&mut tar, b"dir/symlink", b'2', b"../file", b"");
        tar.resize(tar.len() + 1024, 0);
        let path = std::env::temp_dir().join(format!("fuzz-request-{}", std::process::id()));
        let options = || File::options().read(true).write(true).create_new(true).open(&path);
        let file = options().expect("a temporary file");
        std::fs::remove_file(&path).expect("its name");
        file.write_all_at(&tar, 0).expect("its bytes");
        (file, tar)
    });
    let (file, tar) = &*TAR;
    let mut index = Vec::new();
    layer::index(&mut tar.as_slice(), &mut index).expect("a sound tar");
    let view = View::from_bytes(index).expect("its index");
    let mut merged = Vec::new();
    merge::merge(std::slice::from_ref(&view), [7; 32], &mut merged).expect("one layer");
    let layers = vec![LowerLayer::tar(file.try_clone().expect("a descriptor"), view)];
    Lower { view: View::from_bytes(merged).expect("its index"), layers }
}

/// An entry of a tar: name, mode, owner, size, time, sum, type, target, then the bytes.
fn entry(tar: &mut Vec<u8>, name: &[u8], kind: u8, target: &[u8], bytes: &[u8]) {
    let mut header = [0u8; 512];
    let size = format!("{:011o}\0", bytes.len());
    let fields: [(usize, &[u8]); 9] = [
        (0, name),
        (100, b"0000755\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, size.as_bytes()),
        (136, b"00000000001\0"),
        (148, b"        "),
        (157, target),
        (257, b"ustar\x0000"),
    ];
    fields.iter().for_each(|(at, field)| header[*at..at + field.len()].copy_from_slice(field));
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(header);
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// Reads all that there is.
fn walk(tree: &Tree, dir: Ino, budget: &mut usize, depth: usize) {
    let mut found = Vec::new();
    let listed = tree.readdir(dir, 0, &mut |listed| {
        *budget = budget.saturating_sub(1);
        if let Ok(name) = Name::new(listed.name) {
            found.push((name.to_boxed(), listed.ino, listed.kind));
        }
        if *budget == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    listed.expect("a directory that is there");
    for (name, ino, kind) in found {
        let attr = tree.lookup(dir, &name).expect("a name that was listed");
        assert_eq!((attr.ino, attr.kind), (ino, kind));
        for name in tree.listxattr(ino).expect("its attributes") {
            tree.getxattr(ino, &name).expect("an attribute that was listed");
        }
        if kind == Kind::Regular {
            tree.read(ino, 0, &mut [0; 9000]).expect("its bytes");
        }
        if kind == Kind::Directory && *budget > 0 && depth < 50 {
            walk(tree, ino, budget, depth + 1);
        }
    }
}
