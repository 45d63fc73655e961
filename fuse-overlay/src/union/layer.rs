//! What the container changed, as a layer's tar (OCI image spec, layer.md): a changed file whole, a removed name as a
//! whiteout. Laid over the image, it makes the same tree.
//!
//! Names, targets, owners and times that a plain header cannot hold, and extended attributes, go into PAX records. The
//! order is that of [`Tree::differences`], so the same tree gives the same bytes.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use nix::errno::Errno;

use super::below::ino;
use super::{Difference, Differing, Tree};
use crate::attr::{Ino, Kind};
use crate::error::{Error, Result};
use crate::index::NodeId;
use crate::name::Name;
use crate::tar::write::{Entry, Writer, Xattr};

/// What a whiteout's name begins with.
const WHITEOUT: &[u8] = b".wh.";

/// The bytes of a file that are not in the tree.
pub type Elsewhere<'a> = dyn Fn(Ino) -> Option<Box<dyn Read + 'a>> + 'a;

impl Tree {
    /// Writes all differences as an uncompressed tar, and gives `out` back. Sockets are left out: no tar holds them.
    ///
    /// # Errors
    /// Reading fails, or `out` does; EINVAL for a name that begins with `.wh.`, which a layer cannot hold.
    pub fn write_layer<W: Write>(&self, out: W) -> io::Result<W> {
        self.write_layer_with(out, &|_ino| None)
    }

