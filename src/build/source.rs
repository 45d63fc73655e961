//! Where does COPY take files from? A directory of the host, the build context, or the tree of another stage or image.
//! Both are asked by paths below their own top; symlinks on the way lead no further than that.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fuse_overlay::attr::{Attr, Ino, Kind, Time};
use fuse_overlay::union::Tree;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

use super::hashes::{FileId, Hashes, time};
use super::patterns::ignore::Ignore;
use super::tree::{Growing, Missing, Owner};
use super::workspace::Draft;
use super::{Error, Workspace, archive};
use crate::rooted;
use crate::store::{ChainId, Store};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Permission, set-id and sticky bits.
    pub(super) perm: u16,
    /// As the copy has it: files of the context become root's.
    pub(super) owner: Owner,
    pub(super) mtime: Time,
    /// Bytes of a regular file.
    pub(super) size: u64,
    /// Of a symlink.
    pub(super) target: Vec<u8>,
    /// By which its content is known again, of a file of the host or of stored layers.
    pub(super) id: Option<FileId>,
    /// Extended attributes; of the context's files none are taken.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The same for all names of a file that has several, in this source.
    pub(super) linked: Option<u64>,
}

/// Paths are relative, without `.` and `..`; the empty one is the top.
pub(super) trait Source: Sync {
    /// What is at a path. `Links::Follow` also follows the last name.
    fn look(&self, path: &[u8], links: Links) -> io::Result<Option<Entry>>;
    /// The names in a directory, in the order of their bytes.
    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>>;
    /// Opens a regular file; a symlink is followed.
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send + '_>>;
    /// The same, if it is a file of the host.
    fn open_file(&self, _path: &[u8]) -> io::Result<Option<File>> {
        Ok(None)
    }
    /// Is it said that this is not there (`.dockerignore`)?
    fn is_hidden(&self, _path: &[u8]) -> bool {
        false
    }
    /// Is it said so of a directory and of all below it?
    fn hides_all(&self, _directory: &[u8]) -> bool {
        false
    }
    /// The path of what a path leads to, without symlinks on the way: what is hidden is so by every name. One that leads
    /// nowhere is its own.
    fn real(&self, path: &[u8]) -> io::Result<Vec<u8>>;
}

/// What a symlink as the last name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// What it leads to.
    Follow,
    /// Itself.
    Keep,
}

/// A build context: a directory of the host, or an archive.
#[derive(Debug)]
pub struct Context {
    files: Files,
    ignore: Ignore,
    /// Goes with it, if it was fetched.
    fetched: Option<Workspace>,
}

/// What is known of stored layers is kept there if the context is no directory.
pub(super) const NOWHERE: (u64, u64) = (0, 0);

#[derive(Debug)]
enum Files {
    Directory(OwnedFd),
    /// Unpacked.
    Archive(Box<Draft>),
}

