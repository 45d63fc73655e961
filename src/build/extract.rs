//! How do files of a stage or of the context come into a plain directory, for a RUN that mounts them, or for the user
//! (`--output`)? They are those that COPY would take, as the user's own: their owners are lost.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuse_overlay::attr::{Kind, Time};

use super::copy::{CopyError, Item, Order, Wildcards, shown};
use super::patterns::ignore::Ignore;
use super::source::{Links, Source};

/// What a mount of `path` shows, and so depends on: the same as a copy of it.
pub(super) fn bound(path: Vec<u8>) -> Order {
    Order {
        sources: vec![path],
        parents: None,
        wildcards: Wildcards::Characters,
        inline: Vec::new(),
        dest: Vec::new(),
        into: false,
        owner: None,
        chmod: None,
        exclude: Ignore::default(),
        now: Time::default(),
    }
}

/// Copies what is at `path` to `to`, over whatever is there. A symlink as the last name is followed; one that is in the
/// way is replaced, since whoever put it there would choose where files go.
pub(super) fn extract(source: &dyn Source, path: Vec<u8>, to: &Path) -> Result<(), CopyError> {
    let top = source
        .look(&path, Links::Follow)
        .map_err(|error| CopyError::Read(shown(&path), error))?;
    let order = bound(path);
    let plan = order.plan(source)?;
    if plan.into && !to.is_dir() {
        let perm = top.map_or(0o755, |top| top.perm);
        directory(to, perm).map_err(|error| CopyError::Write(to.display().to_string(), error))?;
    }
    for item in &plan.items {
        let at = match plan.into {
            true => to.join(OsStr::from_bytes(&item.to)),
            false => to.to_owned(),
        };
        one(&order, source, item, &at).map_err(|error| CopyError::Write(at.display().to_string(), error))?;
    }
    Ok(())
}

fn one(order: &Order, source: &dyn Source, item: &Item, to: &Path) -> io::Result<()> {
    let entry = &item.entry;
    match entry.kind {
        Kind::Directory => directory(to, entry.perm),
        Kind::Symlink => {
            clear(to)?;
            symlink(OsStr::from_bytes(&entry.target), to)
        }
        Kind::Regular => {
            clear(to)?;
            let mode = u32::from(entry.perm) | 0o400;
            let mut file = fs::File::options()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(to)?;
            io::copy(&mut order.content(source, item)?, &mut file)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.set_modified(time(entry.mtime))
        }
        // Devices, fifos and sockets mean nothing in a copy.
        _ => Ok(()),
    }
}

/// Makes room for something that is no directory; EISDIR if one is there.
fn clear(at: &Path) -> io::Result<()> {
    match fs::symlink_metadata(at) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        found => found.and_then(|_| fs::remove_file(at)),
    }
}

/// One that the user can write to, and remove.
fn directory(to: &Path, perm: u16) -> io::Result<()> {
    if !fs::symlink_metadata(to).is_ok_and(|found| found.is_dir()) {
        clear(to)?;
        fs::create_dir(to)?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(u32::from(perm) | 0o700))
}

fn time(at: Time) -> SystemTime {
    let seconds = Duration::from_secs(at.sec.unsigned_abs());
    let whole = match at.sec {
        0.. => UNIX_EPOCH.checked_add(seconds),
        _ => UNIX_EPOCH.checked_sub(seconds),
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(at.nsec.into())))
        .unwrap_or(UNIX_EPOCH)
}
