//! Bytes as an index file: every accessor answers or fails, and what `check` accepts can be walked whole.
#![no_main]

use fuse_overlay::index::format::{BLOCK, HEADER_SIZE, Header};
use fuse_overlay::index::{NodeId, View};
use fuse_overlay::name::Name;
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    reseal(&mut bytes);
    let Ok(view) = View::from_bytes(bytes) else { return };
    let sound = view.check().is_ok();
    let walked = walk(&view);
    assert!(
        !sound || walked.is_ok(),
        "check accepts what cannot be read: {walked:?}"
    );
});

/// Asks everything of every node. A node's failure does not end the walk.
fn walk(view: &View) -> fuse_overlay::error::Result<()> {
    let mut result = view.layers().map(|_| ());
    for node in (0..view.node_count().min(10_000)).map(NodeId) {
        let asked = ask(view, node);
        result = result.and(asked);
    }
    let _ = view.tar_sum(0);
    let _ = ask(view, NodeId(u32::MAX));
    result
}

fn ask(view: &View, node: NodeId) -> fuse_overlay::error::Result<()> {
    use fuse_overlay::attr::Kind;
    let mut result = Ok(());
    let attr = view.attr(node);
    let mut note = |asked: fuse_overlay::error::Result<()>| result = result.and(asked);
    note(attr.map(|_| ()));
    note(view.parent(node).map(|_| ()));
    note(view.marks(node).map(|_| ()));
    note(view.link_below(node).map(|_| ()));
    note(view.xattrs(node).map(|_| ()));
    note(view.extent_count(node).map(|_| ()));
    for i in 0..view.extent_count(node).unwrap_or(0).min(100) {
        note(view.extent(node, i).map(|_| ()));
    }
    let kind = attr.map(|attr| attr.kind);
    match (view.target(node), kind) {
        (target, Ok(Kind::Symlink)) => note(target.map(|_| ())),
        (target, Ok(_)) => assert!(target.is_err()),
        // A symlink whose other fields are damaged may still have its target.
        (_, Err(_)) => {}
    }
    match (view.entries(node), kind) {
        (Ok(entries), _) => {
            for i in 0..entries.len().min(100) {
                let entry = entries.get(i);
                note(entry.map(|_| ()));
                let Ok(entry) = entry else { continue };
                note(view.lookup(node, entry.name).map(|_| ()));
            }
            note(view.lookup(node, Name::new(b"a").expect("a name")).map(|_| ()));
        }
        (Err(error), Ok(Kind::Directory)) => note(Err(error)),
        (Err(_), _) => {}
    }
    result
}

/// Puts the checksums right, which no fuzzer finds by chance.
fn reseal(file: &mut [u8]) {
    let Ok((mut header, _)) = Header::read_from_prefix(file) else {
        return;
    };
    let sums_at = usize::try_from(header.block_sums.offset.get()).unwrap_or(usize::MAX);
    if let Some((covered, sums)) = file.split_at_mut_checked(sums_at) {
        let blocks = covered
            .get(HEADER_SIZE as usize..)
            .unwrap_or_default()
            .chunks(BLOCK as usize);
        for (block, sum) in blocks.zip(sums.chunks_exact_mut(4)) {
            sum.copy_from_slice(&crc32c::crc32c(block).to_le_bytes());
        }
        header.sums_crc = crc32c::crc32c(sums).into();
    }
    header.header_crc = header.own_crc().into();
    let _ = zerocopy::IntoBytes::write_to_prefix(&header, file);
}
