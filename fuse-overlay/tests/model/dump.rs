//! Everything that can be seen of a tree, as a value to compare.

use std::collections::BTreeMap;

use fuse_overlay::attr::{Attr, Ino, Kind};
use fuse_overlay::name::Name;
use fuse_overlay::union::Tree;

use super::harness::list;

/// A file: its attributes, its extended attributes, its content or target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub ino: Ino,
    pub meta: String,
    pub content: Vec<u8>,
}

/// Paths to files.
pub type Dump = BTreeMap<String, Seen>;

pub fn dump(tree: &Tree) -> Dump {
    let mut seen = Dump::new();
    visit(tree, Ino::ROOT, String::new(), &mut seen);
    seen
}

/// A file's bytes, a symlink's target, nothing of all else.
pub fn content(tree: &Tree, attr: &Attr) -> Vec<u8> {
    match attr.kind {
        Kind::Regular => {
            let mut content = vec![0; attr.size as usize];
            assert_eq!(tree.read(attr.ino, 0, &mut content).unwrap(), content.len());
            content
        }
        Kind::Symlink => tree.readlink(attr.ino).unwrap(),
        _ => Vec::new(),
    }
}

fn visit(tree: &Tree, ino: Ino, path: String, seen: &mut Dump) {
    let attr = tree.getattr(ino).unwrap();
    let xattrs: Vec<_> = tree
        .listxattr(ino)
        .unwrap()
        .into_iter()
        .map(|name| tree.getxattr(ino, &name).unwrap())
        .collect();
    // Blocks tell where bytes lie, which may differ.
    let attr_without_blocks = Attr { blocks: 0, ..attr };
    seen.insert(
        path.clone(),
        Seen {
            ino,
            meta: format!("{attr_without_blocks:?} {xattrs:?}"),
            content: content(tree, &attr),
        },
    );
    if attr.kind == Kind::Directory {
        for (name, child, _) in list(tree, ino).into_iter().skip(2) {
            let found = tree.lookup(ino, Name::new(&name).unwrap()).unwrap();
            assert_eq!(found.ino, child);
            visit(
                tree,
                child,
                format!("{path}/{}", String::from_utf8_lossy(&name)),
                seen,
            );
            tree.forget(child, 1);
        }
    }
}

/// The same without contents.
pub fn without_content(dump: &Dump) -> BTreeMap<&String, &String> {
    dump.iter().map(|(path, seen)| (path, &seen.meta)).collect()
}
