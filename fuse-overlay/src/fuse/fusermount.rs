//! How does an ordinary user mount outside a user namespace? By `fusermount3`, the setuid helper of libfuse, which opens
//! the device, mounts it, and sends its descriptor over the socket that `_FUSE_COMMFD` names.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

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
    let mut helper = Command::new(HELPER);
    helper.args(["-o", &options, "--"]).arg(target);
    helper.env("_FUSE_COMMFD", "0").stdin(OwnedFd::from(theirs));
    run(helper)?;
    receive(&ours)?.ok_or_else(|| io::Error::other(format!("{HELPER} sent no descriptor")))
}

/// Unmounts what [`mount_by_helper`] mounted, also while it is in use: it ends when its last user has gone.
///
/// # Errors
/// As the helper says.
pub fn unmount_by_helper(target: &Path) -> io::Result<()> {
    let mut helper = Command::new(HELPER);
    helper.args(["-u", "-q", "-z", "--"]).arg(target);
    helper.stdin(Stdio::null());
    run(helper)
}

fn missing(error: io::Error) -> io::Error {
    let help = match error.kind() {
        io::ErrorKind::NotFound => " (install fuse3, or mount in a user namespace: unshare -rm)",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{HELPER}: {error}{help}"))
}

/// Runs the helper to its end, and lets go of what it was given; a failure is what it printed.
fn run(mut helper: Command) -> io::Result<()> {
    let done = helper.output().map_err(missing)?;
    let said = String::from_utf8_lossy(&done.stderr);
    match (done.status, said.trim()) {
        (status, _) if status.success() => Ok(()),
        (status, "") => Err(io::Error::other(format!("{HELPER}: {status}"))),
        (_, said) => Err(io::Error::other(said.to_owned())),
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
