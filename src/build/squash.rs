//! How do the layers above a base become one? The base's tree is made to be that of the whole, step by step; the one layer is
//! then what that changed. What both trees have from the same bytes is left as it is, so this costs the changes, and a look
//! at both indexes.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use fuse_overlay::attr::{Attr, Ino, Kind};
use fuse_overlay::error::{Error as TreeError, Result as TreeResult};
use fuse_overlay::index::{DiffId, NodeId, View};
use fuse_overlay::name::Name;
use nix::errno::Errno;

use super::Error;
use super::copy::{CopyError, shown};
use super::key::Key;
use super::source::of_ino;
use super::tree::{Growing, Owner, ROOT, Times, deeper};
use super::workspace::{Draft, io_error};
use crate::images::commit::add_layer;
use crate::images::{Claim, layers, steps};
use crate::store::Store;

/// Makes one layer above the first `base` of a stack, of all others. The cache is asked first: the same layers make the
/// same one.
///
/// # Errors
/// A layer cannot be read, or the new one not written.
pub(super) fn squash(
    store: &Store,
    stack: &[DiffId],
    base: usize,
    times: Times,
    created: &str,
) -> Result<Claim, Error> {
    let below = stack.get(..base).unwrap_or(stack);
    let mut key = Key::new("squash", stack);
    key.field(&format!("{base} {times:?}"));
    let key = key.finish();
    if let Some(step) = steps::find(store, &key, below) {
        let claim = Claim::new(store, &step.stack())?;
        // A prune may have come first.
        if steps::find(store, &key, below).is_some() {
            return Ok(claim);
        }
    }
    let (whole, old) = (layers::open(store, stack)?.view, layers::open(store, below)?.view);
    let (from, to) = (Draft::over(store, stack)?, Draft::over(store, below)?);
    let mut squash = Squash {
        whole: &whole,
        old: &old,
        growing: Growing(&to.tree),
        known: HashMap::new(),
        contents: HashMap::new(),
        path: Vec::new(),
    };
    squash.all()?;
    times
        .settle(&to.tree)
        .map_err(|error| io_error("set the times of", Path::new("/"))(error.0.into()))?;
    let contents = squash.contents;
    let claim = add_layer(store, below, |out| {
        let elsewhere = |ino: Ino| -> Option<Box<dyn Read + '_>> {
            Some(Box::new(of_ino(&from.tree, *contents.get(&ino)?)))
        };
        to.tree.write_layer_with(out, &elsewhere).map(|_out| ())
    })?;
    steps::put(
        store,
        &key,
        &steps::Step::new(key, claim.layers(), created, "squash"),
    )?;
    Ok(claim)
}

/// Two indexes, and the tree over the older that is changed.
struct Squash<'a> {
    whole: &'a View,
    old: &'a View,
    growing: Growing<'a>,
    /// Files of several names in the whole that the tree has already.
    known: HashMap<NodeId, Ino>,
    /// Files of the tree whose bytes are those of a file of the whole.
    contents: HashMap<Ino, Ino>,
    /// Names from the root to what is looked at.
    path: Vec<&'a Name>,
}

/// What stands at a name: in the whole, and in the base.
type Both = (Option<(NodeId, Kind)>, Option<(NodeId, Kind)>);

/// An index's nodes are the first inodes of a tree over it.
fn ino(node: NodeId) -> Ino {
    Ino(u64::from(node.0) + 1)
}

impl<'a> Squash<'a> {
    fn all(&mut self) -> Result<(), Error> {
        let (root, depth) = (NodeId(0), 0);
        let noted = self.note(root, root, depth);
        let Err(error) = noted.and_then(|()| self.directory(root, Some(root), ROOT, depth)) else {
            return Ok(());
        };
        let names: Vec<&[u8]> = self.path.iter().map(|name| name.as_bytes()).collect();
        let path = shown(&names.join(&b'/'));
        match error.0 {
            Errno::ENODEV => Err(CopyError::Device(path).into()),
            errno => Err(io_error("squash", &Path::new("/").join(path))(errno.into())),
        }
    }

