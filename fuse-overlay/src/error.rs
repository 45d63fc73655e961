//! How does a failure reach the caller? Every error of an operation is an errno; causes worth a person's
//! attention are logged where they are found.

use std::io;

use nix::errno::Errno;

/// An operation's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on the tree failed: the errno that the calling program gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.desc())]
pub struct Error(pub Errno);

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error(errno)
    }
}

impl From<io::Error> for Error {
    /// Keeps the errno of the system call; an error without one is EIO.
    fn from(error: io::Error) -> Self {
        Error(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}
