//! How do files of a stage or of the context come into a plain directory, for a RUN that mounts them, or for the user
//! (`--output`)? They are those that COPY would take, as the user's own: their owners are lost.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use fuse_overlay::attr::{Kind, Time};
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, futimens};

use super::copy::{CopyError, Item, Order, Wildcards, shown};
use super::patterns::ignore::Ignore;
use super::source::{Entry, Links, Source};
use crate::store::{Given, Store};

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

/// What becomes of set-user-id and set-group-id bits, which would be the user's own then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetId {
    /// They stay: the copy lies where nobody else comes.
    Keep,
    /// They go.
    Drop,
}

/// Copies what is at `path` to `to`, over whatever is there. A symlink as the last name is followed; one that is in the
/// way is replaced, since whoever put it there would choose where files go.
pub(super) fn extract(
    store: &Store,
    source: &dyn Source,
    path: Vec<u8>,
    to: &Path,
    set_id: SetId,
) -> Result<(), CopyError> {
    let top = source
        .look(&path, Links::Follow)
        .map_err(|error| CopyError::Read(shown(&path), error))?;
    let order = bound(path);
    let plan = order.plan(source)?;
    let failed = |at: &Path, error| CopyError::Write(at.display().to_string(), error);
    // Through a symlink, if it is the user's own place.
    let top = top.filter(|_| plan.into && !to.is_dir());
    if top.is_some() {
        directory(to).map_err(|error| failed(to, error))?;
    }
    let place = |item: &Item| match plan.into {
        true => to.join(OsStr::from_bytes(&item.to)),
        false => to.to_owned(),
    };
    for item in &plan.items {
        let at = place(item);
        let done = match item.entry.kind {
            Kind::Regular => {
                let perm = permissions(&item.entry, set_id) | 0o400;
                order
                    .content(source, item)
                    .and_then(|content| file(store, content, &at, perm, &item.entry))
            }
            _ => special(&item.entry, &at),
        };
        done.map_err(|error| failed(&at, error))?;
    }
    // Last, and the deepest first: until then nobody else can put anything there.
    let directories = plan
        .items
        .iter()
        .rev()
        .filter(|item| item.entry.kind == Kind::Directory);
    let below = directories.map(|item| (place(item), &item.entry));
    for (at, entry) in below.chain(top.as_ref().map(|top| (to.to_owned(), top))) {
        let perm = permissions(entry, set_id) | 0o700;
        fs::set_permissions(&at, fs::Permissions::from_mode(perm)).map_err(|error| failed(&at, error))?;
    }
    Ok(())
}

fn permissions(entry: &Entry, set_id: SetId) -> u32 {
    let kept = match set_id {
        SetId::Keep => 0o7777,
        SetId::Drop => 0o1777,
    };
    u32::from(entry.perm) & kept
}

/// A file, which appears when it is whole.
fn file(store: &Store, mut content: impl io::Read, to: &Path, perm: u32, entry: &Entry) -> io::Result<()> {
    let given = Given::at(store, to.to_owned())?;
    let file = given.file();
    io::copy(&mut content, &mut given.writer())?;
    file.set_permissions(fs::Permissions::from_mode(perm))?;
    let times = Timestamps {
        last_access: timespec(0, UTIME_OMIT),
        last_modification: timespec(entry.mtime.sec, entry.mtime.nsec.into()),
    };
    futimens(file, &times)?;
    // So it can have its name without another one before.
    clear(to)?;
    given.commit()
}

/// What is no file.
fn special(entry: &Entry, to: &Path) -> io::Result<()> {
    match entry.kind {
        Kind::Directory => directory(to),
        Kind::Symlink => {
            clear(to)?;
            symlink(OsStr::from_bytes(&entry.target), to)
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

/// One that is the user's alone for now.
fn directory(to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(to).is_ok_and(|found| found.is_dir()) {
        return fs::set_permissions(to, fs::Permissions::from_mode(0o700));
    }
    clear(to)?;
    fs::DirBuilder::new().mode(0o700).create(to)
}

fn timespec(tv_sec: i64, tv_nsec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}
