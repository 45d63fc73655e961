//! The bytes on disk: an index is pinned by golden files, every flipped bit is found, a tar and its index belong together.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod stack;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fuse_overlay::index::format::{self, HEADER_SIZE};
use fuse_overlay::index::view::{Access, LoadError};
use fuse_overlay::index::{NodeId, View, merge};
use fuse_overlay::layer::{self, VerifyError};
use nix::errno::Errno;
use stack::{Tar, path};
use zerocopy::{FromBytes, IntoBytes};

/// Every kind of node and mark, in two layers.
fn layers() -> [Vec<u8>; 2] {
    let lower = Tar::new()
        .dir("etc")
        .pax(&[("SCHILY.xattr.user.a", b"value"), ("mtime", b"-1.5")])
        .file("etc/a", b"lower a")
        .hard_link("etc/b", "etc/a")
        .symlink("link", "etc/a")
        .pax(&[("GNU.sparse.map", b"0,5,50,5"), ("GNU.sparse.size", b"100")])
        .file("sparse", b"0123456789")
        .entry(b"null", b"", |header| {
            header.set_entry_type(tar::EntryType::Char);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        });
    let upper = Tar::new()
        .file("etc/c", b"upper")
        .file("etc/.wh.b", b"")
        .hard_link("d", "etc/a")
        .file("o/.wh..wh..opq", b"");
    [lower.bytes(), upper.bytes()]
}

/// The layer index of the upper layer and the merged index of both, as files.
fn indexes() -> [Vec<u8>; 2] {
    let [lower, upper] = layers().map(|tar| {
        let mut bytes = Vec::new();
        layer::index(&mut &tar[..], &mut bytes).unwrap();
        bytes
    });
    let mut merged = Vec::new();
    let views = [lower, upper.clone()].map(|bytes| View::from_bytes(bytes).unwrap());
    merge::merge(&views, [7; 32], &mut merged).unwrap();
    [upper, merged]
}

