//! A plain directory as a layer: scanned once into a layer index, whose extents lie in the directory's files.
//!
//! The files' bytes are numbered as if they lay one behind the other, in the order of the scan; that number is what an
//! extent calls its offset in the tar. Files are opened where they are read, beneath the directory's descriptor and
//! through no symlink, and must be as they were scanned: one that changed is EIO, for its index would tell another size
//! and the kernel keeps its pages for ever.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, fstatat};
use sha2::{Digest, Sha256};

use super::LayerError;
use super::scanned::{self, Scanned};
use super::tree::Tree;
use crate::attr::{Kind, Time};
use crate::error::{Error, Result};
use crate::index::DiffId;
use crate::index::build::Source;
use crate::tar::{Body, Member, Run, Xattr, printable};

/// How overlayfs and fuse-overlayfs mark an opaque directory; their other attributes of these kinds are not shown.
const OPAQUE: [&[u8]; 3] = [
    b"trusted.overlay.opaque",
    b"user.overlay.opaque",
    b"user.fuseoverlayfs.opaque",
];
const MARKS: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs."];

/// A scanned directory, held by descriptor: renaming it changes nothing.
#[derive(Debug)]
pub struct Directory {
    root: OwnedFd,
    /// In the order of `start`.
    files: Vec<Scanned>,
    /// Where `files` was read from.
    list: Option<File>,
}

/// Scans a directory and writes its layer index to `index`.
///
/// It shows what is there as the calling process sees it: owners, modes, times, attributes, hard links. What hides:
/// character devices 0/0 and `.wh.NAME` files (whiteouts), `.wh..wh..opq` files and the attributes `trusted.overlay.opaque`,
/// `user.overlay.opaque` and `user.fuseoverlayfs.opaque` of value `y` (opaque directories). Other filesystems mounted
/// inside are not entered: their mount points are empty directories.
///
/// `shown` says as whose a file of these owners (user, group) is shown.
///
/// The directory is named by the sha256 of all that it found but the files' bytes: paths, kinds, modes, owners, sizes,
/// times, targets, attributes. So a writable layer made over it is refused when it has changed.
///
/// # Errors
/// A directory or an attribute cannot be read, or a name, a count or a link breaks a rule that tars have, too.
pub fn scan(
    root: &Path,
    shown: &dyn Fn(u32, u32) -> (u32, u32),
    index: &mut dyn Write,
) -> std::result::Result<Directory, LayerError> {
    let mut scan = Scan {
        directory: Directory {
            root: OwnedFd::from(File::open(root).map_err(reading(root))?),
            files: Vec::new(),
            list: None,
        },
        shown,
        tree: Tree::new(),
        end: 0,
        named: HashMap::new(),
        seen: Sha256::new(),
    };
    scan.all()?;
    let builder = scan.tree.build()?;
    let source = Source::Directory {
        id: DiffId(scan.seen.finalize().into()),
        size: scan.end,
    };
    builder.finish(source, &mut BufWriter::new(index))?;
    Ok(scan.directory)
}

/// A failed call with the path that it was about.
fn reading(path: &Path) -> impl Fn(io::Error) -> LayerError {
    move |error| {
        LayerError::Read(io::Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        ))
    }
}

/// A scan under way.
struct Scan<'a> {
    directory: Directory,
    shown: &'a dyn Fn(u32, u32) -> (u32, u32),
    tree: Tree,
    /// The number behind the last byte so far.
    end: u64,
    /// The first path of each file that has several.
    named: HashMap<(u64, u64), PathBuf>,
    seen: Sha256,
}

