//! `attach`: how does somebody hear, and speak to, a container that runs already? By a socket of its supervisor's.
//!
//! `frame`: what is said; `audience`: the supervisor's side; `visit`: the tool's; `keys`: how a terminal is left; `over`: what it
//! means when nobody says any more.

pub(super) mod audience;
mod frame;
pub mod keys;
mod over;
mod visit;

pub use keys::Keys;
pub use visit::{Left, Visit, Visitor};

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr};

/// Where the sockets are, in `$BRYO_RUN`.
pub(super) const DIRECTORY: &str = "attach";

/// What the name of a socket that is being made ends with.
const NEW: &str = ".new";

/// What the name of a socket ends with by which commands come in (`run --join`).
pub(super) const DOOR: &str = ".join";

/// The directory of the sockets, open: a path of any length can be used through its descriptor.
pub(super) fn directory(run: &Path) -> io::Result<File> {
    let path = run.join(DIRECTORY);
    match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let directory = File::open(&path)?;
    let found = directory.metadata()?;
    let own = nix::unistd::geteuid().as_raw();
    match found.is_dir() && found.uid() == own && found.mode() & 0o077 == 0 {
        true => Ok(directory),
        false => Err(io::Error::other(format!("{} is open to others", path.display()))),
    }
}

/// The path of one of them, short enough for a socket's address.
pub(super) fn short(directory: &File, id: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{id}", directory.as_raw_fd()).into()
}

/// Makes the socket of a container.
///
/// # Errors
/// There is no private directory for it.
pub(super) fn listen(run: &Path, id: &str) -> io::Result<UnixListener> {
    let directory = directory(run)?;
    // It gets its name once it listens: before that it would look like one that a killed supervisor left. Whoever holds the
    // container's lock is the only one.
    let new = short(&directory, &format!("{id}{NEW}"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, short(&directory, id))?;
    Ok(listener)
}

/// Removes the socket of a container that ended.
pub(super) fn unlisten(run: &Path, id: &str) {
    // One that stays is replaced at the next start.
    let _ = fs::remove_file(run.join(DIRECTORY).join(id));
}

pub(super) fn connect(run: &Path, id: &str) -> io::Result<UnixStream> {
    let directory = directory(run)?;
    UnixStream::connect(short(&directory, id))
}

/// Removes the sockets that killed supervisors left. Those of containers of other stores are here, too.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn sweep(run: &Path) -> io::Result<()> {
    if !run.join(DIRECTORY).exists() {
        return Ok(());
    }
    let directory = directory(run)?;
    for entry in fs::read_dir(run.join(DIRECTORY))? {
        let name = entry?.file_name();
        let id = name.to_str().filter(|name| !name.ends_with(NEW));
        if let Some(id) = id
            && is_deserted(&short(&directory, by_which_asked(&directory, id)))
        {
            // Somebody else may have been faster.
            let _ = fs::remove_file(short(&directory, id));
        }
    }
    Ok(())
}

/// The socket that tells whether somebody listens at this one: whoever comes in by a container's door would be taken for one of
/// its commands, so the other of the same supervisor is asked, if it is there.
fn by_which_asked<'a>(directory: &File, name: &'a str) -> &'a str {
    let other = name.strip_suffix(DOOR);
    other.filter(|id| short(directory, id).exists()).unwrap_or(name)
}

/// Does nobody listen there? Waits for nobody.
fn is_deserted(socket: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let own = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let (Ok(own), Ok(address)) = (own, UnixAddr::new(socket)) else {
        return false;
    };
    nix::sys::socket::connect(own.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_in_by_a_door_to_sweep() {
        let run = tempfile::tempdir().unwrap();
        let _heard = listen(run.path(), "one").unwrap();
        let door = listen(run.path(), "one.join").unwrap();
        drop(listen(run.path(), "two.join").unwrap());
        sweep(run.path()).unwrap();
        assert_eq!(door.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!run.path().join(DIRECTORY).join("two.join").exists());
    }

    #[test]
    fn only_what_nobody_hears_is_swept() {
        let run = tempfile::tempdir().unwrap();
        let heard = listen(run.path(), "heard").unwrap();
        drop(listen(run.path(), "killed").unwrap());
        sweep(run.path()).unwrap();
        let left: Vec<_> = fs::read_dir(run.path().join(DIRECTORY))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["heard"]);
        drop(heard);
        // The next takes its place.
        let again = listen(run.path(), "heard").unwrap();
        assert!(connect(run.path(), "heard").is_ok());
        drop(again);
    }
}