/// The format may change only with its version. `BRYO_BLESS=1` writes the files anew.
#[test]
fn index_files_are_what_version_1_writes() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, bytes) in ["layer-1.index", "merged-1.index"].iter().zip(indexes()) {
        let file = golden.join(name);
        if std::env::var_os("BRYO_BLESS").is_some() {
            fs::create_dir_all(&golden).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        assert!(
            fs::read(&file).unwrap() == bytes,
            "{name} is written differently than before"
        );
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for bytes in indexes() {
        View::from_bytes(bytes.clone()).unwrap().check().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let found = View::from_bytes(damaged).and_then(|view| view.check());
            assert!(
                matches!(found, Err(LoadError::Damaged(_) | LoadError::Version(_))),
                "byte {at}"
            );
        }
        for end in (0..bytes.len()).step_by(13) {
            assert!(View::from_bytes(bytes[..end].to_vec()).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn a_damaged_block_is_eio_at_first_touch() {
    let [_, mut bytes] = indexes();
    bytes[4096 + 8] ^= 1;
    let view = View::from_bytes(bytes).unwrap();
    assert_eq!(view.attr(NodeId::ROOT).map_err(|error| error.0), Err(Errno::EIO));
}

/// Found by the fuzz target `index`: what `check` accepts must be readable whole, whatever the checksums say.
#[test]
fn a_wrong_parent_of_a_file_is_found_behind_right_checksums() {
    let [_, mut bytes] = indexes();
    let file = path(&View::from_bytes(bytes.clone()).unwrap(), "etc/a").unwrap();
    let node = HEADER_SIZE as usize + file.0 as usize * size_of::<format::Node>();
    bytes[node + std::mem::offset_of!(format::Node, parent)] = 99;
    let (mut header, _) = format::Header::read_from_prefix(&bytes).unwrap();
    let (covered, sums) = bytes.split_at_mut(header.block_sums.offset.get() as usize);
    sums.copy_from_slice(&crc32c::crc32c(&covered[HEADER_SIZE as usize..]).to_le_bytes());
    header.sums_crc = crc32c::crc32c(sums).into();
    header.header_crc = header.own_crc().into();
    header.write_to_prefix(&mut bytes).unwrap();
    let view = View::from_bytes(bytes).unwrap();
    assert!(matches!(
        view.check(),
        Err(LoadError::Damaged("parent of a node"))
    ));
}

#[test]
fn another_version_is_told_from_damage() {
    let [mut bytes, _] = indexes();
    bytes[8] = 2;
    assert!(matches!(View::from_bytes(bytes), Err(LoadError::Version(2))));
}

#[test]
fn questions_that_do_not_fit_a_node() {
    let [_, bytes] = indexes();
    let view = View::from_bytes(bytes).unwrap();
    let file = path(&view, "etc/a").unwrap();
    assert_eq!(
        view.entries(file)
            .map(|entries| entries.len())
            .map_err(|error| error.0),
        Err(Errno::ENOTDIR)
    );
    assert_eq!(view.target(file).map_err(|error| error.0), Err(Errno::EINVAL));
    assert_eq!(view.extent_count(NodeId::ROOT).unwrap(), 0);
    assert_eq!(
        view.attr(NodeId(u32::MAX)).map_err(|error| error.0),
        Err(Errno::EIO)
    );
    assert_eq!(view.extent(file, 1).map_err(|error| error.0), Err(Errno::EIO));
}

#[test]
fn a_mapped_index_that_is_cut_is_eio_and_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let [_, bytes] = indexes();
    let open = |name: &str| {
        let at = dir.path().join(name);
        fs::write(&at, &bytes).unwrap();
        View::open(File::open(&at).unwrap(), &at, Access::Map).unwrap()
    };
    let (cut, whole) = (open("cut"), open("whole"));
    let file = path(&cut, "etc/a").unwrap();
    assert_eq!(cut.attr(file).unwrap().size, 7);
    File::options()
        .write(true)
        .open(dir.path().join("cut"))
        .unwrap()
        .set_len(0)
        .unwrap();
    assert_eq!(cut.attr(file).map_err(|error| error.0), Err(Errno::EIO));
    assert!(cut.check().is_err());
    assert_eq!(whole.attr(file).unwrap().size, 7);
}

/// The rest is still told, and what had been found good before is not believed where it was lost.
#[test]
fn only_what_was_cut_of_a_mapped_index_is_lost() {
    let names = 3000;
    let tar = (0..names).fold(Tar::new(), |tar, n| tar.file(&format!("{n:04}"), b""));
    let mut index = Vec::new();
    layer::index(&mut &tar.bytes()[..], &mut index).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("index");
    fs::write(&at, &index).unwrap();
    let file = File::options().read(true).write(true).open(&at).unwrap();
    let view = View::open(file.try_clone().unwrap(), &at, Access::Map).unwrap();
    view.check().unwrap();
    let nodes = (0..=names).map(NodeId);
    let before: Vec<_> = nodes.clone().map(|node| view.attr(node).unwrap()).collect();
    // Nodes stand first.
    let kept = 64 * 1024;
    file.set_len(kept).unwrap();
    let mut lost = 0;
    for (node, before) in nodes.zip(before) {
        match view.attr(node).map_err(|error| error.0) {
            Ok(attr) => assert_eq!(attr, before),
            error => {
                assert_eq!(error, Err(Errno::EIO));
                lost += 1;
            }
        }
    }
    let told = u64::from(names - lost) * size_of::<format::Node>() as u64;
    assert!(lost > 0 && (kept - 8192..kept).contains(&told), "{lost} lost");
    assert!(view.check().is_err());
}

#[test]
fn a_tar_is_stored_as_it_is_and_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let options = File::options().read(true).write(true).create_new(true).clone();
        options.open(dir.path().join(name)).unwrap()
    };
    // Bytes behind the end of the archive belong to the layer too.
    let tar = [Tar::new().file("a", &[7; 200_000]).bytes(), b"trailing".to_vec()].concat();
    let (stored_tar, first, second) = (file("tar"), file("first"), file("second"));
    let stored = layer::store(&mut &tar[..], &mut &stored_tar, &mut &first).unwrap();
    assert!(fs::read(dir.path().join("tar")).unwrap() == tar);
    assert_eq!(stored.tar_size, tar.len() as u64);
    assert_eq!(layer::reindex(&stored_tar, &mut &second).unwrap(), stored);
    let index = fs::read(dir.path().join("first")).unwrap();
    assert!(fs::read(dir.path().join("second")).unwrap() == index);

    let view = View::from_bytes(index).unwrap();
    assert_eq!(view.tar_sum(3).unwrap(), crc32c::crc32c(&tar[3 * 65536..]));
    assert!(view.tar_sum(4).is_err());
    layer::verify(&stored_tar, stored.diff_id, Some(&view)).unwrap();
    stored_tar.write_all_at(b"x", 100_000).unwrap();
    assert!(matches!(
        layer::verify(&stored_tar, stored.diff_id, None),
        Err(VerifyError::DiffId(_))
    ));
    let now = layer::reindex(&stored_tar, &mut &second).unwrap();
    assert!(matches!(
        layer::verify(&stored_tar, now.diff_id, Some(&view)),
        Err(VerifyError::Sum(65536))
    ));
}

#[test]
fn no_layer_at_all_is_an_empty_root() {
    let view = stack::merged([]);
    view.check().unwrap();
    assert_eq!(
        (view.node_count(), view.attr(NodeId::ROOT).unwrap().perm),
        (1, 0o755)
    );
}
