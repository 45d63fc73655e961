//! A socket becomes a device node, in one record.

use fuse_overlay::attr::{Attr, Ino, Kind};
use fuse_overlay::error::Error;
use fuse_overlay::union::{Limits, Released, SetGroupId, SetXattr, Tree};
use nix::errno::Errno;

use super::disk::MemoryDisk;
use super::harness::{Image, list, name};
use super::ops::{CALLER, LayerEntry};

const SOCKET: u32 = 0o140_640;

fn socket(tree: &Tree, at: &str) -> Ino {
    tree.mknod(&CALLER, Ino::ROOT, name(at), SOCKET, 0).unwrap().ino
}

fn become_device(tree: &Tree, at: &str, ino: Ino, kind: Kind) -> Result<(), Error> {
    tree.become_device(&CALLER, (Ino::ROOT, name(at)), ino, kind, 0x0010_0703)
}

#[test]
fn the_name_leads_to_the_device_now_and_after_replay() {
    let image = Image::new(&[vec![LayerEntry::File(vec!["a"], 10)]]).unwrap();
    let disk = MemoryDisk::new();
    let open = || Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap();
    let tree = open();
    // In the place of a name of the image's.
    tree.unlink(&CALLER, Ino::ROOT, name("a")).unwrap();
    let (a, b) = (socket(&tree, "a"), socket(&tree, "b"));
    let (any, keep) = (SetXattr::Any, SetGroupId::Keep);
    tree.setxattr(&CALLER, a, b"user.x", b"1", any, keep).unwrap();
    become_device(&tree, "a", a, Kind::CharDevice).unwrap();
    become_device(&tree, "b", b, Kind::BlockDevice).unwrap();
    // Who holds the socket has it still, without a name.
    let old = tree.getattr(a).unwrap();
    assert_eq!((old.kind, old.nlink), (Kind::Socket, 0));
    assert!(matches!(tree.forget(a, 1), Released::Gone));
    assert_eq!(tree.getattr(a).unwrap_err(), Error(Errno::ESTALE));
    let look = |tree: &Tree| {
        let found = |at| tree.lookup(Ino::ROOT, name(at)).unwrap();
        let seen = |attr: Attr| (attr.kind, attr.perm, attr.nlink, attr.rdev, attr.uid);
        assert_eq!(
            seen(found("a")),
            (Kind::CharDevice, 0o640, 1, 0x0010_0703, CALLER.uid)
        );
        assert_eq!(
            seen(found("b")),
            (Kind::BlockDevice, 0o640, 1, 0x0010_0703, CALLER.uid)
        );
        assert_eq!(tree.getxattr(found("a").ino, b"user.x").unwrap(), b"1");
        assert_eq!(list(tree, Ino::ROOT).len(), 4);
    };
    look(&tree);
    drop(tree);
    look(&open());
}

#[test]
fn nothing_else_becomes_one() {
    let image = Image::new(&[vec![]]).unwrap();
    let disk = MemoryDisk::new();
    let tree = Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap();
    let ino = socket(&tree, "s");
    let file = tree
        .mknod(&CALLER, Ino::ROOT, name("f"), 0o100_644, 0)
        .unwrap()
        .ino;
    let stale = Err(Error(Errno::ESTALE));
    assert_eq!(become_device(&tree, "f", file, Kind::CharDevice), stale);
    assert_eq!(become_device(&tree, "f", ino, Kind::CharDevice), stale);
    assert_eq!(become_device(&tree, "none", ino, Kind::CharDevice), stale);
    assert_eq!(
        become_device(&tree, "s", ino, Kind::Regular),
        Err(Error(Errno::EINVAL))
    );
    let in_file = tree.become_device(&CALLER, (file, name("s")), ino, Kind::CharDevice, 1);
    assert_eq!(in_file, Err(Error(Errno::ENOTDIR)));
    let unknown = tree.become_device(&CALLER, (Ino(1 << 40), name("s")), ino, Kind::CharDevice, 1);
    assert_eq!(unknown, stale);
    // Of two names one would stay a socket.
    tree.link(&CALLER, ino, Ino::ROOT, name("t")).unwrap();
    assert_eq!(become_device(&tree, "s", ino, Kind::CharDevice), stale);
    tree.unlink(&CALLER, Ino::ROOT, name("t")).unwrap();
    assert_eq!(become_device(&tree, "s", ino, Kind::CharDevice), Ok(()));
    assert_eq!(become_device(&tree, "s", ino, Kind::CharDevice), stale);
}
