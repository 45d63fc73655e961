//! What may be on the disk after a loss of power. Of what was done since a file's or a directory's last flush, each sector is
//! in any state that it had, the size too, and each name leads to anything that it led to, or nowhere: names of different
//! directories, and of one, in no order. No filesystem is as bad as that, but each is so in some way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::trace::Event;

const SECTOR: usize = 512;

/// Which file, directory or symlink, whatever it is called.
type Node = usize;

/// A tree of paths, below the root.
pub(crate) type Tree = BTreeMap<PathBuf, Found>;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Found {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
}

/// What is known of a file or a directory.
#[derive(Clone)]
enum Kind {
    File(History),
    Directory(Names),
    Symlink(Vec<u8>),
}

/// A file's content: as the page cache has it, as the last flush left it, and what was between.
#[derive(Clone, Default)]
struct History {
    cache: Vec<u8>,
    disk: Vec<u8>,
    /// When, which sector, what it held then.
    sectors: Vec<(usize, usize, Vec<u8>)>,
    sizes: Vec<(usize, usize)>,
    /// Where the next write goes that does not say where.
    cursor: usize,
    appends: bool,
}

/// A directory's names, likewise.
#[derive(Clone, Default)]
struct Names {
    cache: BTreeMap<OsString, Node>,
    disk: BTreeMap<OsString, Node>,
    changes: Vec<(usize, OsString, Option<Node>)>,
}

/// A flush that has begun: what it will have brought to the disk.
struct Flush {
    node: Node,
    began: usize,
    as_it_is: Kind,
}

/// All files below a directory.
pub(crate) struct Platter {
    root: PathBuf,
    nodes: Vec<Kind>,
    flushes: BTreeMap<usize, Flush>,
    now: usize,
}

impl Platter {
    /// An empty directory, which is on the disk.
    pub(crate) fn new(root: &Path) -> Platter {
        Platter {
            root: root.to_owned(),
            nodes: vec![Kind::Directory(Names::default())],
            flushes: BTreeMap::new(),
            now: 0,
        }
    }

    /// A command begins: numbers of flushes are its own.
    pub(crate) fn begin(&mut self) {
        self.flushes.clear();
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        self.now += 1;
        match event {
            Event::Opened {
                path,
                creates,
                empties,
                appends,
            } => {
                if self.find(path).is_none() && *creates {
                    self.make(path, Kind::File(History::default()));
                }
                let now = self.now;
                if let Some(file) = self.file(path) {
                    (file.cursor, file.appends) = (0, *appends);
                    if *empties {
                        file.resize(0, now);
                    }
                }
            }
            Event::Wrote { path, at, bytes } => {
                let now = self.now;
                let file = self
                    .file(path)
                    .unwrap_or_else(|| panic!("{path:?} is written, and no file"));
                file.write(*at, bytes, now);
            }
            Event::Resized(path, size) => {
                let now = self.now;
                self.file(path)
                    .unwrap_or_else(|| panic!("{path:?} is no file"))
                    .resize(*size, now);
            }
            Event::Directory(path) => self.make(path, Kind::Directory(Names::default())),
            Event::Symlink(path, target) => self.make(path, Kind::Symlink(target.clone())),
            Event::Renamed(from, to) => {
                let node = self.find(from);
                self.enter(from, None);
                self.enter(to, node);
            }
            Event::Exchanged(one, other) => {
                let (first, second) = (self.find(one), self.find(other));
                self.enter(one, second);
                self.enter(other, first);
            }
            Event::Removed(path) => self.enter(path, None),
            Event::Flushing(path, number) => {
                let node = self
                    .find(path)
                    .unwrap_or_else(|| panic!("{path:?} is flushed, and not there"));
                let (began, as_it_is) = (self.now, self.nodes[node].clone());
                self.flushes.insert(
                    *number,
                    Flush {
                        node,
                        began,
                        as_it_is,
                    },
                );
            }
            Event::Flushed(number) => self.flushed(*number),
        }
    }

    fn flushed(&mut self, number: usize) {
        let Flush {
            node,
            began,
            as_it_is,
        } = self.flushes.remove(&number).expect("a flush that began");
        match (&mut self.nodes[node], as_it_is) {
            (Kind::File(file), Kind::File(then)) => {
                file.disk = then.cache;
                file.sectors.retain(|(when, ..)| *when > began);
                file.sizes.retain(|(when, _)| *when > began);
            }
            (Kind::Directory(names), Kind::Directory(then)) => {
                names.disk = then.cache;
                names.changes.retain(|(when, ..)| *when > began);
            }
            _ => {}
        }
    }

    fn find(&self, path: &Path) -> Option<Node> {
        let below = path.strip_prefix(&self.root).expect("a path below the root");
        below.iter().try_fold(0, |node, name| match &self.nodes[node] {
            Kind::Directory(names) => names.cache.get(name).copied(),
            _ => None,
        })
    }

