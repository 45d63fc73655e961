//! The whole way of a layer: tar → index → merged index → view.

mod stack;

use fuse_overlay::attr::Kind;
use stack::{Tar, merged, names, path};

#[test]
fn two_layers_become_one_tree() {
    let lower = Tar::new()
        .dir("etc")
        .file("etc/a", b"lower a")
        .file("etc/b", b"b")
        .symlink("link", "etc/a");
    let upper = Tar::new()
        .file("etc/a", b"upper")
        .file("etc/.wh.b", b"")
        .hard_link("etc/c", "etc/a");
    let view = merged([lower, upper]);
    view.check().unwrap();
    assert_eq!(names(&view, ""), ["etc", "link"]);
    assert_eq!(names(&view, "etc"), ["a", "c"]);
    assert_eq!(path(&view, "etc/a"), path(&view, "etc/c"));
    let attr = view.attr(path(&view, "etc/a").unwrap()).unwrap();
    assert_eq!((attr.kind, attr.size, attr.nlink), (Kind::Regular, 5, 2));
    assert_eq!(view.target(path(&view, "link").unwrap()).unwrap(), b"etc/a");
}
