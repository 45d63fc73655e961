//! How does the filesystem come into a mount namespace? `mount(2)` of type `fuse` by whoever is root of its user
//! namespace; no fusermount, no setuid helper.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::MsFlags;
use nix::unistd::{getgid, getuid};

/// Who may use a mount that a helper makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The user who mounts.
    Owner,
    /// All users, as permissions allow.
    Everybody,
}

/// The FUSE device.
const DEVICE: &str = "/dev/fuse";

/// Opens `/dev/fuse` once per thread that is to serve a mount.
///
/// To be called inside the user namespace of the future mount: the kernel lets a descriptor join a connection
/// (`FUSE_DEV_IOC_CLONE`) only if both were opened in one.
///
/// # Errors
/// The system call's, with the device's name and what would help.
pub fn open_devices(count: usize) -> io::Result<Vec<OwnedFd>> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .map(OwnedFd::from)
    };
    (0..count).map(|_| open().map_err(explain)).collect()
}

fn explain(error: io::Error) -> io::Error {
    let help = match error.kind() {
        io::ErrorKind::NotFound => {
            "the kernel's fuse module is not loaded, or this container was not given the device"
        }
        io::ErrorKind::PermissionDenied => "its owner must allow it: chmod 666 /dev/fuse",
        _ => return io::Error::new(error.kind(), format!("{DEVICE}: {error}")),
    };
    io::Error::new(error.kind(), format!("{DEVICE}: {error} ({help})"))
}

/// Mounts the connection of `device` on the directory `target`, as `source` in lists of mounts. Returns at once; [`super::serve`] answers from then on.
///
/// The caller is in the mount's user and mount namespace, where its own ids are mapped. Set-id bits work on the mount,
/// as they must in a container: they mean ids of this user namespace only, and nobody outside it can reach the mount.
/// Device nodes never work on it.
///
/// # Errors
/// The system call's.
pub fn mount(device: BorrowedFd<'_>, target: &Path, source: &str) -> io::Result<()> {
    // The kernel checks permissions itself, for the server sees no open; and it serves every id of the namespace.
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        getuid(),
        getgid()
    );
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    nix::mount::mount(Some(source), target, Some("fuse"), flags, Some(options.as_str()))?;
    Ok(())
}

/// Makes `device`, fresh from [`open_devices`], another descriptor of the connection that `mounted` belongs to.
pub(super) fn join(device: &OwnedFd, mounted: &OwnedFd) -> io::Result<()> {
    Ok(crate::sys::fuse_clone(device, mounted)?)
}

/// The descriptors as files, which read without blocking.
pub(super) fn nonblocking(device: OwnedFd) -> io::Result<File> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFL)?);
    fcntl(&device, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(File::from(device))
}
