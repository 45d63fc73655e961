//! How do files become a tar? By descriptors: what is below the top is never reached by a path, so nothing that is swapped for
//! a symlink meanwhile is followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use fuse_overlay::attr::{Attr, Ino, Kind, Time};
use fuse_overlay::tar::write::{Entry, Writer, Xattr};
use rustix::fs::{AtFlags, Dir, OFlags, Stat, fgetxattr, flistxattr, fstat, fstatfs, readlinkat, statat};
use rustix::io::Errno;

use super::names::{Asked, Top};
use super::root::{Root, open_at, stat};
use crate::containers::growing::DEEPEST;

/// Filesystems of the kernel's own, of which no copy is meant that is of something above them: linux/magic.h.
const KERNELS: [i64; 8] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x0027_e0eb, // cgroup
    0x1cd1,      // devpts
    0x6462_6720, // debugfs
    0x1980_0202, // mqueue
    0x7363_6673, // securityfs
];

/// Bytes of a file of the kernel's that are read at most: its size is told as 0.
const MOST: u64 = 1 << 20;

/// What is to be copied.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) root: &'a Root,
    pub(super) asked: &'a Asked,
    /// What the copy is called; nothing if the content is meant.
    pub(super) name: Option<&'a [u8]>,
    /// `-L`: a symlink at the path is followed.
    pub(super) follow: bool,
    /// Extended attributes are a container's to keep.
    pub(super) xattrs: bool,
}

/// A tar under way.
struct Walk<'a, W: Write> {
    tar: Writer<W>,
    reading: &'a Reading<'a>,
    /// Files of several names, by device and number, with the first path of each.
    written: HashMap<(u64, u64), Vec<u8>>,
    warnings: Vec<String>,
}

/// Writes what it is, a line, and then the tar. Gives what could not be read as it was.
///
/// # Errors
/// With the path at which it failed.
pub(super) fn give(reading: &Reading<'_>, mut out: impl Write) -> io::Result<Vec<String>> {
    let asked = reading.asked;
    let last = match reading.follow || asked.slash {
        true => OFlags::empty(),
        false => OFlags::NOFOLLOW,
    };
    let directory = if asked.slash {
        OFlags::DIRECTORY
    } else {
        OFlags::empty()
    };
    let open = |flags: OFlags| reading.root.open(&asked.path, flags | last | directory);
    let found = open(OFlags::PATH)?;
    let stat = statat(&found, c"", AtFlags::EMPTY_PATH)?;
    let top = Top {
        is_directory: kind_of(&stat)? == Kind::Directory,
        name: reading.name.map(Vec::from),
    };
    top.tell(&mut out)?;
    let mut walk = Walk {
        tar: Writer::new(out),
        reading,
        written: HashMap::new(),
        warnings: Vec::new(),
    };
    let path = top.name.unwrap_or_default();
    walk.one((&stat, &found), &path, &open, 0)?;
    walk.tar.end()?.flush()?;
    Ok(walk.warnings)
}

impl Top {
    /// Says what the tar that follows is of.
    pub(super) fn tell(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        out.write_all(&line)
    }
}

