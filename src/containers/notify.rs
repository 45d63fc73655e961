//! What is said to systemd of a container (sd_notify(3)), and by whom? It has set `$NOTIFY_SOCKET` for the tool that starts the
//! container; the supervisor keeps the variable. `--sdnotify container` shows the container a socket of ours instead, at
//! [`PLACE`], and passes on what may be said of it there.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{MountBuilder, Spec};

use super::Error;
use super::spec::env;
use super::upkeep::{Notify, Upkeep};

/// Where systemd listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long a listener may take that has not read what it was sent. A container must not hold up its supervisor by saying more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the container's socket is within it.
const PLACE: &str = "/run/notify";

/// Its name, there and in [`directory`].
const NAME: &str = "notify.sock";

/// What a container may say of itself. Not which process is to be watched, nor what hands over descriptors: these are ours.
const ALLOWED: [&str; 9] = [
    "READY",
    "RELOADING",
    "STOPPING",
    "STATUS",
    "ERRNO",
    "WATCHDOG",
    "WATCHDOG_USEC",
    "EXTEND_TIMEOUT_USEC",
    "MONOTONIC_USEC",
];

/// Bytes of the longest message that is passed on.
const LONGEST: usize = 4096;

/// The variable, if somebody listens who is to hear of the container.
fn listener(upkeep: &Upkeep) -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty() && upkeep.notify != Notify::Ignore)
}

fn send(to: &OsStr, text: &[u8]) -> io::Result<()> {
    let to = match to.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(to)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(text, &to).map(drop)
}

/// Tells which process to watch, this one, and that the command runs; where somebody else says whether it is ready, no more.
///
/// # Errors
/// Nobody is there.
pub(super) fn running(upkeep: &Upkeep) -> io::Result<()> {
    let Some(to) = listener(upkeep) else { return Ok(()) };
    let ready = match upkeep.notify {
        Notify::Conmon => "\nREADY=1",
        _ => "",
    };
    send(&to, format!("MAINPID={}{ready}", std::process::id()).as_bytes())
}

/// Tells that its health check has found it well.
///
/// # Errors
/// Nobody is there.
pub(super) fn healthy(upkeep: &Upkeep) -> io::Result<()> {
    match listener(upkeep).filter(|_| upkeep.notify == Notify::Healthy) {
        Some(to) => send(&to, b"READY=1"),
        None => Ok(()),
    }
}

/// The host's directory that is shown to the container.
fn directory(container: &Path) -> PathBuf {
    container.join("notify")
}

/// Has the Spec of a container, which lies in this directory, show it where it may say that it is ready.
///
/// # Errors
/// The directory cannot be made.
pub(super) fn show(upkeep: &Upkeep, container: &Path, spec: &mut Spec) -> Result<(), Error> {
    if upkeep.notify != Notify::Container || listener(upkeep).is_none() {
        return Ok(());
    }
    let source = directory(container);
    // Others than its root are to come in, too; nobody else comes into the container's own directory.
    let made = DirBuilder::new().mode(0o755).recursive(true).create(&source);
    made.map_err(Error::io("make", &source))?;
    let mount = MountBuilder::default()
        .typ("bind")
        .source(&source)
        .destination(PLACE)
        .options(["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"].map(String::from));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount.build().map_err(super::spec::SpecError::from)?);
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let environment = process.env().clone().unwrap_or_default();
        let socket = format!("{VARIABLE}={PLACE}/{NAME}");
        process.set_env(Some(env::merge(&environment, &[], &[socket])));
    }
    Ok(())
}

/// The supervisor's end of the container's socket.
#[derive(Debug)]
pub(super) struct Proxy {
    socket: UnixDatagram,
    to: OsString,
}

impl Proxy {
    /// Listens, if the container is shown the socket.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn listen(upkeep: &Upkeep, container: &Path) -> io::Result<Option<Proxy>> {
        let Some(to) = listener(upkeep).filter(|_| upkeep.notify == Notify::Container) else {
            return Ok(None);
        };
        let place = File::open(directory(container))?;
        // A path may be longer than the address of a socket.
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", place.as_raw_fd()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Some(Proxy { socket, to }))
    }

    /// Passes on one message. A systemd that is gone is no reason for the container to end.
    pub(super) fn pass(&self) {
        let mut message = [0; LONGEST];
        let said = self.socket.recv(&mut message).ok();
        let said = said.and_then(|length| message.get(..length)).unwrap_or_default();
        let said = allowed(said);
        if !said.is_empty()
            && let Err(error) = send(&self.to, &said)
        {
            tracing::warn!("systemd does not hear what a container says: {error}");
        }
    }
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The lines of a message that are passed on.
fn allowed(message: &[u8]) -> Vec<u8> {
    let lines = message.split(|byte| *byte == b'\n').filter(|line| {
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
        ALLOWED.iter().any(|allowed| allowed.as_bytes() == name)
    });
    lines.collect::<Vec<_>>().join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_never_reads_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = UnixDatagram::bind(&path).unwrap();
        let full = std::iter::repeat_with(|| send(path.as_os_str(), b"READY=1")).find_map(Result::err);
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_container_speaks_for_itself_alone() {
        assert_eq!(
            allowed(b"MAINPID=1\nREADY=1\nFDSTORE=1\nSTATUS=a=b\n"),
            b"READY=1\nSTATUS=a=b"
        );
        assert_eq!(allowed(b"BARRIER=1"), b"");
        assert_eq!(allowed(b"READYNESS=1\n\n"), b"");
    }
}
