//! Plain directories as layers show what the same layers show when another program has packed them as tars, and files that
//! changed since are refused.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fuse_overlay::attr::{Attr, Ino, Kind};
use fuse_overlay::stack;
use fuse_overlay::union::{Limits, Tree};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;
use proptest::prelude::*;
use proptest::sample::Index;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, utimensat};
use tar::{Builder, EntryType, Header};

use super::dump::{Dump, dump};
use super::harness::{list, pattern};
use super::ops::{self, path};

/// What a directory is filled with; what a path forbids is left out.
#[derive(Clone, Debug)]
enum Item {
    Dir(ops::Path, u32),
    File(ops::Path, usize, u32),
    Symlink(ops::Path, &'static str),
    HardLink(ops::Path, ops::Path),
    Fifo(ops::Path),
    Xattr(ops::Path, u8),
    Whiteout(ops::Path, Form),
    Opaque(ops::Path, Form),
}

/// How a layer hides what is below it.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The OCI image spec's files `.wh.`.
    Oci,
    /// A character device 0/0, an attribute.
    Overlayfs,
    FuseOverlayfs,
}

fn layers() -> impl Strategy<Value = Vec<Vec<Item>>> {
    let perm = || prop::sample::select(vec![0o755u32, 0o700, 0o1777]);
    let size = || prop::sample::select(vec![0usize, 1, 100, 4096, 9000, 70_000]);
    let form = || prop::sample::select(vec![Form::Oci, Form::Overlayfs, Form::FuseOverlayfs]);
    let item = prop_oneof![
        4 => (path(), perm()).prop_map(|(path, perm)| Item::Dir(path, perm)),
        6 => (path(), size(), perm()).prop_map(|(path, size, perm)| Item::File(path, size, perm)),
        1 => (path(), prop::sample::select(vec!["a", "../b", "/nowhere"])).prop_map(|(path, to)| Item::Symlink(path, to)),
        2 => (path(), path()).prop_map(|(path, target)| Item::HardLink(path, target)),
        1 => path().prop_map(Item::Fifo),
        1 => (path(), any::<u8>()).prop_map(|(path, value)| Item::Xattr(path, value)),
        3 => (path(), form()).prop_map(|(path, form)| Item::Whiteout(path, form)),
        3 => (path(), form()).prop_map(|(path, form)| Item::Opaque(path, form)),
    ];
    prop::collection::vec(prop::collection::vec(item, 1..12), 1..4)
}

fn fill(root: &Path, items: &[Item], salt: usize) {
    for (number, item) in items.iter().enumerate() {
        // One that does not fit is left out.
        let _ = put(root, item, (salt * 16 + number) as u8);
    }
    let mut number = salt as i64;
    each(root, Path::new(""), &mut |path, _| {
        number += 1;
        // Long ago, so that whatever changes a file now changes its time.
        let time = Timespec {
            tv_sec: number * 1_000 - 2_000,
            tv_nsec: number % 3 * 1_001,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    });
}

fn put(root: &Path, item: &Item, byte: u8) -> io::Result<()> {
    let at = |path: &ops::Path| root.join(path.join("/"));
    // What lies above is made, so that layers meet in the same directories.
    match item {
        Item::Opaque(path, _) => fs::create_dir_all(at(path))?,
        Item::Dir(path, _) | Item::File(path, ..) | Item::Whiteout(path, _) => {
            fs::create_dir_all(at(path).parent().unwrap())?;
        }
        _ => {}
    }
    match item {
        Item::Dir(path, perm) => {
            fs::create_dir(at(path))?;
            fs::set_permissions(at(path), Permissions::from_mode(*perm))
        }
        Item::File(path, size, perm) => {
            File::create_new(at(path))?.write_all(&pattern(byte, *size))?;
            fs::set_permissions(at(path), Permissions::from_mode(*perm))
        }
        Item::Symlink(path, target) => symlink(target, at(path)),
        Item::HardLink(path, target) => fs::hard_link(at(target), at(path)),
        Item::Fifo(path) => Ok(mkfifo(&at(path), Mode::S_IRWXU)?),
        Item::Xattr(path, value) => Ok(rustix::fs::lsetxattr(
            at(path),
            "user.x",
            &[*value],
            XattrFlags::empty(),
        )?),
        Item::Whiteout(path, Form::Oci) => {
            let (name, above) = path.split_last().unwrap();
            fs::write(root.join(above.join("/")).join(format!(".wh.{name}")), "")
        }
        Item::Whiteout(path, Form::Overlayfs | Form::FuseOverlayfs) => {
            Ok(mknod(&at(path), SFlag::S_IFCHR, Mode::empty(), 0)?)
        }
        Item::Opaque(path, Form::Oci) => fs::write(at(path).join(".wh..wh..opq"), ""),
        Item::Opaque(path, form) => {
            let name = match form {
                Form::FuseOverlayfs => "user.fuseoverlayfs.opaque",
                _ => "user.overlay.opaque",
            };
            Ok(rustix::fs::lsetxattr(at(path), name, b"y", XattrFlags::empty())?)
        }
    }
}

/// Every path below, a directory behind what lies in it; the root's is empty.
fn each(root: &Path, path: &Path, of: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let meta = fs::symlink_metadata(root.join(path)).unwrap();
    if meta.is_dir() {
        for entry in fs::read_dir(root.join(path)).unwrap() {
            each(root, &path.join(entry.unwrap().file_name()), of);
        }
    }
    of(path, &meta);
}

/// The directory as a layer's tar, in which the OCI form is the only one.
fn pack(root: &Path) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let mut first: HashMap<u64, PathBuf> = HashMap::new();
    each(root, Path::new(""), &mut |path, meta| {
        let at = root.join(path);
        let is_whiteout = meta.file_type().is_char_device();
        if meta.is_dir() && is_opaque(&at) {
            append(
                &mut tar,
                EntryType::Regular,
                &path.join(".wh..wh..opq"),
                Path::new(""),
                meta,
                &[],
                b"",
            );
        }
        if is_whiteout {
            let name = [b".wh.", path.file_name().unwrap().as_bytes()].concat();
            let path = path.with_file_name(OsStr::from_bytes(&name));
            return append(&mut tar, EntryType::Regular, &path, Path::new(""), meta, &[], b"");
        }
        let xattr = xattr(&at, "user.x");
        if meta.nlink() > 1
            && !meta.is_dir()
            && let Some(first) = first.get(&meta.ino())
        {
            return append(&mut tar, EntryType::Link, path, first, meta, &xattr, b"");
        }
        first.insert(meta.ino(), path.to_owned());
        let kind = meta.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(&at).unwrap();
            append(&mut tar, EntryType::Symlink, path, &target, meta, &xattr, b"");
        } else if kind.is_fifo() {
            append(&mut tar, EntryType::Fifo, path, Path::new(""), meta, &xattr, b"");
        } else if kind.is_dir() {
            append(
                &mut tar,
                EntryType::Directory,
                &Path::new(".").join(path),
                Path::new(""),
                meta,
                &xattr,
                b"",
            );
        } else {
            let bytes = fs::read(&at).unwrap();
            append(
                &mut tar,
                EntryType::Regular,
                path,
                Path::new(""),
                meta,
                &xattr,
                &bytes,
            );
        }
    });
    tar.into_inner().unwrap()
}

