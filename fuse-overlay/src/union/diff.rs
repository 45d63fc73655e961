//! What did the container change? The paths at which its tree differs from the image's. Only directories that hold
//! something of the writable layer are looked into, so this costs the changes, not the image.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use nix::errno::Errno;

use super::Tree;
use super::below::ino;
use crate::attr::{Attr, Ino, Kind};
use crate::error::{Error, Result};
use crate::index::NodeId;
use crate::name::Name;
use crate::upper::inode::{Body, State};

/// Bytes of the longest path: twice what any system call takes. It bounds how deep the walk goes down, too.
const LONGEST: usize = 8192;

/// How a path of the tree differs from the image's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Difference {
    /// The image has nothing there.
    Added,
    /// The image has something else there, or, of a directory, something in it differs.
    Changed,
    /// The tree has nothing there. What the image had below it is gone with it.
    Deleted,
}

/// One difference.
#[derive(Clone, Copy, Debug)]
pub struct Differing<'a> {
    /// From the root, without a leading slash.
    pub path: &'a [u8],
    /// In which way.
    pub how: Difference,
    /// What the tree has there; `None` if it was deleted.
    pub now: Option<(Ino, Kind)>,
}

/// Called for each difference; an error ends the walk.
type Each<'a> = &'a mut dyn FnMut(Differing<'_>) -> Result<()>;

impl Tree {
    /// Tells all differences, a directory before what lies in it, names in the order of their bytes. The root is told of
    /// only if it differs itself.
    ///
    /// # Errors
    /// EIO for a damaged image, ENAMETOOLONG for a path of more than [`LONGEST`] bytes, and whatever `each` fails with.
    pub fn differences(&self, each: Each<'_>) -> Result<()> {
        let root = ino(NodeId(0));
        let mut walk = Walk {
            tree: self,
            touched: self.touched()?,
            path: Vec::new(),
            untold: Vec::new(),
            each,
        };
        if self.differs(root)? {
            walk.tell(Difference::Changed, Some((root, Kind::Directory)))?;
        }
        walk.directory(root, Some(NodeId(0)))
    }

    /// Directories, by their present numbers, that are in the writable layer or have something of it in or below them.
    fn touched(&self) -> Result<HashSet<Ino>> {
        let mut touched = HashSet::new();
        let mut linked = HashSet::new();
        for inode in self.upper.all(&|ino| self.below.copy_up(ino))? {
            let (nlink, kind) = {
                let state = inode.read();
                (state.meta.nlink, state.kind())
            };
            if nlink == 0 {
                continue;
            }
            if kind == Kind::Directory {
                self.touch(inode.ino, &mut touched)?;
                continue;
            }
            // A file that the container made lies in a directory that it changed.
            let Ok(node) = self.below.node(inode.ino) else {
                continue;
            };
            if self.below.view().attr(node)?.nlink > 1 {
                linked.insert(node);
            } else {
                self.touch(self.below.parent(node)?, &mut touched)?;
            }
        }
        self.touch_all_names(&linked, &mut touched)?;
        Ok(touched)
    }

    /// Marks a directory and those above it.
    fn touch(&self, mut dir: Ino, touched: &mut HashSet<Ino>) -> Result<()> {
        while touched.insert(dir) {
            dir = self.parent_of(dir)?;
        }
        Ok(())
    }

    /// Marks the image's directories of all names of files that have several. The index says only the first, so for these
    /// all directories are gone through.
    fn touch_all_names(&self, linked: &HashSet<NodeId>, touched: &mut HashSet<Ino>) -> Result<()> {
        if linked.is_empty() {
            return Ok(());
        }
        let view = self.below.view();
        for dir in (0..view.node_count()).map(NodeId) {
            if view.kind(dir)? != Kind::Directory {
                continue;
            }
            let entries = view.entries(dir)?;
            for place in 0..entries.len() {
                let target = entries.get(place)?.target;
                if target.is_some_and(|(node, _)| linked.contains(&node)) {
                    // One that was removed since has no way up that counts.
                    let _ = self.touch(ino(dir), touched);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Does an inode of the image differ from what it was there, apart from what lies in a directory?
    pub(super) fn differs(&self, ino: Ino) -> Result<bool> {
        let Some(inode) = self.known(ino)? else {
            return Ok(false);
        };
        let before = self.below.copy_up(ino)?;
        let (now, before) = (inode.read(), before.read());
        Ok(differs(ino, &now, &before))
    }
}

/// Attributes that a layer's tar would tell: not the access time, and not the change time.
fn told(attr: &Attr) -> (Kind, u16, u32, u32, u32, crate::attr::Time) {
    (attr.kind, attr.perm, attr.uid, attr.gid, attr.rdev, attr.mtime)
}

fn differs(ino: Ino, now: &State, before: &State) -> bool {
    let [new, old] = [now, before].map(|state| state.attr(ino));
    let content = match (&now.body, &before.body) {
        (Body::Regular(now), Body::Regular(image)) => !now.shows(image) || new.size != old.size,
        _ => false,
    };
    content || told(&new) != told(&old) || now.xattrs != before.xattrs
}

/// A walk over tree and image at once.
struct Walk<'a> {
    tree: &'a Tree,
    touched: HashSet<Ino>,
    /// Of what is looked at now.
    path: Vec<u8>,
    /// Directories on the way to it that were not told yet: the length of the path, and what they are.
    untold: Vec<(usize, Ino)>,
    each: Each<'a>,
}

/// What stands at a name: in the tree, and in the image.
type Both = (Option<(Ino, Kind)>, Option<(NodeId, Kind)>);

impl Walk<'_> {
    /// Compares what lies in `dir` with what lies in the image's directory of the same path, if that is one.
    fn directory(&mut self, dir: Ino, image: Option<NodeId>) -> Result<()> {
        for (name, both) in self.names(dir, image)? {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            if self.path.len() > LONGEST {
                return Err(Error(Errno::ENAMETOOLONG));
            }
            self.compare(both)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn names(&self, dir: Ino, image: Option<NodeId>) -> Result<BTreeMap<Box<Name>, Both>> {
        let mut names: BTreeMap<Box<Name>, Both> = BTreeMap::new();
        self.tree.readdir(dir, 0, &mut |listed| {
            // `.` and `..` are no names.
            if let Ok(name) = Name::new(listed.name) {
                names.entry(name.to_boxed()).or_default().0 = Some((listed.ino, listed.kind));
            }
            ControlFlow::Continue(())
        })?;
        if let Some(image) = image {
            let entries = self.tree.below.view().entries(image)?;
            for place in 0..entries.len() {
                let entry = entries.get(place)?;
                names.entry(entry.name.to_boxed()).or_default().1 = entry.target;
            }
        }
        Ok(names)
    }

    fn compare(&mut self, both: Both) -> Result<()> {
        match both {
            (Some((now, Kind::Directory)), Some((node, Kind::Directory))) => {
                let same = now == ino(node);
                if !same || self.tree.differs(now)? {
                    self.tell(Difference::Changed, Some((now, Kind::Directory)))?;
                    self.directory_if_touched(now, node, same)
                } else {
                    self.untold.push((self.path.len(), now));
                    self.directory_if_touched(now, node, same)?;
                    let length = self.path.len();
                    self.untold.retain(|(told, _)| *told < length);
                    Ok(())
                }
            }
            (Some((now, _)), Some((node, _))) if now == ino(node) => match self.tree.differs(now)? {
                true => self.tell(Difference::Changed, both.0),
                false => Ok(()),
            },
            (Some((now, kind)), before) => {
                let how = if before.is_some() {
                    Difference::Changed
                } else {
                    Difference::Added
                };
                self.tell(how, Some((now, kind)))?;
                match kind {
                    Kind::Directory => self.directory(now, None),
                    _ => Ok(()),
                }
            }
            (None, Some(_)) => self.tell(Difference::Deleted, None),
            (None, None) => Ok(()),
        }
    }

    fn directory_if_touched(&mut self, now: Ino, node: NodeId, same: bool) -> Result<()> {
        if same && !self.touched.contains(&now) {
            return Ok(());
        }
        self.directory(now, Some(node))
    }

    /// Tells of what is looked at, and first of the directories above it.
    fn tell(&mut self, how: Difference, now: Option<(Ino, Kind)>) -> Result<()> {
        for (length, dir) in std::mem::take(&mut self.untold) {
            (self.each)(Differing {
                path: self.path.get(..length).unwrap_or_default(),
                how: Difference::Changed,
                now: Some((dir, Kind::Directory)),
            })?;
        }
        (self.each)(Differing {
            path: &self.path,
            how,
            now,
        })
    }
}
