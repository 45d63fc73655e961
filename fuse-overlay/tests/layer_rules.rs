//! How a tar becomes entries, and layers one tree: one test for each rule in `ARCHITECTURE.md`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod stack;

use std::io::Read;

use fuse_overlay::attr::{Attr, Kind, Time};
use fuse_overlay::index::View;
use fuse_overlay::layer::LayerError;
use stack::{Tar, all_paths, index, merged, names, path};
use tar::EntryType;

fn attr(view: &View, at: &str) -> Attr {
    view.attr(path(view, at).unwrap_or_else(|| panic!("no {at}")))
        .unwrap()
}

/// Why a tar is refused.
fn refusal(tar: impl Read) -> String {
    match index(tar) {
        Err(LayerError::Entry { reason, .. }) => reason.to_owned(),
        other => panic!("{other:?}"),
    }
}

fn refused(tar: Tar) -> String {
    refusal(&tar.bytes()[..])
}

#[test]
fn spellings_of_a_path_are_one() {
    let view = merged([Tar::new()
        .file("./a", b"1")
        .file("/a", b"22")
        .dir("b//")
        .file("b/./c", b"")
        .file("b//c", b"3")]);
    assert_eq!(names(&view, ""), ["a", "b"]);
    assert_eq!(attr(&view, "a").size, 2);
    assert_eq!(attr(&view, "b/c").size, 1);
}

#[test]
fn names_that_could_leave_the_tree_are_refused() {
    assert!(refused(Tar::new().file("../a", b"")).contains("\"..\""));
    assert!(refused(Tar::new().file("a/../../b", b"")).contains("\"..\""));
    assert!(refused(Tar::new().hard_link("a", "../b")).contains("\"..\""));
    assert!(
        refused(
            Tar::new()
                .pax(&[("path", "n".repeat(256).as_bytes())])
                .file("x", b"")
        )
        .contains("255")
    );
    assert!(refused(Tar::new().pax(&[("path", b"a\0b")]).file("x", b"")).contains("PAX"));
    assert!(
        refused(
            Tar::new()
                .pax(&[("path", "a/".repeat(2048).as_bytes())])
                .file("x", b"")
        )
        .contains("4095")
    );
    assert!(refused(Tar::new().file("./", b"")).contains("root"));
}

#[test]
fn names_need_not_be_utf8() {
    let view = merged([Tar::new().entry(b"\xff\xfe", b"x", |_| {})]);
    assert_eq!(names(&view, ""), [r"\xff\xfe"]);
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let view = merged([Tar::new().file("a", b"1").symlink("a", "x").file("a", b"22")]);
    assert_eq!((attr(&view, "a").kind, attr(&view, "a").size), (Kind::Regular, 2));
    assert_eq!(view.node_count(), 2);
}

#[test]
fn files_replace_directories_and_back() {
    let view = merged([Tar::new().file("d/x", b"").file("d", b"file")]);
    assert_eq!(all_paths(&view).len(), 2);
    let view = merged([Tar::new().file("d", b"file").dir("d").file("d/x", b"")]);
    assert_eq!(names(&view, "d"), ["x"]);
    // Across layers too: nothing of the lower directory comes back.
    let view = merged([
        Tar::new().file("d/x", b""),
        Tar::new().file("d", b""),
        Tar::new().file("d/y", b""),
    ]);
    assert_eq!(names(&view, "d"), ["y"]);
}

#[test]
fn a_directory_named_again_keeps_its_entries() {
    let again = |tar: Tar| {
        tar.entry(b"d", b"", |header| {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o1777);
        })
    };
    let view = merged([again(Tar::new().dir("d").file("d/x", b""))]);
    assert_eq!(
        (attr(&view, "d").perm, names(&view, "d")),
        (0o1777, vec!["x".to_owned()])
    );
    let view = merged([Tar::new().dir("d").file("d/x", b""), again(Tar::new())]);
    assert_eq!(
        (attr(&view, "d").perm, names(&view, "d")),
        (0o1777, vec!["x".to_owned()])
    );
}

#[test]
fn a_file_as_a_parent_is_refused() {
    assert!(refused(Tar::new().file("a", b"").file("a/b", b"")).contains("not a directory"));
}

#[test]
fn symlinked_parents_are_followed_inside_the_tar() {
    let tar = Tar::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("up", "/../../usr")
        .file("lib/a", b"");
    let view = merged([tar.file("up/lib/b", b"").hard_link("c", "up/lib/a")]);
    assert_eq!(names(&view, "usr/lib"), ["a", "b"]);
    assert_eq!(path(&view, "c"), path(&view, "usr/lib/a"));
}