impl Scan<'_> {
    /// Every directory before what lies in it, names in the order of their bytes.
    fn all(&mut self) -> std::result::Result<(), LayerError> {
        let mut todo = vec![PathBuf::new()];
        while let Some(path) = todo.pop() {
            let Some(dir) = self.open_directory(&path).map_err(reading(&path))? else {
                continue;
            };
            if path.as_os_str().is_empty() {
                self.add(&dir, OsStr::new("."), Path::new("."))?;
            }
            let mut below = Vec::new();
            for name in names(&dir).map_err(reading(&path))? {
                let path = path.join(OsStr::from_bytes(&name));
                if self.add(&dir, OsStr::from_bytes(&name), &path)? == Kind::Directory {
                    below.push(path);
                }
            }
            todo.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// `None`: another filesystem is mounted there.
    fn open_directory(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match self.directory.open(path, OFlag::O_DIRECTORY) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::EXDEV) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes in one entry of an open directory.
    fn add(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path) -> std::result::Result<Kind, LayerError> {
        let failed = reading(path);
        let mut stat =
            fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| failed(errno.into()))?;
        (stat.st_uid, stat.st_gid) = (self.shown)(stat.st_uid, stat.st_gid);
        let kind = Kind::from_mode(stat.st_mode).ok_or_else(|| failed(Errno::EINVAL.into()))?;
        if kind == Kind::CharDevice && stat.st_rdev == 0 {
            let mut hidden = b".wh.".to_vec();
            hidden.extend_from_slice(name.as_bytes());
            let whiteout = path.with_file_name(OsStr::from_bytes(&hidden));
            self.note(&whiteout, &stat, b"", &[]);
            self.put(&whiteout, &stat, Vec::new(), regular(0, 0))?;
            return Ok(kind);
        }
        let target = match kind {
            Kind::Symlink => readlinkat(dir, name).map_err(|errno| failed(errno.into()))?,
            _ => Default::default(),
        };
        let mut xattrs = xattrs(dir, name).map_err(&failed)?;
        let opaque = |(name, value): &Xattr| OPAQUE.contains(&&**name) && **value == *b"y";
        let is_opaque = kind == Kind::Directory && xattrs.iter().any(opaque);
        xattrs.retain(|(name, _)| !MARKS.iter().any(|mark| name.starts_with(mark)));
        self.note(path, &stat, target.as_bytes(), &xattrs);
        let body = self.body(kind, &stat, target.as_bytes(), path)?;
        self.put(path, &stat, xattrs, body)?;
        if is_opaque {
            self.seen.update(b"opaque");
            self.put(&path.join(".wh..wh..opq"), &stat, Vec::new(), regular(0, 0))?;
        }
        Ok(kind)
    }

    /// What the entry is and holds; a file's bytes get their numbers.
    fn body(
        &mut self,
        kind: Kind,
        stat: &FileStat,
        target: &[u8],
        path: &Path,
    ) -> std::result::Result<Body, LayerError> {
        if kind == Kind::Directory {
            return Ok(Body::Directory);
        }
        let file = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.named.get(&file) {
            return Ok(Body::HardLink(first.as_os_str().as_bytes().to_vec()));
        }
        // A name that hides names no file.
        let hides = path
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b".wh."));
        if stat.st_nlink > 1 && !hides {
            self.named.insert(file, path.to_owned());
        }
        match kind {
            Kind::Symlink => return Ok(Body::Symlink(target.to_vec())),
            Kind::Regular => {}
            // As the kernel encodes it in 32 bits (`new_encode_dev`), which `dev_t` agrees with for all real devices.
            _ => return Ok(Body::Special(kind, stat.st_rdev as u32)),
        }
        let (start, size) = (self.end, u64::try_from(stat.st_size).unwrap_or(0));
        self.end = start.checked_add(size).ok_or_else(|| LayerError::Entry {
            path: printable(path.as_os_str().as_bytes()),
            reason: "the directory's files have more bytes than can be numbered",
        })?;
        if size > 0 {
            self.directory.files.push(Scanned {
                start,
                path: path.into(),
                inode: stat.st_ino,
                size,
                mtime: mtime(stat),
            });
        }
        Ok(regular(size, start))
    }

    fn put(
        &mut self,
        path: &Path,
        stat: &FileStat,
        xattrs: Vec<Xattr>,
        body: Body,
    ) -> std::result::Result<(), LayerError> {
        let path = path.as_os_str().as_bytes();
        let member = Member {
            path: path.to_vec(),
            perm: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: mtime(stat),
            xattrs,
            body,
        };
        self.tree.apply(member).map_err(|reason| LayerError::Entry {
            path: printable(path),
            reason,
        })
    }

    /// Hashes what was found, each piece behind its length.
    fn note(&mut self, path: &Path, stat: &FileStat, target: &[u8], xattrs: &[Xattr]) {
        let mtime = mtime(stat);
        // Of a directory the size is the host filesystem's affair.
        let size = match Kind::from_mode(stat.st_mode) {
            Some(Kind::Directory) => 0,
            _ => stat.st_size,
        };
        let numbers = [
            i64::from(stat.st_mode),
            i64::from(stat.st_uid),
            i64::from(stat.st_gid),
            stat.st_rdev as i64,
            size,
            mtime.sec,
            i64::from(mtime.nsec),
        ];
        let mut piece = |bytes: &[u8]| {
            self.seen.update((bytes.len() as u64).to_le_bytes());
            self.seen.update(bytes);
        };
        piece(path.as_os_str().as_bytes());
        numbers.iter().for_each(|number| piece(&number.to_le_bytes()));
        piece(target);
        for (name, value) in xattrs {
            piece(name);
            piece(value);
        }
    }
}

