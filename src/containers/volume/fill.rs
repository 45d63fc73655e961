//! How does an empty volume get what the image has at its place, once, whoever is killed meanwhile?
//!
//! ```text
//! _fill   the copy grows here: what a killed one left is removed by the next
//! _move   renamed when it is whole and on the disk: from here on the volume is to be filled with it
//! _data   gets its entries one by one; whoever next takes the volume goes on where a killed one stopped
//! ```
//! All under the volume's lock, and no container starts without having had it. So a half-filled volume is never taken for
//! a filled one; and `_data` stays the directory that containers may have mounted already.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fuse_overlay::index::NodeId;
use fuse_overlay::union::Lower;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, chownat,
    fchmod, fchown, fstat, futimens, openat, renameat, renameat_with, statat, syncfs,
};
use rustix::io::Errno;

use super::copy::{self, Lost, Result, at};
use super::empty::remove_all;
use super::record::data;
use crate::host::IdMaps;
use crate::store::failpoint;

/// Directories within directories whose owners are changed.
const DEEPEST: usize = 400;

/// What is to be done to a volume.
pub(super) struct Task<'a> {
    pub(super) name: &'a str,
    /// The volume's own.
    pub(super) directory: &'a Path,
    /// What it gets if it is empty.
    pub(super) from: Option<(&'a Lower, NodeId)>,
    /// Whose all is to be in the end.
    pub(super) own: Option<(u32, u32)>,
    /// Whether it is to outlive a power cut.
    pub(super) lasting: bool,
}

/// Was the filling of a volume interrupted?
pub(super) fn is_unfinished(directory: &Path) -> bool {
    fs::symlink_metadata(moving(directory)).is_ok()
}

/// Is there surely something in it? What is not the user's own to read may be empty.
pub(super) fn is_surely_filled(directory: &Path) -> bool {
    fs::read_dir(data(directory)).is_ok_and(|mut entries| entries.next().is_some())
}

fn moving(directory: &Path) -> PathBuf {
    directory.join("_move")
}

impl Task<'_> {
    /// Does it, as root of the container's users.
    pub(super) fn carry_out(&self, maps: &IdMaps) -> Result<Lost> {
        let mut lost = Lost::default();
        self.complete()?;
        if let Some((lower, node)) = self.from
            && is_empty(&data(self.directory))?
        {
            lost = self.copy(lower, node, maps)?;
            self.complete()?;
        }
        if let Some((uid, gid)) = self.own {
            let data = data(self.directory);
            let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
            give(&open(&data)?, owner, &data, 0)?;
        }
        Ok(lost)
    }

    fn copy(&self, lower: &Lower, node: NodeId, maps: &IdMaps) -> Result<Lost> {
        let fill = self.directory.join("_fill");
        remove_all(&fill)?;
        failpoint::step()
            .and_then(|()| fs::DirBuilder::new().mode(0o700).create(&fill))
            .map_err(at(&fill))?;
        let to = open(&fill)?;
        let lost = copy::directory(lower, node, &to, maps)?;
        if self.lasting {
            failpoint::step().map_err(at(&fill))?;
            syncfs(&to).map_err(at(&fill))?;
        }
        failpoint::step().map_err(at(&fill))?;
        let (ours, there) = (fstat(&to), statat(CWD, &fill, AtFlags::SYMLINK_NOFOLLOW));
        let (ours, there) = (ours.map_err(at(&fill))?, there.map_err(at(&fill))?);
        // Where locks are leases, one can be lost.
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino) {
            return Err(at(&fill)("another process fills the volume, too: try once more"));
        }
        fs::rename(&fill, moving(self.directory)).map_err(at(&fill))?;
        Ok(lost)
    }

    /// Brings what lies ready to its place.
    fn complete(&self) -> Result<()> {
        let (from, to) = (moving(self.directory), data(self.directory));
        if !is_unfinished(self.directory) {
            return Ok(());
        }
        let (source, target) = (open(&from)?, open(&to)?);
        let stat = fstat(&source).map_err(at(&from))?;
        // A list is of all only if nothing goes while it is made; what stays in the end is there already.
        let mut brought = true;
        while brought {
            brought = false;
            for name in names(&source).map_err(at(&from))? {
                failpoint::step().map_err(at(&from))?;
                brought |= bring(&source, &target, OsStr::from_bytes(name.to_bytes())).map_err(at(&from))?;
            }
        }
        fchown(
            &target,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
        )
        .map_err(at(&to))?;
        fchmod(&target, Mode::from_raw_mode(stat.st_mode)).map_err(at(&to))?;
        let time = |tv_sec, tv_nsec: u64| Timespec {
            tv_sec,
            tv_nsec: tv_nsec.cast_signed(),
        };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        futimens(&target, &times).map_err(at(&to))?;
        if self.lasting {
            failpoint::step().map_err(at(&to))?;
            syncfs(&target).map_err(at(&to))?;
        }
        remove_all(&from)
    }
}

fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// What somebody made there meanwhile stays: then it is not brought.
fn bring(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> rustix::io::Result<bool> {
    let moved = match renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => return Ok(false),
        // A filesystem that does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS) => match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => renameat(from, name, to, name),
            found => return found.map(|_| false),
        },
        moved => moved,
    };
    moved.map(|()| true)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(at(path))
}

fn is_empty(directory: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(directory).map_err(at(directory))?;
    Ok(entries.next().is_none())
}

/// Gives all in a directory to `owner`. Containers may be at work in it: names are looked up in open directories, and
/// links are not followed.
fn give(directory: &OwnedFd, owner: (Uid, Gid), path: &Path, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(at(path)("directories lie too deep"));
    }
    let (uid, gid) = (Some(owner.0), Some(owner.1));
    // By a list, so that one descriptor is open for each level, and nobody who makes files beside this makes it endless.
    for name in names(directory).map_err(at(path))? {
        let name = OsStr::from_bytes(name.to_bytes());
        let path = path.join(name);
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(at(&path))?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(directory, name, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => give(&opened.map_err(at(&path))?, owner, &path, depth + 1)?,
            }
            continue;
        }
        // A change, though to the same, would take set-id bits away.
        if is_of(&stat, owner) {
            continue;
        }
        match chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(at(&path)(error)),
        }
    }
    match fstat(directory).map_err(at(path))? {
        stat if is_of(&stat, owner) => Ok(()),
        _ => fchown(directory, uid, gid).map_err(at(path)),
    }
}

fn is_of(stat: &Stat, owner: (Uid, Gid)) -> bool {
    (stat.st_uid, stat.st_gid) == (owner.0.as_raw(), owner.1.as_raw())
}
