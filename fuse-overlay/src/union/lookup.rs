//! Names to inodes, attributes, listings, and how long an inode lives.

use std::ops::ControlFlow;

use nix::errno::Errno;

use super::below::ino;
use super::{Listed, Released, Tree};
use crate::attr::{Attr, Ino, Kind};
use crate::error::{Error, Result};
use crate::index::NodeId;
use crate::name::Name;
use crate::upper::directory::{Directory, Known};
use crate::upper::inode::Body;
use crate::upper::journal::format::Below as BelowName;

/// What stands at a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// The inode; `None` if the name is free.
    pub target: Option<(Ino, Kind)>,
    /// Has the image's directory the name?
    pub below: BelowName,
}

/// Cookie of `.`; `..` follows, then the image's entries in their order.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
const IMAGE: u64 = 3;
/// Cookies of the names that the image does not have: this and their place. Above all image's entries (2³²).
const OWN: u64 = 1 << 33;

/// Entries copied out under a directory's lock at a time.
const BATCH: usize = 256;

impl Tree {
    /// Finds a name. ENOENT if it is not there.
    pub fn lookup(&self, parent: Ino, name: &Name) -> Result<Attr> {
        let Some(dir) = self.known(parent)? else {
            let entry = self.below.view().lookup(self.below.node(parent)?, name)?;
            let (node, _) = entry.and_then(|entry| entry.target).ok_or(Error(Errno::ENOENT))?;
            self.upper.looked_up(ino(node));
            return self.attr_counted(ino(node));
        };
        let found = {
            let state = dir.read();
            let found = self
                .find_name(state.directory()?, name)?
                .target
                .ok_or(Error(Errno::ENOENT))?;
            // Counted while the name cannot go, so that the inode cannot go either.
            self.upper.looked_up(found.0);
            found
        };
        self.attr_counted(found.0)
    }

    /// The attributes of an inode whose lookup was counted; one that fails counts for nothing.
    fn attr_counted(&self, ino: Ino) -> Result<Attr> {
        self.getattr(ino).inspect_err(|_| {
            self.forget(ino, 1);
        })
    }

    /// What stands at a name of a directory that the upper knows.
    pub(super) fn find_name(&self, directory: &Directory, name: &Name) -> Result<Found> {
        Ok(match directory.known(name) {
            Known::Entry(ino, kind, below) => Found {
                target: Some((ino, kind)),
                below,
            },
            Known::Whiteout => Found {
                target: None,
                below: BelowName::Hidden,
            },
            Known::Nothing => match self.find_below(directory.below, name)? {
                Some((node, kind)) => Found {
                    target: Some((ino(node), kind)),
                    below: BelowName::Hidden,
                },
                None => Found {
                    target: None,
                    below: BelowName::Absent,
                },
            },
        })
    }

    fn find_below(&self, dir: Option<NodeId>, name: &Name) -> Result<Option<(NodeId, Kind)>> {
        let Some(dir) = dir else { return Ok(None) };
        Ok(self
            .below
            .view()
            .lookup(dir, name)?
            .and_then(|entry| entry.target))
    }

    /// Counts a lookup that `readdirplus` answered.
    pub fn looked_up(&self, ino: Ino) {
        self.upper.looked_up(ino);
    }

