//! One rule, one test: what random operations hit seldom or cannot tell.

use std::cell::Cell;
use std::os::unix::fs::FileExt;

use fuse_overlay::attr::{Attr, Ino, Time};
use fuse_overlay::error::Error;
use fuse_overlay::union::{Allocate, Caller, Limits, Released, SetAttr, SetGroupId, SetTime, SetXattr, Tree};
use nix::errno::Errno;

use super::disk::{Fault, MemoryDisk};
use super::harness::{Image, list, name, pattern};
use super::ops::{CALLER, LayerEntry};

const REGULAR: u32 = 0o100_644;

struct Mounted {
    image: Image,
    disk: MemoryDisk,
    tree: Tree,
}

fn mounted_with(layer: Vec<LayerEntry>, limits: Limits) -> Mounted {
    let image = Image::new(&[layer]).unwrap();
    let disk = MemoryDisk::new();
    let tree = Tree::open_on(image.lower(), disk.storage(), limits).unwrap();
    Mounted { image, disk, tree }
}

fn mounted(layer: Vec<LayerEntry>) -> Mounted {
    mounted_with(layer, Limits::default())
}

fn file(tree: &Tree, text: &str) -> Ino {
    tree.mknod(&CALLER, Ino::ROOT, name(text), REGULAR, 0)
        .unwrap()
        .ino
}

fn fails<T: std::fmt::Debug>(result: fuse_overlay::error::Result<T>, errno: Errno) {
    assert_eq!(result.unwrap_err(), Error(errno));
}

fn bytes(tree: &Tree, ino: Ino) -> Vec<u8> {
    let mut out = vec![0; tree.getattr(ino).unwrap().size as usize];
    assert_eq!(tree.read(ino, 0, &mut out).unwrap(), out.len());
    out
}

