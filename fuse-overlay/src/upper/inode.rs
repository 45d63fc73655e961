//! What does the upper know of one inode, and how does a change of the journal alter it?

use parking_lot::RwLock;

use super::content::{Content, Run};
use super::directory::Directory;
use super::journal::format::{Change, Meta};
use super::xattrs::Xattrs;
use crate::attr::{Attr, DIRECTORY_SIZE, Ino, Kind};

/// An inode that the container made or changed.
#[derive(Debug)]
pub(crate) struct Inode {
    pub ino: Ino,
    pub kind: Kind,
    pub state: RwLock<State>,
}

/// What may change of an inode, under its lock.
#[derive(Debug)]
pub(crate) struct State {
    pub meta: Meta,
    pub size: u64,
    /// Blocks of 512 bytes that the image's file takes.
    pub blocks_below: u64,
    pub xattrs: Xattrs,
    pub body: Body,
}

/// What an inode holds, by its kind.
#[derive(Debug)]
pub(crate) enum Body {
    Directory(Box<Directory>),
    Regular(Content),
    /// The target.
    Symlink(Box<[u8]>),
    /// A device, fifo or socket.
    Special,
}

impl Inode {
    pub(crate) fn new(ino: Ino, kind: Kind, state: State) -> Inode {
        Inode {
            ino,
            kind,
            state: RwLock::new(state),
        }
    }

    /// Its attributes.
    pub(crate) fn attr(&self) -> Attr {
        self.state.read().attr(self.ino, self.kind)
    }
}

impl State {
    /// A new inode, as [`Change::Make`] says.
    pub(crate) fn made(kind: Kind, meta: Meta, target: &[u8], parent: Ino) -> State {
        let body = match kind {
            Kind::Directory => Body::Directory(Box::new(Directory::new(parent, None, 0))),
            Kind::Regular => Body::Regular(Content::default()),
            Kind::Symlink => Body::Symlink(target.into()),
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Body::Special,
        };
        let (size, blocks_below) = match kind {
            Kind::Directory => (DIRECTORY_SIZE, DIRECTORY_SIZE / 512),
            _ => (target.len() as u64, 0),
        };
        State {
            meta,
            size,
            blocks_below,
            xattrs: Xattrs::default(),
            body,
        }
    }

    /// Its attributes.
    pub(crate) fn attr(&self, ino: Ino, kind: Kind) -> Attr {
        let blocks = match &self.body {
            Body::Regular(content) => {
                let below = self.blocks_below.min(content.below_end().div_ceil(512));
                below + content.pages() * 8
            }
            _ => self.blocks_below,
        };
        Attr {
            ino,
            kind,
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

    /// What a touched file takes, with the table's part below 200 bytes: a container may touch millions.
    #[test]
    fn an_inode_is_small() {
        assert!(size_of::<Inode>() <= 152, "{} bytes", size_of::<Inode>());
    }
}
