//! How do costs grow with what lies below and in the writable layer? Prints one line of JSON; `benches/growth.py` puts
//! runs of different sizes side by side.
//!
//! ```text
//! cargo run --release --example growth -- DIR make FILES LAYERS UPPER    an image of so many files and layers, so many more above
//! cargo run --release --example growth -- DIR measure                    of that: opening, operations, memory
//! cargo run --release --example growth -- DIR churn ROUNDS               files come and go: what is left on the disk
//! ```
#![allow(clippy::unwrap_used, reason = "a measuring tool stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuse_overlay::attr::Ino;
use fuse_overlay::index::view::Access;
use fuse_overlay::index::{View, merge};
use fuse_overlay::layer;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Caller, Limits, Lower, LowerLayer, Rename, SetAttr, Tree};

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0o022,
    unique: 1,
};
/// Files of a directory.
const WIDTH: usize = 1000;
/// Operations that one figure is the mean of.
const TIMES: usize = 4000;
/// Inodes of the image that are touched to see what one costs.
const TOUCHED: usize = 8000;

/// What was measured, by name.
type Figures = BTreeMap<&'static str, f64>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).unwrap().parse::<usize>().unwrap();
    let dir = PathBuf::from(arguments.first().unwrap());
    let figures = match arguments.get(1).map(String::as_str) {
        Some("make") => make(&dir, number(2), number(3), number(4)),
        Some("measure") => measure(&dir),
        Some("churn") => churn(&dir, number(2)),
        other => panic!("make, measure or churn, not {other:?}"),
    };
    let fields: Vec<String> = figures
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    println!("{{{}}}", fields.join(", "));
}

/// Seconds that `work` takes, and what it gives.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

fn name(text: &str) -> &Name {
    Name::new(text.as_bytes()).unwrap()
}

/// Where a file lies, by its number: `PREFIX<directory>/file<number>`.
fn place(prefix: &str, number: usize) -> (String, String) {
    (
        format!("{prefix}{:05}", number / WIDTH),
        format!("file{number:07}"),
    )
}

/// Bytes of memory that only this process has, its heap above all.
fn memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

fn make(dir: &Path, files: usize, layers: usize, upper: usize) -> Figures {
    fs::create_dir_all(dir.join("upper")).unwrap();
    let share = files.div_ceil(layers);
    for layer in 0..layers {
        let path = dir.join(format!("{layer}.tar"));
        let mut tar = tar::Builder::new(BufWriter::new(File::create(&path).unwrap()));
        for number in layer * share..files.min((layer + 1) * share) {
            let (parent, file) = place("low", number);
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            tar.append_data(&mut header, format!("{parent}/{file}"), &b""[..])
                .unwrap();
        }
        drop(tar.into_inner().unwrap());
        let mut index = BufWriter::new(File::create(dir.join(format!("{layer}.index"))).unwrap());
        layer::index(&mut BufReader::new(File::open(&path).unwrap()), &mut index).unwrap();
    }
    let views: Vec<View> = (0..layers).map(|layer| view(dir, &layer.to_string())).collect();
    let mut merged = BufWriter::new(File::create(dir.join("merged.index")).unwrap());
    merge::merge(&views, [7; 32], &mut merged).unwrap();
    drop(merged);
    let tree = open(dir);
    let before = memory();
    fill(&tree, upper);
    let each = (memory() - before) / upper.max(1) as f64;
    Figures::from([
        ("memory of a file that was made", each),
        ("close", timed(|| close(&tree)).0),
    ])
}

/// As a server does when its container is kept.
fn close(tree: &Tree) {
    drop(tree.sync().unwrap());
    if tree.list_is_due() {
        assert!(tree.list().unwrap());
    }
}

/// Files of the writable layer; every sixteenth has some bytes.
fn fill(tree: &Tree, upper: usize) {
    let mut parent = Ino::ROOT;
    for number in 0..upper {
        let (dir, file) = place("up", number);
        if number % WIDTH == 0 {
            parent = tree.mkdir(&CALLER, Ino::ROOT, name(&dir), 0o755).unwrap().ino;
        }
        let ino = tree
            .mknod(&CALLER, parent, name(&file), 0o100_644, 0)
            .unwrap()
            .ino;
        if number % 16 == 0 {
            tree.write(&CALLER, ino, 0, &[7; 100], false).unwrap();
        }
        tree.forget(ino, 1);
    }
}

fn view(dir: &Path, name: &str) -> View {
    let path = dir.join(format!("{name}.index"));
    View::open(File::open(&path).unwrap(), &path, Access::Map).unwrap()
}

fn lower(dir: &Path) -> Lower {
    let tar = |layer: usize| Some((File::open(dir.join(format!("{layer}.tar"))).ok()?, layer));
    let layers = (0..).map_while(tar);
    Lower {
        view: view(dir, "merged"),
        layers: layers
            .map(|(tar, layer)| LowerLayer::tar(tar, view(dir, &layer.to_string())))
            .collect(),
    }
}

fn open(dir: &Path) -> Tree {
    Tree::open(lower(dir), &dir.join("upper"), Limits::default()).unwrap()
}