/// A regular file of one run.
fn regular(size: u64, start: u64) -> Body {
    let run = Run {
        file_offset: 0,
        length: size,
        tar_offset: start,
    };
    let runs = if size > 0 { vec![run] } else { Vec::new() };
    Body::Regular { size, runs }
}

fn mtime(stat: &FileStat) -> Time {
    Time {
        sec: stat.st_mtime,
        nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

/// The names in a directory, sorted.
fn names(dir: &OwnedFd) -> io::Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(dir.try_clone()?)?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name.into_boxed_slice());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The extended attributes of an entry, sorted by name; of a symlink its own.
fn xattrs(dir: &OwnedFd, name: &OsStr) -> io::Result<Vec<Xattr>> {
    // The descriptor's own link is followed, what it leads to is not.
    let path = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name);
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::llistxattr(&path, &mut list[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut xattrs = Vec::new();
    let mut value = vec![0; 64 * 1024];
    let names = list.get(..length).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // The host's labels mean nothing in a container, which tools that pack images find, too.
        if name == b"security.selinux" {
            continue;
        }
        match rustix::fs::lgetxattr(&path, name, &mut value[..]) {
            Ok(length) => xattrs.push((name.into(), value.get(..length).unwrap_or_default().into())),
            // Removed meanwhile, or not for us to see.
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

impl Directory {
    /// A directory that was scanned before, and what [`Directory::write_list`] wrote then.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn listed(root: OwnedFd, list: File) -> io::Result<Directory> {
        let (files, list) = (scanned::read(&list)?, Some(list));
        Ok(Directory { root, files, list })
    }

    /// Writes which files the scan saw, and how they were.
    ///
    /// # Errors
    /// `out` fails.
    pub fn write_list(&self, out: &mut dyn Write) -> io::Result<()> {
        scanned::write(&self.files, out)
    }

    /// The descriptor of the directory itself.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The file that it was [`listed`](Directory::listed) from.
    pub fn list(&self) -> Option<&File> {
        self.list.as_ref()
    }

    /// Opens a path beneath the root, through no symlink and into no other mount.
    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let beneath = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        // A FIFO in a file's place must not make us wait for its writer.
        let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        openat2(
            self.root.as_fd(),
            path,
            OpenHow::new().flags(flags).resolve(beneath),
        )
    }

    /// Reads all of `out`, which lies within one file, from the byte of this number.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let behind = self.files.partition_point(|file| file.start <= offset);
        let scanned = behind.checked_sub(1).and_then(|place| self.files.get(place));
        let scanned = scanned.ok_or(Error(Errno::EIO))?;
        let changed = |what: &dyn std::fmt::Display| {
            let path = scanned.path.display();
            tracing::error!(%path, "a file of a directory below cannot be read as it was scanned: {what}");
            Error(Errno::EIO)
        };
        let file = File::from(
            self.open(&scanned.path, OFlag::empty())
                .map_err(|errno| changed(&errno))?,
        );
        if !file.metadata().map_err(|error| changed(&error))?.is_file() {
            return Err(changed(&"it is no regular file any more"));
        }
        file.read_exact_at(out, offset - scanned.start)
            .map_err(|error| changed(&error))?;
        // Asked after reading, so that what was read is what was scanned.
        match scanned.is_as_it_was(&file).map_err(|error| changed(&error))? {
            true => Ok(()),
            false => Err(changed(&"it was changed")),
        }
    }

    /// The paths of files that are not as they were scanned.
    pub fn changed(&self) -> Vec<&Path> {
        let is_changed = |scanned: &&Scanned| {
            let file = self.open(&scanned.path, OFlag::empty()).map(File::from);
            !file.is_ok_and(|file| scanned.is_as_it_was(&file).unwrap_or(false))
        };
        let changed = self.files.iter().filter(is_changed);
        changed.map(|scanned| &*scanned.path).collect()
    }
}
