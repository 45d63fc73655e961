//! The same through a mount: by system calls, on descriptors.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fuse_overlay::attr::Kind;
use fuse_overlay::union::{Rename, SetXattr};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat, umask};
use nix::unistd::{UnlinkatFlags, unlinkat};
use proptest::test_runner::TestRunner;
use rustix::fs::XattrFlags;

use super::explain::{Answer, Seen};
use super::{Filesystem, Op, Through, XATTR, check, rounds, run};
use crate::common::{Ids, Layer, in_mount};
use crate::harness::pattern;
use crate::ops::{GID, UID, UMASK};
use crate::reference::{Body, Id, Node, ROOT, Reference, Res};

/// A directory of a mount, and descriptors of the inodes that are held in it.
struct Mounted {
    root: PathBuf,
    inode: u64,
    open: BTreeMap<Id, File>,
}

impl Mounted {
    fn new(root: PathBuf) -> Mounted {
        let inode = fs::metadata(&root).unwrap().ino();
        Mounted {
            root,
            inode,
            open: BTreeMap::new(),
        }
    }

    fn id(&self, inode: u64) -> Id {
        if inode == self.inode { ROOT } else { inode as Id }
    }

    /// By a path that leads to an inode that is held, whatever its names are.
    fn by_descriptor(&self, id: Id) -> PathBuf {
        format!("/proc/self/fd/{}", self.open[&id].as_raw_fd()).into()
    }

    fn visit(&self, path: &Path, seen: &mut Reference) {
        let meta = fs::metadata(path).unwrap();
        let id = self.id(meta.ino());
        if seen.nodes.contains_key(&id) {
            return;
        }
        let (mut xattrs, mut value) = (BTreeMap::new(), [0; 64]);
        if let Ok(length) = rustix::fs::getxattr(path, XATTR, &mut value[..]) {
            xattrs.insert(XATTR.as_bytes().to_vec(), value[..length].to_vec());
        }
        let (kind, body, mut below) = match meta.is_dir() {
            false => (Kind::Regular, Body::File(fs::read(path).unwrap()), Vec::new()),
            true => {
                let above = fs::metadata(path.join("..")).unwrap().ino();
                let parent = if id == ROOT { ROOT } else { self.id(above) };
                let names: Vec<_> = fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
                    .collect();
                let inode = |name| fs::metadata(path.join(name)).unwrap().ino();
                let entries = names
                    .iter()
                    .map(|name| (name.clone().into_vec(), self.id(inode(name))));
                (
                    Kind::Directory,
                    Body::Dir {
                        entries: entries.collect(),
                        parent,
                    },
                    names,
                )
            }
        };
        let perm = (meta.mode() & 0o7777) as u16;
        let nlink = meta.nlink() as u32;
        // The test is about other things than owners: all are shown as one.
        let node = Node {
            kind,
            perm,
            uid: UID,
            gid: GID,
            nlink,
            mtime: None,
            xattrs,
            body,
        };
        seen.nodes.insert(id, node);
        below
            .drain(..)
            .for_each(|name| self.visit(&path.join(name), seen));
    }