#[test]
fn dangling_and_looping_parents_are_refused() {
    assert!(refused(Tar::new().symlink("l", "nowhere").file("l/a", b"")).contains("dangling"));
    assert!(
        refused(Tar::new().symlink("l", "m").symlink("m", "l").file("l/a", b""))
            .contains("too many symlinks")
    );
}

#[test]
fn a_lower_symlink_is_replaced_by_an_upper_directory() {
    let view = merged([
        Tar::new().dir("usr").symlink("l", "usr"),
        Tar::new().file("l/a", b""),
    ]);
    assert_eq!(attr(&view, "l").kind, Kind::Directory);
    assert_eq!(names(&view, "usr"), [""; 0]);
}

#[test]
fn a_whiteout_hides_only_what_is_below() {
    let lower = || {
        Tar::new()
            .file("d/a", b"lower")
            .file("d/b", b"")
            .file("d/sub/x", b"")
    };
    let view = merged([lower(), Tar::new().file("d/.wh.a", b"").file("d/.wh.sub", b"")]);
    assert_eq!(names(&view, "d"), ["b"]);
    // The order of a name and its whiteout in one tar does not matter.
    for upper in [
        Tar::new().file("d/a", b"up").file("d/.wh.a", b""),
        Tar::new().file("d/.wh.a", b"").file("d/a", b"up"),
    ] {
        assert_eq!(attr(&merged([lower(), upper]), "d/a").size, 2);
    }
    let view = merged([lower(), Tar::new().file("d/.wh.sub", b"").file("d/sub/y", b"")]);
    assert_eq!(names(&view, "d/sub"), ["y"]);
}

#[test]
fn an_opaque_directory_hides_all_that_is_below() {
    let lower = || Tar::new().file("d/a", b"").file("d/sub/x", b"");
    for upper in [
        Tar::new().file("d/.wh..wh..opq", b"").file("d/n", b""),
        Tar::new().file("d/n", b"").file("d/.wh..wh..opq", b""),
    ] {
        assert_eq!(names(&merged([lower(), upper]), "d"), ["n"]);
    }
    let view = merged([lower(), Tar::new().file(".wh..wh..opq", b"").file("new", b"")]);
    assert_eq!(names(&view, ""), ["new"]);
    // What lies above an opaque directory shows in it.
    let view = merged([
        lower(),
        Tar::new().file("d/.wh..wh..opq", b"").file("d/n", b""),
        Tar::new().file("d/top", b""),
    ]);
    assert_eq!(names(&view, "d"), ["n", "top"]);
}

#[test]
fn odd_whiteouts() {
    let view = merged([Tar::new()
        .file(".wh..wh.plnk/1.2", b"")
        .file("d/.wh..wh.aufs", b"")
        .file("a", b"")]);
    assert_eq!(names(&view, ""), ["a"]);
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh.x/y"] {
        assert!(refused(Tar::new().file(bad, b"")).contains("whiteout"), "{bad}");
    }
}

#[test]
fn implied_directories_take_the_lower_metadata() {
    let dir = |tar: Tar| {
        tar.entry(b"d", b"", |header| {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o700);
            header.set_uid(5);
        })
    };
    let view = merged([dir(Tar::new()), Tar::new().file("d/a", b"")]);
    assert_eq!((attr(&view, "d").perm, attr(&view, "d").uid), (0o700, 5));
    let view = merged([dir(Tar::new()), Tar::new().file("d/.wh..wh..opq", b"")]);
    assert_eq!(
        (attr(&view, "d").perm, attr(&view, "d").uid),
        (0o700, 5),
        "opaque and implied"
    );
    let view = merged([dir(Tar::new()), Tar::new().file(".wh.d", b"").file("d/a", b"")]);
    assert_eq!(
        (attr(&view, "d").perm, attr(&view, "d").uid),
        (0o755, 0),
        "removed and made again"
    );
    let view = merged([Tar::new().file("x/y/z", b"")]);
    assert_eq!(
        (
            attr(&view, "x/y").perm,
            attr(&view, "x").uid,
            attr(&view, "x").mtime
        ),
        (0o755, 0, Time::default())
    );
}

#[test]
fn gnu_long_names_and_links() {
    let name = format!("{}/{}", "d".repeat(150), "n".repeat(200));
    let target = "t".repeat(300);
    let long = |tar: Tar, text: &str, kind| {
        tar.entry(b"././@LongLink", &[text.as_bytes(), b"\0"].concat(), |header| {
            header.set_entry_type(kind);
        })
    };
    let tar = long(
        long(Tar::new(), &name, EntryType::GNULongName),
        &target,
        EntryType::GNULongLink,
    );
    let view = merged([tar.symlink("short", "short")]);
    assert_eq!(
        view.target(path(&view, &name).unwrap()).unwrap(),
        target.as_bytes()
    );
    assert_eq!(attr(&view, &name).size, 300);
}

