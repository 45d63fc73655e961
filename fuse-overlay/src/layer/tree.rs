//! Which tree do the members of one tar describe? `ARCHITECTURE.md`, "How a tar becomes entries", is the rule.

use std::collections::BTreeMap;

use super::walk::{Stop, Walk};
use crate::attr::{Kind, Time};
use crate::index::build::{BuildError, Builder, Content, Hides, Marks, NewNode};
use crate::index::view::Extent;
use crate::index::{NodeId, format};
use crate::name::{Name, NameError};
use crate::tar::{Body, Fault, MAX_PATH, Member, Run, Xattr};

/// Most memory that the tree of one layer may take, with the index that is made of it, in bytes: what two and a half million
/// files need, more than twice those of the largest images known. A tar can be compressed a thousandfold, a sparse map takes
/// few bytes per extent, one entry of 5 KiB may name two thousand directories, and a hard link or a whiteout is a name
/// without a node.
const MAX_MEMORY: usize = 1 << 30;
/// A tree that takes more is large: see [`super::LARGE`].
const LARGE_MEMORY: usize = 16 << 20;
/// What a node takes: here, in the index, and in the lists by which that is laid out. Replaced ones stay.
const NODE: usize = size_of::<Node>() + size_of::<format::Node>() + 8;
/// What an extent takes here and in the index, with the allocator's share.
const EXTENT: usize = size_of::<Run>() + size_of::<format::Extent>() + 16;
/// What a name or an attribute takes beside its bytes: its place in a directory or list, here and in the index, and the
/// allocator's share.
const PLACE: usize = 112;
/// What a directory takes as soon as it has a name: the map makes room for eleven.
const FIRST_PLACES: usize = 512;

/// How the OCI image spec (layer.md, "Whiteouts") spells what hides.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names with this start are aufs' own files.
const AUFS: &[u8] = b".wh..wh.";

/// Place of a node in [`Tree::nodes`].
pub(super) type Index = usize;
pub(super) const ROOT: Index = 0;

/// The tree of one tar.
#[derive(Debug)]
pub(super) struct Tree {
    /// Replaced nodes stay, without a name.
    nodes: Vec<Node>,
    /// What is left of [`MAX_MEMORY`].
    room: usize,
}

#[derive(Debug)]
struct Node {
    perm: u16,
    uid: u32,
    gid: u32,
    mtime: Time,
    xattrs: Vec<Xattr>,
    what: What,
}

/// What a node is and holds.
#[derive(Debug)]
pub(super) enum What {
    Directory {
        marks: Marks,
        entries: BTreeMap<Box<Name>, Child>,
    },
    Regular {
        size: u64,
        runs: Vec<Run>,
    },
    Symlink(Box<[u8]>),
    Special(Kind, u32),
    LinkBelow(Box<[u8]>),
}

/// What a name stands for; at least one of the two.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Child {
    pub(super) node: Option<Index>,
    whiteout: bool,
}

