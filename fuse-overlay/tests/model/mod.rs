//! The OCI layer rules (image spec, layer.md, and `ARCHITECTURE.md`, "How a tar becomes entries") in the plainest form.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::stack::Data;

/// Metadata of an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    pub perm: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    File(Data),
    Directory,
    Symlink(String),
    HardLink(String),
    Fifo,
    Device(u32),
    BlockDevice(u32),
}

/// An entry of a tar.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: String,
    pub kind: Kind,
    pub meta: Meta,
}

/// What a path shows in the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub kind: Kind,
    pub meta: Meta,
    pub nlink: u32,
    /// The first path of the same file.
    pub first_name: String,
}

/// A path as its components.
type Path = Vec<String>;
/// A file's number.
type Inode = usize;

#[derive(Clone, Debug)]
struct File {
    kind: Kind,
    meta: Meta,
}

/// What lies at a path of the merged tree.
#[derive(Clone, Copy, Debug)]
struct Place {
    inode: Inode,
    /// It came there as a hard link to below, through which no path leads on.
    linked_below: bool,
}

/// One tar's entries.
#[derive(Default)]
struct Layer {
    names: BTreeMap<Path, Inode>,
    implied: BTreeSet<Path>,
    whiteouts: BTreeSet<Path>,
    opaque: BTreeSet<Path>,
    links_below: BTreeMap<Inode, Path>,
}

/// Layers applied one after the other.
#[derive(Default)]
pub struct Stack {
    files: Vec<File>,
    names: BTreeMap<Path, Place>,
    /// Hard links that lead nowhere.
    broken: BTreeSet<Inode>,
}

type Refused = &'static str;

fn parts(path: &str) -> Path {
    path.split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .map(str::to_owned)
        .collect()
}

/// Where a walk along a path ends.
enum Walk {
    Directory(Path),
    Missing {
        at: Path,
        rest: Vec<String>,
        in_link: bool,
    },
    Blocked,
}

/// Walks `path`, all directories, in a map of names, following symlinks.
fn walk(path: &[String], look: impl Fn(&Path) -> Option<Kind>) -> Walk {
    let mut here = Path::new();
    let mut todo: VecDeque<(String, bool)> = path.iter().map(|part| (part.clone(), false)).collect();
    let mut symlinks = 0;
    while let Some((part, in_link)) = todo.pop_front() {
        if part.is_empty() || part == "." {
            continue;
        }
        if part == ".." {
            here.pop();
            continue;
        }
        let mut at = here.clone();
        at.push(part);
        match look(&at) {
            None => {
                let rest = todo.into_iter().map(|(part, _)| part).collect();
                return Walk::Missing { at, rest, in_link };
            }
            Some(Kind::Directory) => here = at,
            Some(Kind::Symlink(target)) => {
                symlinks += 1;
                if symlinks > 40 {
                    return Walk::Blocked;
                }
                if target.starts_with('/') {
                    here.clear();
                }
                for part in target.split('/').rev() {
                    todo.push_front((part.to_owned(), true));
                }
            }
            Some(_) => return Walk::Blocked,
        }
    }
    Walk::Directory(here)
}

fn below(path: &Path, dir: &Path) -> bool {
    path.len() > dir.len() && path.starts_with(dir)
}

impl Stack {
    /// Applies a layer; one that is refused changes nothing.
    pub fn push(&mut self, entries: &[Entry]) -> Result<(), Refused> {
        let mut layer = Layer::default();
        let known = self.files.len();
        let root = self.file(
            Kind::Directory,
            Meta {
                perm: 0o755,
                ..Meta::default()
            },
        );
        layer.names.insert(Path::new(), root);
        layer.implied.insert(Path::new());
        for entry in entries {
            if let Err(reason) = self.extract(&mut layer, entry) {
                self.files.truncate(known);
                return Err(reason);
            }
        }
        self.apply(layer);
        Ok(())
    }

