//! Does the same to the tree and to the reference, and compares everything that can be seen.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Seek, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use fuse_overlay::attr::{Attr, Ino, Kind, Time};
use fuse_overlay::index::{NodeId, View, merge};
use fuse_overlay::layer;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Limits, Lower, LowerLayer, SetAttr, SetGroupId, SetTime, Tree};
use nix::errno::Errno;

use super::disk::{Fault, LIST, MemoryDisk};
use super::dump::{Dump, dump};
use super::ops::{CALLER, File, LayerEntry, Op, Path};
use super::reference::{Body, Id, Node, ROOT, Reference, Res};
use super::stack::Tar;

/// The layers as bytes, to open again and again.
pub struct Image {
    tars: Vec<Vec<u8>>,
    indexes: Vec<Vec<u8>>,
    merged: Vec<u8>,
}

impl Image {
    /// Stores the layers; `None` if a tar or the stack is refused.
    pub fn new(layers: &[Vec<LayerEntry>]) -> Option<Image> {
        let tars: Vec<Vec<u8>> = layers
            .iter()
            .enumerate()
            .map(|(i, layer)| tar(layer, i as u8))
            .collect();
        Image::of_tars(tars)
    }

    pub fn of_tars(tars: Vec<Vec<u8>>) -> Option<Image> {
        let mut indexes = Vec::new();
        for tar in &tars {
            let mut index = Vec::new();
            layer::index(&mut &tar[..], &mut index).ok()?;
            indexes.push(index);
        }
        let views: Vec<View> = indexes
            .iter()
            .map(|bytes| View::from_bytes(bytes.clone()).unwrap())
            .collect();
        let mut merged = Vec::new();
        merge::merge(&views, [7; 32], &mut merged).ok()?;
        Some(Image {
            tars,
            indexes,
            merged,
        })
    }

    /// The same with one more layer on top.
    pub fn with_layer(&self, tar: Vec<u8>) -> Option<Image> {
        Image::of_tars(self.tars.iter().cloned().chain([tar]).collect())
    }

    pub fn lower(&self) -> Lower {
        let layers = self.tars.iter().zip(&self.indexes).map(|(bytes, index)| {
            let mut tar = tempfile::tempfile().unwrap();
            tar.write_all(bytes).unwrap();
            tar.rewind().unwrap();
            LowerLayer::tar(tar, View::from_bytes(index.clone()).unwrap())
        });
        Lower {
            view: self.view(),
            layers: layers.collect(),
        }
    }

    fn view(&self) -> View {
        View::from_bytes(self.merged.clone()).unwrap()
    }

    /// The image as the reference has it, read straight from the index and the tars.
    pub fn reference(&self) -> Reference {
        let view = self.view();
        let mut reference = Reference {
            nodes: BTreeMap::new(),
            next: view.node_count() as usize,
        };
        for id in 0..view.node_count() {
            let node = NodeId(id);
            let attr = view.attr(node).unwrap();
            let body = match attr.kind {
                Kind::Directory => {
                    let entries = view.entries(node).unwrap();
                    let entries = (0..entries.len()).map(|i| entries.get(i).unwrap());
                    let entries = entries.map(|e| (e.name.as_bytes().to_vec(), e.target.unwrap().0.0 as Id));
                    Body::Dir {
                        entries: entries.collect(),
                        parent: view.parent(node).unwrap().0 as Id,
                    }
                }
                Kind::Regular => Body::File(self.content(&view, node, attr.size)),
                Kind::Symlink => Body::Link(view.target(node).unwrap().to_vec()),
                _ => Body::Special,
            };
            let xattrs = view
                .xattrs(node)
                .unwrap()
                .into_iter()
                .map(|(n, v)| (n.to_vec(), v.to_vec()));
            let Attr {
                kind,
                perm,
                uid,
                gid,
                nlink,
                mtime,
                ..
            } = attr;
            let node = Node {
                kind,
                perm,
                uid,
                gid,
                nlink,
                mtime: Some(mtime),
                xattrs: xattrs.collect(),
                body,
            };
            reference.nodes.insert(id as Id, node);
        }
        reference
    }