#[test]
fn pax_records_override_the_header() {
    let tar = Tar::new()
        .pax(&[
            ("path", b"long/name"),
            ("uid", b"3000000000"),
            ("gid", b"7"),
            ("mtime", b"-1.25"),
            ("SCHILY.xattr.security.capability", b"\x01\n\0"),
            ("LIBARCHIVE.xattr.user.b", b"eA"),
        ])
        .file("short", b"data");
    let view = merged([tar
        .pax(&[("size", b"3")])
        .entry(b"sized", b"abc", |header| header.set_size(0))]);
    let found = attr(&view, "long/name");
    assert_eq!(
        (found.uid, found.gid, found.mtime),
        (
            3_000_000_000,
            7,
            Time {
                sec: -2,
                nsec: 750_000_000
            }
        )
    );
    let xattrs = view.xattrs(path(&view, "long/name").unwrap()).unwrap();
    assert_eq!(
        xattrs,
        [(&b"security.capability"[..], &b"\x01\n\0"[..]), (b"user.b", b"x")]
    );
    assert_eq!(attr(&view, "sized").size, 3);
}

#[test]
fn global_pax_headers_are_passed_over() {
    let global = |record: &[u8]| {
        Tar::new().entry(b"pax_global_header", record, |header| {
            header.set_entry_type(EntryType::XGlobalHeader);
        })
    };
    let view = merged([global(b"18 comment=abcdef\n").file("a", b"x")]);
    assert_eq!(names(&view, ""), ["a"]);
    assert!(refused(global(b"9 size=1\n").file("a", b"x")).contains("global"));
}

#[test]
fn base_256_numbers_and_bad_ones() {
    let view = merged([Tar::new().entry(b"a", b"", |header| header.set_uid(4_000_000_000))]);
    assert_eq!(attr(&view, "a").uid, 4_000_000_000);
    let negative = |header: &mut tar::Header| header.as_old_mut().size = [0xff; 12];
    assert!(refused(Tar::new().entry(b"a", b"", negative)).contains("size"));
    assert!(refused(Tar::new().entry(b"a", b"", |header| header.set_uid(1 << 32))).contains("owner"));
    assert!(
        refused(Tar::new().entry(b"a", b"", |header| header.as_old_mut().mode = *b"rwxr-xr-"))
            .contains("mode")
    );
    assert!(
        refused(
            Tar::new()
                .pax(&[("size", b"99999999999999999999")])
                .file("a", b"")
        )
        .contains("number")
    );
}