    fn file(&mut self, kind: Kind, meta: Meta) -> Inode {
        self.files.push(File { kind, meta });
        self.files.len() - 1
    }

    fn parent(&mut self, layer: &mut Layer, path: &[String]) -> Result<Path, Refused> {
        loop {
            match walk(path, |at| {
                layer.names.get(at).map(|&inode| self.files[inode].kind.clone())
            }) {
                Walk::Directory(dir) => return Ok(dir),
                Walk::Missing { in_link: true, .. } => return Err("dangling symlink as parent"),
                Walk::Blocked => return Err("parent is no directory"),
                Walk::Missing { at, .. } => {
                    let inode = self.file(
                        Kind::Directory,
                        Meta {
                            perm: 0o755,
                            ..Meta::default()
                        },
                    );
                    layer.names.insert(at.clone(), inode);
                    layer.implied.insert(at);
                }
            }
        }
    }

    fn extract(&mut self, layer: &mut Layer, entry: &Entry) -> Result<(), Refused> {
        let mut path = parts(&entry.path);
        if path.iter().any(|part| part == "..") {
            return Err("..");
        }
        if path
            .iter()
            .any(|part| part.starts_with(".wh..wh.") && part != ".wh..wh..opq")
        {
            return Ok(());
        }
        let Some(last) = path.pop() else {
            if entry.kind != Kind::Directory {
                return Err("the root is a directory");
            }
            self.files[layer.names[&Path::new()]].meta = entry.meta.clone();
            layer.implied.remove(&Path::new());
            return Ok(());
        };
        let mut at = self.parent(layer, &path)?;
        if last == ".wh..wh..opq" {
            layer.opaque.insert(at);
            return Ok(());
        }
        if let Some(hidden) = last.strip_prefix(".wh.") {
            at.push(hidden.to_owned());
            layer.whiteouts.insert(at);
            return Ok(());
        }
        at.push(last);
        self.put(layer, at, entry)
    }

    fn put(&mut self, layer: &mut Layer, at: Path, entry: &Entry) -> Result<(), Refused> {
        let old = layer.names.get(&at).copied();
        if let (Kind::Directory, Some(old)) = (&entry.kind, old)
            && self.files[old].kind == Kind::Directory
        {
            self.files[old].meta = entry.meta.clone();
            layer.implied.remove(&at);
            return Ok(());
        }
        let inode = match &entry.kind {
            Kind::HardLink(target) => self.link(layer, target, &entry.meta)?,
            kind => self.file(kind.clone(), entry.meta.clone()),
        };
        layer.names.retain(|path, _| !below(path, &at));
        layer.whiteouts.retain(|path| !below(path, &at));
        layer.opaque.retain(|path| !below(path, &at) && *path != at);
        layer.implied.retain(|path| !below(path, &at) && *path != at);
        layer.names.insert(at, inode);
        Ok(())
    }

    fn link(&mut self, layer: &mut Layer, target: &str, meta: &Meta) -> Result<Inode, Refused> {
        let mut path = parts(target);
        let last = path.pop().ok_or("link to the root")?;
        let mut at = match walk(&path, |at| {
            layer.names.get(at).map(|&inode| self.files[inode].kind.clone())
        }) {
            Walk::Directory(dir) => dir,
            Walk::Blocked => return Err("parent of the target is no directory"),
            Walk::Missing { rest, .. } if rest.iter().any(|part| part == "..") => return Err("dangling"),
            Walk::Missing { at, rest, .. } => [
                at,
                rest.into_iter()
                    .filter(|part| !matches!(part.as_str(), "" | "."))
                    .collect(),
            ]
            .concat(),
        };
        at.push(last);
        match layer.names.get(&at) {
            Some(&inode) if self.files[inode].kind == Kind::Directory => Err("link to a directory"),
            Some(&inode) => {
                let file = &mut self.files[inode];
                let xattrs = if meta.xattrs.is_empty() {
                    file.meta.xattrs.clone()
                } else {
                    meta.xattrs.clone()
                };
                file.meta = Meta {
                    xattrs,
                    ..meta.clone()
                };
                Ok(inode)
            }
            None => {
                let inode = self.file(Kind::HardLink(target.to_owned()), meta.clone());
                layer.links_below.insert(inode, at);
                Ok(inode)
            }
        }
    }