    fn file(&mut self, path: &Path) -> Option<&mut History> {
        let node = self.find(path)?;
        match &mut self.nodes[node] {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    fn make(&mut self, path: &Path, kind: Kind) {
        self.nodes.push(kind);
        self.enter(path, Some(self.nodes.len() - 1));
    }

    /// Has a name lead to something else.
    fn enter(&mut self, path: &Path, to: Option<Node>) {
        let parent = self.find(path.parent().expect("a parent"));
        let parent = parent.unwrap_or_else(|| panic!("the directory of {path:?} is not there"));
        let name = path.file_name().expect("a name").to_owned();
        if let Kind::Directory(names) = &mut self.nodes[parent] {
            match to {
                Some(node) => names.cache.insert(name.clone(), node),
                None => names.cache.remove(&name),
            };
            names.changes.push((self.now, name, to));
        }
    }

    /// What is there while the power is on.
    pub(crate) fn now(&self) -> Tree {
        // The last state of each is what is there.
        self.after_loss(&mut |states| states - 1)
    }

    /// What a loss of power leaves, if of so many states of a thing `choose` picks this one; the first is the flushed one.
    pub(crate) fn after_loss(&self, choose: &mut dyn FnMut(usize) -> usize) -> Tree {
        let mut tree = Tree::new();
        self.gather(0, Path::new(""), choose, &mut tree);
        tree
    }

    fn gather(&self, node: Node, path: &Path, choose: &mut dyn FnMut(usize) -> usize, tree: &mut Tree) {
        let found = match &self.nodes[node] {
            Kind::File(file) => Found::File(file.after_loss(choose)),
            Kind::Symlink(target) => Found::Symlink(target.clone()),
            Kind::Directory(names) => {
                for (name, node) in names.after_loss(choose) {
                    // By another name of its own parent it was there already: a directory has one, but may have had others.
                    self.gather(node, &path.join(name), choose, tree);
                }
                Found::Directory
            }
        };
        tree.insert(path.to_owned(), found);
    }
}

impl History {
    fn write(&mut self, at: Option<usize>, bytes: &[u8], now: usize) {
        let offset = at.unwrap_or(if self.appends {
            self.cache.len()
        } else {
            self.cursor
        });
        let end = offset + bytes.len();
        if at.is_none() {
            self.cursor = end;
        }
        if self.cache.len() < end {
            self.resize(end, now);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            self.sectors.push((now, number, sector(&self.cache, number)));
        }
    }

    fn resize(&mut self, size: usize, now: usize) {
        self.cache.resize(size, 0);
        self.sizes.push((now, size));
    }

    fn after_loss(&self, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let mut states: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
        for (_, number, held) in &self.sectors {
            states.entry(*number).or_default().push(held);
        }
        let mut left = self.disk.clone();
        let mut size = left.len();
        if let Some(chosen) = choose(self.sizes.len() + 1).checked_sub(1) {
            size = self.sizes[chosen].1;
        }
        for (number, states) in states {
            if let Some(state) = choose(states.len() + 1).checked_sub(1) {
                left.resize(left.len().max((number + 1) * SECTOR), 0);
                left[number * SECTOR..(number + 1) * SECTOR].copy_from_slice(states[state]);
            }
        }
        left.resize(size, 0);
        left
    }
}

impl Names {
    fn after_loss(&self, choose: &mut dyn FnMut(usize) -> usize) -> BTreeMap<OsString, Node> {
        let mut states: BTreeMap<&OsString, Vec<Option<Node>>> = BTreeMap::new();
        for (_, name, to) in &self.changes {
            states.entry(name).or_default().push(*to);
        }
        let mut left = self.disk.clone();
        for (name, states) in states {
            match choose(states.len() + 1).checked_sub(1).map(|state| states[state]) {
                None => {}
                Some(Some(node)) => drop(left.insert(name.clone(), node)),
                Some(None) => drop(left.remove(name)),
            }
        }
        left
    }
}

fn sector(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut sector = bytes[number * SECTOR..].to_vec();
    sector.resize(SECTOR, 0);
    sector
}

/// Reads a directory as [`Platter::now`] has it. Sockets are no files.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::from([(PathBuf::new(), Found::Directory)]);
    read_below(root, Path::new(""), &mut tree);
    tree
}

fn read_below(root: &Path, path: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(path)).unwrap().map(Result::unwrap) {
        let (path, kind) = (path.join(entry.file_name()), entry.file_type().unwrap());
        let found = if kind.is_dir() {
            read_below(root, &path, tree);
            Found::Directory
        } else if kind.is_symlink() {
            Found::Symlink(fs::read_link(entry.path()).unwrap().into_os_string().into_vec())
        } else if kind.is_file() {
            Found::File(fs::read(entry.path()).unwrap())
        } else {
            continue;
        };
        tree.insert(path, found);
    }
}

/// Makes a directory hold this.
pub(crate) fn write(root: &Path, tree: &Tree) {
    for (path, found) in tree {
        let place = root.join(path);
        match found {
            Found::Directory => fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(place)
                .unwrap(),
            Found::File(bytes) => {
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(place)
                    .unwrap();
                std::io::Write::write_all(&mut file, bytes).unwrap();
            }
            Found::Symlink(target) => {
                std::os::unix::fs::symlink(OsString::from_vec(target.clone()), place).unwrap();
            }
        }
    }
}
