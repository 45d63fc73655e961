//! How are files made in the tree of a container that does not run? In its writable layer, without a mount: nothing but the
//! tree can be reached.

use std::io;

use fuse_overlay::attr::{Ino, Kind};
use fuse_overlay::error::Error;
use fuse_overlay::name::Name;
use nix::errno::Errno;

use super::unpack::{Dress, Onto, Put};
use crate::containers::growing::{Growing, Missing, Owner};

/// A tree that is written to.
#[derive(Debug)]
pub(super) struct InTree<'a> {
    pub(super) tree: Growing<'a>,
    /// The path of the destination.
    pub(super) base: Vec<u8>,
}

pub(super) fn io_error(error: Error) -> io::Error {
    error.0.into()
}

fn named(name: &[u8]) -> io::Result<&Name> {
    Name::new(name).map_err(|_| Errno::EINVAL.into())
}

impl InTree<'_> {
    fn dress_one(&self, ino: Ino, dress: &Dress) -> io::Result<()> {
        let (uid, gid) = dress.owner.unwrap_or_default();
        let owner = Owner { uid, gid };
        self.tree
            .dress(ino, dress.perm, owner, dress.mtime)
            .map_err(io_error)?;
        // A change of owner takes capabilities away.
        for (name, value) in &dress.xattrs {
            self.tree.xattr(ino, name, value).map_err(io_error)?;
        }
        Ok(())
    }
}

impl Onto for InTree<'_> {
    type Dir = Ino;

    fn look(&self, dir: &Ino, name: &[u8]) -> io::Result<Option<Kind>> {
        let found = self.tree.look(*dir, named(name)?).map_err(io_error)?;
        Ok(found.map(|attr| attr.kind))
    }

    fn enter(&self, dir: &Ino, name: &[u8]) -> io::Result<Ino> {
        self.tree.enter(*dir, named(name)?).map_err(io_error)
    }

    fn through(&self, _below: &Ino, names: &[&[u8]]) -> io::Result<Ino> {
        let path = [self.base.as_slice(), &names.join(&b'/')].join(&b'/');
        let place = self.tree.find(&path, Missing::Refuse).map_err(io_error)?;
        match place.now {
            Some(found) if found.kind == Kind::Directory => Ok(found.ino),
            Some(_) => Err(Errno::ENOTDIR.into()),
            None => Err(Errno::ENOENT.into()),
        }
    }

    fn make(&self, dir: &Ino, name: &[u8]) -> io::Result<Ino> {
        self.tree.private_directory(*dir, named(name)?).map_err(io_error)
    }

    fn dress(&self, dir: &Ino, dress: &Dress) -> io::Result<()> {
        self.dress_one(*dir, dress)
    }

    fn file(
        &self,
        (dir, name): (&Ino, &[u8]),
        size: u64,
        dress: &Dress,
        fill: &mut dyn FnMut(&mut Put<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.tree.file(*dir, named(name)?, size).map_err(io_error)?;
        fill(&mut |at, bytes| self.tree.write(file, at, bytes).map_err(io_error))?;
        self.dress_one(file, dress)
    }

    fn symlink(&self, (dir, name): (&Ino, &[u8]), target: &[u8], dress: &Dress) -> io::Result<()> {
        let link = self.tree.symlink(*dir, named(name)?, target).map_err(io_error)?;
        self.dress_one(link, dress)
    }

    fn link(&self, (from, file): (&Ino, &[u8]), (dir, name): (&Ino, &[u8])) -> io::Result<()> {
        let file = self.tree.look(*from, named(file)?).map_err(io_error)?;
        let file = file.ok_or(Errno::ENOENT)?;
        self.tree
            .link(file.ino, *dir, named(name)?)
            .map(|_ino| ())
            .map_err(io_error)
    }

    fn special(
        &self,
        (dir, name): (&Ino, &[u8]),
        (kind, number): (Kind, u32),
        dress: &Dress,
    ) -> io::Result<bool> {
        let node = self.tree.device(*dir, named(name)?, kind, number);
        self.dress_one(node.map_err(io_error)?, dress)?;
        Ok(true)
    }
}