    /// The same, with files whose bytes are elsewhere: whoever made them gave them a size, and no data. `elsewhere` gives
    /// as many bytes as that size says, or an error; `None` if they are in the tree.
    ///
    /// # Errors
    /// As for [`Tree::write_layer`].
    pub fn write_layer_with<'a, W: Write>(&'a self, out: W, elsewhere: &'a Elsewhere<'a>) -> io::Result<W> {
        let mut layer = Layer {
            tree: self,
            elsewhere,
            tar: Writer::new(out),
            scope: Scope::Changes,
            written: HashMap::new(),
        };
        // The walk knows errnos alone; what the writer said is kept beside.
        let mut failed = None;
        let walked = self.differences(&mut |differing| {
            layer.add(&differing).map_err(|error| {
                failed = Some(error);
                Error(Errno::EIO)
            })
        });
        match (walked, failed) {
            (Ok(()), _) => layer.tar.end(),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(error.0.into()),
        }
    }

    /// Writes all that is at and below `top` as an uncompressed tar, its paths below `path`, and gives `out` back. Sockets
    /// are left out.
    ///
    /// # Errors
    /// Reading fails, or `out` does.
    pub fn write_tree<W: Write>(&self, top: Ino, path: &[u8], out: W) -> io::Result<W> {
        let failed = |error: Error| io::Error::from(error.0);
        let mut layer = Layer {
            tree: self,
            elsewhere: &|_ino| None,
            tar: Writer::new(out),
            scope: Scope::All,
            written: HashMap::new(),
        };
        // A stack of our own: how deep directories are is the container's to say.
        let mut ahead = vec![(path.to_vec(), top, self.getattr(top).map_err(failed)?.kind)];
        while let Some((path, ino, kind)) = ahead.pop() {
            if kind != Kind::Socket {
                layer.add_inode(&path, ino)?;
            }
            if kind != Kind::Directory {
                continue;
            }
            let from = ahead.len();
            for (name, kind) in self.sorted(ino).map_err(failed)? {
                let child = self.lookup(ino, &name).map_err(failed)?;
                let above = if path.is_empty() { &b""[..] } else { b"/" };
                ahead.push(([&path[..], above, name.as_bytes()].concat(), child.ino, kind));
            }
            ahead.get_mut(from..).unwrap_or_default().reverse();
        }
        layer.tar.end()
    }

    /// The names in a directory in their order, with the kinds of what they name.
    fn sorted(&self, directory: Ino) -> Result<Vec<(Box<Name>, Kind)>> {
        let mut names = Vec::new();
        self.readdir(directory, 0, &mut |listed| {
            // `.` and `..` are no names.
            if let Ok(name) = Name::new(listed.name) {
                names.push((name.to_boxed(), listed.kind));
            }
            std::ops::ControlFlow::Continue(())
        })?;
        names.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        Ok(names)
    }

    fn xattrs(&self, ino: Ino) -> Result<Vec<Xattr>> {
        let names = self.listxattr(ino)?.into_iter();
        names
            .map(|name| self.getxattr(ino, &name).map(|value| (name, value)))
            .collect()
    }

    /// A path at which the image has a file and the tree still shows it, unchanged.
    fn path_below(&self, file: Ino) -> Result<Option<Vec<u8>>> {
        let Ok(node) = self.below.node(file) else {
            return Ok(None);
        };
        if self.differs(file)? {
            return Ok(None);
        }
        let view = self.below.view();
        // The index says where the first name is; the others may be anywhere.
        let first = view.parent(node)?;
        let others = (0..view.node_count()).map(NodeId).filter(|dir| *dir != first);
        for dir in std::iter::once(first).chain(others) {
            if view.kind(dir)? != Kind::Directory {
                continue;
            }
            for name in self.names_below(dir, node)? {
                let Some(mut names) = self.way_below(dir)? else {
                    break;
                };
                names.push(name);
                if self.walk(&names)? == Some(file) {
                    let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
                    return Ok(Some(names.join(&b'/')));
                }
            }
        }
        Ok(None)
    }

    /// The names that the image's directory has for a node.
    fn names_below(&self, dir: NodeId, node: NodeId) -> Result<Vec<&Name>> {
        let entries = self.below.view().entries(dir)?;
        let mut names = Vec::new();
        for place in 0..entries.len() {
            let entry = entries.get(place)?;
            if entry.target.is_some_and(|(target, _)| target == node) {
                names.push(entry.name);
            }
        }
        Ok(names)
    }

    /// The names from the root to a directory of the image.
    fn way_below(&self, mut dir: NodeId) -> Result<Option<Vec<&Name>>> {
        let mut names = Vec::new();
        while dir != NodeId(0) {
            let parent = self.below.view().parent(dir)?;
            let Some(name) = self.names_below(parent, dir)?.first().copied() else {
                return Ok(None);
            };
            names.push(name);
            dir = parent;
        }
        names.reverse();
        Ok(Some(names))
    }

    /// The inode at a path, through no symlink.
    fn walk(&self, names: &[&Name]) -> Result<Option<Ino>> {
        let mut at = ino(NodeId(0));
        for name in names {
            let found = match self.known(at)? {
                Some(dir) => match dir.read().directory() {
                    Ok(directory) => self.find_name(directory, name)?.target,
                    Err(_) => None,
                },
                None => {
                    let entry = self.below.view().lookup(self.below.node(at)?, name)?;
                    entry
                        .and_then(|entry| entry.target)
                        .map(|(node, kind)| (ino(node), kind))
                }
            };
            match found {
                Some((next, _)) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What differs from the image.
    Changes,
    /// All there is.
    All,
}

/// A layer under way.
struct Layer<'a, W: Write> {
    tree: &'a Tree,
    elsewhere: &'a Elsewhere<'a>,
    tar: Writer<W>,
    scope: Scope,
    /// Files with several names, and the first path of each.
    written: HashMap<Ino, Vec<u8>>,
}

impl<W: Write> Layer<'_, W> {
    fn add(&mut self, differing: &Differing<'_>) -> io::Result<()> {
        let path = differing.path;
        let cut = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let (above, name) = path.split_at(cut);
        match differing.now {
            None => {
                debug_assert_eq!(differing.how, Difference::Deleted);
                self.tar.mark(&[above, WHITEOUT, name].concat())
            }
            Some(_) if name.starts_with(WHITEOUT) => {
                let what = format!(
                    "/{}: a layer cannot hold this name",
                    String::from_utf8_lossy(path)
                );
                Err(io::Error::new(io::ErrorKind::InvalidInput, what))
            }
            Some((_, Kind::Socket)) => Ok(()),
            Some((ino, _)) => self.add_inode(path, ino),
        }
    }

    fn add_inode(&mut self, path: &[u8], ino: Ino) -> io::Result<()> {
        let failed = |error: Error| io::Error::from(error.0);
        let attr = self.tree.getattr(ino).map_err(failed)?;
        let mut entry = Entry {
            path,
            target: &[],
            attr: &attr,
            xattrs: self.tree.xattrs(ino).map_err(failed)?,
        };
        if attr.kind != Kind::Directory && attr.nlink > 1 {
            let first = match (self.written.get(&ino), self.scope) {
                (Some(first), _) => Some(first.clone()),
                (None, Scope::Changes) => self.tree.path_below(ino).map_err(failed)?,
                (None, Scope::All) => None,
            };
            match first {
                Some(first) => {
                    entry.target = &first;
                    return self.tar.link(entry);
                }
                None => drop(self.written.insert(ino, path.to_vec())),
            }
        }
        let target = match attr.kind {
            Kind::Symlink => self.tree.readlink(ino).map_err(failed)?,
            _ => Vec::new(),
        };
        entry.target = &target;
        if attr.kind == Kind::Regular
            && let Some(content) = (self.elsewhere)(ino)
        {
            return self.tar.add(entry, content);
        }
        let content = Content {
            tree: self.tree,
            ino,
            offset: 0,
            size: if attr.kind == Kind::Regular { attr.size } else { 0 },
        };
        self.tar.add(entry, content)
    }
}

/// A file's bytes.
struct Content<'a> {
    tree: &'a Tree,
    ino: Ino,
    offset: u64,
    size: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let length = out.len().min(left);
        let out = out.get_mut(..length).unwrap_or_default();
        if out.is_empty() {
            return Ok(0);
        }
        let read = self
            .tree
            .read(self.ino, self.offset, out)
            .map_err(|error| io::Error::from(error.0))?;
        if read == 0 {
            // Cut meanwhile; the header has promised more.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        Ok(read)
    }
}