    fn open_all(&self, path: &Path, open: &mut BTreeMap<Id, File>) {
        let meta = fs::metadata(path).unwrap();
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(!meta.is_dir())
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path);
        open.insert(self.id(meta.ino()), file.unwrap());
        if meta.is_dir() {
            fs::read_dir(path)
                .unwrap()
                .for_each(|entry| self.open_all(&entry.unwrap().path(), open));
        }
    }

    fn answer(&self, op: &Op) -> Res<Seen> {
        let nothing = |()| Seen::Nothing;
        let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap());
        let xattr = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
        match *op {
            Op::Create(dir, name) => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
                let file = openat(&self.open[&dir], name, flags, Mode::from_bits_truncate(0o644))?;
                Ok(Seen::Inode(self.id(fstat(&file)?.st_ino)))
            }
            Op::Mkdir(dir, name) => {
                mkdirat(&self.open[&dir], name, Mode::from_bits_truncate(0o755))?;
                self.found(dir, name)
            }
            Op::Unlink(dir, name) => {
                unlinkat(&self.open[&dir], name, UnlinkatFlags::NoRemoveDir).map(nothing)
            }
            Op::Rmdir(dir, name) => unlinkat(&self.open[&dir], name, UnlinkatFlags::RemoveDir).map(nothing),
            Op::Rename(from, old, to, new, how) => {
                let flags = match how {
                    Rename::NoReplace => RenameFlags::RENAME_NOREPLACE,
                    Rename::Exchange => RenameFlags::RENAME_EXCHANGE,
                    _ => RenameFlags::empty(),
                };
                renameat2(&self.open[&from], old, &self.open[&to], new, flags).map(nothing)
            }
            Op::Lookup(dir, name) => self.found(dir, name),
            Op::Write(file, offset, length, byte) => {
                let bytes = pattern(byte, length);
                self.open[&file]
                    .write_all_at(&bytes, offset as u64)
                    .map(nothing)
                    .map_err(io)
            }
            Op::Truncate(file, size) => self.open[&file].set_len(size as u64).map(nothing).map_err(io),
            Op::Chmod(file, perm) => {
                let permissions = fs::Permissions::from_mode(perm.into());
                self.open[&file]
                    .set_permissions(permissions)
                    .map(nothing)
                    .map_err(io)
            }
            Op::SetXattr(file, byte, how) => {
                let flags = match how {
                    SetXattr::Any => XattrFlags::empty(),
                    SetXattr::Create => XattrFlags::CREATE,
                    SetXattr::Replace => XattrFlags::REPLACE,
                    SetXattr::Never => XattrFlags::CREATE | XattrFlags::REPLACE,
                };
                rustix::fs::fsetxattr(&self.open[&file], XATTR, &[byte], flags)
                    .map(nothing)
                    .map_err(xattr)
            }
            Op::RemoveXattr(file) => rustix::fs::fremovexattr(&self.open[&file], XATTR)
                .map(nothing)
                .map_err(xattr),
            Op::Link(..) | Op::List(_) | Op::Attributes(_) | Op::Read(..) => {
                unreachable!("not of one moment through a mount")
            }
        }
    }

    fn found(&self, dir: Id, name: &str) -> Res<Seen> {
        let stat = fstatat(&self.open[&dir], name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Seen::Inode(self.id(stat.st_ino)))
    }
}

impl Filesystem for Mounted {
    fn observe(&self) -> Reference {
        let mut seen = Reference::default();
        self.visit(&self.root, &mut seen);
        self.open
            .keys()
            .for_each(|id| self.visit(&self.by_descriptor(*id), &mut seen));
        seen
    }

    fn hold(&mut self, _tree: &Reference) {
        let mut open = BTreeMap::new();
        self.open_all(&self.root, &mut open);
        self.open = open;
    }

    fn apply(&self, op: &Op) -> Answer {
        self.answer(op)
    }
}

/// Trees in the image, each for one history.
const TREES: usize = 300;

fn image() -> Layer {
    (0..TREES).fold(Layer::new(), |layer, tree| {
        layer
            .dir(&format!("{tree}"))
            .dir(&format!("{tree}/a"))
            .file(&format!("{tree}/a/a"), pattern(1, 9000))
            .dir(&format!("{tree}/a/b"))
            .file(&format!("{tree}/b"), pattern(2, 5000))
            .hard_link(&format!("{tree}/1"), &format!("{tree}/b"))
    })
}

#[test]
fn four_threads_are_one_after_the_other() {
    in_mount(Ids::Range, &[image()], |inside| {
        umask(Mode::from_bits_truncate(UMASK.into()));
        let (tree, overlapping) = (Cell::new(0), Cell::new(0));
        let once = |history: &[super::Round]| {
            // A failing one is tried more often than there are trees: later ones go on where earlier ones ended.
            let root = inside.path(&format!("{}", tree.replace(tree.get() + 1) % TREES));
            let mut mounted = Mounted::new(root);
            overlapping.set(overlapping.get() + run(&mut mounted, history)?);
            Ok(())
        };
        let mut runner = TestRunner::new(crate::config(200));
        let passed = runner.run(&rounds(Through::Mount, 8), |history| check(|| once(&history)));
        passed.unwrap_or_else(|failed| panic!("{failed}"));
        println!(
            "{} operations began while others were under way",
            overlapping.get()
        );
        assert!(overlapping.get() > 0, "no two threads were at it at once");
    });
}