impl<W: Write> Walk<'_, W> {
    /// Adds what is open as `found`, and all below it; `open` opens it otherwise.
    fn one(
        &mut self,
        (stat, found): (&Stat, &OwnedFd),
        path: &[u8],
        open: &dyn Fn(OFlags) -> io::Result<OwnedFd>,
        depth: usize,
    ) -> io::Result<()> {
        let at = |error| at(path, error);
        match kind_of(stat).map_err(at)? {
            Kind::Directory => {
                let directory = open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(at)?;
                self.directory(directory, path, depth)
            }
            Kind::Regular => {
                // Not waiting for a writer, should it have become a fifo meanwhile; nor is a terminal taken.
                let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(at)?;
                self.file(file, path)
            }
            Kind::Socket => Ok(()),
            Kind::Symlink => {
                let target = readlinkat(found, c"", Vec::new()).map_err(|error| at(error.into()))?;
                self.linked(stat, path, target.as_bytes(), Vec::new(), &mut io::empty())
            }
            _ => self.linked(stat, path, &[], Vec::new(), &mut io::empty()),
        }
    }

    fn directory(&mut self, directory: OwnedFd, path: &[u8], depth: usize) -> io::Result<()> {
        let failed = |error: io::Error| at(path, error);
        if depth > DEEPEST {
            return Err(failed(Errno::NAMETOOLONG.into()));
        }
        let own = fstat(&directory).map_err(|error| failed(error.into()))?;
        let xattrs = self.xattrs(&directory).map_err(failed)?;
        let attr = attr_of(&own).map_err(failed)?;
        self.tar.add(entry(path, &attr, xattrs), io::empty())?;
        if depth > 0 && is_kernels(&directory) {
            return Ok(());
        }
        for name in sorted(&directory).map_err(failed)? {
            let separator = if path.is_empty() { &b""[..] } else { b"/" };
            let below = [path, separator, &name].concat();
            let open = |flags: OFlags| open_at(&directory, &name, flags);
            // What is gone meanwhile was never meant.
            let Some(stat) = stat(&directory, &name).map_err(|error| at(&below, error))? else {
                continue;
            };
            let found = match open(OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found.map_err(|error| at(&below, error))?,
            };
            self.one((&stat, &found), &below, &open, depth + 1)?;
        }
        Ok(())
    }

    fn file(&mut self, file: OwnedFd, path: &[u8]) -> io::Result<()> {
        let failed = |error: io::Error| at(path, error);
        let mut stat = fstat(&file).map_err(|error| failed(error.into()))?;
        if kind_of(&stat).map_err(failed)? != Kind::Regular {
            return Err(failed(io::Error::other(
                "another kind of file came into its place",
            )));
        }
        let xattrs = self.xattrs(&file).map_err(failed)?;
        if stat.st_size == 0 && is_kernels(&file) {
            let mut text = Vec::new();
            let read = File::from(file).take(MOST).read_to_end(&mut text);
            stat.st_size = read.map_err(failed)?.try_into().unwrap_or(0);
            return self.linked(&stat, path, &[], xattrs, &mut &*text);
        }
        let mut content = Content {
            file: File::from(file),
            left: stat.st_size.try_into().unwrap_or(0),
            is_cut: false,
        };
        self.linked(&stat, path, &[], xattrs, &mut content)?;
        if content.is_cut {
            self.warnings.push(format!(
                "{} became shorter while it was copied: zeros are in place of what it lost",
                String::from_utf8_lossy(path)
            ));
        }
        Ok(())
    }

    /// Adds what is no directory: if it has been added under another name, as one more name.
    fn linked(
        &mut self,
        stat: &Stat,
        path: &[u8],
        target: &[u8],
        xattrs: Vec<Xattr>,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let attr = attr_of(stat)?;
        let file = (stat.st_dev, stat.st_ino);
        let first = self.written.get(&file).filter(|_| stat.st_nlink > 1);
        let entry = Entry {
            target: first.map_or(target, Vec::as_slice),
            ..entry(path, &attr, xattrs)
        };
        if first.is_some() {
            return self.tar.link(entry);
        }
        self.tar.add(entry, content)?;
        if stat.st_nlink > 1 {
            self.written.insert(file, path.to_vec());
        }
        Ok(())
    }

    /// Those that mean the same elsewhere.
    fn xattrs(&self, file: &OwnedFd) -> io::Result<Vec<Xattr>> {
        if !self.reading.xattrs {
            return Ok(Vec::new());
        }
        let mut list = Vec::with_capacity(1 << 16);
        match flistxattr(file, rustix::buffer::spare_capacity(&mut list)) {
            Ok(_) => {}
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let mut xattrs = Vec::new();
        for name in list.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
            let mut value = Vec::with_capacity(1 << 16);
            match fgetxattr(
                file,
                OsStr::from_bytes(name),
                rustix::buffer::spare_capacity(&mut value),
            ) {
                Ok(_) => xattrs.push((name.into(), value)),
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(xattrs)
    }
}

/// Is it an extended attribute that a copy keeps?
pub(super) fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

/// As many bytes as were promised, with zeros for what is not there any more.
struct Content {
    file: File,
    left: u64,
    is_cut: bool,
}

impl Read for Content {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let out = out.get_mut(..length).unwrap_or_default();
        let mut count = match self.is_cut {
            true => 0,
            false => self.file.read(out)?,
        };
        if count == 0 && !out.is_empty() {
            self.is_cut = true;
            out.fill(0);
            count = out.len();
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn at(path: &[u8], error: io::Error) -> io::Error {
    let shown = String::from_utf8_lossy(path);
    let shown = if shown.is_empty() { ".".into() } else { shown };
    io::Error::new(error.kind(), format!("{shown}: {error}"))
}

fn entry<'a>(path: &'a [u8], attr: &'a Attr, xattrs: Vec<Xattr>) -> Entry<'a> {
    Entry {
        path,
        target: &[],
        attr,
        xattrs,
    }
}

fn is_kernels(file: &OwnedFd) -> bool {
    // Of which it cannot be told is none of them.
    fstatfs(file).is_ok_and(|found| KERNELS.contains(&found.f_type))
}

fn sorted(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn kind_of(stat: &Stat) -> io::Result<Kind> {
    Kind::from_mode(stat.st_mode)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a file of an unknown kind"))
}

fn attr_of(stat: &Stat) -> io::Result<Attr> {
    let time = |sec: i64, nsec: u64| Time {
        sec,
        nsec: u32::try_from(nsec).unwrap_or(0),
    };
    let mtime = time(stat.st_mtime, stat.st_mtime_nsec);
    Ok(Attr {
        ino: Ino(stat.st_ino),
        kind: kind_of(stat)?,
        perm: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        rdev: u32::try_from(stat.st_rdev).unwrap_or(0),
        size: stat.st_size.try_into().unwrap_or(0),
        blocks: 0,
        atime: mtime,
        mtime,
        ctime: mtime,
    })
}
