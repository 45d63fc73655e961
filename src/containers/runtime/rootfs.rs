//! How is a path in the container's tree reached without trusting the tree? By descriptors from its root, with
//! openat2(2): `..` and absolute links stay inside, magic links (/proc/self/fd/N) are refused. Nothing is mounted or made
//! by a path string: images and volumes may hold any link, and other containers may swap them meanwhile
//! (CVE-2021-30465, CVE-2019-19921, CVE-2025-31133).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::channel::Failure;

/// The magic number of a proc filesystem (statfs(2)).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Files of /proc that may be covered by others' (what runc allows, for lxcfs and its like).
const COVERABLE: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
];

/// The container's tree, while it is built up.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// What a path in the tree is made as, if it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Directory,
    EmptyFile,
}

impl Root {
    /// The tree whose top is `mount`.
    pub(super) fn new(mount: OwnedFd) -> Root {
        Root(mount)
    }

    /// Finds a path; none if it is not there.
    pub(super) fn find(&self, path: &Path) -> Result<Option<OwnedFd>, Failure> {
        match self.open(path) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(refused(path, error)),
        }
    }

    /// Finds a path, making what is missing of it.
    pub(super) fn find_or_make(&self, path: &Path, last: Missing) -> Result<OwnedFd, Failure> {
        match self.open(path) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(refused(path, error)),
        }
        let names: Vec<_> = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        let mut parent = self.open(Path::new("/")).map_err(|error| refused(path, error))?;
        let mut so_far = PathBuf::from("/");
        for (position, name) in names.iter().enumerate() {
            so_far.push(name);
            let what = if position + 1 == names.len() {
                last
            } else {
                Missing::Directory
            };
            parent = match self.open(&so_far) {
                Err(Errno::NOENT) => make(&parent, name.as_ref(), what).and_then(|()| self.open(&so_far)),
                found => found,
            }
            .map_err(|error| refused(&so_far, error))?;
        }
        Ok(parent)
    }

    /// Attaches a detached mount at `target`, which is made if it is missing.
    pub(super) fn attach(&self, mount: &OwnedFd, target: &Path) -> Result<(), Failure> {
        let failed = |error: Errno| Failure::new(format!("mount on {}", target.display()), error);
        let is_directory =
            FileType::from_raw_mode(fstat(mount).map_err(failed)?.st_mode) == FileType::Directory;
        let missing = if is_directory {
            Missing::Directory
        } else {
            Missing::EmptyFile
        };
        let place = self.find_or_make(target, missing)?;
        if is_proc(&place).map_err(failed)? && !COVERABLE.iter().any(|file| Path::new(file) == target) {
            return Err(Failure::new(
                format!("mount on {}", target.display()),
                "it lies in /proc, which stays as it is",
            ));
        }
        move_to(mount, &place).map_err(failed)
    }

    /// Attaches a mount of the kernel's own filesystems at `target`, through which no link may lead: a link at /proc would
    /// put it where the image wants.
    pub(super) fn attach_plainly(&self, mount: &OwnedFd, target: &Path) -> Result<(), Failure> {
        let failed = |error: Errno| match error {
            Errno::LOOP => Failure::new(
                format!("mount on {}", target.display()),
                "the image has a symbolic link there",
            ),
            error => Failure::new(format!("mount on {}", target.display()), error),
        };
        let strict = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open = || {
            openat2(
                &self.0,
                target,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                strict,
            )
        };
        let place = match open() {
            Err(Errno::NOENT) => {
                self.find_or_make(target, Missing::Directory)?;
                open()
            }
            found => found,
        };
        move_to(mount, &place.map_err(failed)?).map_err(failed)
    }

    fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        again(|| {
            openat2(
                &self.0,
                path,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                inside,
            )
        })
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A detached copy of the host's mount at `path`.
pub(super) fn host_tree(path: &Path, depth: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | depth;
    open_tree(CWD, path, flags)
}

/// A detached copy of what `place` shows.
pub(super) fn copy_of(place: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(place, c"", flags)
}

/// Attaches a detached mount to an open place.
pub(super) fn move_to(mount: impl AsFd, place: impl AsFd) -> rustix::io::Result<()> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", both)
}

/// Whether the place belongs to a proc filesystem.
pub(super) fn is_proc(place: impl AsFd) -> rustix::io::Result<bool> {
    Ok(fstatfs(place)?.f_type as i64 == PROC_SUPER_MAGIC)
}

fn make(parent: &OwnedFd, name: &std::ffi::OsStr, what: Missing) -> rustix::io::Result<()> {
    let made = match what {
        Missing::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Missing::EmptyFile => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
            openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()), // another container of the same volume was faster, or a dangling link: open tells
        made => made,
    }
}

/// RESOLVE_IN_ROOT answers EAGAIN when something was renamed while `..` was resolved; a few tries are the manual's advice.
fn again<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..128 {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    call()
}

fn refused(path: &Path, error: Errno) -> Failure {
    match error {
        Errno::LOOP => Failure::new(
            path.display().to_string(),
            "leads through too many links, or one of /proc",
        ),
        error => Failure::new(path.display().to_string(), error),
    }
}
