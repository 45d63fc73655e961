//! Histories on the tree itself, on a disk that is slow at times: a thread that waits for it lets the others in.

use std::collections::BTreeMap;

use fuse_overlay::attr::{Attr, Ino, Kind};
use fuse_overlay::error::Error;
use fuse_overlay::union::{Limits, SetAttr, SetGroupId, Tree};
use proptest::test_runner::TestRunner;

use super::explain::{Answer, Seen};
use super::{Filesystem, Op, Through, XATTR, check, rounds, run, tree_below};
use crate::disk::MemoryDisk;
use crate::harness::{Image, list, name, pattern};
use crate::ops::CALLER;
use crate::reference::{Body, Id, Node, ROOT, Reference};

/// A tree and the inodes that are held in it.
struct Held<'a> {
    tree: &'a Tree,
    inodes: Vec<Id>,
}

fn ino(id: Id) -> Ino {
    Ino(id as u64 + 1)
}

fn id(ino: Ino) -> Id {
    ino.0 as Id - 1
}

impl Filesystem for Held<'_> {
    fn observe(&self) -> Reference {
        let mut seen = Reference::default();
        visit(self.tree, ROOT, &mut seen);
        for held in &self.inodes {
            visit(self.tree, *held, &mut seen);
        }
        seen
    }

    fn hold(&mut self, tree: &Reference) {
        let inodes: Vec<_> = tree.nodes.keys().copied().collect();
        inodes.iter().for_each(|id| self.tree.looked_up(ino(*id)));
        for held in std::mem::replace(&mut self.inodes, inodes) {
            self.tree.forget(ino(held), 1);
        }
    }

    fn apply(&self, op: &Op) -> Answer {
        answer(self.tree, op).map_err(|error| error.0)
    }
}

fn answer(tree: &Tree, op: &Op) -> Result<Seen, Error> {
    let nothing = |()| Seen::Nothing;
    // Forgotten at once: an inode that others unlink meanwhile must go exactly once.
    let found = |attr: Attr| {
        tree.forget(attr.ino, 1);
        Seen::Inode(id(attr.ino))
    };
    let set = |file, set| tree.setattr(&CALLER, ino(file), &set).map(|_| Seen::Nothing);
    match *op {
        Op::Create(dir, new) => tree.mknod(&CALLER, ino(dir), name(new), 0o100_644, 0).map(found),
        Op::Mkdir(dir, new) => tree.mkdir(&CALLER, ino(dir), name(new), 0o755).map(found),
        Op::Unlink(dir, old) => tree.unlink(&CALLER, ino(dir), name(old)).map(|_| Seen::Nothing),
        Op::Rmdir(dir, old) => tree.rmdir(&CALLER, ino(dir), name(old)).map(nothing),
        Op::Rename(from, old, to, new, how) => tree
            .rename(&CALLER, (ino(from), name(old)), (ino(to), name(new)), how)
            .map(|_| Seen::Nothing),
        Op::Link(file, dir, new) => tree.link(&CALLER, ino(file), ino(dir), name(new)).map(found),
        Op::Lookup(dir, wanted) => tree.lookup(ino(dir), name(wanted)).map(found),
        Op::List(dir) => {
            let mut names = BTreeMap::new();
            tree.readdir(ino(dir), 2, &mut |listed| {
                names.insert(listed.name.to_vec(), id(listed.ino));
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(Seen::Names(names))
        }
        Op::Attributes(of) => {
            let Attr { perm, nlink, .. } = tree.getattr(ino(of))?;
            Ok(Seen::Attributes { perm, nlink })
        }
        Op::Read(file, offset, length) => {
            let mut bytes = vec![0; length];
            let read = tree.read(ino(file), offset as u64, &mut bytes)?;
            bytes.truncate(read);
            Ok(Seen::Bytes(bytes))
        }
        Op::Write(file, offset, length, byte) => tree
            .write(&CALLER, ino(file), offset as u64, &pattern(byte, length), false)
            .map(nothing),
        Op::Truncate(file, size) => set(
            file,
            SetAttr {
                size: Some(size as u64),
                ..SetAttr::default()
            },
        ),
        Op::Chmod(file, perm) => set(
            file,
            SetAttr {
                perm: Some(perm),
                ..SetAttr::default()
            },
        ),
        Op::SetXattr(file, byte, how) => tree
            .setxattr(
                &CALLER,
                ino(file),
                XATTR.as_bytes(),
                &[byte],
                how,
                SetGroupId::Keep,
            )
            .map(nothing),
        Op::RemoveXattr(file) => tree
            .removexattr(&CALLER, ino(file), XATTR.as_bytes())
            .map(nothing),
    }
}

/// Takes in an inode and all below it.
fn visit(tree: &Tree, at: Id, seen: &mut Reference) {
    if seen.nodes.contains_key(&at) {
        return;
    }
    let Attr {
        kind,
        perm,
        uid,
        gid,
        nlink,
        size,
        ..
    } = tree.getattr(ino(at)).unwrap();
    let names = tree.listxattr(ino(at)).unwrap();
    let value = |name: Vec<u8>| (name.clone(), tree.getxattr(ino(at), &name).unwrap());
    let xattrs = names.into_iter().map(value).collect();
    let body = match kind {
        Kind::Directory => {
            let listed = list(tree, ino(at));
            let entries = listed
                .iter()
                .skip(2)
                .map(|(name, child, _)| (name.clone(), id(*child)));
            Body::Dir {
                entries: entries.collect(),
                parent: id(listed[1].1),
            }
        }
        _ => {
            let mut content = vec![0; size as usize];
            assert_eq!(tree.read(ino(at), 0, &mut content).unwrap(), content.len());
            Body::File(content)
        }
    };
    let children: Vec<Id> = match &body {
        Body::Dir { entries, .. } => entries.values().copied().collect(),
        _ => Vec::new(),
    };
    seen.nodes.insert(
        at,
        Node {
            kind,
            perm,
            uid,
            gid,
            nlink,
            mtime: None,
            xattrs,
            body,
        },
    );
    children.into_iter().for_each(|child| visit(tree, child, seen));
}

#[test]
fn four_threads_are_one_after_the_other() {
    let image = Image::new(&[tree_below("")]).unwrap();
    let overlapping = std::cell::Cell::new(0);
    let once = |history: &[super::Round]| {
        let disk = MemoryDisk {
            slow: true,
            ..MemoryDisk::new()
        };
        let open = || Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap();
        let tree = open();
        let mut held = Held {
            tree: &tree,
            inodes: Vec::new(),
        };
        overlapping.set(overlapping.get() + run(&mut held, history)?);
        let left = held.observe();
        drop(tree);
        let tree = open();
        let again = Held {
            tree: &tree,
            inodes: Vec::new(),
        }
        .observe();
        assert_eq!(again, left, "after opening again");
        Ok(())
    };
    let mut runner = TestRunner::new(crate::config(1000));
    let passed = runner.run(&rounds(Through::Calls, 12), |history| check(|| once(&history)));
    passed.unwrap_or_else(|failed| panic!("{failed}"));
    println!(
        "{} operations began while others were under way",
        overlapping.get()
    );
    assert!(overlapping.get() > 0, "no two threads were at it at once");
}