fn xattr(at: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 8];
    let length = rustix::fs::lgetxattr(at, name, &mut value[..]).unwrap_or(0);
    value[..length].to_vec()
}

fn is_opaque(at: &Path) -> bool {
    ["user.overlay.opaque", "user.fuseoverlayfs.opaque"]
        .iter()
        .any(|name| xattr(at, name) == b"y")
}

fn append(
    tar: &mut Builder<Vec<u8>>,
    kind: EntryType,
    path: &Path,
    target: &Path,
    meta: &fs::Metadata,
    xattr: &[u8],
    bytes: &[u8],
) {
    let (sec, nsec) = (meta.mtime(), meta.mtime_nsec());
    let time = match sec < 0 && nsec > 0 {
        true => format!("-{}.{:09}", -(sec + 1), 1_000_000_000 - nsec),
        false => format!("{sec}.{nsec:09}"),
    };
    let mut records = vec![("mtime", time.as_bytes())];
    if !xattr.is_empty() {
        records.push(("SCHILY.xattr.user.x", xattr));
    }
    tar.append_pax_extensions(records).unwrap();
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_size(bytes.len() as u64);
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, path), (&mut old.linkname, target)] {
        let text = text.as_os_str().as_bytes();
        field[..text.len()].copy_from_slice(text);
    }
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

/// Layers on disk, in both forms.
struct Both {
    dir: tempfile::TempDir,
    directories: Vec<PathBuf>,
    tars: Vec<PathBuf>,
}

impl Both {
    fn new(layers: &[Vec<Item>]) -> Both {
        let dir = tempfile::tempdir().unwrap();
        let mut both = Both {
            directories: Vec::new(),
            tars: Vec::new(),
            dir,
        };
        for (number, items) in layers.iter().enumerate() {
            let directory = both.dir.path().join(format!("{number}"));
            fs::create_dir(&directory).unwrap();
            fill(&directory, items, number);
            let tar = directory.with_extension("tar");
            fs::write(&tar, pack(&directory)).unwrap();
            both.directories.push(directory);
            both.tars.push(tar);
        }
        both
    }

    fn open(&self, layers: &[PathBuf]) -> Result<Tree, stack::StackError> {
        let lower = stack::open(layers, &self.dir.path().join("indexes"))?;
        let upper = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        Ok(Tree::open(lower, &upper, Limits::default()).unwrap())
    }

    fn dump(&self, layers: &[PathBuf]) -> Option<Dump> {
        self.open(layers).ok().map(|tree| dump(&tree))
    }
}

