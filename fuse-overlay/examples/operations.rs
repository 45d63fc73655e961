//! How fast are the operations without FUSE? Prints seconds for a few loads on a tree in a given directory.
//!
//! ```text
//! cargo run --release --example operations -- DIR
//! ```
#![allow(clippy::unwrap_used, reason = "a measuring tool stops at the first surprise")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use fuse_overlay::attr::Ino;
use fuse_overlay::index::{View, merge};
use fuse_overlay::layer;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Caller, Limits, Lower, LowerLayer, Tree};

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0o022,
    unique: 1,
};
/// Files of the image: 200 directories of 200.
const WIDTH: usize = 200;

fn main() {
    let dir = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "/tmp/operations".to_owned());
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir.join("upper")).unwrap();
    let lower = image(dir);
    let tree = time("open", || {
        Tree::open(lower, &dir.join("upper"), Limits::default()).unwrap()
    });
    let names: Vec<String> = (0..5000).map(|i| format!("file{i}")).collect();
    let name = |text: &str| -> Box<Name> { Name::new(text.as_bytes()).unwrap().to_boxed() };
    let top = tree.mkdir(&CALLER, Ino::ROOT, &name("new"), 0o755).unwrap().ino;
    let made: Vec<Ino> = time("create and write 5,000 files of 1 KiB", || {
        let make = |text: &String| {
            let ino = tree.mknod(&CALLER, top, &name(text), 0o100_644, 0).unwrap().ino;
            tree.write(&CALLER, ino, 0, &[7; 1024], false).unwrap();
            ino
        };
        names.iter().map(make).collect()
    });
    time("unlink and forget them", || {
        for (text, ino) in names.iter().zip(&made) {
            tree.unlink(&CALLER, top, &name(text)).unwrap();
            tree.forget(*ino, 1);
        }
    });
    let big = tree.mknod(&CALLER, top, &name("big"), 0o100_644, 0).unwrap().ino;
    time("write 200 MB in 4 KiB blocks", || {
        let block = [3; 4096];
        (0..51_200).for_each(|i| tree.write(&CALLER, big, i * 4096, &block, false).unwrap());
    });
    time("read them in 128 KiB blocks", || {
        let mut block = vec![0; 128 << 10];
        (0..1600).for_each(|i| assert_eq!(tree.read(big, i << 17, &mut block).unwrap(), block.len()));
    });
    time("sync", || drop(tree.sync().unwrap()));
    let lookups = || {
        for i in 0..WIDTH {
            let dir = tree.lookup(Ino::ROOT, &name(&format!("dir{i:03}"))).unwrap().ino;
            for j in 0..WIDTH {
                let ino = tree.lookup(dir, &name(&format!("file{j:03}"))).unwrap().ino;
                tree.getattr(ino).unwrap();
            }
        }
    };
    time("lookup and stat of 40,000 names of the image", lookups);
    time("again", lookups);
    time("fsync 1,000 times after 100 bytes", || {
        for i in 0..1000 {
            tree.write(&CALLER, big, i * 100, &[1; 100], false).unwrap();
            drop(tree.fsync(big).unwrap());
        }
    });
}

fn time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{:9.4} s  {what}", start.elapsed().as_secs_f64());
    result
}

fn image(dir: &Path) -> Lower {
    let mut tar = tar::Builder::new(Vec::new());
    for i in 0..WIDTH {
        for j in 0..WIDTH {
            let mut header = tar::Header::new_gnu();
            header.set_size(100);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("dir{i:03}/file{j:03}"), &[1; 100][..])
                .unwrap();
        }
    }
    let bytes = tar.into_inner().unwrap();
    let mut index = Vec::new();
    layer::index(&mut &bytes[..], &mut index).unwrap();
    let view = View::from_bytes(index).unwrap();
    let mut merged = Vec::new();
    merge::merge(std::slice::from_ref(&view), [7; 32], &mut merged).unwrap();
    let path = dir.join("layer.tar");
    File::create(&path).unwrap().write_all(&bytes).unwrap();
    let layer = LowerLayer::tar(File::open(&path).unwrap(), view);
    Lower {
        view: View::from_bytes(merged).unwrap(),
        layers: vec![layer],
    }
}
