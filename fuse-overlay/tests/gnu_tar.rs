//! Archives that GNU tar makes show the tree they were made of.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod stack;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use fuse_overlay::attr::Kind;
use stack::Layer;

fn make_tree(root: &Path) {
    let deep = root.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("n".repeat(200)), b"long").unwrap();
    fs::write(root.join("one"), vec![b'1'; 70_000]).unwrap();
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
    symlink("t".repeat(180), root.join("link")).unwrap();
    nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(3_000_000).unwrap();
    for i in 0..30 {
        sparse.write_all_at(b"data", 65_536 + i * 90_000).unwrap();
    }
    fs::write(root.join("empty"), b"").unwrap();
}

#[test]
fn gnu_tar_in_all_its_formats() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    make_tree(&root);
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ] {
        let made = Command::new("tar")
            .args(options)
            .args(["-c", "-C"])
            .arg(&root)
            .arg(".")
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{options:?}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let layer = Layer {
            view: stack::index(&made.stdout[..]).unwrap(),
            tar: made.stdout,
        };
        layer.view.check().unwrap();
        let whole_seconds = options.contains(&"--format=gnu");
        compare(&root, &[layer], whole_seconds);
    }
}

fn compare(root: &Path, layers: &[Layer], whole_seconds: bool) {
    let view = stack::try_merge(layers).unwrap();
    let mut found = stack::all_paths(&view);
    assert_eq!(found.len(), 10, "{found:?}");
    for (path, node) in found.drain(..) {
        let at = root.join(&path);
        let (attr, real) = (view.attr(node).unwrap(), fs::symlink_metadata(&at).unwrap());
        assert_eq!(
            (attr.mode(), attr.uid, attr.gid),
            (real.mode(), real.uid(), real.gid()),
            "{path}"
        );
        assert_eq!({ attr.mtime.sec }, real.mtime(), "{path}");
        assert_eq!(
            i64::from(attr.mtime.nsec),
            if whole_seconds { 0 } else { real.mtime_nsec() },
            "{path}"
        );
        match attr.kind {
            Kind::Regular => {
                assert_eq!(u64::from(attr.nlink), real.nlink(), "{path}");
                assert!(
                    stack::content(&view, layers, node) == fs::read(&at).unwrap(),
                    "{path}"
                );
            }
            Kind::Symlink => assert_eq!(
                view.target(node).unwrap(),
                fs::read_link(&at).unwrap().as_os_str().as_encoded_bytes()
            ),
            _ => {}
        }
    }
}
