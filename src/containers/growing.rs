//! How is a path of a tree that is no mount found, made, filled? Symlinks are followed within the tree, never out of it:
//! there is nothing else to reach.

use fuse_overlay::attr::{Attr, Ino, Kind, Time};
use fuse_overlay::error::{Error, Result};
use fuse_overlay::name::Name;
use fuse_overlay::union::{Caller, SetAttr, SetGroupId, SetTime, SetXattr, Tree};
use nix::errno::Errno;

/// Directories deeper than this are refused: no path could name what is in them.
pub const DEEPEST: usize = 2048;

/// As many symlinks as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// The tree's top.
pub const ROOT: Ino = Ino(1);

/// Who owns what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// Its user's number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
}

/// What becomes of directories on the way that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// ENOENT.
    Refuse,
    /// They are made, mode 0755, as this owner's, with this time.
    Make(Owner, Time),
}

/// Where a path led.
#[derive(Debug)]
pub struct Place {
    /// The directory that holds, or would hold, it.
    pub dir: Ino,
    /// The names that lead from the root to that directory, none of them a symlink's.
    pub above: Vec<Box<Name>>,
    /// Its name there; `None` for the root.
    pub name: Option<Box<Name>>,
    /// What is there now.
    pub now: Option<Attr>,
}

impl Place {
    /// Its path from the root, without symlinks.
    pub fn path(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self
            .above
            .iter()
            .chain(&self.name)
            .map(|name| name.as_bytes())
            .collect();
        names.join(&b'/')
    }
}

/// A tree that is being built, written to by one thread.
#[derive(Debug)]
pub struct Growing<'a>(pub &'a Tree);

/// Nobody asks: there is no FUSE request, and all is made by the container's root, whose files then get their owners.
const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0,
    unique: 0,
};

