//! Bytes as notes of what programs touch first: what is read of them are names below the root, each once, and apart from each
//! other what was read of them.
#![no_main]

use std::collections::HashSet;
use std::path::Component;

use fuse_overlay::fuse::touched;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut paths, mut read) = (HashSet::new(), 0);
    for touched in touched::read(bytes) {
        assert!(touched.path.components().all(|part| matches!(part, Component::Normal(_))));
        assert!(!touched.path.as_os_str().is_empty());
        assert!(touched.reads.windows(2).all(|pair| pair[0].end < pair[1].start));
        assert!(touched.reads.iter().all(|read| read.start <= read.end));
        read += touched.reads.iter().map(|read| read.end - read.start).sum::<u64>();
        paths.insert(touched.path);
    }
    assert!(paths.len() <= bytes.len() && read <= 16 << 20);
});
