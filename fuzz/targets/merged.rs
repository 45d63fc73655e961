//! Bytes as a stack of up to four tars, each entry made of a few bytes, so that names collide and layers meet.
#![no_main]

use fuse_overlay::index::View;
use fuse_overlay::index::merge::{MergeError, merge};
use fuse_overlay::layer;
use libfuzzer_sys::fuzz_target;

/// Parts of paths: colliding names and all that the rules treat apart.
const PARTS: [&[u8]; 16] = [
    b"a",
    b"b",
    b"c",
    b".wh.a",
    b".wh.b",
    b".wh..wh..opq",
    b".wh..wh.x",
    b"..",
    b".",
    b"",
    b"a/b",
    b"b/c",
    b"a/b/c",
    b"/a",
    b"c/a",
    b".wh.",
];

fuzz_target!(|bytes: &[u8]| {
    let mut views = Vec::new();
    for layer in bytes.chunks(bytes.len().div_ceil(4).max(4)) {
        let mut index = Vec::new();
        if layer::index(&mut &tar(layer)[..], &mut index).is_ok() {
            let view = View::from_bytes(index).expect("a builder's index");
            view.check().expect("a builder's index");
            views.push(view);
        }
    }
    let mut merged = Vec::new();
    match merge(&views, [1; 32], &mut merged) {
        Ok(()) => View::from_bytes(merged)
            .expect("a merged index")
            .check()
            .expect("a merged index"),
        Err(MergeError::Link { .. }) => {}
        Err(other) => panic!("{other}"),
    }
});

/// Four bytes an entry: type, two parts of its path, one of its link's target.
fn tar(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in bytes.chunks_exact(4) {
        let part = |byte: u8| PARTS[usize::from(byte % 16)];
        let mut header = [0u8; 512];
        let path = [part(entry[1]), part(entry[2])].join(&b'/');
        header[..path.len()].copy_from_slice(&path);
        header[100..107].copy_from_slice(b"0000755");
        header[156] = b"0123456"[usize::from(entry[0] % 7)];
        let target = [part(entry[3]), part(entry[3] >> 4)].join(&b'/');
        header[157..157 + target.len()].copy_from_slice(&target);
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
    }
    tar
}