#[test]
fn each_form_hides_what_is_below() {
    let file = |path: &[&'static str]| Item::File(path.to_vec(), 100, 0o644);
    for form in [Form::Oci, Form::Overlayfs, Form::FuseOverlayfs] {
        let below = vec![file(&["a", "a"]), file(&["b"])];
        let above = vec![
            Item::Opaque(vec!["a"], form),
            file(&["a", "c"]),
            Item::Whiteout(vec!["b"], form),
        ];
        let both = Both::new(&[below, above]);
        let seen = both.dump(&both.directories).unwrap();
        assert_eq!(Some(&seen), both.dump(&both.tars).as_ref(), "{form:?}");
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["", "/a", "/a/c"], "{form:?}");
    }
}

/// A way to change a file of a directory.
#[derive(Clone, Copy, Debug)]
enum Change {
    Append,
    Cut,
    Overwrite,
    Twin,
    Symlink,
    Fifo,
    Directory,
    Remove,
}

fn change(at: &Path, how: Change) {
    let bytes = fs::read(at).unwrap();
    let times = fs::metadata(at).unwrap();
    let aside = |bytes: &[u8]| {
        let aside = at.with_extension("aside");
        fs::write(&aside, bytes).unwrap();
        aside
    };
    if matches!(
        how,
        Change::Symlink | Change::Fifo | Change::Directory | Change::Remove
    ) {
        fs::rename(at, at.with_extension("old")).unwrap();
    }
    match how {
        Change::Append => fs::write(at, [&bytes[..], b"more"].concat()).unwrap(),
        Change::Cut => File::options()
            .write(true)
            .open(at)
            .unwrap()
            .set_len(bytes.len() as u64 - 1)
            .unwrap(),
        Change::Overwrite => fs::write(at, vec![7; bytes.len()]).unwrap(),
        // Another file of the same size and time.
        Change::Twin => {
            let twin = aside(&bytes);
            File::open(&twin)
                .unwrap()
                .set_modified(times.modified().unwrap())
                .unwrap();
            fs::rename(twin, at).unwrap();
        }
        Change::Symlink => symlink(at.with_extension("old"), at).unwrap(),
        Change::Fifo => mkfifo(at, Mode::S_IRWXU).unwrap(),
        Change::Directory => fs::create_dir(at).unwrap(),
        Change::Remove => {}
    }
}

/// What reading each regular file of a tree gives.
fn contents(tree: &Tree, dir: Ino, path: &str, found: &mut Vec<(String, Result<Vec<u8>, Errno>)>) {
    for (name, ino, kind) in list(tree, dir).into_iter().skip(2) {
        let path = format!("{path}/{}", String::from_utf8_lossy(&name));
        match kind {
            Kind::Directory => contents(tree, ino, &path, found),
            Kind::Regular => {
                let Attr { size, .. } = tree.getattr(ino).unwrap();
                let mut bytes = vec![0; size as usize];
                let read = tree.read(ino, 0, &mut bytes).map_err(|error| error.0);
                found.push((path, read.map(|_| bytes)));
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(super::config(600))]

    #[test]
    fn directories_and_their_tars_show_the_same(layers in layers(), tars in prop::collection::vec(any::<bool>(), 4)) {
        let both = Both::new(&layers);
        let expected = both.dump(&both.tars);
        prop_assert!(expected.is_some(), "no layer here is to be refused");
        prop_assert_eq!(&both.dump(&both.directories), &expected);
        let mixed = both.directories.iter().zip(&both.tars).zip(tars);
        let mixed: Vec<_> = mixed.map(|((directory, tar), as_tar)| if as_tar { tar } else { directory }).cloned().collect();
        prop_assert_eq!(&both.dump(&mixed), &expected);
    }

    #[test]
    fn a_file_that_changed_is_refused_and_no_other(layers in layers(), which in any::<Index>(), how in prop::sample::select(vec![
        Change::Append, Change::Cut, Change::Overwrite, Change::Twin, Change::Symlink, Change::Fifo, Change::Directory,
        Change::Remove,
    ])) {
        let layers = &layers[..1];
        let both = Both::new(layers);
        let Ok(tree) = both.open(&both.directories) else { return Ok(()) };
        let mut before = Vec::new();
        contents(&both.open(&both.tars).unwrap(), Ino::ROOT, "", &mut before);
        let some: Vec<_> = before.iter().filter(|(_, bytes)| bytes.as_ref().is_ok_and(|bytes| !bytes.is_empty())).collect();
        if some.is_empty() {
            return Ok(());
        }
        let chosen = which.get(&some);
        let at = both.directories[0].join(&chosen.0[1..]);
        let inode = fs::metadata(&at).unwrap().ino();
        let same_file = |path: &str| fs::metadata(both.directories[0].join(&path[1..])).is_ok_and(|meta| meta.ino() == inode);
        // Another name of the file is the same file: changed in place, it is refused there, too. A file is read by the first.
        let names: Vec<_> = before.iter().filter(|(path, _)| same_file(path)).map(|(path, _)| path.clone()).collect();
        prop_assume!(names.len() == 1);
        change(&at, how);
        let mut after = Vec::new();
        contents(&tree, Ino::ROOT, "", &mut after);
        for (path, bytes) in &mut before {
            if names.contains(path) {
                *bytes = Err(Errno::EIO);
            }
        }
        prop_assert_eq!(after, before);
    }
}
