//! Why did the store refuse or fail? Each message names the path, and what was to be done with it.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the store. The message leaves out the source, which the report appends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done, as a verb phrase.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Written by a program that knows more than this one.
    #[error("the store {} has version {found}, this bryo knows up to {}", path.display(), super::root::VERSION)]
    Newer {
        /// The store's root.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A version file that is no number.
    #[error("{} does not hold a store's version", .0.display())]
    BadVersion(PathBuf),
    /// A directory of someone else, where only one's own will do.
    #[error("{} belongs to user {owner}, not to you (user {me})", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// A directory that others may enter, where secrets and sockets will lie.
    #[error("{} is open to other users (mode {mode:04o}, wanted 0700)", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A path that should be a directory.
    #[error("{} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// Nothing says where the store should lie.
    #[error("no place for the store: neither BRYO_ROOT nor XDG_DATA_HOME nor HOME is set")]
    NoHome,
}

/// What would help when there is no room for a file of the store.
pub fn more_space(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => Some("the disk is full: `bryo image prune -a` frees what no container uses"),
        Some(libc::EDQUOT) => {
            Some("your disk quota is used up: `bryo image prune -a` frees space, BRYO_ROOT moves the store")
        }
        _ => None,
    }
}

impl Error {
    /// For `map_err`: `action` is a verb phrase, "create", "open for reading".
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// What would help, where something is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Io { source, .. } => match source.raw_os_error() {
                Some(libc::EROFS | libc::EACCES) => Some("set BRYO_ROOT to a directory that you can write"),
                _ => more_space(source),
            },
            Error::Newer { .. } => Some("use the newer bryo, or another store by BRYO_ROOT"),
            Error::BadVersion(_) => Some("is BRYO_ROOT set to something that is no store?"),
            Error::Foreign { .. } | Error::NotDirectory(_) => {
                Some("set BRYO_ROOT, BRYO_STATE and BRYO_RUN to directories of your own")
            }
            Error::Open { .. } => Some("chmod 700 it, or set BRYO_RUN to a directory of your own"),
            Error::NoHome => Some("set BRYO_ROOT to a directory of your own"),
        }
    }
}
