//! How is a path in the container's tree reached without trusting the tree? By descriptors from its root, with
//! openat2(2): `..` and absolute links stay inside, magic links (/proc/self/fd/N) are refused. Nothing is mounted or made
//! by a path string: images and volumes may hold any link, and other containers may swap them meanwhile
//! (CVE-2021-30465, CVE-2019-19921, CVE-2025-31133).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, readlinkat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::channel::Failure;
use crate::rooted;

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

/// How many names are looked up and made on the way to one path: links may lead in circles.
const MOST_STEPS: usize = 4096;

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
        self.make_along(path, last).map_err(|error| refused(path, error))
    }

    /// Walks a path name by name, making what is missing, also where a link leads: an image with systemd-resolved has
    /// /etc/resolv.conf → ../run/systemd/resolve/stub-resolv.conf, and nothing there. Only single names are opened, each in
    /// the directory before it, so that neither `..` nor a link that is swapped meanwhile leads out.
    fn make_along(&self, path: &Path, last: Missing) -> rustix::io::Result<OwnedFd> {
        let top = || self.open(Path::new("/"));
        let mut ahead: VecDeque<OsString> = names(path);
        // The directories from the root to where the walk is; of `..` at the root there is no more to leave.
        let mut way = vec![top()?];
        for _ in 0..MOST_STEPS {
            let (Some(name), Some(here)) = (ahead.pop_front(), way.last()) else {
                return way.pop().ok_or(Errno::NOENT);
            };
            if name == ".." {
                way.truncate((way.len() - 1).max(1));
                continue;
            }
            match openat(
                here,
                &name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                Ok(found) if is_link(&found)? => {
                    let target = PathBuf::from(OsString::from_vec(
                        readlinkat(&found, c"", Vec::new())?.into_bytes(),
                    ));
                    if target.is_absolute() {
                        way = vec![top()?];
                    }
                    for name in names(&target).into_iter().rev() {
                        ahead.push_front(name);
                    }
                }
                Ok(found) => way.push(found),
                Err(Errno::NOENT) => {
                    let what = if ahead.is_empty() {
                        last
                    } else {
                        Missing::Directory
                    };
                    make(here, &name, what)?;
                    ahead.push_front(name);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Errno::LOOP)
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
        let strict = rooted::INSIDE | ResolveFlags::NO_SYMLINKS;
        let open = || rooted::open(&self.0, target, OFlags::PATH, strict);
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
        rooted::open(&self.0, path, OFlags::PATH, rooted::INSIDE)
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

/// A detached copy of what lies at `below` in the directory `top` of the host. Containers may write there, so no link leads
/// out of it, however often it is swapped.
pub(super) fn tree_below(top: &Path, below: &Path, depth: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = Root(openat(CWD, top, flags, Mode::empty())?).open(below)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(place, c"", flags | OpenTreeFlags::AT_EMPTY_PATH | depth)
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

/// The names of a path, and its `..`.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn is_link(place: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Symlink)
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
        Err(Errno::EXIST) => Ok(()), // another container of the same volume was faster
        made => made,
    }
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