#[test]
fn devices_keep_their_numbers() {
    let device = |major, minor| {
        Tar::new().entry(b"dev", b"", |header| {
            header.set_entry_type(EntryType::Block);
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    };
    let view = merged([device(259, 70_000)]);
    let expected = (70_000 & 0xff) | (259 << 8) | ((70_000 & !0xff) << 12);
    assert_eq!(
        (attr(&view, "dev").kind, attr(&view, "dev").rdev),
        (Kind::BlockDevice, expected)
    );
    assert!(refused(device(5000, 0)).contains("device"));
}

#[test]
fn unknown_kinds_of_entries_are_refused() {
    assert!(
        refused(Tar::new().entry(b"a", b"", |header| header.set_entry_type(EntryType::new(b'M'))))
            .contains("type")
    );
}

#[test]
fn hard_links_of_one_tar_are_one_file() {
    let view = merged([Tar::new()
        .file("a", b"12")
        .hard_link("d/b", "a")
        .symlink("s", "a")
        .hard_link("t", "s")]);
    assert_eq!(path(&view, "a"), path(&view, "d/b"));
    assert_eq!(attr(&view, "a").nlink, 2);
    assert_eq!(path(&view, "s"), path(&view, "t"), "a symlink itself is linked");
    // The other name lives on when one is replaced or hidden.
    let view = merged([Tar::new().file("a", b"12").hard_link("b", "a").file("a", b"1")]);
    assert_eq!(
        (
            attr(&view, "a").size,
            attr(&view, "b").size,
            attr(&view, "b").nlink
        ),
        (1, 2, 1)
    );
    let view = merged([
        Tar::new().file("a", b"12").hard_link("b", "a"),
        Tar::new().file(".wh.a", b""),
    ]);
    assert_eq!(attr(&view, "b").nlink, 1);
    assert!(refused(Tar::new().dir("d").hard_link("l", "d")).contains("directory"));
}

#[test]
fn hard_links_to_below_share_the_lower_file() {
    let lower = || {
        Tar::new()
            .file("d/a", b"123")
            .symlink("s", "d")
            .symlink("loop", "loop")
    };
    let view = merged([lower(), Tar::new().hard_link("b", "s/a")]);
    assert_eq!(path(&view, "b"), path(&view, "d/a"));
    assert_eq!(attr(&view, "b").nlink, 2);
    // The link means the file below, whatever its own layer does to that name.
    let view = merged([
        lower(),
        Tar::new()
            .hard_link("b", "d/a")
            .file("d/a", b"new")
            .file("d/.wh.x", b""),
    ]);
    assert_eq!((attr(&view, "b").size, attr(&view, "d/a").size), (3, 3));
    assert_ne!(path(&view, "b"), path(&view, "d/a"));
    for (target, reason) in [
        ("no", "no such file"),
        ("d", "directory"),
        ("d/a/x", "no directory"),
        ("loop/x", "no directory"),
    ] {
        let layers = [lower(), Tar::new().hard_link("b", target)].map(|tar| index(&tar.bytes()[..]).unwrap());
        let error = fuse_overlay::index::merge::merge(&layers, [0; 32], &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains(&format!("\"{target}\"")),
            "{error}"
        );
    }
}

#[test]
fn a_hundred_and_twenty_seven_layers() {
    let layer = |i: usize| {
        Tar::new()
            .file("same", &vec![b'x'; i])
            .file(&format!("d/{i:03}"), b"")
            .file(&format!("d/.wh.{:03}", i / 2), b"")
    };
    let view = merged((1..=127).map(layer));
    view.check().unwrap();
    assert_eq!(attr(&view, "same").size, 127);
    let expected: Vec<String> = (1..=127).filter(|i| *i > 63).map(|i| format!("{i:03}")).collect();
    assert_eq!(names(&view, "d"), expected);
    assert_eq!(view.layers().unwrap().len(), 127);
}

#[test]
fn a_stream_that_ends_early_is_an_error() {
    let bytes = Tar::new().file("a", &[1; 1000]).bytes();
    for end in [1, 511, 513, 1000, 1512, 2047] {
        assert!(refusal(&bytes[..end]).contains("ends inside"), "{end}");
    }
    // Many tools leave the end-of-archive marker out or short; Go's reader does not mind.
    for end in [0, 1536, 2048] {
        assert!(index(&bytes[..end]).is_ok(), "{end}");
    }
}

#[test]
fn a_small_body_may_claim_ten_gigabytes() {
    let claim = Tar::new().entry(b"big", b"small", |header| header.set_size(10 << 30));
    assert!(refused(claim).contains("ends inside"));
    let pax = Tar::new().entry(b"x", b"", |header| {
        header.set_entry_type(EntryType::XHeader);
        header.set_size(10 << 30);
    });
    assert!(refused(pax).contains("1 MiB"));
    let big_xattr = Tar::new()
        .pax(&[("SCHILY.xattr.user.x", &[0; 70_000])])
        .file("a", b"");
    assert!(refused(big_xattr).contains("64 KiB"));
    let names: Vec<String> = (0..600).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let many_xattrs = Tar::new().pax(&records).file("a", b"");
    assert!(refused(many_xattrs).contains("64 KiB"));
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let map = |map: &str| {
        let records = [
            ("GNU.sparse.map", map.as_bytes()),
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.numblocks", b"2"),
        ];
        Tar::new().pax(&records).file("a", b"0123456789")
    };
    assert!(index(&map("0,5,50,5").bytes()[..]).is_ok());
    for bad in [
        "0,5",
        "50,5,0,5",
        "0,6,50,5",
        "0,5,99,5",
        "0,5,18446744073709551615,5",
        "0,5,x,5",
        "0,5,50",
    ] {
        assert!(refused(map(bad)).contains("sparse"), "{bad}");
    }
}

#[test]
fn what_is_no_tar_is_refused() {
    assert!(refusal(&b"<!DOCTYPE html>".repeat(100)[..]).contains("not a tar header"));
    let mut bytes = Tar::new().file("a", b"").bytes();
    bytes[0] = b'b';
    assert!(refusal(&bytes[..]).contains("checksum"));
    let lone = [vec![0; 512], Tar::new().file("a", b"").bytes()].concat();
    assert!(refusal(&lone[..]).contains("zeros"));
}

#[test]
fn a_file_larger_than_a_container_could_make_is_refused() {
    let sparse = |size: &str| {
        Tar::new()
            .pax(&[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", b"0,0")])
            .file("a", b"")
    };
    assert_eq!(
        attr(&merged([sparse("9223372036854771712")]), "a").size,
        9_223_372_036_854_771_712
    );
    assert!(refused(sparse("9223372036854771713")).contains("size"));
    assert!(refused(sparse("9223372036854775807")).contains("size"));
}