impl Context {
    /// Opens a directory.
    ///
    /// # Errors
    /// It is none, or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Context> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let files = Files::Directory(openat(CWD, path, flags, Mode::empty())?);
        Ok(Context::of(files))
    }

    fn of(files: Files) -> Context {
        Context {
            files,
            ignore: Ignore::default(),
            fetched: None,
        }
    }

    /// A directory below `top`, which lies in a workspace: no symlink leads it out of there.
    pub(super) fn fetched(workspace: Workspace, top: &Path, path: &str) -> io::Result<Context> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let top = openat(CWD, top, flags | OFlags::CLOEXEC, Mode::empty())?;
        let files = Files::Directory(descriptor(&top, path.as_bytes(), flags)?);
        Ok(Context {
            fetched: Some(workspace),
            ..Context::of(files)
        })
    }

    /// Reads a tar, compressed or not.
    ///
    /// # Errors
    /// It is damaged, or there is no space.
    pub fn unpack(store: &Store, tar: Box<dyn Read + Send + '_>, name: &str) -> Result<Context, Error> {
        let workspace = Workspace::new(store)?;
        let lower = archive::unpack(tar, name, &workspace)?;
        let files = Files::Archive(Box::new(Draft::within(workspace, lower)?));
        Ok(Context::of(files))
    }

    /// The same without the files that `ignore` names.
    pub fn without(self, ignore: Ignore) -> Context {
        Context { ignore, ..self }
    }

    /// The whole content of a file, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or has more than `most` bytes.
    pub fn read(&self, path: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
        let path = path.trim_start_matches('/').as_bytes();
        if self.look(path, Links::Follow)?.is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        match bytes.len() > most {
            true => Err(io::Error::other(format!("more than {most} bytes"))),
            false => Ok(Some(bytes)),
        }
    }

    /// What is known of its files from earlier builds.
    pub(super) fn hashes(&self, store: &Store) -> Hashes {
        let (Files::Directory(top), None) = (&self.files, &self.fetched) else {
            return Hashes::of(store, NOWHERE);
        };
        statat(top, c"", AtFlags::EMPTY_PATH).map_or_else(
            |_| Hashes::default(),
            |stat| Hashes::of(store, (stat.st_dev, stat.st_ino)),
        )
    }

    /// The place on the host of something that all of the context's files below it are part of; `None` if some may not be.
    pub(super) fn host_path(&self, path: &[u8]) -> io::Result<Option<PathBuf>> {
        match &self.files {
            Files::Directory(top) if self.ignore.is_empty() => {
                place_of(&descriptor(top, path, OFlags::PATH)?).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn descriptor(top: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    rooted::open(top, std::ffi::OsStr::from_bytes(path), flags, rooted::INSIDE)
}

/// Opens a file to read, not waiting for a writer, should it have become a fifo meanwhile.
fn open(top: &OwnedFd, path: &[u8]) -> io::Result<File> {
    Ok(descriptor(top, path, OFlags::RDONLY | OFlags::NONBLOCK)?.into())
}

/// Where on the host an open file lies.
fn place_of(file: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// What lies in the context becomes root's.
impl Source for Context {
    fn look(&self, path: &[u8], links: Links) -> io::Result<Option<Entry>> {
        let found = match &self.files {
            Files::Directory(top) => look(top, path, links)?,
            Files::Archive(unpacked) => Stage(&unpacked.tree).look(path, links)?,
        };
        Ok(found.map(|entry| Entry {
            owner: Owner::default(),
            xattrs: Vec::new(),
            ..entry
        }))
    }

    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let top = match &self.files {
            Files::Directory(top) => top,
            Files::Archive(unpacked) => return Stage(&unpacked.tree).names(path),
        };
        let directory = descriptor(top, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send + '_>> {
        match &self.files {
            Files::Directory(top) => Ok(Box::new(open(top, path)?)),
            Files::Archive(unpacked) => in_tree(&unpacked.tree, path),
        }
    }

    fn open_file(&self, path: &[u8]) -> io::Result<Option<File>> {
        match &self.files {
            Files::Directory(top) => open(top, path).map(Some),
            Files::Archive(_) => Ok(None),
        }
    }

    fn is_hidden(&self, path: &[u8]) -> bool {
        self.ignore.excludes(path)
    }

    fn hides_all(&self, directory: &[u8]) -> bool {
        self.ignore.excludes_all(directory)
    }

    fn real(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let top = match &self.files {
            Files::Directory(top) => top,
            Files::Archive(unpacked) => return Stage(&unpacked.tree).real(path),
        };
        let found = match descriptor(top, path, OFlags::PATH) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(path.to_vec()),
            found => found?,
        };
        let (top, found) = (place_of(top)?, place_of(&found)?);
        let below = found.strip_prefix(&top).map_err(|_| io::ErrorKind::NotFound)?;
        Ok(below.as_os_str().as_bytes().to_vec())
    }
}

fn look(top: &OwnedFd, path: &[u8], links: Links) -> io::Result<Option<Entry>> {
    let last = match links {
        Links::Follow => OFlags::empty(),
        Links::Keep => OFlags::NOFOLLOW,
    };
    let found = match descriptor(top, path, OFlags::PATH | last) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        found => found?,
    };
    let stat = statat(&found, c"", AtFlags::EMPTY_PATH)?;
    let target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => readlinkat(&found, c"", Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    entry(&stat, target).map(Some)
}

fn entry(stat: &Stat, target: Vec<u8>) -> io::Result<Entry> {
    let kind = Kind::from_mode(stat.st_mode)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a file of an unknown kind"))?;
    Ok(Entry {
        kind,
        perm: (stat.st_mode & 0o7777) as u16,
        owner: Owner::default(),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        target,
        id: Some(FileId::of(stat)),
        xattrs: Vec::new(),
        linked: (kind == Kind::Regular && stat.st_nlink > 1).then_some(stat.st_ino),
    })
}

/// The tree of a stage or an image.
#[derive(Debug)]
pub(super) struct Stage<'a>(pub(super) &'a Tree);

/// What was found, if anything was.
fn found<T>(found: fuse_overlay::error::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if [nix::errno::Errno::ENOENT, nix::errno::Errno::ENOTDIR].contains(&error.0) => Ok(None),
        found => found.map(Some).map_err(|error| error.0.into()),
    }
}

impl Stage<'_> {
    fn find(&self, path: &[u8], links: Links) -> io::Result<Option<Attr>> {
        let growing = Growing(self.0);
        let attr = match links {
            Links::Follow => growing.find(path, Missing::Refuse).map(|place| place.now),
            Links::Keep => growing.find_link(path),
        };
        found(attr).map(Option::flatten)
    }

    fn xattrs(&self, ino: Ino) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let names = self.0.listxattr(ino).map_err(|error| error.0)?;
        let mut xattrs = Vec::new();
        for name in names {
            let value = self.0.getxattr(ino, &name).map_err(|error| error.0)?;
            xattrs.push((name, value));
        }
        Ok(xattrs)
    }
}

