//! A tree to fuzz: over an image of nothing, and walked through.

use std::ops::ControlFlow;

use fuse_overlay::attr::{Ino, Kind};
use fuse_overlay::index::{View, merge};
use fuse_overlay::layer;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Lower, LowerLayer, Tree};

/// An image of nothing but a root.
pub fn lower() -> Option<Lower> {
    let mut index = Vec::new();
    layer::index(&mut &[0u8; 1024][..], &mut index).ok()?;
    let view = View::from_bytes(index).ok()?;
    let mut merged = Vec::new();
    merge::merge(std::slice::from_ref(&view), [7; 32], &mut merged).ok()?;
    let tar = std::fs::File::open("/dev/null").ok()?;
    let layers = vec![LowerLayer::tar(tar, view)];
    Some(Lower { view: View::from_bytes(merged).ok()?, layers })
}

/// Reads all that there is, `budget` entries at most.
pub fn walk(tree: &Tree, dir: Ino, budget: &mut usize, depth: usize) {
    let mut found = Vec::new();
    let _damaged = tree.readdir(dir, 0, &mut |listed| {
        *budget = budget.saturating_sub(1);
        if let Ok(name) = Name::new(listed.name) {
            found.push((name.to_boxed(), listed.ino, listed.kind));
        }
        if *budget == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    for (name, ino, kind) in found {
        let _gone = tree.lookup(dir, &name);
        let _gone = tree.listxattr(ino);
        let _other = tree.readlink(ino);
        let mut out = [0; 9000];
        let _other = tree.read(ino, 0, &mut out);
        if kind == Kind::Directory && *budget > 0 && depth < 50 {
            walk(tree, ino, budget, depth + 1);
        }
    }
}
