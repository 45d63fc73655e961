//! Bytes as a layer's tar: refused, or an index that is sound and merges into a sound one.
#![no_main]

use fuse_overlay::index::View;
use fuse_overlay::index::merge::{MergeError, merge};
use fuse_overlay::layer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|tar: &[u8]| {
    let mut index = Vec::new();
    let Ok(stored) = layer::index(&mut &tar[..], &mut index) else {
        return;
    };
    assert_eq!(stored.tar_size, tar.len() as u64);
    let view = View::from_bytes(index).expect("a builder's index");
    view.check().expect("a builder's index");
    assert_eq!(view.node_count(), stored.nodes);
    let mut merged = Vec::new();
    match merge(&[view], [1; 32], &mut merged) {
        Ok(()) => View::from_bytes(merged)
            .expect("a merged index")
            .check()
            .expect("a merged index"),
        Err(MergeError::Link { .. }) => {}
        Err(other) => panic!("{other}"),
    }
});
