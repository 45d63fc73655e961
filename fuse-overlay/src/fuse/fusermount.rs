//! How does an ordinary user mount outside a user namespace? By `fusermount3`, the setuid helper of libfuse, which opens
//! the device, mounts it, and sends its descriptor over the socket that `_FUSE_COMMFD` names.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::mount::Reach;

/// The helper's name, found in `$PATH`.
const HELPER: &str = "fusermount3";

/// Mounts a new connection on the directory `target` and gives its descriptor, the first for [`super::serve`]; more are
/// to be opened by [`super::open_devices`]. Set-id bits and device nodes never work on such a mount.
///
/// # Errors
/// The helper is missing, or refuses: the error holds what it printed. For [`Reach::Everybody`] it wants
/// `user_allow_other` in /etc/fuse.conf.
pub fn mount_by_helper(target: &Path, reach: Reach) -> io::Result<OwnedFd> {
    let mut options =
        String::from("fsname=fuse-overlay,subtype=overlay,nosuid,nodev,noatime,default_permissions");
    if reach == Reach::Everybody {
        options.push_str(",allow_other");
    }
    let (ours, theirs) = UnixStream::pair()?;
    // The socket is the helper's standard input, so that nothing else inherits it.
    let helper = Command::new(HELPER)
        .args(["-o", &options, "--"])
        .arg(target)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let received = receive(&ours);
    finished(helper)?;
    received?.ok_or_else(|| io::Error::other(format!("{HELPER} sent no descriptor")))
}

/// Unmounts what [`mount_by_helper`] mounted, also while it is in use: it ends when its last user has gone.
///
/// # Errors
/// As the helper says.
pub fn unmount_by_helper(target: &Path) -> io::Result<()> {
    let helper = Command::new(HELPER)
        .args([
            OsStr::new("-u"),
            OsStr::new("-q"),
            OsStr::new("-z"),
            OsStr::new("--"),
            target.as_os_str(),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    finished(helper)
}

fn missing(error: io::Error) -> io::Error {
    let help = match error.kind() {
        io::ErrorKind::NotFound => " (install fuse3, or mount in a user namespace: unshare -rm)",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{HELPER}: {error}{help}"))
}

/// Waits for the helper; a failure is what it printed.
fn finished(mut helper: Child) -> io::Result<()> {
    let mut said = String::new();
    if let Some(errors) = &mut helper.stderr {
        errors.read_to_string(&mut said)?;
    }
    match helper.wait()? {
        status if status.success() => Ok(()),
        status if said.trim().is_empty() => Err(io::Error::other(format!("{HELPER}: {status}"))),
        _ => Err(io::Error::other(said.trim().to_owned())),
    }
}

/// The descriptor that comes with one byte; `None` at the stream's end.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut received = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            received = descriptors.next();
        }
    }
    Ok(received)
}