fn measure(dir: &Path) -> Figures {
    let mut figures = Figures::new();
    let before = memory();
    let (seconds, tree) = timed(|| open(dir));
    figures.insert("open", seconds);
    figures.insert("memory of the open layer", memory() - before);
    // The files that are there: every figure is of ones spread over all.
    let count = |prefix: &str| {
        let made = (0..).take_while(|i| tree.lookup(Ino::ROOT, name(&format!("{prefix}{i:05}"))).is_ok());
        made.count() * WIDTH
    };
    for (prefix, what) in [("low", "lookup below"), ("up", "lookup above")] {
        let files = count(prefix);
        if files > 0 {
            let before = memory();
            figures.insert(what, spread(&tree, prefix, files, TIMES, |_| ()));
            if prefix == "up" {
                figures.insert("memory of files looked up", (memory() - before) / TIMES as f64);
            }
        }
    }
    let below = count("low");
    let set = SetAttr {
        perm: Some(0o600),
        ..SetAttr::default()
    };
    let before = memory();
    spread(&tree, "low", below, TOUCHED, |ino| {
        tree.setattr(&CALLER, ino, &set).unwrap();
    });
    figures.insert("memory of a touched inode", (memory() - before) / TOUCHED as f64);
    let new = tree.mkdir(&CALLER, Ino::ROOT, name("new"), 0o755).unwrap().ino;
    let names: Vec<String> = (0..TIMES).map(|i| format!("new{i}")).collect();
    let create = |text: &String| tree.mknod(&CALLER, new, name(text), 0o100_644, 0).unwrap().ino;
    let (seconds, made) = timed(|| names.iter().map(create).collect::<Vec<_>>());
    figures.insert("create", seconds / TIMES as f64);
    let unlink = |(text, ino): (&String, &Ino)| {
        tree.unlink(&CALLER, new, name(text)).unwrap();
        tree.forget(*ino, 1);
    };
    let (seconds, ()) = timed(|| names.iter().zip(&made).for_each(unlink));
    figures.insert("unlink", seconds / TIMES as f64);
    figures
}

/// Seconds per file to find `times` of `files` files and do `work` on each.
fn spread(tree: &Tree, prefix: &str, files: usize, times: usize, work: impl Fn(Ino)) -> f64 {
    let step = (files / times).max(1);
    let (seconds, ()) = timed(|| {
        for number in (0..times).map(|i| i * step % files) {
            let (parent, file) = place(prefix, number);
            let parent = tree.lookup(Ino::ROOT, name(&parent)).unwrap().ino;
            let ino = tree.lookup(parent, name(&file)).unwrap().ino;
            work(ino);
            tree.forget(ino, 1);
            tree.forget(parent, 1);
        }
    });
    seconds / times as f64
}

/// Bytes on the disk of a file of the writable layer.
fn on_disk(dir: &Path, file: &str) -> f64 {
    fs::metadata(dir.join("upper").join(file)).unwrap().blocks() as f64 * 512.0
}

/// Rounds of work; another thread syncs, and at last makes checkpoints, as a server's timer does, more often.
fn churn(dir: &Path, rounds: usize) -> Figures {
    let tree = open(dir);
    let work = tree.mkdir(&CALLER, Ino::ROOT, name("churn"), 0o755).unwrap().ino;
    let mut figures = Figures::new();
    figures.insert("longest without", with_timer(&tree, work, rounds, || ()));
    let checkpoints = AtomicU64::new(0);
    let tidy = || {
        // One in any case, to see what it costs others.
        if checkpoints.load(Ordering::Relaxed) == 0 || tree.checkpoint_is_due() {
            tree.checkpoint(&|| true).unwrap();
            checkpoints.fetch_add(1, Ordering::Relaxed);
        }
    };
    figures.insert("longest", with_timer(&tree, work, rounds, tidy));
    figures.insert("checkpoints", checkpoints.into_inner() as f64);
    tree.rmdir(&CALLER, Ino::ROOT, name("churn")).unwrap();
    tree.forget(work, 1);
    drop(tree.sync().unwrap());
    figures.insert("journal", on_disk(dir, "journal"));
    figures.insert("data", on_disk(dir, "data"));
    figures.insert(
        "checkpoint seconds",
        timed(|| tree.checkpoint(&|| true).unwrap()).0,
    );
    figures.insert("checkpoint", on_disk(dir, "journal"));
    drop(tree);
    figures.insert("open", timed(|| open(dir)).0);
    figures
}

/// The seconds of the longest operation while another thread syncs again and again, and does `more`.
fn with_timer(tree: &Tree, work: Ino, rounds: usize, more: impl Fn() + Sync) -> f64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                drop(tree.sync().unwrap());
                more();
            }
        });
        let longest = (0..rounds)
            .map(|round| come_and_go(tree, work, round))
            .fold(0.0, f64::max);
        done.store(true, Ordering::Relaxed);
        longest
    })
}

/// A round: 1,000 files of 8 KiB come, are written again, renamed, and go: as much as a busy container does in some minutes.
/// Gives the seconds of its longest operation.
fn come_and_go(tree: &Tree, work: Ino, round: usize) -> f64 {
    let mut longest = 0.0;
    let mut note = |seconds: f64| longest = f64::max(longest, seconds);
    for i in 0..1000 {
        let (one, other) = (format!("a{i}"), format!("b{i}"));
        let (seconds, made) = timed(|| tree.mknod(&CALLER, work, name(&one), 0o100_644, 0).unwrap());
        note(seconds);
        for part in [0, 4096, 2000] {
            note(
                timed(|| {
                    tree.write(&CALLER, made.ino, part, &[round as u8; 4096], false)
                        .unwrap()
                })
                .0,
            );
        }
        let (from, to) = ((work, name(&one)), (work, name(&other)));
        note(timed(|| tree.rename(&CALLER, from, to, Rename::Replace).unwrap()).0);
        note(timed(|| tree.unlink(&CALLER, work, name(&other)).unwrap()).0);
        tree.forget(made.ino, 1);
    }
    longest
}
