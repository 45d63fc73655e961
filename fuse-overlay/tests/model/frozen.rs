//! Who looks at a layer and wants it as it is ([`Tree::frozen`]) sees that, whatever happens to it meanwhile; and who writes to it
//! meanwhile notices nothing.

use fuse_overlay::attr::Ino;
use fuse_overlay::union::{Limits, OpenError, Tree};
use proptest::prelude::*;

use super::dump::dump;
use super::harness::{Both, Image, name};
use super::ops::{self, Op};

proptest! {
    #![proptest_config(super::config(150))]

    #[test]
    fn a_tree_that_is_looked_at_stays_as_it_is(
        layers in ops::layers(),
        before in prop::collection::vec(ops::op(), 1..40),
        during in prop::collection::vec(ops::op(), 1..60),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let mut both = Both::new(&image);
        for step in &before {
            both.step(step);
        }
        let seen = Tree::frozen(both.directory(), || Ok::<_, OpenError>(image.lower())).unwrap();
        let first = dump(&seen);
        prop_assert!(first == dump(both.tree()));
        for step in &during {
            both.step(step);
            both.compare();
        }
        both.step(&Op::Sync);
        prop_assert!(dump(&seen) == first);
        drop(seen);
        for step in &before {
            both.step(step);
            both.compare();
        }
    }
}

/// Two may look at once; what the file had before is free when both have gone.
#[test]
fn space_comes_back_when_nobody_looks_any_more() {
    let image = Image::new(&[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(image.lower(), dir.path(), Limits::default()).unwrap();
    let caller = super::ops::CALLER;
    let ino = tree
        .mknod(&caller, Ino::ROOT, name("file"), 0o100_644, 0)
        .unwrap()
        .ino;
    let write = |byte: u8| tree.write(&caller, ino, 0, &vec![byte; 1 << 20], false).unwrap();
    let on_disk = || {
        let _durable = tree.sync().unwrap();
        let meta = std::fs::metadata(dir.path().join("data")).unwrap();
        std::os::unix::fs::MetadataExt::blocks(&meta) * 512
    };
    let look = || Tree::frozen(dir.path(), || Ok::<_, OpenError>(image.lower())).unwrap();
    let has = |seen: &Tree, byte: u8| {
        let mut out = vec![0; 1 << 20];
        seen.read(ino, 0, &mut out).unwrap();
        assert!(out.iter().all(|found| *found == byte), "not {byte}");
    };
    write(1);
    let alone = on_disk();
    let one = look();
    write(2);
    let two = look();
    write(3);
    assert!(on_disk() >= 3 << 20);
    has(&one, 1);
    has(&two, 2);
    has(&tree, 3);
    drop(one);
    write(4);
    has(&two, 2);
    has(&tree, 4);
    drop(two);
    assert_eq!(on_disk(), alone);
    write(5);
    assert_eq!(on_disk(), alone);
    has(&tree, 5);
}