/// What the last component of a member's path asks for.
enum Last<'a> {
    Root,
    Name(&'a Name),
    Whiteout(&'a Name),
    Opaque,
    /// Nothing: one of aufs' own files.
    Aufs,
}

impl Node {
    fn implied() -> Node {
        let marks = Marks {
            implied: true,
            opaque: false,
        };
        let what = What::Directory {
            marks,
            entries: BTreeMap::new(),
        };
        Node {
            perm: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
            what,
        }
    }

    fn take_metadata(&mut self, member: Member) {
        (self.perm, self.uid, self.gid) = (member.perm, member.uid, member.gid);
        (self.mtime, self.xattrs) = (member.mtime, member.xattrs);
    }
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree {
            nodes: vec![Node::implied()],
            room: MAX_MEMORY,
        }
    }

    /// Does it take much memory?
    pub(super) fn is_large(&self) -> bool {
        MAX_MEMORY - self.room > LARGE_MEMORY
    }

    /// Adds the next member of the tar.
    pub(super) fn apply(&mut self, member: Member) -> Result<(), Fault> {
        self.count(&member)?;
        let path = member.path.clone();
        let mut parents = components(&path)?;
        match last_of(&mut parents)? {
            Last::Aufs => Ok(()),
            Last::Root => self.put_root(member),
            Last::Name(name) => self.put(&parents, name, member),
            Last::Opaque => {
                let dir = self.directory(&parents)?;
                if let Some(Node {
                    what: What::Directory { marks, .. },
                    ..
                }) = self.nodes.get_mut(dir)
                {
                    marks.opaque = true;
                }
                Ok(())
            }
            Last::Whiteout(name) => {
                let dir = self.directory(&parents)?;
                self.enter(dir, name.to_boxed(), |child| child.whiteout = true)
            }
        }
    }

    /// Bounds what a tar can make us keep of a member; its name is counted where it is new.
    fn count(&mut self, member: &Member) -> Result<(), Fault> {
        for (name, value) in &member.xattrs {
            self.take(PLACE + 2 * (name.len() + value.len()))?;
        }
        match &member.body {
            Body::Regular { runs, .. } => self.take(runs.len().saturating_mul(EXTENT)),
            Body::Symlink(target) | Body::HardLink(target) => self.take(2 * target.len()),
            Body::Directory | Body::Special(..) => Ok(()),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        let left = self.room.checked_sub(bytes);
        self.room = left.ok_or("more than 1 GiB of names and metadata in one layer")?;
        Ok(())
    }

    fn put_root(&mut self, member: Member) -> Result<(), Fault> {
        match (self.nodes.get_mut(ROOT), &member.body) {
            (Some(root), Body::Directory) => {
                if let What::Directory { marks, .. } = &mut root.what {
                    marks.implied = false;
                }
                root.take_metadata(member);
                Ok(())
            }
            _ => Err("the root must be a directory"),
        }
    }

    /// Gives a member its name, in place of what was there.
    fn put(&mut self, parents: &[&Name], name: &Name, member: Member) -> Result<(), Fault> {
        let dir = self.directory(parents)?;
        let old = self.entries_mut(dir)?.get(name).and_then(|child| child.node);
        let node = match (&member.body, old.and_then(|old| self.nodes.get_mut(old))) {
            (
                Body::Directory,
                Some(Node {
                    what: What::Directory { marks, .. },
                    ..
                }),
            ) => {
                marks.implied = false;
                old
            }
            (Body::HardLink(target), _) => self.find(target)?,
            _ => None,
        };
        let node = match node {
            Some(node) => {
                self.update(node, member);
                node
            }
            None => self.add(member)?,
        };
        self.enter(dir, name.to_boxed(), |child| child.node = Some(node))
    }

    /// Changes what a name in a directory stands for; it may be new.
    fn enter(&mut self, dir: Index, name: Box<Name>, change: impl FnOnce(&mut Child)) -> Result<(), Fault> {
        let length = name.as_bytes().len();
        let entries = self.entries_mut(dir)?;
        let before = entries.len();
        change(entries.entry(name).or_default());
        match (before, entries.len() - before) {
            (_, 0) => Ok(()),
            (0, _) => self.take(FIRST_PLACES + PLACE + 2 * length),
            _ => self.take(PLACE + 2 * length),
        }
    }

    /// Gives a node that stays the metadata of a later member: a directory named again, or a hard link, whose header's
    /// metadata podman and containerd set on the file. A link's header lists no attributes that the file lacks, but often
    /// none at all, so those stay.
    fn update(&mut self, node: Index, mut member: Member) {
        let Some(node) = self.nodes.get_mut(node) else {
            return;
        };
        if matches!(member.body, Body::HardLink(_)) && member.xattrs.is_empty() {
            member.xattrs = std::mem::take(&mut node.xattrs);
        }
        node.take_metadata(member);
    }

    fn add(&mut self, member: Member) -> Result<Index, Fault> {
        let Member {
            perm,
            uid,
            gid,
            mtime,
            xattrs,
            body,
            ..
        } = member;
        let what = match body {
            Body::Directory => What::Directory {
                marks: Marks::default(),
                entries: BTreeMap::new(),
            },
            Body::Regular { size, runs } => What::Regular { size, runs },
            Body::Symlink(target) => What::Symlink(target.into()),
            Body::Special(kind, rdev) => What::Special(kind, rdev),
            Body::HardLink(target) => What::LinkBelow(self.below(&target)?.into()),
        };
        self.push(Node {
            perm,
            uid,
            gid,
            mtime,
            xattrs,
            what,
        })
    }

    fn push(&mut self, node: Node) -> Result<Index, Fault> {
        self.take(NODE)?;
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn entries_mut(&mut self, dir: Index) -> Result<&mut BTreeMap<Box<Name>, Child>, Fault> {
        match self.nodes.get_mut(dir) {
            Some(Node {
                what: What::Directory { entries, .. },
                ..
            }) => Ok(entries),
            _ => Err(NOT_A_DIRECTORY),
        }
    }

    /// The directory that `path` names, made with all that is missing. Symlinks lead through this tree alone.
    fn directory(&mut self, path: &[&Name]) -> Result<Index, Fault> {
        let mut walk = Walk::new(path);
        loop {
            match walk.go(self)? {
                Stop::Directory(dir) => return Ok(dir),
                Stop::Missing { in_link: true, .. } => return Err("its parent is a dangling symlink"),
                Stop::Missing { dir, name, .. } => {
                    let made = self.push(Node::implied())?;
                    self.enter(dir, name, |child| child.node = Some(made))?;
                    walk.enter(made);
                }
            }
        }
    }

    /// The file, not a directory, that a hard link's target names in this tree.
    fn find(&self, target: &[u8]) -> Result<Option<Index>, Fault> {
        let mut parents = components(target)?;
        let Some(name) = parents.pop() else {
            return Err("a hard link to the root");
        };
        let Stop::Directory(dir) = Walk::new(&parents).go(self)? else {
            return Ok(None);
        };
        let child = self.child(dir, name)?.and_then(|child| child.node);
        match child.and_then(|node| self.nodes.get(node)) {
            Some(Node {
                what: What::Directory { .. },
                ..
            }) => Err("a hard link to a directory"),
            _ => Ok(child),
        }
    }

    /// Where in the layers below a hard link's target lies that is not in this tree: its path, with the symlinks followed
    /// that this tree has.
    fn below(&self, target: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut parents = components(target)?;
        let Some(name) = parents.pop() else {
            return Err("a hard link to the root");
        };
        let mut walk = Walk::new(&parents);
        let stop = walk.go(self)?;
        let mut path: Vec<&[u8]> = walk
            .trail
            .iter()
            .skip(1)
            .map(|(_, name)| name.as_slice())
            .collect();
        let rest: Vec<Vec<u8>> = match &stop {
            Stop::Directory(_) => Vec::new(),
            Stop::Missing { .. } => walk.todo.iter().rev().cloned().collect(),
        };
        if let Stop::Missing { name, .. } = &stop {
            path.push(name.as_bytes());
        }
        if rest.iter().any(|component| component == b"..") {
            return Err("a hard link through a dangling symlink");
        }
        path.extend(rest.iter().map(Vec::as_slice));
        path.push(name.as_bytes());
        let path = path.join(&b'/');
        if path.len() > MAX_PATH {
            Err("a link target of more than 4095 bytes")
        } else {
            Ok(path)
        }
    }

    /// What a name in a directory stands for.
    pub(super) fn child(&self, dir: Index, name: &Name) -> Result<Option<&Child>, Fault> {
        match self.nodes.get(dir) {
            Some(Node {
                what: What::Directory { entries, .. },
                ..
            }) => Ok(entries.get(name)),
            _ => Err(NOT_A_DIRECTORY),
        }
    }

    /// What a node is.
    pub(super) fn what(&self, node: Index) -> Option<&What> {
        self.nodes.get(node).map(|node| &node.what)
    }

    /// Lays the tree out for an index, directory by directory.
    pub(super) fn build(&self) -> Result<Builder, BuildError> {
        let mut builder = Builder::new();
        let mut built = vec![format::NO_NODE; self.nodes.len()];
        let mut todo = Vec::new();
        if let Some(root) = self.nodes.first() {
            todo.push((root, add_to(&mut builder, root)?));
        }
        while let Some((node, id)) = todo.pop() {
            let What::Directory { entries, .. } = &node.what else {
                continue;
            };
            let found = todo.len();
            for (name, child) in entries {
                let target = child
                    .node
                    .and_then(|node| self.nodes.get(node).zip(built.get_mut(node)));
                let Some((node, known)) = target else {
                    builder.whiteout(id, name);
                    continue;
                };
                if *known == format::NO_NODE {
                    *known = add_to(&mut builder, node)?.0;
                    if matches!(node.what, What::Directory { .. }) {
                        todo.push((node, NodeId(*known)));
                    }
                }
                let hides = if child.whiteout {
                    Hides::Below
                } else {
                    Hides::Nothing
                };
                builder.enter(id, name, NodeId(*known), hides)?;
            }
            // Depth first, in name order: a subtree's nodes lie together.
            if let Some(found) = todo.get_mut(found..) {
                found.reverse();
            }
        }
        Ok(builder)
    }
}

pub(super) const NOT_A_DIRECTORY: Fault = "its parent is not a directory";

fn add_to(builder: &mut Builder, node: &Node) -> Result<NodeId, BuildError> {
    let xattrs: Vec<(&[u8], &[u8])> = node
        .xattrs
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let mut extents = Vec::new();
    let content = match &node.what {
        What::Directory { marks, .. } => Content::Directory(*marks),
        What::Symlink(target) => Content::Symlink(target),
        What::Special(kind, rdev) => Content::Special(*kind, *rdev),
        What::LinkBelow(path) => Content::LinkBelow(path),
        What::Regular { size, runs } => {
            extents.extend(runs.iter().map(
                |&Run {
                     file_offset,
                     length,
                     tar_offset,
                 }| Extent {
                    file_offset,
                    length,
                    tar_offset,
                    layer: 0,
                },
            ));
            Content::Regular {
                size: *size,
                extents: &extents,
            }
        }
    };
    let &Node {
        perm,
        uid,
        gid,
        mtime,
        ..
    } = node;
    builder.add(&NewNode {
        perm,
        uid,
        gid,
        mtime,
        xattrs: &xattrs,
        content,
    })
}

/// Splits a path of the tar: `./a`, `a/` and `/a` are the same; `..` is refused.
fn components(path: &[u8]) -> Result<Vec<&Name>, Fault> {
    let parts = path
        .split(|&byte| byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."));
    parts.map(|part| Name::new(part).map_err(name_fault)).collect()
}

pub(super) fn name_fault(error: NameError) -> Fault {
    match error {
        NameError::Empty => "an empty name",
        NameError::TooLong => "a name of more than 255 bytes",
        NameError::Dots => "\"..\" in a path could leave the image",
        NameError::Separator => "a name with a NUL",
    }
}

/// Takes the last component off `path` and says what it asks for.
fn last_of<'a>(path: &mut Vec<&'a Name>) -> Result<Last<'a>, Fault> {
    let last = path.pop();
    let is_aufs = |name: &&Name| name.as_bytes().starts_with(AUFS) && name.as_bytes() != OPAQUE;
    if path.iter().chain(&last).any(is_aufs) {
        return Ok(Last::Aufs);
    }
    if path.iter().any(|name| name.as_bytes().starts_with(WHITEOUT)) {
        return Err("something below a whiteout");
    }
    let Some(last) = last else { return Ok(Last::Root) };
    match last.as_bytes().strip_prefix(WHITEOUT) {
        None => Ok(Last::Name(last)),
        Some(_) if last.as_bytes() == OPAQUE => Ok(Last::Opaque),
        Some(hidden) => Ok(Last::Whiteout(
            Name::new(hidden).map_err(|_| "a whiteout of no name")?,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, body: Body) -> Member {
        Member {
            path: path.into(),
            perm: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
            body,
        }
    }

    fn file(path: &str) -> Member {
        let (size, runs) = (0, Vec::new());
        member(path, Body::Regular { size, runs })
    }

    /// How many members of a kind fit where there is room for this many bytes; the next is refused for that reason.
    fn fit(room: usize, make: impl Fn(usize) -> Member) -> usize {
        let mut tree = Tree { room, ..Tree::new() };
        tree.apply(file("target")).unwrap();
        let refused = (0..room).find_map(|number| Some((number, tree.apply(make(number)).err()?)));
        let (number, fault) = refused.expect("a refusal");
        assert!(fault.contains("more than 1 GiB of names"), "{fault}");
        number
    }

    #[test]
    fn all_that_is_kept_of_a_tar_has_a_limit() {
        let long = "n".repeat(248);
        assert!(fit(1 << 16, |number| file(&format!("{number:07}{long}"))) < 256);
        assert!(fit(1 << 16, |number| file(&format!(".wh.{number}"))) < 1024);
        let link = |number: usize| member(&number.to_string(), Body::HardLink("target".into()));
        assert!(fit(1 << 16, link) < 1024);
        let symlink = |_| member("s", Body::Symlink(vec![b't'; 4095]));
        assert!(fit(1 << 16, symlink) < 16);
        let attributed = |_| Member {
            xattrs: (0..100u8).map(|n| (Box::from([n]), Box::default())).collect(),
            ..file("a")
        };
        assert!(fit(1 << 16, attributed) < 10);
        // Two thousand directories by one name.
        let deep = |number| file(&format!("{number}{}", "/d".repeat(2000)));
        assert!(fit(1 << 22, deep) < 4);
    }

    #[test]
    fn a_name_again_takes_room_for_its_file_alone() {
        let mut tree = Tree::new();
        tree.apply(file("d/a")).unwrap();
        let room = tree.room;
        tree.apply(file("d/a")).unwrap();
        tree.apply(file("d/.wh.a")).unwrap();
        assert_eq!(tree.room, room - NODE);
    }
}
