//! Random stacks of layers against a plain model of the OCI layer rules: the same paths, metadata, contents and hard links.
//!
//! Names come from three letters, so that they collide. The model works the other way round than the crate: flat maps of
//! whole paths instead of trees, and layers applied from the bottom up instead of merged from the top down.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod model;
mod stack;

use std::collections::BTreeMap;

use fuse_overlay::index::{NodeId, View};
use model::{Entry, Kind, Meta, Stack};
use proptest::prelude::*;
use stack::{Data, Layer, Tar};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stacks_show_what_the_rules_say(layers in prop::collection::vec(prop::collection::vec(entry(), 0..14), 1..5)) {
        let mut model = Stack::default();
        let mut stored = Vec::new();
        for entries in &layers {
            let tar = entries.iter().fold(Tar::new(), write).bytes();
            match (model.push(entries), stack::index(&tar[..])) {
                (Ok(()), Ok(view)) => {
                    view.check().unwrap();
                    stored.push(Layer { view, tar });
                }
                (Err(_), Err(_)) => {}
                (Ok(()), Err(error)) => return Err(TestCaseError::fail(format!("refused: {error}"))),
                (Err(reason), Ok(_)) => return Err(TestCaseError::fail(format!("accepted, though {reason}"))),
            }
        }
        match (model.visible(), stack::try_merge(&stored)) {
            (None, Err(_)) => {}
            (Some(expected), Ok(view)) => {
                view.check().unwrap();
                prop_assert_eq!(tree(&view, &stored), expected);
            }
            (expected, merged) => prop_assert!(false, "merged {:?}, expected {:?}", merged, expected),
        }
    }
}

/// Everything of a merged tree by path. Hard links: the first path of each file.
fn tree(view: &View, layers: &[Layer]) -> BTreeMap<String, model::Shown> {
    let mut shown = BTreeMap::new();
    let mut first_names: BTreeMap<NodeId, String> = BTreeMap::new();
    let mut paths = stack::all_paths(view);
    paths.sort();
    for (path, node) in paths {
        let attr = view.attr(node).unwrap();
        let xattrs = view.xattrs(node).unwrap();
        let kind = match attr.kind {
            fuse_overlay::attr::Kind::Directory => Kind::Directory,
            fuse_overlay::attr::Kind::Symlink => {
                Kind::Symlink(String::from_utf8(view.target(node).unwrap().to_vec()).unwrap())
            }
            fuse_overlay::attr::Kind::Regular => Kind::File(Data::Whole(stack::content(view, layers, node))),
            fuse_overlay::attr::Kind::Fifo => Kind::Fifo,
            fuse_overlay::attr::Kind::CharDevice => Kind::Device(attr.rdev),
            fuse_overlay::attr::Kind::BlockDevice => Kind::BlockDevice(attr.rdev),
            other => panic!("{other:?}"),
        };
        let meta = Meta {
            perm: attr.perm,
            uid: attr.uid,
            gid: attr.gid,
            mtime: (attr.mtime.sec, attr.mtime.nsec),
            xattrs: xattrs
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        };
        let first_name = first_names.entry(node).or_insert_with(|| path.clone()).clone();
        shown.insert(
            path,
            model::Shown {
                kind,
                meta,
                nlink: attr.nlink,
                first_name,
            },
        );
    }
    shown
}