#[test]
fn an_unlinked_file_lives_until_it_is_forgotten() {
    let Mounted { tree, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    tree.write(&CALLER, ino, 0, b"still here", false).unwrap();
    tree.unlink(&CALLER, Ino::ROOT, name("a")).unwrap();
    assert_eq!(tree.getattr(ino).unwrap().nlink, 0);
    assert_eq!(bytes(&tree, ino), b"still here");
    tree.forget(ino, 1);
    fails(tree.getattr(ino), Errno::ESTALE);
}

#[test]
fn freed_pages_are_used_again_only_after_a_sync() {
    let Mounted { tree, disk, .. } = mounted(vec![]);
    let fill = |text: &str| {
        let ino = file(&tree, text);
        tree.write(&CALLER, ino, 0, &[7; 40_960], false).unwrap();
        tree.unlink(&CALLER, Ino::ROOT, name(text)).unwrap();
        tree.forget(ino, 1);
    };
    let size = || disk.data.bytes.lock().cache.len();
    fill("a");
    let one = size();
    fill("b");
    assert_eq!(size(), 2 * one, "the pages of a may come back with the power");
    drop(tree.sync().unwrap());
    assert!(
        disk.data.bytes.lock().cache.iter().all(|byte| *byte == 0),
        "punched"
    );
    fill("c");
    assert_eq!(size(), 2 * one);
}

#[test]
fn the_byte_limit_is_enospc_and_removing_makes_room() {
    let limits = Limits {
        bytes: Some(256 << 10),
        inodes: None,
    };
    let Mounted { tree, .. } = mounted_with(vec![], limits);
    let ino = file(&tree, "a");
    let block = [1; 4096];
    let full = (0..1000)
        .find(|i| tree.write(&CALLER, ino, i * 4096, &block, false).is_err())
        .unwrap();
    assert!((40..64).contains(&full), "{full}");
    fails(
        tree.write(&CALLER, ino, full * 4096, &block, false),
        Errno::ENOSPC,
    );
    assert_eq!(tree.getattr(ino).unwrap().size, full * 4096);
    tree.setattr(
        &CALLER,
        ino,
        &SetAttr {
            size: Some(0),
            ..SetAttr::default()
        },
    )
    .unwrap();
    tree.write(&CALLER, ino, 0, &block, false).unwrap();
}

#[test]
fn the_inode_limit_is_enospc_until_one_is_gone() {
    let limits = Limits {
        bytes: None,
        inodes: Some(2),
    };
    let Mounted { tree, .. } = mounted_with(vec![], limits);
    let ino = file(&tree, "a");
    file(&tree, "b");
    fails(
        tree.mknod(&CALLER, Ino::ROOT, name("c"), REGULAR, 0),
        Errno::ENOSPC,
    );
    // The kernel forgets a removed file when it likes.
    let nameless = {
        tree.unlink(&CALLER, Ino::ROOT, name("a")).unwrap();
        tree.tmpfile(&CALLER, Ino::ROOT, 0o644).unwrap().ino
    };
    file(&tree, "c");
    for unnamed in [ino, nameless] {
        fails(tree.link(&CALLER, unnamed, Ino::ROOT, name("d")), Errno::ENOSPC);
    }
    tree.forget(ino, 1);
    assert_eq!(tree.statfs().unwrap().inodes[1], 0);
    tree.unlink(&CALLER, Ino::ROOT, name("b")).unwrap();
    tree.link(&CALLER, nameless, Ino::ROOT, name("d")).unwrap();
    assert_eq!(tree.statfs().unwrap().inodes[1], 0);
}

#[test]
fn a_checkpoint_that_is_being_made_does_not_count_against_the_limit() {
    let limits = Limits {
        bytes: Some(400 << 10),
        inodes: None,
    };
    let Mounted { tree, .. } = mounted_with(vec![], limits);
    for number in 0..600 {
        file(&tree, &format!("{number:0200}"));
    }
    let free = tree.statfs().unwrap().blocks[1];
    let made = Cell::new(0);
    let go_on = || {
        file(&tree, &format!("beside {}", made.get()));
        made.set(made.get() + 1);
        true
    };
    tree.checkpoint(&go_on).unwrap();
    assert!(made.get() > 600, "{}", made.get());
    assert!(tree.statfs().unwrap().blocks[1] <= free);
}

#[test]
fn a_full_disk_still_lets_files_be_removed() {
    let Mounted { tree, disk, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    let calls = disk.plan.lock().calls;
    disk.plan.lock().faults = (calls..calls + 1000)
        .map(|call| (call, Fault::Errno(Errno::ENOSPC)))
        .collect();
    fails(
        tree.write(&CALLER, ino, 0, &[1; 5000], false).map(|()| 0),
        Errno::ENOSPC,
    );
    disk.plan.lock().faults.clear();
    tree.unlink(&CALLER, Ino::ROOT, name("a")).unwrap();
    assert_eq!(list(&tree, Ino::ROOT).len(), 2);
}

#[test]
fn after_a_failed_flush_no_sync_claims_success() {
    let Mounted { tree, disk, image } = mounted(vec![]);
    file(&tree, "a");
    let calls = disk.plan.lock().calls;
    disk.plan.lock().faults = vec![(calls, Fault::Errno(Errno::EIO))];
    fails(tree.sync(), Errno::EIO);
    fails(tree.sync(), Errno::EIO);
    // Whoever finds the disk full is told that, all the same.
    disk.plan.lock().faults = (0..1000)
        .map(|call| (call, Fault::Errno(Errno::ENOSPC)))
        .collect();
    fails(tree.mkdir(&CALLER, Ino::ROOT, name("b"), 0o755), Errno::ENOSPC);
    disk.plan.lock().faults.clear();
    drop(tree);
    let tree = Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap();
    drop(tree.sync().unwrap());
}

#[test]
fn a_file_of_eight_terabytes_costs_a_page() {
    let Mounted { tree, disk, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    tree.write(&CALLER, ino, (8 << 40) - 1, b"x", false).unwrap();
    let Attr { size, blocks, .. } = tree.getattr(ino).unwrap();
    assert_eq!((size, blocks), (8 << 40, 8));
    assert!(disk.data.bytes.lock().cache.len() <= 4096);
    let mut out = [1; 10];
    assert_eq!(tree.read(ino, 1 << 40, &mut out).unwrap(), 10);
    assert_eq!(out, [0; 10]);
    fails(tree.write(&CALLER, ino, u64::MAX - 1, b"xy", false), Errno::EFBIG);
    fails(
        tree.fallocate(&CALLER, ino, Allocate::Grow, u64::MAX, 2),
        Errno::EFBIG,
    );
}

#[test]
fn only_the_written_page_of_an_image_file_is_copied() {
    let Mounted { tree, disk, .. } = mounted(vec![LayerEntry::File(vec!["a"], 100_000)]);
    let ino = tree.lookup(Ino::ROOT, name("a")).unwrap().ino;
    let mut expected = bytes(&tree, ino);
    tree.write(&CALLER, ino, 50_000, b"hello", false).unwrap();
    expected[50_000..50_005].copy_from_slice(b"hello");
    assert!(bytes(&tree, ino) == expected);
    assert!(disk.data.bytes.lock().cache.len() <= 4096);
}

#[test]
fn a_flipped_bit_in_a_tar_is_eio_and_the_rest_is_readable() {
    let image = Image::new(&[vec![
        LayerEntry::File(vec!["a"], 200_000),
        LayerEntry::File(vec!["b"], 70_000),
    ]])
    .unwrap();
    let lower = image.lower();
    let mut byte = [0];
    let fuse_overlay::union::LayerBytes::Tar(tar) = &lower.layers[0].bytes else {
        panic!("the harness stores tars");
    };
    tar.read_exact_at(&mut byte, 100_000).unwrap();
    tar.write_all_at(&[byte[0] ^ 4], 100_000).unwrap();
    let tree = Tree::open_on(lower, MemoryDisk::new().storage(), Limits::default()).unwrap();
    let a = tree.lookup(Ino::ROOT, name("a")).unwrap().ino;
    let mut out = [0; 4096];
    fails(tree.read(a, 90_000, &mut out), Errno::EIO);
    fails(tree.read(a, 90_000, &mut out), Errno::EIO);
    assert_eq!(tree.read(a, 0, &mut out).unwrap(), 4096);
    assert_eq!(tree.read(a, 190_000, &mut out).unwrap(), 4096);
    let b = tree.lookup(Ino::ROOT, name("b")).unwrap().ino;
    assert_eq!(bytes(&tree, b), pattern(2, 70_000));
}

#[test]
fn cookies_stay_while_names_come_and_go() {
    let layer = ["a", "b", "c"].map(|n| LayerEntry::File(vec![n], 1)).to_vec();
    let Mounted { tree, .. } = mounted(layer);
    let cookies = || {
        let mut seen = std::collections::BTreeMap::new();
        tree.readdir(Ino::ROOT, 0, &mut |listed| {
            seen.insert(listed.name.to_vec(), listed.cookie);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        seen
    };
    file(&tree, "x");
    file(&tree, "y");
    let before = cookies();
    tree.unlink(&CALLER, Ino::ROOT, name("a")).unwrap();
    tree.unlink(&CALLER, Ino::ROOT, name("x")).unwrap();
    file(&tree, "z");
    // An image's name that is replaced keeps its place.
    tree.rename(
        &CALLER,
        (Ino::ROOT, name("z")),
        (Ino::ROOT, name("b")),
        fuse_overlay::union::Rename::Replace,
    )
    .unwrap();
    let after = cookies();
    for (entry, cookie) in &after {
        assert_eq!(before.get(entry), Some(cookie), "{entry:?}");
    }
    assert_eq!(after.len(), 5);
}

#[test]
fn devices_cannot_be_made_but_whiteouts_can() {
    let Mounted { tree, .. } = mounted(vec![]);
    let make = |text: &str, mode: u32, rdev: u32| tree.mknod(&CALLER, Ino::ROOT, name(text), mode, rdev);
    fails(make("null", 0o020_666, 0x103), Errno::EPERM);
    fails(make("disk", 0o060_660, 0x800), Errno::EPERM);
    fails(make("dir", 0o040_755, 0), Errno::EPERM);
    assert_eq!(make("whiteout", 0o020_000, 0).unwrap().rdev, 0);
    make("fifo", 0o010_600, 0).unwrap();
    make("socket", 0o140_755, 0).unwrap();
}

#[test]
fn extended_attributes_keep_to_linux_limits() {
    let Mounted { tree, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    let set = |xattr: &[u8], length: usize| {
        tree.setxattr(
            &CALLER,
            ino,
            xattr,
            &vec![1; length],
            SetXattr::Any,
            SetGroupId::Keep,
        )
    };
    fails(set(b"trusted.overlay.opaque", 1), Errno::EPERM);
    fails(set(b"other.x", 1), Errno::EOPNOTSUPP);
    fails(set(&[b"user.", &[b'x'; 251][..]].concat(), 1), Errno::ERANGE);
    let long = [b"user.", &[b'x'; 250][..]].concat();
    set(&long, 1).unwrap();
    tree.removexattr(&CALLER, ino, &long).unwrap();
    fails(set(b"user.big", 65_537), Errno::E2BIG);
    set(b"user.big", 65_536).unwrap();
    // That is all that an inode has room for; what takes less is not refused.
    fails(set(b"user.more", 200), Errno::ENOSPC);
    set(b"user.big", 65_535).unwrap();
    set(b"user.big", 1).unwrap();
    let many = (0..10_000).find(|i| set(format!("user.{i:04}").as_bytes(), 0).is_err());
    assert!(many.is_some_and(|many| (400..600).contains(&many)), "{many:?}");
    fails(tree.removexattr(&CALLER, ino, b"user.none"), Errno::ENODATA);
}

#[test]
fn a_name_of_no_attribute_is_told_from_one_that_is_not_there() {
    let Mounted { tree, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    let set = |xattr: &[u8], how| tree.setxattr(&CALLER, ino, xattr, b"1", how, SetGroupId::Keep);
    for (xattr, errno) in [
        (&b"user."[..], Errno::EINVAL),
        (b"security.", Errno::EINVAL),
        (b"user", Errno::EOPNOTSUPP),
        (b"system.x", Errno::EOPNOTSUPP),
    ] {
        fails(set(xattr, SetXattr::Any), errno);
        fails(tree.getxattr(ino, xattr), errno);
        fails(tree.removexattr(&CALLER, ino, xattr), errno);
    }
    fails(tree.getxattr(ino, b"user.x"), Errno::ENODATA);
    fails(tree.getxattr(ino, b"trusted.x"), Errno::ENODATA);
    fails(set(b"user.x", SetXattr::Never), Errno::ENODATA);
    set(b"user.x", SetXattr::Create).unwrap();
    fails(set(b"user.x", SetXattr::Never), Errno::EEXIST);
    // A list that is not there can be removed.
    tree.removexattr(&CALLER, ino, b"system.posix_acl_access")
        .unwrap();
    tree.removexattr(&CALLER, ino, b"system.posix_acl_default")
        .unwrap();
}

#[test]
fn chown_to_nobody_takes_set_id_bits_from_who_owns_them() {
    let Mounted { tree, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    let capability = b"security.capability";
    let prepare = |perm| {
        let perm = Some(perm);
        let set = SetAttr {
            perm,
            ..SetAttr::default()
        };
        tree.setattr(&CALLER, ino, &set).unwrap();
        tree.setxattr(&CALLER, ino, capability, b"c", SetXattr::Any, SetGroupId::Keep)
            .unwrap();
    };
    let stranger = Caller { uid: 7, ..CALLER };
    let ctime = Some(Time { sec: 5, nsec: 6 });
    let capable = || tree.getxattr(ino, capability).is_ok();

    prepare(0o6755);
    // The kernel begins with the capability, whoever asks.
    tree.removexattr(&stranger, ino, capability).unwrap();
    fails(tree.take_privileges(&stranger, ino, ctime), Errno::EPERM);
    assert_eq!((tree.getattr(ino).unwrap().perm, capable()), (0o6755, true));
    // Without a change time it comes before a write, which takes the bits itself.
    let attr = tree.take_privileges(&stranger, ino, None).unwrap();
    assert_eq!((attr.perm, capable()), (0o6755, false));
    for (caller, before, after) in [
        (CALLER, 0o6755, 0o755),
        (CALLER, 0o6666, 0o2666),
        (stranger, 0o2644, 0o2644),
    ] {
        prepare(before);
        let attr = tree.take_privileges(&caller, ino, ctime).unwrap();
        assert_eq!((attr.perm, capable()), (after, false));
        assert_eq!(Some(attr.ctime), ctime);
    }
    let make = |text, mode| tree.mknod(&CALLER, Ino::ROOT, name(text), mode, 0).unwrap().ino;
    let fifo = make("fifo", 0o016_711);
    assert_eq!(tree.take_privileges(&CALLER, fifo, None).unwrap().perm, 0o711);
    let dir = tree.mkdir(&CALLER, Ino::ROOT, name("d"), 0o755).unwrap().ino;
    let perm = Some(0o2755);
    let set = SetAttr {
        perm,
        ..SetAttr::default()
    };
    tree.setattr(&CALLER, dir, &set).unwrap();
    assert_eq!(tree.take_privileges(&CALLER, dir, None).unwrap().perm, 0o2755);
}

#[test]
fn set_gid_without_execution_stays_for_root_and_the_group() {
    let Mounted { tree, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    let member = Caller { uid: 7, ..CALLER };
    let stranger = Caller { gid: 7, ..member };
    let root = Caller { uid: 0, ..stranger };
    for (caller, left) in [(member, 0o2666), (root, 0o2666), (stranger, 0o666)] {
        let perm = Some(0o6666);
        let prepare = SetAttr {
            perm,
            ..SetAttr::default()
        };
        tree.setattr(&CALLER, ino, &prepare).unwrap();
        tree.write(&caller, ino, 0, b"x", true).unwrap();
        assert_eq!(tree.getattr(ino).unwrap().perm, left);
    }
}

#[test]
fn no_temporary_file_is_made_in_a_removed_directory() {
    let Mounted { tree, .. } = mounted(vec![]);
    let dir = tree.mkdir(&CALLER, Ino::ROOT, name("d"), 0o755).unwrap().ino;
    tree.tmpfile(&CALLER, dir, 0o600).unwrap();
    tree.rmdir(&CALLER, Ino::ROOT, name("d")).unwrap();
    fails(tree.tmpfile(&CALLER, dir, 0o600), Errno::EPERM);
    fails(tree.mknod(&CALLER, dir, name("x"), REGULAR, 0), Errno::ENOENT);
}

#[test]
fn access_control_lists_and_modes_follow_each_other() {
    let Mounted { tree, .. } = mounted(vec![]);
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            value.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
            value.extend(id.to_le_bytes());
        }
        value
    };
    let dir = tree.mkdir(&CALLER, Ino::ROOT, name("d"), 0o755).unwrap().ino;
    let default = acl(&[(1, 7, 0), (2, 6, 42), (4, 5, 0), (0x10, 7, 0), (0x20, 0, 0)]);
    tree.setxattr(
        &CALLER,
        dir,
        b"system.posix_acl_default",
        &default,
        SetXattr::Any,
        SetGroupId::Keep,
    )
    .unwrap();
    // The default list takes the umask's place.
    let made = tree.mknod(&CALLER, dir, name("f"), 0o100_666, 0).unwrap();
    assert_eq!(made.perm, 0o660);
    let sub = tree.mkdir(&CALLER, dir, name("s"), 0o777).unwrap();
    assert_eq!(
        tree.getxattr(sub.ino, b"system.posix_acl_default").unwrap(),
        default
    );
    let set = SetAttr {
        perm: Some(0o600),
        ..SetAttr::default()
    };
    assert_eq!(tree.setattr(&CALLER, made.ino, &set).unwrap().perm, 0o600);
    let list = tree.getxattr(made.ino, b"system.posix_acl_access").unwrap();
    assert_eq!(
        list,
        acl(&[(1, 6, 0), (2, 6, 42), (4, 5, 0), (0x10, 0, 0), (0x20, 0, 0)])
    );
    let plain = acl(&[(1, 7, 0), (4, 5, 0), (0x20, 1, 0)]);
    tree.setxattr(
        &CALLER,
        made.ino,
        b"system.posix_acl_access",
        &plain,
        SetXattr::Any,
        SetGroupId::Keep,
    )
    .unwrap();
    assert_eq!(tree.getattr(made.ino).unwrap().perm, 0o751);
    // With the set-group-id bit, which stays or goes with the list.
    for (set_gid, perm) in [(SetGroupId::Keep, 0o2751), (SetGroupId::Clear, 0o751)] {
        let set = SetAttr {
            perm: Some(0o2700),
            ..SetAttr::default()
        };
        tree.setattr(&CALLER, made.ino, &set).unwrap();
        let access = b"system.posix_acl_access";
        tree.setxattr(&CALLER, made.ino, access, &plain, SetXattr::Any, set_gid)
            .unwrap();
        assert_eq!(tree.getattr(made.ino).unwrap().perm, perm);
    }
    fails(
        tree.getxattr(made.ino, b"system.posix_acl_access"),
        Errno::ENODATA,
    );
}

#[test]
fn a_set_gid_directory_hands_its_group_down() {
    let Mounted { tree, .. } = mounted(vec![]);
    let dir = tree.mkdir(&CALLER, Ino::ROOT, name("d"), 0o777).unwrap().ino;
    let set = SetAttr {
        perm: Some(0o2777),
        gid: Some(77),
        ..SetAttr::default()
    };
    tree.setattr(&CALLER, dir, &set).unwrap();
    let other = Caller {
        uid: 5,
        gid: 6,
        umask: 0o027,
        unique: 0,
    };
    let made = tree.mknod(&other, dir, name("f"), REGULAR, 0).unwrap();
    assert_eq!((made.uid, made.gid, made.perm), (5, 77, 0o640));
    let sub = tree.mkdir(&other, dir, name("s"), 0o777).unwrap();
    assert_eq!((sub.gid, sub.perm), (77, 0o2750));
}

#[test]
fn a_directory_cannot_move_into_itself() {
    let Mounted { tree, .. } = mounted(vec![LayerEntry::Dir(vec!["a", "b"])]);
    let rename = |from, to| tree.rename(&CALLER, from, to, fuse_overlay::union::Rename::Replace);
    let a = tree.lookup(Ino::ROOT, name("a")).unwrap().ino;
    let b = tree.lookup(a, name("b")).unwrap().ino;
    fails(rename((Ino::ROOT, name("a")), (b, name("c"))), Errno::EINVAL);
    fails(rename((Ino::ROOT, name("a")), (a, name("c"))), Errno::EINVAL);
    rename((a, name("b")), (Ino::ROOT, name("b"))).unwrap();
    rename((Ino::ROOT, name("a")), (b, name("a"))).unwrap();
    assert_eq!(list(&tree, a)[1].1, b, "the parent follows");
}

#[test]
fn space_that_no_disk_has_is_refused_and_costs_nothing() {
    let Mounted { tree, disk, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    for how in [
        Allocate::Grow,
        Allocate::KeepSize,
        Allocate::ZeroGrow,
        Allocate::ZeroKeepSize,
    ] {
        fails(tree.fallocate(&CALLER, ino, how, 0, 17 << 40), Errno::ENOSPC);
    }
    tree.write(&CALLER, ino, 0, b"goes on", false).unwrap();
    assert_eq!(disk.data.bytes.lock().cache.len(), 7);
}

#[test]
fn pages_of_a_failed_operation_are_free_at_once() {
    let Mounted { tree, disk, .. } = mounted(vec![]);
    let ino = file(&tree, "a");
    let calls = disk.plan.lock().calls;
    disk.plan.lock().faults = vec![(calls, Fault::Errno(Errno::EIO))];
    fails(
        tree.fallocate(&CALLER, ino, Allocate::Grow, 0, 1 << 20),
        Errno::EIO,
    );
    assert_eq!(tree.fallocate(&CALLER, ino, Allocate::Grow, 0, 4096), Ok(()));
    assert_eq!(disk.data.bytes.lock().cache.len(), 4096);
}

#[test]
fn a_file_grows_over_zeros_whatever_a_lost_write_left_there() {
    let grow: [fn(&Tree, Ino); 3] = [
        |tree, ino| {
            let size = Some(1 << 16);
            tree.setattr(
                &CALLER,
                ino,
                &SetAttr {
                    size,
                    ..SetAttr::default()
                },
            )
            .unwrap();
        },
        |tree, ino| tree.write(&CALLER, ino, (1 << 16) - 1, &[0], false).unwrap(),
        |tree, ino| tree.fallocate(&CALLER, ino, Allocate::Grow, 0, 1 << 16).unwrap(),
    ];
    for grow in grow {
        let Mounted { tree, disk, .. } = mounted(vec![]);
        let ino = file(&tree, "a");
        tree.fallocate(&CALLER, ino, Allocate::KeepSize, 0, 1 << 16)
            .unwrap();
        // What writes in place left there, whose records the server did not live to append.
        disk.data.bytes.lock().cache.fill(7);
        grow(&tree, ino);
        assert_eq!(bytes(&tree, ino), vec![0; 1 << 16]);
    }
}

#[test]
fn a_name_finds_room_that_a_removed_file_left() {
    // Room for the data of one file, and for a little of the journal.
    let limits = Limits {
        bytes: Some(128 * 1024),
        inodes: None,
    };
    let Mounted { tree, .. } = mounted_with(vec![], limits);
    let ino = file(&tree, "a");
    let full = (0..).find(|n| tree.write(&CALLER, ino, n * 4096, &[1; 4096], false).is_err());
    assert!(full.is_some_and(|pages| pages > 20));
    let refused = (0..1000).find_map(|n| {
        let made = tree.symlink(&CALLER, Ino::ROOT, name(&format!("s{n}")), b"x");
        made.err()
    });
    assert_eq!(refused, Some(Error(Errno::ENOSPC)));
    tree.unlink(&CALLER, Ino::ROOT, name("a")).unwrap();
    assert_eq!(tree.forget(ino, 1), Released::Gone);
    assert!(tree.symlink(&CALLER, Ino::ROOT, name("s"), b"x").is_ok());
}

/// Each write has another time to record.
fn overwrite(tree: &Tree, ino: Ino, times: std::ops::Range<i64>) {
    for second in times {
        let time = SetTime::At(Time { sec: second, nsec: 0 });
        let set = SetAttr {
            mtime: Some(time),
            ..SetAttr::default()
        };
        // The kernel's own, after the write; on a full disk it may be lost, the write not.
        let _ = tree.setattr(&CALLER, ino, &set);
        let block = [second as u8; 4096];
        tree.write(&CALLER, ino, (second as u64 % 8) * 4096, &block, false)
            .unwrap();
        assert!(bytes(tree, ino)[(second as usize % 8) * 4096..][..4096] == block);
    }
}

#[test]
fn who_has_no_room_may_overwrite_what_there_is() {
    let limits = Limits {
        bytes: Some(256 << 10),
        inodes: None,
    };
    let Mounted { tree, .. } = mounted_with(vec![], limits);
    let (ino, other) = (file(&tree, "a"), file(&tree, "b"));
    tree.fallocate(&CALLER, ino, Allocate::Grow, 0, 1 << 15).unwrap();
    let full = (0..100).any(|n| tree.write(&CALLER, other, n * 4096, &[1; 4096], false).is_err());
    assert!(full);
    overwrite(&tree, ino, 0..2000);
    tree.setattr(
        &CALLER,
        ino,
        &SetAttr {
            perm: Some(0o600),
            ..SetAttr::default()
        },
    )
    .unwrap();
    // That has made the journal longer than all there is to say, which costs room until it is short again.
    fails(
        tree.write(&CALLER, other, 1 << 20, &[1; 4096], false),
        Errno::ENOSPC,
    );
    assert!(tree.checkpoint_is_due(), "who was refused waits for one");
    tree.checkpoint(&|| true).unwrap();
    tree.setattr(
        &CALLER,
        other,
        &SetAttr {
            size: Some(4096),
            ..SetAttr::default()
        },
    )
    .unwrap();
    drop(tree.sync().unwrap());
    tree.write(&CALLER, other, 4096, &[1; 4096], false).unwrap();
}

#[test]
fn what_is_overwritten_on_a_full_disk_is_kept_and_files_can_be_removed() {
    let Mounted { tree, disk, .. } = mounted(vec![]);
    let (ino, _) = (file(&tree, "a"), file(&tree, "b"));
    tree.fallocate(&CALLER, ino, Allocate::Grow, 0, 1 << 15).unwrap();
    drop(tree.sync().unwrap());
    disk.plan.lock().full = true;
    overwrite(&tree, ino, 0..5000);
    fails(
        tree.write(&CALLER, ino, 1 << 20, &[1; 4096], false),
        Errno::ENOSPC,
    );
    drop(tree.sync().unwrap());
    tree.unlink(&CALLER, Ino::ROOT, name("b")).unwrap();
}
