//! The least program that mounts: `unshare -rm cargo run --example mount -- UPPER MOUNTPOINT LAYER...`, lowest layer
//! first, each a tar or a directory. The crate's own program, `fuse-overlay mount`, does more.

use std::error::Error;
use std::os::fd::AsFd;
use std::path::PathBuf;

use fuse_overlay::fuse::{AtEnd, IdMap, mount, open_devices, serve};
use fuse_overlay::ledger::Ledger;
use fuse_overlay::stack;
use fuse_overlay::union::{Limits, Tree};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [upper, target, layers @ ..] = args.as_slice() else {
        return Err("usage: mount UPPER MOUNTPOINT LAYER...".into());
    };
    std::fs::create_dir_all(upper)?;
    let lower = stack::open(layers, &upper.with_extension("indexes"))?;
    let tree = Tree::open(lower, upper, Limits::default())?;
    let devices = open_devices(2)?;
    let mounted = devices.first().ok_or("no device")?;
    mount(mounted.as_fd(), target, "fuse-overlay")?;
    let ids = IdMap::of_process(std::process::id())?;
    Ok(serve(tree, ids, devices, &Ledger::alone()?, AtEnd::Sync)?)
}