    fn content(&self, view: &View, node: NodeId, size: u64) -> Vec<u8> {
        let mut content = vec![0; size as usize];
        for i in 0..view.extent_count(node).unwrap() {
            let e = view.extent(node, i).unwrap();
            let (to, from, n) = (e.file_offset as usize, e.tar_offset as usize, e.length as usize);
            content[to..to + n].copy_from_slice(&self.tars[e.layer as usize][from..from + n]);
        }
        content
    }
}

fn tar(entries: &[LayerEntry], salt: u8) -> Vec<u8> {
    let mut tar = Tar::new();
    for (i, entry) in entries.iter().enumerate() {
        let parent = |path: &Path| {
            path[..path.len() - 1]
                .iter()
                .map(|n| format!("{n}/"))
                .collect::<String>()
        };
        tar = match entry {
            LayerEntry::Dir(path) => tar.dir(&path.join("/")),
            LayerEntry::File(path, size) => tar.file(
                &path.join("/"),
                &pattern((salt * 16).wrapping_add((i as u8).wrapping_add(1)), *size),
            ),
            LayerEntry::Symlink(path) => tar.symlink(&path.join("/"), "nowhere"),
            LayerEntry::HardLink(path, target) => tar.hard_link(&path.join("/"), &target.join("/")),
            LayerEntry::Whiteout(path) => {
                tar.file(&format!("{}.wh.{}", parent(path), path[path.len() - 1]), b"")
            }
            LayerEntry::Opaque(path) => tar.file(&format!("{}/.wh..wh..opq", path.join("/")), b""),
        };
    }
    tar.bytes()
}

/// Bytes that differ from place to place.
pub fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| seed.wrapping_mul(31).wrapping_add((i / 7 + i / 4096) as u8) | 1)
        .collect()
}

pub fn name(bytes: &str) -> &Name {
    Name::new(bytes.as_bytes()).unwrap()
}

/// What the disk of the tests fails with.
pub const STORE_ERRNOS: [Errno; 4] = [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::ESTALE];

/// Both filesystems and what is open in them.
pub struct Both<'a> {
    image: &'a Image,
    disk: Option<MemoryDisk>,
    dir: tempfile::TempDir,
    tree: Option<Arc<Tree>>,
    pub reference: Reference,
    open: Vec<(Id, Ino)>,
    started: Time,
    /// Of a file that an operation began to change in place, the bytes that it would have after it.
    in_place: Option<(Id, Vec<u8>)>,
    /// After how many calls of the disk what was to be seen, if that is to be kept.
    pub history: Option<Vec<(usize, Dump)>>,
}