/// Writes an entry in the format that its metadata and data need.
fn write(tar: Tar, entry: &Entry) -> Tar {
    let Meta {
        perm,
        uid,
        gid,
        mtime: (sec, nsec),
        ref xattrs,
    } = entry.meta;
    let mut pax: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in xattrs {
        let name = String::from_utf8(name.clone()).unwrap();
        pax.push((format!("SCHILY.xattr.{name}"), value.clone()));
    }
    if nsec != 0 || sec < 0 {
        assert!(nsec == 500_000_000 && sec >= -1);
        let text = if sec < 0 {
            "-0.5".to_owned()
        } else {
            format!("{sec}.5")
        };
        pax.push(("mtime".into(), text.into()));
    }
    let edit = |header: &mut tar::Header| {
        header.set_mode(perm.into());
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(sec.max(0) as u64);
    };
    let path = entry.path.as_bytes();
    match &entry.kind {
        Kind::File(data) => stack::write_file(tar, path, data, pax, edit),
        Kind::Directory => tar.pax_owned(pax).entry(path, b"", |header| {
            edit(header);
            header.set_entry_type(tar::EntryType::Directory);
        }),
        Kind::Symlink(target) | Kind::HardLink(target) => tar.pax_owned(pax).entry(path, b"", |header| {
            edit(header);
            let hard = matches!(entry.kind, Kind::HardLink(_));
            header.set_entry_type(if hard {
                tar::EntryType::Link
            } else {
                tar::EntryType::Symlink
            });
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        }),
        Kind::Fifo => tar.pax_owned(pax).entry(path, b"", |header| {
            edit(header);
            header.set_entry_type(tar::EntryType::Fifo);
        }),
        Kind::Device(rdev) | Kind::BlockDevice(rdev) => tar.pax_owned(pax).entry(path, b"", |header| {
            edit(header);
            header.set_entry_type(match entry.kind {
                Kind::BlockDevice(_) => tar::EntryType::Block,
                _ => tar::EntryType::Char,
            });
            header.set_device_major(rdev >> 8).unwrap();
            header.set_device_minor(rdev & 0xff).unwrap();
        }),
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["a", "b", "c"][..])
}

fn plain_path() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"))
}

/// Paths as tars spell them, whiteouts and opaque marks among them.
fn path() -> impl Strategy<Value = String> {
    let prefix = prop::sample::select(&["", "", "./", "/"][..]);
    let suffix = prop::sample::select(&["", "", "", "/"][..]);
    prop_oneof![
        60 => (prefix, plain_path(), suffix).prop_map(|(prefix, path, suffix)| format!("{prefix}{path}{suffix}")),
        20 => (plain_path(), name()).prop_map(|(dir, name)| format!("{dir}/.wh.{name}")),
        10 => name().prop_map(|name| format!(".wh.{name}")),
        10 => plain_path().prop_map(|dir| format!("{dir}/.wh..wh..opq")),
        3 => Just(".wh..wh..opq".to_owned()),
        5 => plain_path().prop_map(|dir| format!("{dir}/.wh..wh.aufs")),
        1 => Just("./".to_owned()),
        1 => plain_path().prop_map(|path| format!("{path}/../a")),
    ]
}

fn link_target() -> impl Strategy<Value = String> {
    let prefix = prop::sample::select(&["", "", "/", "./", "../", "../../"][..]);
    (prefix, plain_path()).prop_map(|(prefix, path)| format!("{prefix}{path}"))
}

fn data() -> impl Strategy<Value = Data> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..40);
    let parts = || prop::collection::vec((0u64..2000, bytes()), 0..7);
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..1500).prop_map(Data::Whole),
        1 => (parts(), 0u64..100, 0u8..4).prop_map(|(parts, tail, format)| Data::Sparse { parts, tail, format }),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => data().prop_map(Kind::File),
        4 => Just(Kind::Directory),
        2 => link_target().prop_map(Kind::Symlink),
        2 => plain_path().prop_map(Kind::HardLink),
        1 => Just(Kind::Fifo),
        1 => (0u32..4096).prop_map(Kind::Device),
        1 => (0u32..4096).prop_map(Kind::BlockDevice),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let xattr = (
        prop::sample::select(&["user.a", "user.b"][..]),
        prop::collection::vec(any::<u8>(), 0..5),
    );
    let xattrs = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(xattr, 1..3)];
    let mtime = prop_oneof![4 => (0i64..10).prop_map(|sec| (sec, 0)), 1 => (-1i64..3).prop_map(|sec| (sec, 500_000_000))];
    (
        prop::sample::select(&[0o644u16, 0o755, 0o4755, 0o1777][..]),
        0u32..3,
        0u32..3,
        mtime,
        xattrs,
    )
        .prop_map(|(perm, uid, gid, mtime, xattrs)| {
            let xattrs = xattrs
                .into_iter()
                .map(|(name, value)| (name.as_bytes().to_vec(), value))
                .collect();
            Meta {
                perm,
                uid,
                gid,
                mtime,
                xattrs,
            }
        })
}

fn entry() -> impl Strategy<Value = Entry> {
    (path(), kind(), meta()).prop_map(|(path, kind, meta)| Entry { path, kind, meta })
}
