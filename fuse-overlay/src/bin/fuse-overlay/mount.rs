//! The life of a mount: open, mount, serve, unmount when a signal says so.

use std::error::Error;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use fuse_overlay::fuse::{self, IdMap, Reach};
use fuse_overlay::ledger::Ledger;
use fuse_overlay::stack;
use fuse_overlay::union::{Limits, Tree};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal};

use super::Options;

/// How it was mounted, hence how it is unmounted.
#[derive(Clone, Copy)]
enum How {
    Directly,
    ByHelper,
}

pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let upper = options.upper()?;
    let target = options.target.as_ref().ok_or("MOUNTPOINT is missing")?;
    // Whole, since a signal may come when the working directory is another filesystem's.
    let target = fs::canonicalize(target).map_err(|error| format!("{}: {error}", target.display()))?;
    fs::create_dir_all(upper).map_err(|error| format!("{}: {error}", upper.display()))?;
    let lower = stack::open(&options.layers, &options.indexes().ok_or("--upper is missing")?)?;
    let tree = Tree::open(lower, upper, Limits::default())?;
    let ledger = Ledger::alone()?;
    // Blocked before any thread is there, so that only the one that waits for them gets them.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let mut devices = fuse::open_devices(options.threads.unwrap_or(2))?;
    let how = mount(&mut devices, &target, options)?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || heed(&signals, how, target))?;
    Ok(fuse::serve(
        tree,
        IdMap::of_process(std::process::id())?,
        devices,
        &ledger,
        fuse::AtEnd::List,
    )?)
}

/// Mounts by mount(2) where that is allowed, else by fusermount3.
fn mount(
    devices: &mut [std::os::fd::OwnedFd],
    target: &Path,
    options: &Options,
) -> Result<How, Box<dyn Error>> {
    let first = devices.first_mut().ok_or("no device")?;
    match fuse::mount(first.as_fd(), target, "fuse-overlay") {
        Ok(()) => Ok(How::Directly),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let reach = match options.allow_other {
                true => Reach::Everybody,
                false => Reach::Owner,
            };
            *first = fuse::mount_by_helper(target, reach)?;
            Ok(How::ByHelper)
        }
        Err(error) => Err(format!("{}: {error}", target.display()).into()),
    }
}

/// Unmounts at the first signal. Who still uses the mount may end; at the second the process does: all that was answered
/// is in the page cache, and what was synced on the disk.
fn heed(signals: &SigSet, how: How, target: PathBuf) {
    loop {
        let Ok(signal) = signals.wait() else { return };
        let unmounted = match how {
            How::Directly => umount2(&target, MntFlags::MNT_DETACH).map_err(std::io::Error::from),
            How::ByHelper => fuse::unmount_by_helper(&target),
        };
        match unmounted {
            Ok(()) => tracing::info!(%signal, "unmounted"),
            Err(error) => eprintln!("fuse-overlay: unmounting {}: {error}", target.display()),
        }
        if let Ok(signal) = signals.wait() {
            std::process::exit(128 + signal as i32);
        }
    }
}