impl<'a> Both<'a> {
    /// On the host's filesystem.
    pub fn new(image: &'a Image) -> Both<'a> {
        Both::open(image, None)
    }

    /// On a disk that can fail.
    pub fn on(image: &'a Image, disk: MemoryDisk) -> Both<'a> {
        Both::open(image, Some(disk))
    }

    fn open(image: &'a Image, disk: Option<MemoryDisk>) -> Both<'a> {
        let dir = tempfile::tempdir().unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let started = Time {
            sec: now.as_secs() as i64 - 1,
            nsec: 0,
        };
        let reference = image.reference();
        let mut both = Both {
            image,
            disk,
            dir,
            tree: None,
            reference,
            open: Vec::new(),
            started,
            in_place: None,
            history: None,
        };
        both.mount();
        both
    }

    /// Closes the tree, if one is open, and opens it again.
    fn mount(&mut self) {
        self.tree = None;
        self.open.clear();
        let limits = Limits::default();
        let tree = match &self.disk {
            None => Tree::open(self.image.lower(), self.dir.path(), limits),
            Some(disk) => {
                let faults = std::mem::take(&mut disk.plan.lock().faults);
                disk.plan.lock().flush_failed = false;
                let tree = Tree::open_on(self.image.lower(), disk.storage(), limits);
                disk.plan.lock().faults = faults;
                tree
            }
        };
        self.tree = Some(Arc::new(tree.unwrap()));
    }

    /// Where the layer lies that is on the host's filesystem.
    pub fn directory(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn tree(&self) -> &Tree {
        self.tree.as_deref().unwrap()
    }

    /// Runs an operation on the tree until no failing disk spoils it: one that failed did not happen, so it can be
    /// tried again.
    fn persistently(&self, op: &Op) -> Res<Option<Ino>> {
        loop {
            let before = self.fired();
            match self.on_tree(op) {
                Err(errno) if self.fired() > before && STORE_ERRNOS.contains(&errno) => {}
                outcome => return outcome,
            }
        }
    }

    /// How many calls on the disk have failed.
    fn fired(&self) -> usize {
        self.disk.as_ref().map_or(0, |disk| disk.plan.lock().fired)
    }

    fn sync(&self) {
        let failed = || {
            self.disk
                .as_ref()
                .is_some_and(|disk| disk.plan.lock().flush_failed)
        };
        let before = self.fired();
        match self.tree().sync() {
            Ok(_durable) => assert!(!failed(), "a sync that cannot be true"),
            // Writing the mark may have failed, too.
            Err(error) => assert!(failed() || self.fired() > before, "{error}"),
        }
    }

    /// Makes a checkpoint, with an operation before each of its records, as far as there are any; the others follow.
    fn checkpoint(&mut self, meanwhile: &[Op]) {
        let (tree, before) = (Arc::clone(self.tree.as_ref().unwrap()), self.fired());
        let (both, mut rest) = (RefCell::new(self), Cell::new(meanwhile));
        let go_on = || {
            if let Some((op, more)) = rest.get().split_first() {
                rest.set(more);
                both.borrow_mut().step(op);
            }
            true
        };
        let made = tree.checkpoint(&go_on);
        let both = both.into_inner();
        let lost = both
            .disk
            .as_ref()
            .is_some_and(|disk| disk.plan.lock().flush_failed);
        match made {
            Ok(()) => assert!(!lost, "a checkpoint that cannot be true"),
            Err(error) => assert!(lost || both.fired() > before, "{error}"),
        }
        rest.get_mut().iter().for_each(|op| both.step(op));
    }

    fn list(&self) {
        let before = self.fired();
        let made = self.tree().list();
        let lost = self
            .disk
            .as_ref()
            .is_some_and(|disk| disk.plan.lock().flush_failed);
        match made {
            Ok(made) => assert!(made && !lost, "nothing happened meanwhile"),
            Err(error) => assert!(lost || self.fired() > before, "{error}"),
        }
    }

    /// Puts zeros where the journal says where its list lies.
    fn lose_list(&self) {
        match &self.disk {
            Some(disk) => disk.lose_list(),
            None => {
                let journal = std::fs::File::options()
                    .write(true)
                    .open(self.dir.path().join("journal"));
                journal.unwrap().write_all_at(&[0; 512], LIST).unwrap();
            }
        }
    }

    /// Keeps from now on what can be seen after each operation, and what the disk held before each of its calls.
    pub fn keep_history(&mut self) {
        self.history = Some(Vec::new());
        self.disk.as_ref().unwrap().plan.lock().moments = Some(Vec::new());
        self.note();
    }

    fn note(&mut self) {
        let disk = self.disk.as_ref();
        let calls = disk.map_or(0, |disk| disk.plan.lock().moments.as_ref().map_or(0, Vec::len));
        if let Some(mut history) = self.history.take() {
            history.push((calls, dump(self.tree())));
            self.history = Some(history);
        }
    }

    /// Runs one operation on both; the outcomes must be the same.
    pub fn step(&mut self, op: &Op) {
        self.take_step(op);
        self.note();
    }

    fn take_step(&mut self, op: &Op) {
        match op {
            Op::Remount => self.mount(),
            Op::Sync => self.sync(),
            Op::Checkpoint(meanwhile) => self.checkpoint(meanwhile),
            Op::List => self.list(),
            Op::LoseList => self.lose_list(),
            _ => {
                let outcome = self.persistently(op);
                self.agree(op, outcome);
            }
        }
    }

    /// Runs one operation on both while calls on the tree's disk fail with `fault`. If one spoils it, its caller hears why,
    /// and nothing has happened, now and after opening the layer again, but for bytes written in place; then it is tried
    /// again.
    pub fn step_on_failing_disk(&mut self, op: &Op, fault: Fault) {
        if op.is_upkeep() {
            return self.step(op);
        }
        let disk = self.disk.clone().unwrap();
        let before = self.fired();
        disk.plan.lock().looks = true;
        let outcome = self.on_tree(op);
        disk.plan.lock().looks = false;
        let told = match fault {
            Fault::Short | Fault::Errno(Errno::EINTR) => None,
            Fault::Errno(errno) | Fault::Torn(errno) => Some(errno),
        };
        if self.fired() == before || outcome.is_ok() || outcome.err() != told {
            return self.agree(op, outcome);
        }
        let untouched = self.reference.clone();
        if let Op::Write { file, .. } | Op::Allocate(file, ..) = op {
            let id = self.ref_file(file).unwrap();
            self.on_reference(op).unwrap();
            self.in_place = Some((id, self.reference.content(id).unwrap().clone()));
        }
        self.reference = untouched;
        self.compare();
        self.in_place = None;
        let copy = disk.copy();
        let again = Tree::open_on(self.image.lower(), copy.storage(), Limits::default()).unwrap();
        assert!(
            dump(self.tree()) == dump(&again),
            "{op:?}, {fault:?}: memory and records differ"
        );
        self.step(op);
    }

    /// Does the same to the reference, and compares the outcomes.
    fn agree(&mut self, op: &Op, tree: Res<Option<Ino>>) {
        match (tree, self.on_reference(op)) {
            (Ok(ino), Ok(id)) => {
                if let (Some(ino), Some(id)) = (ino, id) {
                    self.open.push((id, ino));
                }
                if let Op::Close(i) = op
                    && *i < self.open.len()
                {
                    let (_, ino) = self.open.remove(*i);
                    self.tree().forget(ino, 1);
                }
            }
            (Err(tree), Err(reference)) => assert_eq!(tree, reference, "{op:?}"),
            (tree, reference) => panic!("{op:?}: tree {tree:?}, reference {reference:?}"),
        }
    }

    /// Walks to a path on the tree; the caller forgets the inode once.
    fn walk(&self, path: &[&str]) -> Res<Ino> {
        let mut at = Ino::ROOT;
        self.tree().looked_up(at);
        for part in path {
            let next = self.tree().lookup(at, name(part)).map_err(|e| e.0);
            self.tree().forget(at, 1);
            at = next?.ino;
        }
        Ok(at)
    }

    /// Runs `f` on a path's inode, forgetting it afterwards.
    fn at<T>(&self, path: &[&str], f: impl FnOnce(Ino) -> Res<T>) -> Res<T> {
        let ino = self.walk(path)?;
        let result = f(ino);
        self.tree().forget(ino, 1);
        result
    }

    /// Runs `f` on a path's directory and name.
    fn named<T>(&self, path: &Path, f: impl FnOnce(Ino, &Name) -> Res<T>) -> Res<T> {
        let (last, parents) = path.split_last().unwrap();
        self.at(parents, |dir| f(dir, name(last)))
    }

    fn file<T>(&self, file: &File, f: impl FnOnce(Ino) -> Res<T>) -> Res<T> {
        match file {
            File::At(path) => self.at(path, f),
            File::Open(i) => f(self.open.get(*i).ok_or(Errno::EBADF)?.1),
        }
    }

    /// Makes a file and forgets it again.
    fn made(&self, made: fuse_overlay::error::Result<Attr>) -> Res<Option<Ino>> {
        let attr = made.map_err(|e| e.0)?;
        self.tree().forget(attr.ino, 1);
        Ok(None)
    }

    fn set(&self, file: &File, set: SetAttr) -> Res<Option<Ino>> {
        self.file(file, |ino| {
            self.tree().setattr(&CALLER, ino, &set).map_err(|e| e.0)
        })?;
        Ok(None)
    }

    fn on_tree(&self, op: &Op) -> Res<Option<Ino>> {
        let tree = self.tree();
        let none = |result: fuse_overlay::error::Result<()>| result.map(|()| None).map_err(|e| e.0);
        match op {
            Op::Create(path, perm) => self.named(path, |dir, name| {
                self.made(tree.mknod(&CALLER, dir, name, 0o100_000 | u32::from(*perm), 0))
            }),
            Op::Mkdir(path, perm) => {
                self.named(path, |dir, name| self.made(tree.mkdir(&CALLER, dir, name, *perm)))
            }
            Op::Symlink(path, target) => self.named(path, |dir, name| {
                self.made(tree.symlink(&CALLER, dir, name, target.as_bytes()))
            }),
            Op::Fifo(path) => self.named(path, |dir, name| {
                self.made(tree.mknod(&CALLER, dir, name, 0o010_600, 0))
            }),
            Op::Whiteout(path) => self.named(path, |dir, name| {
                self.made(tree.mknod(&CALLER, dir, name, 0o020_000, 0))
            }),
            Op::TmpFile(path) => self.at(path, |dir| {
                tree.tmpfile(&CALLER, dir, 0o600)
                    .map(|attr| Some(attr.ino))
                    .map_err(|e| e.0)
            }),
            Op::Link(file, path) => self.file(file, |ino| {
                self.named(path, |dir, name| self.made(tree.link(&CALLER, ino, dir, name)))
            }),
            Op::Unlink(path) => self.named(path, |dir, name| none(tree.unlink(&CALLER, dir, name).map(drop))),
            Op::Rmdir(path) => self.named(path, |dir, name| none(tree.rmdir(&CALLER, dir, name))),
            Op::Rename(from, to, how) => self.named(from, |from_dir, from_name| {
                self.named(to, |to_dir, to_name| {
                    none(
                        tree.rename(&CALLER, (from_dir, from_name), (to_dir, to_name), *how)
                            .map(drop),
                    )
                })
            }),
            Op::Write {
                file,
                offset,
                length,
                byte,
                kill_priv,
            } => self.file(file, |ino| {
                none(tree.write(&CALLER, ino, *offset as u64, &pattern(*byte, *length), *kill_priv))
            }),
            Op::Truncate(file, size) => self.set(
                file,
                SetAttr {
                    size: Some(*size as u64),
                    ..SetAttr::default()
                },
            ),
            Op::Allocate(file, how, offset, length) => self.file(file, |ino| {
                none(tree.fallocate(&CALLER, ino, *how, *offset as u64, *length as u64))
            }),
            Op::Chmod(file, perm) => self.set(
                file,
                SetAttr {
                    perm: Some(*perm),
                    ..SetAttr::default()
                },
            ),
            Op::Chown(file, uid, gid, kill_priv) => {
                let (uid, gid) = (Some(*uid), Some(*gid));
                self.set(
                    file,
                    SetAttr {
                        uid,
                        gid,
                        kill_priv: *kill_priv,
                        ..SetAttr::default()
                    },
                )
            }
            Op::TakePrivileges(file, ctime) => {
                self.file(file, |ino| {
                    tree.take_privileges(&CALLER, ino, *ctime).map_err(|e| e.0)
                })?;
                Ok(None)
            }
            Op::SetTimes(file, time) => self.set(
                file,
                SetAttr {
                    mtime: Some(SetTime::At(*time)),
                    ..SetAttr::default()
                },
            ),
            Op::SetXattr(file, name, length, how) => self.file(file, |ino| {
                none(tree.setxattr(
                    &CALLER,
                    ino,
                    name.as_bytes(),
                    &pattern(3, *length),
                    *how,
                    SetGroupId::Keep,
                ))
            }),
            Op::RemoveXattr(file, name) => {
                self.file(file, |ino| none(tree.removexattr(&CALLER, ino, name.as_bytes())))
            }
            Op::Open(path) => self.walk(path).map(Some),
            Op::Close(_) => Ok(None),
            _ => panic!("{op:?} is not about the tree"),
        }
    }

    fn ref_walk(&mut self, path: &[&str]) -> Res<Id> {
        path.iter()
            .try_fold(ROOT, |at, part| self.reference.lookup(at, part.as_bytes()))
    }

    fn ref_named<'p>(&mut self, path: &'p Path) -> Res<(Id, &'p [u8])> {
        let (last, parents) = path.split_last().unwrap();
        Ok((self.ref_walk(parents)?, last.as_bytes()))
    }

    fn ref_file(&mut self, file: &File) -> Res<Id> {
        match file {
            File::At(path) => self.ref_walk(path),
            File::Open(i) => Ok(self.open.get(*i).ok_or(Errno::EBADF)?.0),
        }
    }

    fn ref_make(&mut self, path: &Path, kind: Kind, perm: u16, body: Body) -> Res<Option<Id>> {
        let (dir, name) = self.ref_named(path)?;
        self.reference.make(dir, Some(name), kind, perm, body)?;
        Ok(None)
    }

    fn on_reference(&mut self, op: &Op) -> Res<Option<Id>> {
        match op {
            Op::Create(path, perm) => {
                return self.ref_make(path, Kind::Regular, *perm, Body::File(Vec::new()));
            }
            Op::Mkdir(path, perm) => {
                let parent = self.ref_named(path)?.0;
                let body = Body::Dir {
                    entries: BTreeMap::new(),
                    parent,
                };
                return self.ref_make(path, Kind::Directory, *perm & 0o1777, body);
            }
            Op::Symlink(path, target) => {
                return self.ref_make(path, Kind::Symlink, 0o777, Body::Link(target.as_bytes().to_vec()));
            }
            Op::Fifo(path) => return self.ref_make(path, Kind::Fifo, 0o600, Body::Special),
            Op::Whiteout(path) => return self.ref_make(path, Kind::CharDevice, 0, Body::Special),
            Op::TmpFile(path) => {
                let dir = self.ref_walk(path)?;
                return self
                    .reference
                    .make(dir, None, Kind::Regular, 0o600, Body::File(Vec::new()))
                    .map(Some);
            }
            Op::Link(file, path) => {
                let id = self.ref_file(file)?;
                let (dir, name) = self.ref_named(path)?;
                self.reference.link(id, dir, name)?;
            }
            Op::Unlink(path) => {
                let (dir, name) = self.ref_named(path)?;
                self.reference.unlink(dir, name)?;
            }
            Op::Rmdir(path) => {
                let (dir, name) = self.ref_named(path)?;
                self.reference.rmdir(dir, name)?;
            }
            Op::Rename(from, to, how) => {
                let from = self.ref_named(from)?;
                let to = self.ref_named(to)?;
                self.reference.rename(from, to, *how)?;
            }
            Op::Write {
                file,
                offset,
                length,
                byte,
                kill_priv,
            } => {
                let id = self.ref_file(file)?;
                self.reference
                    .write(id, *offset, &pattern(*byte, *length), *kill_priv)?;
            }
            Op::Truncate(file, size) => {
                let id = self.ref_file(file)?;
                self.reference.truncate(id, *size)?;
            }
            Op::Allocate(file, how, offset, length) => {
                let id = self.ref_file(file)?;
                self.reference.allocate(id, *how, *offset, *length)?;
            }
            Op::Chmod(file, perm) => {
                let id = self.ref_file(file)?;
                self.reference.node(id).perm = *perm;
            }
            Op::Chown(file, uid, gid, kill_priv) => {
                let id = self.ref_file(file)?;
                if *kill_priv {
                    self.reference.kill_priv(id);
                }
                let node = self.reference.node(id);
                (node.uid, node.gid) = (*uid, *gid);
            }
            Op::TakePrivileges(file, ctime) => {
                let id = self.ref_file(file)?;
                self.reference.take_privileges(id, ctime.is_some())?;
            }
            Op::SetTimes(file, time) => {
                let id = self.ref_file(file)?;
                self.reference.node(id).mtime = Some(*time);
            }
            Op::SetXattr(file, name, length, how) => {
                let id = self.ref_file(file)?;
                self.reference
                    .set_xattr(id, name.as_bytes(), &pattern(3, *length), *how)?;
            }
            Op::RemoveXattr(file, name) => {
                let id = self.ref_file(file)?;
                self.reference.remove_xattr(id, name.as_bytes())?;
            }
            Op::Open(path) => return self.ref_walk(path).map(Some),
            Op::Close(_) => {}
            _ => panic!("{op:?} is not about the tree"),
        }
        Ok(None)
    }

    /// Compares everything that can be reached, by a name or because it is open.
    pub fn compare(&mut self) {
        let mut seen = BTreeMap::new();
        self.compare_node(ROOT, Ino::ROOT, &mut seen);
        for (id, ino) in self.open.clone() {
            self.compare_node(id, ino, &mut seen);
        }
    }

    fn compare_node(&mut self, id: Id, ino: Ino, seen: &mut BTreeMap<Id, Ino>) {
        if let Some(known) = seen.insert(id, ino) {
            assert_eq!(known, ino, "two names of one file");
            return;
        }
        assert_eq!(
            seen.values().filter(|known| **known == ino).count(),
            1,
            "{ino:?} is two files"
        );
        let node = self.reference.node(id).clone();
        let tree = self.tree();
        let attr = tree.getattr(ino).unwrap();
        let shown = (
            attr.ino, attr.kind, attr.perm, attr.uid, attr.gid, attr.nlink, attr.rdev,
        );
        assert_eq!(
            shown,
            (ino, node.kind, node.perm, node.uid, node.gid, node.nlink, 0),
            "{ino:?}"
        );
        match node.mtime {
            Some(mtime) => assert_eq!(attr.mtime, mtime, "{ino:?}"),
            None => assert!(attr.mtime >= self.started, "{ino:?}: {:?}", attr.mtime),
        }
        let names = tree.listxattr(ino).unwrap();
        assert_eq!(names, node.xattrs.keys().cloned().collect::<Vec<_>>());
        for (name, value) in &node.xattrs {
            assert_eq!(&tree.getxattr(ino, name).unwrap(), value);
        }
        match node.body {
            Body::File(content) => {
                let changing = self.in_place.as_ref().filter(|(changing, _)| *changing == id);
                let after = changing.map_or(&content, |(_, after)| after);
                self.compare_content(ino, &attr, &content, after);
            }
            Body::Link(target) => assert_eq!(tree.readlink(ino).unwrap(), target),
            Body::Special => {}
            Body::Dir { entries, parent } => {
                let listed = list(tree, ino);
                assert_eq!(listed[0].0, b".");
                assert_eq!(listed[0].1, ino);
                assert_eq!(listed[1].0, b"..");
                if let Some(known) = seen.get(&parent) {
                    assert_eq!(listed[1].1, *known, "..");
                }
                let mut names: Vec<_> = listed[2..].iter().map(|(name, ..)| name.clone()).collect();
                names.sort();
                assert_eq!(names, entries.keys().cloned().collect::<Vec<_>>(), "{ino:?}");
                for (entry, child, kind) in &listed[2..] {
                    let found = self.tree().lookup(ino, Name::new(entry).unwrap()).unwrap();
                    assert_eq!((found.ino, found.kind), (*child, *kind));
                    self.compare_node(entries[entry], *child, seen);
                    self.tree().forget(found.ino, 1);
                }
            }
        }
    }

    /// Each byte must be as in `content`, or as in `after`.
    fn compare_content(&self, ino: Ino, attr: &Attr, content: &[u8], after: &[u8]) {
        assert_eq!(attr.size, content.len() as u64, "{ino:?}");
        let mut out = vec![0xee; content.len() + 100];
        let n = self.tree().read(ino, 0, &mut out).unwrap();
        assert_eq!(n, content.len(), "{ino:?}");
        let differs = |i: &usize| out[*i] != content[*i] && Some(&out[*i]) != after.get(*i);
        if let Some(at) = (0..n).find(differs) {
            panic!(
                "{ino:?}: byte {at} of {n} is {}, should be {}",
                out[at], content[at]
            );
        }
        let start = content.len() / 3;
        let n = self.tree().read(ino, start as u64, &mut out[..100]).unwrap();
        let whole = &content[start..(start + 100).min(content.len())];
        assert!(&out[..n] == whole || self.in_place.is_some());
    }
}

/// A directory's entries, asked for in small pieces.
pub fn list(tree: &Tree, dir: Ino) -> Vec<(Vec<u8>, Ino, Kind)> {
    let (mut entries, mut cookie) = (Vec::new(), 0);
    loop {
        let before = entries.len();
        tree.readdir(dir, cookie, &mut |listed| {
            assert!(listed.cookie > cookie);
            cookie = listed.cookie;
            entries.push((listed.name.to_vec(), listed.ino, listed.kind));
            if entries.len() - before == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
        if entries.len() == before {
            return entries;
        }
    }
}
