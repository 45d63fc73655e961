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

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

/// Where the sockets are, in `$BRYO_RUN`.
const DIRECTORY: &str = "attach";

/// The directory of the sockets, open: a path of any length can be used through its descriptor.
fn directory(run: &Path) -> io::Result<File> {
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

fn short(directory: &File, id: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{id}", directory.as_raw_fd()).into()
}

/// Makes the socket of a container.
///
/// # Errors
/// There is no private directory for it.
pub(super) fn listen(run: &Path, id: &str) -> io::Result<UnixListener> {
    let directory = directory(run)?;
    let path = short(&directory, id);
    // Left by a supervisor that was killed: whoever holds the container's lock is the only one.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The supervisor has one thread still.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(&path);
    umask(before);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket of a container that ended.
pub(super) fn unlisten(run: &Path, id: &str) {
    // One that stays is replaced at the next start.
    let _ = std::fs::remove_file(run.join(DIRECTORY).join(id));
}

fn connect(run: &Path, id: &str) -> io::Result<UnixStream> {
    let directory = directory(run)?;
    UnixStream::connect(short(&directory, id))
}

/// Removes the sockets of containers that are gone, which killed supervisors left.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn sweep(run: &Path, is_there: impl Fn(&str) -> bool) -> io::Result<()> {
    let path = run.join(DIRECTORY);
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|id| !is_there(id)) {
            // Somebody else may have been faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}