impl Growing<'_> {
    /// Walks a path from the root. A symlink is followed, the last name's too.
    pub fn find(&self, path: &[u8], missing: Missing) -> Result<Place> {
        self.walk(path, missing, &|_| true)
    }

    /// The same; a symlink that `follows` does not want is no directory.
    fn walk(&self, path: &[u8], missing: Missing, follows: &dyn Fn(Ino) -> bool) -> Result<Place> {
        let mut rest = names(path);
        // The directories from the root to where the walk is, each with its name in the one before.
        let mut way: Vec<(Ino, Box<Name>)> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let dir = way.last().map_or(ROOT, |(ino, _)| *ino);
            if part == b".." {
                way.pop();
                continue;
            }
            let name = Name::new(&part).map_err(|_| Error(Errno::EINVAL))?;
            let now = self.look(dir, name)?;
            match now {
                Some(found) if found.kind == Kind::Symlink && follows(found.ino) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error(Errno::ELOOP));
                    }
                    let target = self.0.readlink(found.ino)?;
                    if target.first() == Some(&b'/') {
                        way.clear();
                    }
                    rest.extend(names(&target));
                }
                Some(found) if found.kind == Kind::Directory => way.push((found.ino, name.to_boxed())),
                _ if rest.is_empty() => {
                    let name = Some(name.to_boxed());
                    let above = way.into_iter().map(|(_, name)| name).collect();
                    return Ok(Place {
                        dir,
                        above,
                        name,
                        now,
                    });
                }
                Some(_) => return Err(Error(Errno::ENOTDIR)),
                None => match missing {
                    Missing::Refuse => return Err(Error(Errno::ENOENT)),
                    Missing::Make(owner, time) => {
                        let made = self.make_directory(dir, name, owner, time)?;
                        way.push((made.ino, name.to_boxed()));
                    }
                },
            }
        }
        let (ino, name) = way.pop().map_or((ROOT, None), |(ino, name)| (ino, Some(name)));
        Ok(Place {
            dir: way.last().map_or(ROOT, |(ino, _)| *ino),
            above: way.into_iter().map(|(_, name)| name).collect(),
            name,
            now: Some(self.0.getattr(ino)?),
        })
    }

    /// What is at a path whose last name is not followed.
    pub fn find_link(&self, path: &[u8]) -> Result<Option<Attr>> {
        let names = names(path);
        let Some(last) = names.first().filter(|name| *name != b"..") else {
            return Ok(self.find(path, Missing::Refuse)?.now);
        };
        let above: Vec<&[u8]> = names.iter().skip(1).rev().map(Vec::as_slice).collect();
        let dir = self.find(&above.join(&b'/'), Missing::Refuse)?.now;
        let name = Name::new(last).map_err(|_| Error(Errno::EINVAL))?;
        self.look(dir.ok_or(Error(Errno::ENOENT))?.ino, name)
    }

    /// The directory at a path, made if it is missing.
    pub fn directory(&self, path: &[u8], owner: Owner, time: Time) -> Result<Ino> {
        let place = self.find(path, Missing::Make(owner, time))?;
        match (place.now, place.name) {
            (Some(found), _) if found.kind == Kind::Directory => Ok(found.ino),
            (None, Some(name)) => Ok(self.make_directory(place.dir, &name, owner, time)?.ino),
            _ => Err(Error(Errno::ENOTDIR)),
        }
    }

    /// What a directory has at a name.
    pub fn look(&self, dir: Ino, name: &Name) -> Result<Option<Attr>> {
        match self.0.lookup(dir, name) {
            Ok(found) => Ok(Some(found)),
            Err(Error(Errno::ENOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_directory(&self, dir: Ino, name: &Name, owner: Owner, time: Time) -> Result<Attr> {
        let made = self.0.mkdir(&CALLER, dir, name, 0o755)?;
        self.dress(made.ino, 0o755, owner, Some(time))
    }

    /// Makes a directory, or takes the one that is there; EEXIST if it is something else.
    pub fn enter(&self, dir: Ino, name: &Name) -> Result<Ino> {
        match self.look(dir, name)? {
            Some(found) if found.kind == Kind::Directory => Ok(found.ino),
            Some(_) => Err(Error(Errno::ENOTDIR)),
            None => Ok(self.0.mkdir(&CALLER, dir, name, 0o755)?.ino),
        }
    }

    /// Makes room for something that is no directory; EISDIR if one is there.
    fn clear(&self, dir: Ino, name: &Name) -> Result<()> {
        match self.look(dir, name)? {
            None => Ok(()),
            Some(found) if found.kind == Kind::Directory => Err(Error(Errno::EISDIR)),
            Some(_) => self.0.unlink(&CALLER, dir, name).map(drop),
        }
    }

    /// Makes a regular file of a size and no data, in place of whatever is there but a directory.
    pub fn file(&self, dir: Ino, name: &Name, size: u64) -> Result<Ino> {
        self.clear(dir, name)?;
        let mode = Kind::Regular.mode_bits() | 0o600;
        let ino = self.0.mknod(&CALLER, dir, name, mode, 0)?.ino;
        if size > 0 {
            let set = SetAttr {
                size: Some(size),
                ..SetAttr::default()
            };
            self.0.setattr(&CALLER, ino, &set)?;
        }
        Ok(ino)
    }

    /// Writes bytes of a file.
    pub fn write(&self, file: Ino, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.write(&CALLER, file, offset, bytes, false)
    }

    /// Makes a directory, for its maker alone as yet.
    pub fn private_directory(&self, dir: Ino, name: &Name) -> Result<Ino> {
        Ok(self.0.mkdir(&CALLER, dir, name, 0o700)?.ino)
    }

    /// Makes a symlink, in place of whatever is there but a directory.
    pub fn symlink(&self, dir: Ino, name: &Name, target: &[u8]) -> Result<Ino> {
        self.clear(dir, name)?;
        Ok(self.0.symlink(&CALLER, dir, name, target)?.ino)
    }

    /// Makes a fifo, socket or the like: what has neither bytes nor a target.
    pub fn special(&self, dir: Ino, name: &Name, kind: Kind) -> Result<Ino> {
        self.device(dir, name, kind, 0)
    }

    /// Makes what has neither bytes nor a target, but may have a number.
    pub fn device(&self, dir: Ino, name: &Name, kind: Kind, rdev: u32) -> Result<Ino> {
        self.clear(dir, name)?;
        Ok(self
            .0
            .mknod(&CALLER, dir, name, kind.mode_bits() | 0o600, rdev)?
            .ino)
    }

    /// Removes what is at a name, of a directory all that is in it, too.
    pub fn remove(&self, dir: Ino, name: &Name, kind: Kind, depth: usize) -> Result<()> {
        deeper(depth)?;
        if kind != Kind::Directory {
            return self.0.unlink(&CALLER, dir, name).map(drop);
        }
        let Some(found) = self.look(dir, name)? else {
            return Ok(());
        };
        let mut below = Vec::new();
        self.0.readdir(found.ino, 0, &mut |listed| {
            // `.` and `..` are no names.
            if let Ok(name) = Name::new(listed.name) {
                below.push((name.to_boxed(), listed.kind));
            }
            std::ops::ControlFlow::Continue(())
        })?;
        for (name, kind) in below {
            self.remove(found.ino, &name, kind, depth + 1)?;
        }
        self.0.rmdir(&CALLER, dir, name)
    }

    /// Takes an extended attribute away.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.0.removexattr(&CALLER, ino, name)
    }

    /// Gives one more name to a file.
    pub fn link(&self, file: Ino, dir: Ino, name: &Name) -> Result<Ino> {
        self.clear(dir, name)?;
        Ok(self.0.link(&CALLER, file, dir, name)?.ino)
    }

    /// Sets an extended attribute.
    pub fn xattr(&self, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
        self.0
            .setxattr(&CALLER, ino, name, value, SetXattr::Any, SetGroupId::Keep)
    }

    /// Sets permissions, owner, and time of modification. The owner first: a change of owner takes set-id bits away.
    pub fn dress(&self, ino: Ino, perm: u16, owner: Owner, mtime: Option<Time>) -> Result<Attr> {
        let owned = SetAttr {
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            ..SetAttr::default()
        };
        let before = self.0.setattr(&CALLER, ino, &owned)?;
        let set = SetAttr {
            perm: (before.kind != Kind::Symlink).then_some(perm),
            mtime: mtime.map(SetTime::At),
            ..SetAttr::default()
        };
        self.0.setattr(&CALLER, ino, &set)
    }

    /// Takes an empty directory or file away that was made only to mount on. A directory in which nothing has changed since
    /// `untouched` gets the time that it has in the image. What the command has put in its way is left alone, be it a link
    /// (CVE-2024-23652), and so is what the image has.
    pub fn remove_stub(&self, path: &[u8], untouched: Time) -> Result<()> {
        let of_image = |ino| self.0.image_attr(ino).is_some();
        let place = match self.walk(path, Missing::Refuse, &of_image) {
            Err(Error(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(()),
            place => place?,
        };
        let (Some(now), Some(name)) = (place.now, place.name) else {
            return Ok(());
        };
        if of_image(now.ino) {
            return Ok(());
        }
        let before = self.0.getattr(place.dir)?;
        match now.kind {
            Kind::Directory => match self.0.rmdir(&CALLER, place.dir, &name) {
                // Something came into it: it is the command's now.
                Err(Error(Errno::ENOTEMPTY)) => return Ok(()),
                done => done?,
            },
            Kind::Regular if now.size == 0 => drop(self.0.unlink(&CALLER, place.dir, &name)?),
            _ => return Ok(()),
        }
        let mtime = match self.0.image_attr(place.dir) {
            Some(image) if before.mtime <= untouched => image.mtime,
            _ => before.mtime,
        };
        self.set_mtime(place.dir, mtime)
    }

    /// Sets the time of modification.
    pub fn set_mtime(&self, ino: Ino, time: Time) -> Result<()> {
        let set = SetAttr {
            mtime: Some(SetTime::At(time)),
            ..SetAttr::default()
        };
        self.0.setattr(&CALLER, ino, &set).map(|_attr| ())
    }
}

/// Refuses directories within directories without end, which would need as much stack.
pub fn deeper(depth: usize) -> Result<()> {
    match depth > DEEPEST {
        true => Err(Error(Errno::ENAMETOOLONG)),
        false => Ok(()),
    }
}

/// The names of a path, the first one last.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').rev();
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(Vec::from)
        .collect()
}