    fn apply(&mut self, layer: Layer) {
        let found: BTreeMap<Inode, Option<Inode>> = layer
            .links_below
            .iter()
            .map(|(&inode, path)| (inode, self.find(path)))
            .collect();
        let gone = |path: &Path| {
            layer
                .whiteouts
                .iter()
                .any(|hidden| path == hidden || below(path, hidden))
                || layer.opaque.iter().any(|dir| below(path, dir))
        };
        self.names.retain(|path, _| !gone(path));
        for (path, inode) in layer.names {
            let linked_below = found.contains_key(&inode);
            let inode = match found.get(&inode) {
                Some(Some(target)) => *target,
                Some(None) => {
                    self.broken.insert(inode);
                    inode
                }
                None => inode,
            };
            let is_dir = |inode: Inode| self.files[inode].kind == Kind::Directory;
            match self.names.get(&path) {
                Some(old) if is_dir(old.inode) && is_dir(inode) => {
                    if layer.implied.contains(&path) {
                        continue;
                    }
                }
                _ => self.names.retain(|other, _| !below(other, &path)),
            }
            self.names.insert(path, Place { inode, linked_below });
        }
    }

    /// The file at a path of the merged tree.
    fn find(&self, path: &Path) -> Option<Inode> {
        let (last, dirs) = path.split_last()?;
        let look = |at: &Path| {
            self.names
                .get(at)
                .map(|place| match &self.files[place.inode].kind {
                    Kind::Symlink(_) if place.linked_below => Kind::Fifo,
                    kind => kind.clone(),
                })
        };
        let Walk::Directory(mut at) = walk(dirs, look) else {
            return None;
        };
        at.push(last.clone());
        let inode = self.names.get(&at)?.inode;
        (self.files[inode].kind != Kind::Directory).then_some(inode)
    }

    /// Everything by path; `None` if a broken hard link shows.
    pub fn visible(&self) -> Option<BTreeMap<String, Shown>> {
        let mut shown = BTreeMap::new();
        let mut first_names: BTreeMap<Inode, String> = BTreeMap::new();
        let mut paths: Vec<(String, Path, Inode)> = self
            .names
            .iter()
            .map(|(path, place)| (path.join("/"), path.clone(), place.inode))
            .collect();
        if paths.is_empty() {
            // No layer at all.
            let kind = Kind::Directory;
            let meta = Meta {
                perm: 0o755,
                ..Meta::default()
            };
            return Some(BTreeMap::from([(
                String::new(),
                Shown {
                    kind,
                    meta,
                    nlink: 2,
                    first_name: String::new(),
                },
            )]));
        }
        paths.sort();
        for (text, path, inode) in paths {
            if self.broken.contains(&inode) {
                return None;
            }
            let File { kind, meta } = &self.files[inode];
            let kind = match kind {
                Kind::File(data) => Kind::File(Data::Whole(data.bytes())),
                kind => kind.clone(),
            };
            let nlink = match kind {
                Kind::Directory => {
                    let is_child = |other: &Path| below(other, &path) && other.len() == path.len() + 1;
                    let is_dir = |place: &Place| self.files[place.inode].kind == Kind::Directory;
                    2 + self
                        .names
                        .iter()
                        .filter(|(other, place)| is_child(other) && is_dir(place))
                        .count()
                }
                _ => self.names.values().filter(|place| place.inode == inode).count(),
            };
            let first_name = first_names.entry(inode).or_insert_with(|| text.clone()).clone();
            shown.insert(
                text,
                Shown {
                    kind,
                    meta: meta.clone(),
                    nlink: nlink as u32,
                    first_name,
                },
            );
        }
        Some(shown)
    }
}
