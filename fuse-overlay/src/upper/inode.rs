//! What does the upper know of one inode, and how does a change of the journal alter it?

use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::content::{Content, Run};
use super::directory::Directory;
use super::journal::format::{Change, Meta};
use super::waiting;
use super::xattrs::Xattrs;
use crate::attr::{Attr, DIRECTORY_SIZE, Ino, Kind};

/// An inode that the container made or changed.
#[derive(Debug)]
pub(crate) struct Inode {
    pub ino: Ino,
    state: RwLock<State>,
}

/// What may change of an inode, under its lock.
#[derive(Debug)]
pub(crate) struct State {
    pub meta: Meta,
    pub size: u64,
    pub xattrs: Xattrs,
    pub body: Body,
}

/// What an inode holds, by its kind: a word of it for each, since an inode takes as much as its largest.
#[derive(Debug)]
pub(crate) enum Body {
    Directory(Box<Directory>),
    Regular(Content),
    /// The target.
    Symlink(Box<Box<[u8]>>),
    /// A device, fifo or socket.
    Special(Kind),
}

impl Inode {
    pub(crate) fn new(ino: Ino, state: State) -> Inode {
        Inode {
            ino,
            state: RwLock::new(state),
        }
    }

    /// Locks it for reading, waiting for who changes it.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        waiting::read(&self.state)
    }

    /// The same, but waits no longer than that.
    pub(crate) fn read_within(&self, time: Duration) -> Option<RwLockReadGuard<'_, State>> {
        self.state.try_read_for(time)
    }

    /// Locks it for changing it, waiting for who reads or changes it.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        waiting::write(&self.state)
    }

    /// Its state, which nobody else has.
    pub(crate) fn get_mut(&mut self) -> &mut State {
        self.state.get_mut()
    }

    /// Its attributes.
    pub(crate) fn attr(&self) -> Attr {
        self.read().attr(self.ino)
    }
}

impl State {
    /// A new inode, as [`Change::Make`] says.
    pub(crate) fn made(kind: Kind, meta: Meta, target: &[u8], parent: Ino) -> State {
        let body = match kind {
            Kind::Directory => Body::Directory(Box::new(Directory::new(parent, None, 0))),
            Kind::Regular => Body::Regular(Content::default()),
            Kind::Symlink => Body::Symlink(Box::new(target.into())),
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Body::Special(kind),
        };
        let size = match kind {
            Kind::Directory => DIRECTORY_SIZE,
            _ => target.len() as u64,
        };
        State {
            meta,
            size,
            xattrs: Xattrs::default(),
            body,
        }
    }

    /// What it is.
    pub(crate) fn kind(&self) -> Kind {
        match &self.body {
            Body::Directory(_) => Kind::Directory,
            Body::Regular(_) => Kind::Regular,
            Body::Symlink(_) => Kind::Symlink,
            Body::Special(kind) => *kind,
        }
    }

    /// Its attributes.
    pub(crate) fn attr(&self, ino: Ino) -> Attr {
        let blocks = match &self.body {
            Body::Regular(content) => content.blocks(),
            Body::Directory(_) => DIRECTORY_SIZE / 512,
            Body::Symlink(_) | Body::Special(_) => 0,
        };
        Attr {
            ino,
            kind: self.kind(),
            perm: self.meta.perm,
            uid: self.meta.uid,
            gid: self.meta.gid,
            nlink: self.meta.nlink,
            rdev: self.meta.rdev,
            size: self.size,
            blocks,
            atime: self.meta.atime,
            mtime: self.meta.mtime,
            ctime: self.meta.ctime,
        }
    }

    /// Is this a change for an inode of this kind? Asked before a record is written: a wrong one could not be replayed.
    pub(crate) fn fits(&self, change: &Change<'_>) -> bool {
        match change {
            Change::Wrote { .. } | Change::Resize { .. } | Change::Map { .. } | Change::Hole { .. } => {
                matches!(self.body, Body::Regular(_))
            }
            Change::Enter { .. } | Change::Leave { .. } | Change::Parent { .. } => {
                matches!(self.body, Body::Directory(_))
            }
            Change::Make { .. } => false,
            // A checkpoint's, which is no operation.
            Change::Reset { .. }
            | Change::Place { .. }
            | Change::Names { .. }
            | Change::Given { .. }
            | Change::Done { .. } => false,
            _ => true,
        }
    }

    /// Applies a change to this inode, live and on replay. Pages that it frees go to `freed`. False if the change does
    /// not fit the inode's kind, which no journal of ours says.
    pub(crate) fn apply(&mut self, change: &Change<'_>, freed: &mut Vec<Run>) -> bool {
        match (*change, &mut self.body) {
            (Change::Meta { meta, .. }, _) => self.meta = meta,
            (Change::Touch { nlink, time, .. }, _) => {
                self.meta = Meta {
                    nlink,
                    mtime: time,
                    ctime: time,
                    ..self.meta
                };
            }
            (Change::Linked { nlink, ctime, .. }, _) => {
                self.meta = Meta {
                    nlink,
                    ctime,
                    ..self.meta
                }
            }
            (Change::Wrote { size, time, .. }, Body::Regular(_)) => {
                self.meta = Meta {
                    mtime: time,
                    ctime: time,
                    ..self.meta
                };
                self.size = size;
            }
            (Change::Resize { size, .. }, Body::Regular(content)) => {
                if size < self.size {
                    content.cut(size, freed);
                }
                self.size = size;
            }
            (Change::Map { page, count, at, .. }, Body::Regular(content)) => {
                content.map(page, count, at, freed);
            }
            (Change::Hole { page, count, .. }, Body::Regular(content)) => content.hole(page, count, freed),
            (
                Change::Enter {
                    name,
                    below,
                    target,
                    kind,
                    ..
                },
                Body::Directory(dir),
            ) => {
                dir.enter(name, below, target, kind);
            }
            (Change::Leave { name, below, .. }, Body::Directory(dir)) => dir.leave(name, below),
            (Change::Parent { parent, .. }, Body::Directory(dir)) => dir.parent = parent,
            (
                Change::Place {
                    name,
                    place,
                    target,
                    kind,
                    ..
                },
                Body::Directory(dir),
            ) => dir.put(name, place, target, kind),
            (Change::Names { count, last, .. }, Body::Directory(dir)) => dir.set_names(count, last),
            (
                Change::Xattr {
                    name,
                    value: Some(value),
                    ..
                },
                _,
            ) => {
                self.xattrs.insert(name, value);
            }
            (
                Change::Xattr {
                    name, value: None, ..
                },
                _,
            ) => {
                self.xattrs.remove(name);
            }
            (Change::Forget { .. }, body) => {
                if let Body::Regular(content) = body {
                    content.cut(0, freed);
                }
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many bytes as fit, with the counts of an `Arc`, into 128 of malloc's: a container may make and touch millions.
    #[test]
    fn an_inode_is_small() {
        assert!(size_of::<Inode>() <= 104, "{} bytes", size_of::<Inode>());
    }
}
