//! A filesystem as plain as can be, to compare with: nodes in a map, contents in vectors, no layers, no journal.

use std::collections::BTreeMap;

use fuse_overlay::attr::{Kind, Time};
use fuse_overlay::union::{Allocate, Rename, SetXattr};
use nix::errno::Errno;

pub type Id = usize;
pub type Res<T> = Result<T, Errno>;

pub const ROOT: Id = 0;

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Dir {
        entries: BTreeMap<Vec<u8>, Id>,
        parent: Id,
    },
    File(Vec<u8>),
    Link(Vec<u8>),
    Special,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub perm: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    /// `None` once the clock has set it.
    pub mtime: Option<Time>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub body: Body,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    pub nodes: BTreeMap<Id, Node>,
    pub next: Id,
}

impl Reference {
    pub fn add(&mut self, node: Node) -> Id {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }

    /// What the root leads to, and what these inodes do.
    pub fn reachable(&self, from: &[Id]) -> Reference {
        let mut left = Reference::default();
        let mut waiting: Vec<Id> = [&[ROOT], from].concat();
        while let Some(id) = waiting.pop() {
            let node = &self.nodes[&id];
            if left.nodes.insert(id, node.clone()).is_none()
                && let Body::Dir { entries, .. } = &node.body
            {
                waiting.extend(entries.values());
            }
        }
        left
    }