    /// Takes back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) -> Released {
        self.upper.forget(ino, count)
    }

    /// Attributes.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        match self.known(ino)? {
            Some(inode) => Ok(inode.attr()),
            None => self.below.view().attr(self.below.node(ino)?),
        }
    }

    /// A symlink's target.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let Some(inode) = self.known(ino)? else {
            let view = self.below.view();
            return Ok(view.copied(view.target(self.below.node(ino)?)?)?.into_vec());
        };
        match &inode.read().body {
            Body::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Error(Errno::EINVAL)),
        }
    }

    /// The directory that holds a directory.
    pub(super) fn parent_of(&self, dir: Ino) -> Result<Ino> {
        match self.known(dir)? {
            Some(inode) => Ok(inode.read().directory()?.parent),
            None => self.below.parent(self.below.node(dir)?),
        }
    }

    /// The kind of an inode of the image, and the directory that it is in there (of a file with several names the first
    /// one's). A hint: it may have moved since. `None` for an inode that the image does not have.
    pub fn image_parent(&self, ino: Ino) -> Option<(Kind, Ino)> {
        let node = self.below.node(ino).ok()?;
        let kind = self.below.view().kind(node).ok()?;
        Some((kind, self.below.parent(node).ok()?))
    }

    /// The attributes that an inode has in the image. `None` for one that the image does not have.
    pub fn image_attr(&self, ino: Ino) -> Option<Attr> {
        let node = self.below.node(ino).ok()?;
        self.below.view().attr(node).ok()
    }

    /// How many names a directory has.
    pub fn name_count(&self, dir: Ino) -> Result<u64> {
        match self.known(dir)? {
            Some(inode) => Ok(inode.read().directory()?.count),
            None => Ok(self.below.view().entries(self.below.node(dir)?)?.len().into()),
        }
    }

    /// Lists a directory from `cookie` on (0: the start), `.` and `..` first, until `each` breaks. No lock is held
    /// while `each` runs.
    pub fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if self.getattr(dir)?.kind != Kind::Directory {
            return Err(Error(Errno::ENOTDIR));
        }
        for (dot, name) in [(DOT, &b"."[..]), (DOT_DOT, b"..")] {
            if cookie < dot {
                let ino = if dot == DOT { dir } else { self.parent_of(dir)? };
                let listed = Listed {
                    cookie: dot,
                    name,
                    ino,
                    kind: Kind::Directory,
                };
                if each(listed).is_break() {
                    return Ok(());
                }
            }
        }
        let mut cookie = cookie.max(DOT_DOT);
        let mut batch = Batch::default();
        loop {
            batch.clear();
            let mut more = self.fill_batch(dir, cookie, &mut batch)?;
            for listed in batch.iter() {
                cookie = listed.cookie;
                if each(listed).is_break() {
                    more = false;
                    break;
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Copies entries behind `cookie`; says whether there may be more.
    fn fill_batch(&self, dir: Ino, mut cookie: u64, batch: &mut Batch) -> Result<bool> {
        let inode = self.known(dir)?;
        let state = inode.as_ref().map(|inode| inode.read());
        let changed = state.as_ref().map(|state| state.directory()).transpose()?;
        let below = match changed {
            Some(directory) => directory.below,
            None => Some(self.below.node(dir)?),
        };
        if let Some(node) = below.filter(|_| cookie < OWN) {
            let entries = self.below.view().entries(node)?;
            let first = u32::try_from(cookie + 1 - IMAGE).unwrap_or(u32::MAX);
            for place in first..entries.len() {
                if batch.len() == BATCH {
                    return Ok(true);
                }
                cookie = IMAGE + u64::from(place);
                let entry = entries.get(place)?;
                let known = changed
                    .filter(|directory| !directory.untouched())
                    .map_or(Known::Nothing, |directory| directory.known(entry.name));
                let target = match known {
                    Known::Entry(ino, kind, _) => Some((ino, kind)),
                    Known::Whiteout => None,
                    Known::Nothing => entry.target.map(|(node, kind)| (ino(node), kind)),
                };
                if let Some((ino, kind)) = target {
                    batch.push(cookie, entry.name, ino, kind);
                }
            }
        }
        let Some(directory) = changed else {
            return Ok(false);
        };
        for (place, name, ino, kind) in directory.own(cookie.max(OWN) - OWN + 1) {
            if batch.len() == BATCH {
                return Ok(true);
            }
            batch.push(OWN + place, name, ino, kind);
        }
        Ok(false)
    }
}

/// Entries copied out of a directory, names in one buffer.
#[derive(Default)]
struct Batch {
    names: Vec<u8>,
    /// Cookie, end of the name in `names`, inode, kind.
    entries: Vec<(u64, usize, Ino, Kind)>,
}

impl Batch {
    fn clear(&mut self) {
        self.names.clear();
        self.entries.clear();
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn push(&mut self, cookie: u64, name: &Name, ino: Ino, kind: Kind) {
        self.names.extend_from_slice(name.as_bytes());
        self.entries.push((cookie, self.names.len(), ino, kind));
    }

    fn iter(&self) -> impl Iterator<Item = Listed<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |&(cookie, end, ino, kind)| {
            let name = self.names.get(start..end).unwrap_or_default();
            start = end;
            Listed {
                cookie,
                name,
                ino,
                kind,
            }
        })
    }
}
