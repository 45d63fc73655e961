//! How do files of a stage or of the context come into a plain directory, for a RUN that mounts them? As the user's own
//! files: their owners are lost, as the mount's reader is mostly the container's root anyway.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use fuse_overlay::attr::Kind;

use super::source::{Entry, Links, Source};

/// Directories deeper than this are refused: no path could name what is in them.
const DEEPEST: usize = 2048;

/// Copies what is at `from` to `to`, which is not there yet. A symlink as the last name is followed. False: nothing is
/// there.
pub(super) fn extract(source: &dyn Source, from: &[u8], to: &Path) -> io::Result<bool> {
    match source
        .look(from, Links::Follow)?
        .filter(|_| !source.is_hidden(from))
    {
        Some(entry) => one(source, from, &entry, to, 0).map(|()| true),
        None => Ok(false),
    }
}

fn one(source: &dyn Source, from: &[u8], entry: &Entry, to: &Path, depth: usize) -> io::Result<()> {
    match entry.kind {
        Kind::Directory => directory(source, from, entry, to, depth),
        Kind::Symlink => symlink(std::ffi::OsStr::from_bytes(&entry.target), to),
        Kind::Regular => {
            let mode = u32::from(entry.perm) | 0o400;
            let mut file = fs::File::options()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(to)?;
            io::copy(&mut source.open(from)?, &mut file)?;
            file.set_permissions(fs::Permissions::from_mode(mode))
        }
        // Devices, fifos and sockets mean nothing in a copy.
        _ => Ok(()),
    }
}

fn directory(source: &dyn Source, from: &[u8], entry: &Entry, to: &Path, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("too many directories within each other"));
    }
    fs::create_dir(to)?;
    for name in source.names(from)? {
        let below = match from.is_empty() {
            true => name.clone(),
            false => [from, b"/", &name].concat(),
        };
        let hidden = source.is_hidden(&below);
        let Some(entry) = source.look(&below, Links::Keep)? else {
            continue;
        };
        if hidden && source.hides_all(&below) {
            continue;
        }
        // Exceptions may bring back what is below a hidden directory.
        if !hidden || entry.kind == Kind::Directory {
            one(
                source,
                &below,
                &entry,
                &to.join(std::ffi::OsStr::from_bytes(&name)),
                depth + 1,
            )?;
        }
        if hidden && entry.kind == Kind::Directory {
            // Fails if something came back: then it stays.
            let _ = fs::remove_dir(to.join(std::ffi::OsStr::from_bytes(&name)));
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(u32::from(entry.perm) | 0o700))
}
