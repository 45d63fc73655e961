//! Mounts tar layers with a writable layer above, for trying things out and for measuring.
//!
//! ```text
//! cargo run --release --example mount -- --layer base.tar --layer top.tar --upper DIR MOUNTPOINT
//! ```
//! Layers are given lowest first. Indexes are made in `DIR.index` and used again. The process serves the mount until it
//! is unmounted or its mount namespace ends; it wants the right to mount, so run it as root or under `unshare -rUm`.
//! `RUST_LOG=debug` prints the requests by opcode at the end, `RUST_LOG=trace` each request.

use std::error::Error;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use fuse_overlay::fuse::{IdMap, mount, open_devices, serve};
use fuse_overlay::index::view::Access;
use fuse_overlay::index::{View, merge};
use fuse_overlay::layer;
use fuse_overlay::ledger::Ledger;
use fuse_overlay::union::{Limits, Lower, LowerLayer, Tree};

const USAGE: &str = "usage: mount --layer TAR [--layer TAR]... --upper DIR [--threads N] MOUNTPOINT";

struct Options {
    layers: Vec<PathBuf>,
    upper: PathBuf,
    threads: usize,
    target: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = parse(std::env::args().skip(1)).ok_or(USAGE)?;
    let mut work = options.upper.clone().into_os_string();
    work.push(".index");
    let work = PathBuf::from(work);
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&options.upper)?;
    let lower = lower(&options.layers, &work)?;
    let tree = Tree::open(lower, &options.upper, Limits::default())?;
    let devices = open_devices(options.threads)?;
    let mounted = devices.first().ok_or(USAGE)?;
    mount(mounted.as_fd(), &options.target)?;
    Ok(serve(
        tree,
        IdMap::of_process(std::process::id())?,
        devices,
        &Ledger::alone()?,
    )?)
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let (mut layers, mut upper, mut threads, mut target) = (Vec::new(), None, 2, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--layer" => layers.push(args.next()?.into()),
            "--upper" => upper = Some(args.next()?.into()),
            "--threads" => threads = args.next()?.parse().ok()?,
            _ if target.is_none() && !arg.starts_with('-') => target = Some(arg.into()),
            _ => return None,
        }
    }
    Some(Options {
        layers,
        upper: upper?,
        threads,
        target: target?,
    })
}

/// Indexes and merges `tars`, or takes what an earlier run made of them.
fn lower(tars: &[PathBuf], work: &Path) -> Result<Lower, Box<dyn Error>> {
    let mut layers = Vec::new();
    let mut views = Vec::new();
    for (number, path) in tars.iter().enumerate() {
        let tar = File::open(path)?;
        let index = work.join(format!("{number}.index"));
        if !is_younger(&index, path) {
            layer::reindex(&tar, &mut File::create(&index)?)?;
        }
        views.push(View::open(File::open(&index)?, &index, Access::Map)?);
        layers.push(LowerLayer {
            tar,
            index: View::open(File::open(&index)?, &index, Access::Map)?,
        });
    }
    let merged = work.join("merged.index");
    // Quick beside the indexes, and so it never belongs to other layers.
    merge::merge(&views, [0; 32], &mut File::create(&merged)?)?;
    Ok(Lower {
        view: View::open(File::open(&merged)?, &merged, Access::Map)?,
        layers,
    })
}

/// Was `file` made after `source` was written last?
fn is_younger(file: &Path, source: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    time(file).is_some_and(|made| time(source).is_some_and(|written| made > written))
}