impl Source for Stage<'_> {
    fn look(&self, path: &[u8], links: Links) -> io::Result<Option<Entry>> {
        let Some(attr) = self.find(path, links)? else {
            return Ok(None);
        };
        let target = match attr.kind {
            Kind::Symlink => self.0.readlink(attr.ino).map_err(|error| error.0)?,
            _ => Vec::new(),
        };
        Ok(Some(Entry {
            kind: attr.kind,
            perm: attr.perm,
            owner: Owner {
                uid: attr.uid,
                gid: attr.gid,
            },
            mtime: attr.mtime,
            size: attr.size,
            target,
            id: None,
            xattrs: self.xattrs(attr.ino)?,
            linked: (attr.kind == Kind::Regular && attr.nlink > 1).then_some(attr.ino.0),
        }))
    }

    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let directory = self.find(path, Links::Follow)?.ok_or(io::ErrorKind::NotFound)?;
        let mut names = Vec::new();
        let listed = self.0.readdir(directory.ino, 0, &mut |listed| {
            if listed.name != b"." && listed.name != b".." {
                names.push(listed.name.to_vec());
            }
            std::ops::ControlFlow::Continue(())
        });
        listed.map_err(|error| error.0)?;
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send + '_>> {
        in_tree(self.0, path)
    }

    fn real(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let place = found(Growing(self.0).find(path, Missing::Refuse))?;
        Ok(place.map_or_else(|| path.to_vec(), |place| place.path()))
    }
}

/// A stage or an image as it is stored: what its files have in them is known by their stack of layers.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) tree: Stage<'a>,
    pub(super) chain: ChainId,
}

impl Source for Stored<'_> {
    fn look(&self, path: &[u8], links: Links) -> io::Result<Option<Entry>> {
        let found = self.tree.look(path, links)?;
        Ok(found.map(|entry| Entry {
            id: (entry.kind == Kind::Regular).then(|| FileId::stored(&self.chain, path, entry.size)),
            ..entry
        }))
    }

    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.tree.names(path)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send + '_>> {
        self.tree.open(path)
    }

    fn real(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        self.tree.real(path)
    }
}

fn in_tree<'a>(tree: &'a Tree, path: &[u8]) -> io::Result<Box<dyn Read + Send + 'a>> {
    let file = Stage(tree)
        .find(path, Links::Follow)?
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(Box::new(of_ino(tree, file.ino)))
}

/// The bytes of a file of a tree.
pub(super) fn of_ino(tree: &Tree, ino: Ino) -> impl Read + Send + '_ {
    InTree { tree, ino, offset: 0 }
}

/// A file of a tree, read from its start.
struct InTree<'a> {
    tree: &'a Tree,
    ino: Ino,
    offset: u64,
}

impl Read for InTree<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self
            .tree
            .read(self.ino, self.offset, buffer)
            .map_err(|error| error.0)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// The kernel gives up an openat2 with EAGAIN if something is renamed, wherever that is, while it resolves `..`.
    #[test]
    fn who_renames_elsewhere_disturbs_no_look_at_a_context() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("a/../file", directory.path().join("link")).unwrap();
        let context = Context::open(directory.path()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let elsewhere = tempfile::tempdir().unwrap();
                let names = ["one", "two"].map(|name| elsewhere.path().join(name));
                fs::write(&names[0], "").unwrap();
                while !done.load(Ordering::Relaxed) {
                    fs::rename(&names[0], &names[1]).unwrap();
                    fs::rename(&names[1], &names[0]).unwrap();
                }
            });
            let looked: Vec<_> = (0..20_000)
                .map(|_| context.look(b"link", Links::Follow))
                .collect();
            done.store(true, Ordering::Relaxed);
            for found in looked {
                assert_eq!(found.unwrap().map(|entry| entry.size), Some(1));
            }
        });
    }
}