    pub fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn entries(&mut self, dir: Id) -> Res<&mut BTreeMap<Vec<u8>, Id>> {
        match &mut self.node(dir).body {
            Body::Dir { entries, .. } => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub fn lookup(&mut self, dir: Id, name: &[u8]) -> Res<Id> {
        self.entries(dir)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn is_dir(&mut self, id: Id) -> bool {
        self.node(id).kind == Kind::Directory
    }

    pub fn parent(&mut self, dir: Id) -> Id {
        match self.node(dir).body {
            Body::Dir { parent, .. } => parent,
            _ => unreachable!("only directories are asked"),
        }
    }

    fn free_name(&mut self, dir: Id, name: &[u8]) -> Res<()> {
        if self.entries(dir)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if self.node(dir).nlink == 0 {
            Err(Errno::ENOENT)
        } else {
            Ok(())
        }
    }

    pub fn make(&mut self, dir: Id, name: Option<&[u8]>, kind: Kind, perm: u16, body: Body) -> Res<Id> {
        match name {
            Some(name) => self.free_name(dir, name)?,
            None => drop(self.entries(dir)?),
        }
        let (set_gid, dir_gid) = (self.node(dir).perm & 0o2000 != 0, self.node(dir).gid);
        let is_dir = kind == Kind::Directory;
        let nlink = match name {
            None => 0,
            Some(_) if is_dir => 2,
            Some(_) => 1,
        };
        let umask = if kind == Kind::Symlink {
            0
        } else {
            super::ops::UMASK
        };
        let id = self.add(Node {
            kind,
            perm: (perm | if set_gid && is_dir { 0o2000 } else { 0 }) & !umask,
            uid: super::ops::UID,
            gid: if set_gid { dir_gid } else { super::ops::GID },
            nlink,
            mtime: None,
            xattrs: BTreeMap::new(),
            body,
        });
        if let Some(name) = name {
            self.entries(dir)?.insert(name.to_vec(), id);
            self.node(dir).nlink += u32::from(is_dir);
            self.node(dir).mtime = None;
        }
        Ok(id)
    }

    pub fn link(&mut self, id: Id, dir: Id, name: &[u8]) -> Res<()> {
        if self.is_dir(id) {
            return Err(Errno::EPERM);
        }
        self.free_name(dir, name)?;
        self.entries(dir)?.insert(name.to_vec(), id);
        self.node(id).nlink += 1;
        self.node(dir).mtime = None;
        Ok(())
    }

    fn drop_name(&mut self, id: Id) {
        let is_dir = self.is_dir(id);
        let node = self.node(id);
        node.nlink = if is_dir { 0 } else { node.nlink - 1 };
    }

    pub fn unlink(&mut self, dir: Id, name: &[u8]) -> Res<()> {
        let id = self.lookup(dir, name)?;
        if self.is_dir(id) {
            return Err(Errno::EISDIR);
        }
        self.entries(dir)?.remove(name);
        self.drop_name(id);
        self.node(dir).mtime = None;
        Ok(())
    }

    pub fn rmdir(&mut self, dir: Id, name: &[u8]) -> Res<()> {
        let id = self.lookup(dir, name)?;
        if !self.entries(id)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.entries(dir)?.remove(name);
        self.drop_name(id);
        let node = self.node(dir);
        node.nlink -= 1;
        node.mtime = None;
        Ok(())
    }

    fn is_in(&mut self, mut dir: Id, ancestor: Id) -> bool {
        while dir != ancestor {
            if dir == ROOT {
                return false;
            }
            dir = self.parent(dir);
        }
        true
    }

    pub fn rename(&mut self, from: (Id, &[u8]), to: (Id, &[u8]), how: Rename) -> Res<()> {
        self.entries(from.0)?;
        self.entries(to.0)?;
        let source = self.lookup(from.0, from.1)?;
        let target = self.lookup(to.0, to.1).ok();
        match target {
            Some(_) if matches!(how, Rename::NoReplace | Rename::WhiteoutNoReplace) => {
                return Err(Errno::EEXIST);
            }
            None if how == Rename::Exchange => return Err(Errno::ENOENT),
            Some(target) if target == source => return Ok(()),
            _ => {}
        }
        let (source_dir, target_dir) = (
            self.is_dir(source),
            target.is_some_and(|target| self.is_dir(target)),
        );
        if source_dir && self.is_in(to.0, source) {
            return Err(Errno::EINVAL);
        }
        if self.node(to.0).nlink == 0 {
            return Err(Errno::ENOENT);
        }
        if let Some(target) = target.filter(|_| target_dir)
            && self.is_in(from.0, target)
        {
            return Err(if how == Rename::Exchange {
                Errno::EINVAL
            } else {
                Errno::ENOTEMPTY
            });
        }
        if let (Some(target), true) = (target, how != Rename::Exchange) {
            match (source_dir, target_dir) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !self.entries(target)?.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => self.drop_name(target),
            }
            self.node(to.0).nlink -= u32::from(target_dir);
        }
        self.entries(from.0)?.remove(from.1);
        self.node(from.0).nlink -= u32::from(source_dir);
        self.place(source, to);
        if let (Some(target), Rename::Exchange) = (target, how) {
            self.node(to.0).nlink -= u32::from(target_dir);
            self.place(target, from);
        }
        if matches!(how, Rename::Whiteout | Rename::WhiteoutNoReplace) {
            let id = self.add(Node {
                kind: Kind::CharDevice,
                perm: 0,
                uid: super::ops::UID,
                gid: super::ops::GID,
                nlink: 1,
                mtime: None,
                xattrs: BTreeMap::new(),
                body: Body::Special,
            });
            self.place(id, from);
        }
        self.node(from.0).mtime = None;
        self.node(to.0).mtime = None;
        Ok(())
    }

    /// Puts an inode at a name, whatever was there.
    fn place(&mut self, id: Id, (dir, name): (Id, &[u8])) {
        self.entries(dir).unwrap().insert(name.to_vec(), id);
        let is_dir = self.is_dir(id);
        self.node(dir).nlink += u32::from(is_dir);
        if let Body::Dir { parent, .. } = &mut self.node(id).body {
            *parent = dir;
        }
    }

    pub fn content(&mut self, id: Id) -> Res<&mut Vec<u8>> {
        match &mut self.node(id).body {
            Body::File(content) => Ok(content),
            Body::Dir { .. } => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn kill_priv(&mut self, id: Id) {
        let node = self.node(id);
        if node.kind != Kind::Directory {
            let set_gid = node.perm & 0o010 != 0 || node.gid != super::ops::GID;
            node.perm &= !(0o4000 | if set_gid { 0o2000 } else { 0 });
        }
        node.xattrs.remove(&b"security.capability"[..]);
    }

    pub fn take_privileges(&mut self, id: Id, chown: bool) -> Res<()> {
        let node = self.node(id);
        let before = node.clone();
        self.kill_priv(id);
        let node = self.node(id);
        if node.kind == Kind::Regular && !chown {
            node.perm = before.perm;
        }
        if node.perm != before.perm && node.uid != super::ops::UID {
            *node = before;
            return Err(Errno::EPERM);
        }
        if node.kind == Kind::Directory {
            *node = before;
        }
        Ok(())
    }

    pub fn write(&mut self, id: Id, offset: usize, data: &[u8], kill_priv: bool) -> Res<()> {
        let content = self.content(id)?;
        if data.is_empty() {
            return Ok(());
        }
        let end = offset + data.len();
        content.resize(content.len().max(end), 0);
        content[offset..end].copy_from_slice(data);
        self.node(id).mtime = None;
        if kill_priv {
            self.kill_priv(id);
        }
        Ok(())
    }

    pub fn truncate(&mut self, id: Id, size: usize) -> Res<()> {
        self.content(id)?.resize(size, 0);
        self.node(id).mtime = None;
        Ok(())
    }

    pub fn allocate(&mut self, id: Id, how: Allocate, offset: usize, length: usize) -> Res<()> {
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let content = self.content(id)?;
        let end = offset + length;
        if matches!(how, Allocate::Grow | Allocate::ZeroGrow) {
            content.resize(content.len().max(end), 0);
        }
        if matches!(
            how,
            Allocate::PunchHole | Allocate::ZeroGrow | Allocate::ZeroKeepSize
        ) {
            let size = content.len();
            content[offset.min(size)..end.min(size)].fill(0);
        }
        self.node(id).mtime = None;
        Ok(())
    }

    pub fn set_xattr(&mut self, id: Id, name: &[u8], value: &[u8], how: SetXattr) -> Res<()> {
        let xattrs = &mut self.node(id).xattrs;
        match (how, xattrs.contains_key(name)) {
            (SetXattr::Create | SetXattr::Never, true) => return Err(Errno::EEXIST),
            (SetXattr::Replace | SetXattr::Never, false) => return Err(Errno::ENODATA),
            _ => {}
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    pub fn remove_xattr(&mut self, id: Id, name: &[u8]) -> Res<()> {
        let stranger = self.node(id).uid != super::ops::UID;
        let xattrs = &mut self.node(id).xattrs;
        if !xattrs.contains_key(name) {
            return Err(Errno::ENODATA);
        }
        if !(stranger && name == b"security.capability") {
            xattrs.remove(name);
        }
        Ok(())
    }
}