    fn names(&self, whole: NodeId, old: Option<NodeId>) -> TreeResult<BTreeMap<&'a Name, Both>> {
        let mut names: BTreeMap<&Name, Both> = BTreeMap::new();
        let entries = self.whole.entries(whole)?;
        for place in 0..entries.len() {
            let entry = entries.get(place)?;
            names.entry(entry.name).or_default().0 = entry.target;
        }
        if let Some(old) = old {
            let entries = self.old.entries(old)?;
            for place in 0..entries.len() {
                let entry = entries.get(place)?;
                names.entry(entry.name).or_default().1 = entry.target;
            }
        }
        Ok(names)
    }

    /// Does the base have this, from the same bytes?
    fn same(&self, whole: NodeId, old: NodeId) -> TreeResult<bool> {
        let told = |attr: Attr| {
            (
                attr.kind, attr.perm, attr.uid, attr.gid, attr.rdev, attr.mtime, attr.size,
            )
        };
        if told(self.whole.attr(whole)?) != told(self.old.attr(old)?)
            || self.whole.xattrs(whole)? != self.old.xattrs(old)?
        {
            return Ok(false);
        }
        match self.whole.kind(whole)? {
            Kind::Symlink => Ok(self.whole.target(whole)? == self.old.target(old)?),
            Kind::Regular => {
                let count = self.whole.extent_count(whole)?;
                let mut same = count == self.old.extent_count(old)?;
                for place in 0..count {
                    // The base's layers have the same numbers in both.
                    same = same && self.whole.extent(whole, place)? == self.old.extent(old, place)?;
                }
                Ok(same)
            }
            _ => Ok(true),
        }
    }

    /// Notes which files of several names stay, so that other names can be links to them.
    fn note(&mut self, whole: NodeId, old: NodeId, depth: usize) -> TreeResult<()> {
        deeper(depth)?;
        for (now, before) in self.names(whole, Some(old))?.into_values() {
            match (now, before) {
                (Some((now, Kind::Directory)), Some((before, Kind::Directory))) => {
                    self.note(now, before, depth + 1)?;
                }
                (Some((now, kind)), Some((before, _)))
                    if kind != Kind::Directory
                        && self.whole.attr(now)?.nlink > 1
                        && self.same(now, before)? =>
                {
                    self.known.entry(now).or_insert(ino(before));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the tree's directory `at` that of the whole. The base may have one there, too.
    fn directory(&mut self, whole: NodeId, old: Option<NodeId>, at: Ino, depth: usize) -> TreeResult<()> {
        deeper(depth)?;
        for (name, both) in self.names(whole, old)? {
            self.path.push(name);
            match both {
                (Some((now, Kind::Directory)), Some((before, Kind::Directory))) => {
                    self.directory(now, Some(before), ino(before), depth + 1)?;
                }
                (Some((now, kind)), Some((before, _))) if self.stays(now, kind, before)? => {}
                (now, before) => {
                    if let Some((_, kind)) = before {
                        self.growing.remove(at, name, kind, depth)?;
                    }
                    if let Some((now, kind)) = now {
                        self.make(now, kind, at, name, depth)?;
                    }
                }
            }
            // After an error it stays, for the message.
            self.path.pop();
        }
        // Last, since what came into it has changed its time.
        self.dress(whole, at)
    }

    /// Is the file that the base has at a name the one that the whole has there?
    fn stays(&self, now: NodeId, kind: Kind, before: NodeId) -> TreeResult<bool> {
        let is_known = self.known.get(&now).is_none_or(|known| *known == ino(before));
        Ok(kind != Kind::Directory && is_known && self.same(now, before)?)
    }

    fn make(&mut self, node: NodeId, kind: Kind, at: Ino, name: &Name, depth: usize) -> TreeResult<()> {
        if let Some(&known) = self.known.get(&node) {
            return self.growing.link(known, at, name).map(|_ino| ());
        }
        let attr = self.whole.attr(node)?;
        let made = match kind {
            Kind::Directory => {
                let made = self.growing.enter(at, name)?;
                return self.directory(node, None, made, depth + 1);
            }
            Kind::Regular => {
                let made = self.growing.file(at, name, attr.size)?;
                self.contents.insert(made, ino(node));
                made
            }
            Kind::Symlink => self.growing.symlink(at, name, self.whole.target(node)?)?,
            // As mknod(2) has it, a tree takes none from an ordinary user.
            Kind::CharDevice | Kind::BlockDevice => return Err(TreeError(Errno::ENODEV)),
            kind => self.growing.special(at, name, kind)?,
        };
        if attr.nlink > 1 {
            self.known.insert(node, made);
        }
        self.dress(node, made)
    }

    /// Gives a file of the tree the attributes that it has in the whole.
    fn dress(&self, node: NodeId, file: Ino) -> TreeResult<()> {
        let (attr, now) = (self.whole.attr(node)?, self.growing.0.getattr(file)?);
        let told = |attr: Attr| (attr.perm, attr.uid, attr.gid, attr.mtime);
        let owner = Owner {
            uid: attr.uid,
            gid: attr.gid,
        };
        let xattrs = self.whole.xattrs(node)?;
        for name in self.growing.0.listxattr(file)? {
            if !xattrs.iter().any(|(known, _)| *known == name) {
                self.growing.remove_xattr(file, &name)?;
            }
        }
        if told(attr) != told(now) {
            self.growing.dress(file, attr.perm, owner, Some(attr.mtime))?;
        }
        // A change of owner would take capabilities away again.
        for (name, value) in xattrs {
            if self.growing.0.getxattr(file, name).ok().as_deref() != Some(value) {
                self.growing.xattr(file, name, value)?;
            }
        }
        Ok(())
    }
}
