//! Names come and go: mknod, mkdir, symlink, tmpfile, link, unlink, rmdir.

use nix::errno::Errno;

use super::acl::{self, Acl};
use super::{Caller, Tree, held, now};
use crate::attr::{Attr, Ino, Kind};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::upper::Locked;
use crate::upper::inode::State;
use crate::upper::journal::format::{Change, Meta, Operation};
use crate::upper::journal::log::Room;

/// Most names of a file, as ext4 has it.
pub(super) const MAX_LINKS: u32 = 65_000;
/// Longest symlink target in bytes (`PATH_MAX` without its NUL).
const MAX_TARGET: usize = 4095;

pub(super) const SET_UID: u16 = 0o4000;
pub(super) const SET_GID: u16 = 0o2000;

/// What to make.
struct New<'a> {
    operation: Operation,
    kind: Kind,
    perm: u16,
    rdev: u32,
    target: &'a [u8],
}

/// What a new inode takes from its directory: permissions, group, access control lists.
struct Inherited {
    perm: u16,
    gid: u32,
    acls: Vec<(&'static [u8], Vec<u8>)>,
}

impl Tree {
    /// Makes a file that is neither directory nor symlink. `mode` holds kind and permissions; the umask is applied here.
    ///
    /// Of devices only the 0/0 character device can be made, which overlayfs takes for a whiteout; others are EPERM.
    pub fn mknod(&self, caller: &Caller, parent: Ino, name: &Name, mode: u32, rdev: u32) -> Result<Attr> {
        // A mode without a kind means a regular file (mknod(2)).
        let kind = if mode & 0o170000 == 0 {
            Some(Kind::Regular)
        } else {
            Kind::from_mode(mode)
        };
        let rdev = match kind.ok_or(Error(Errno::EINVAL))? {
            Kind::Directory | Kind::Symlink => return Err(Error(Errno::EPERM)),
            Kind::BlockDevice => return Err(Error(Errno::EPERM)),
            Kind::CharDevice if rdev != 0 => return Err(Error(Errno::EPERM)),
            _ => 0,
        };
        let kind = kind.unwrap_or(Kind::Regular);
        let perm = (mode & 0o7777) as u16;
        self.make(
            caller,
            parent,
            name,
            New {
                operation: Operation::Mknod,
                kind,
                perm,
                rdev,
                target: b"",
            },
        )
    }

    /// Makes a directory.
    pub fn mkdir(&self, caller: &Caller, parent: Ino, name: &Name, perm: u16) -> Result<Attr> {
        let (operation, kind, perm) = (Operation::Mkdir, Kind::Directory, perm & 0o1777);
        self.make(
            caller,
            parent,
            name,
            New {
                operation,
                kind,
                perm,
                rdev: 0,
                target: b"",
            },
        )
    }

    /// Makes a symlink.
    pub fn symlink(&self, caller: &Caller, parent: Ino, name: &Name, target: &[u8]) -> Result<Attr> {
        if target.is_empty() || target.contains(&0) {
            return Err(Error(Errno::EINVAL));
        }
        if target.len() > MAX_TARGET {
            return Err(Error(Errno::ENAMETOOLONG));
        }
        let (operation, kind) = (Operation::Symlink, Kind::Symlink);
        self.make(
            caller,
            parent,
            name,
            New {
                operation,
                kind,
                perm: 0o777,
                rdev: 0,
                target,
            },
        )
    }

    fn make(&self, caller: &Caller, parent: Ino, name: &Name, new: New<'_>) -> Result<Attr> {
        self.with_space(|| self.try_make(caller, parent, name, &new))
    }

    fn try_make(&self, caller: &Caller, parent: Ino, name: &Name, new: &New<'_>) -> Result<Attr> {
        let dir = self.inode(parent)?;
        let mut locked = Locked::new(&[&dir]);
        let state = held(locked.get(parent))?;
        let found = self.find_name(state.directory()?, name)?;
        if found.target.is_some() {
            return Err(Error(Errno::EEXIST));
        }
        still_there(state)?;
        let ino = self.upper.new_ino()?;
        let time = now();
        let is_dir = new.kind == Kind::Directory;
        let inherited = inherit(state, caller, new);
        let meta = Meta {
            perm: inherited.perm,
            uid: caller.uid,
            gid: inherited.gid,
            nlink: if is_dir { 2 } else { 1 },
            rdev: new.rdev,
            atime: time,
            mtime: time,
            ctime: time,
        };
        let up = if is_dir { parent } else { Ino(0) };
        let nlink = state.meta.nlink.saturating_add(u32::from(is_dir));
        let mut changes = vec![
            Change::Make {
                ino,
                kind: new.kind,
                meta,
                target: new.target,
                parent: up,
            },
            Change::Enter {
                ino: parent,
                name,
                below: found.below,
                target: ino,
                kind: new.kind,
            },
            Change::Touch {
                ino: parent,
                nlink,
                time,
            },
        ];
        changes.extend(acl_changes(ino, &inherited));
        self.upper.commit(
            new.operation,
            caller.unique,
            &changes,
            Room::Ordinary,
            &mut locked,
        )?;
        self.upper.looked_up(ino);
        Ok(State::made(new.kind, meta, new.target, up).attr(ino))
    }

    /// Makes an unnamed regular file in `parent`'s filesystem (O_TMPFILE); `link` can name it.
    pub fn tmpfile(&self, caller: &Caller, parent: Ino, perm: u16) -> Result<Attr> {
        self.with_space(|| self.try_tmpfile(caller, parent, perm))
    }

    fn try_tmpfile(&self, caller: &Caller, parent: Ino, perm: u16) -> Result<Attr> {
        let dir = self.inode(parent)?;
        let (operation, kind) = (Operation::TmpFile, Kind::Regular);
        let inherited = {
            let state = dir.read();
            state.directory()?;
            // Not ENOENT: that is ext4's answer here.
            still_there(&state).map_err(|_| Error(Errno::EPERM))?;
            inherit(
                &state,
                caller,
                &New {
                    operation,
                    kind,
                    perm: perm & 0o7777,
                    rdev: 0,
                    target: b"",
                },
            )
        };
        let (ino, time) = (self.upper.new_ino()?, now());
        let meta = Meta {
            perm: inherited.perm,
            uid: caller.uid,
            gid: inherited.gid,
            nlink: 0,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
        };
        let mut changes = vec![Change::Make {
            ino,
            kind,
            meta,
            target: b"",
            parent: Ino(0),
        }];
        changes.extend(acl_changes(ino, &inherited));
        self.upper.commit(
            operation,
            caller.unique,
            &changes,
            Room::Ordinary,
            &mut Locked::new(&[]),
        )?;
        self.upper.looked_up(ino);
        Ok(State::made(kind, meta, b"", Ino(0)).attr(ino))
    }

    /// Adds a name to a file.
    pub fn link(&self, caller: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        self.with_space(|| self.try_link(caller, ino, parent, name))
    }

    fn try_link(&self, caller: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        let (dir, inode) = (self.inode(parent)?, self.inode(ino)?);
        let mut locked = Locked::new(&[&dir, &inode]);
        let kind = held(locked.get(ino))?.kind();
        if kind == Kind::Directory {
            return Err(Error(Errno::EPERM));
        }
        let state = held(locked.get(parent))?;
        let found = self.find_name(state.directory()?, name)?;
        if found.target.is_some() {
            return Err(Error(Errno::EEXIST));
        }
        still_there(state)?;
        let nlink = held(locked.get(ino))?.meta.nlink;
        if nlink >= MAX_LINKS {
            return Err(Error(Errno::EMLINK));
        }
        if nlink == 0 {
            self.upper.may_name()?;
        }
        let time = now();
        let changes = [
            Change::Enter {
                ino: parent,
                name,
                below: found.below,
                target: ino,
                kind,
            },
            Change::Linked {
                ino,
                nlink: nlink + 1,
                ctime: time,
            },
            Change::Touch {
                ino: parent,
                nlink: state.meta.nlink,
                time,
            },
        ];
        self.upper.commit(
            Operation::Link,
            caller.unique,
            &changes,
            Room::Ordinary,
            &mut locked,
        )?;
        self.upper.looked_up(ino);
        Ok(held(locked.get(ino))?.attr(ino))
    }

    /// Removes a name of anything but a directory.
    ///
    /// Gives the file if it keeps other names.
    pub fn unlink(&self, caller: &Caller, parent: Ino, name: &Name) -> Result<Option<Ino>> {
        self.remove(caller, parent, name, Operation::Unlink)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, caller: &Caller, parent: Ino, name: &Name) -> Result<()> {
        self.remove(caller, parent, name, Operation::Rmdir).map(|_| ())
    }

    fn remove(&self, caller: &Caller, parent: Ino, name: &Name, operation: Operation) -> Result<Option<Ino>> {
        let ino = self.with_space(|| self.try_remove(caller, parent, name, operation))?;
        Ok(self.lost_a_name(ino))
    }

    /// Lets go of an inode that lost a name, if it was the last; else gives it.
    pub(super) fn lost_a_name(&self, ino: Ino) -> Option<Ino> {
        let others = self.inode(ino).is_ok_and(|inode| inode.read().meta.nlink > 0);
        self.upper.release(ino);
        others.then_some(ino)
    }

    /// Gives the inode that lost the name.
    fn try_remove(&self, caller: &Caller, parent: Ino, name: &Name, operation: Operation) -> Result<Ino> {
        let dir = self.inode(parent)?;
        loop {
            let found = self.find_name(dir.read().directory()?, name)?;
            let (ino, kind) = found.target.ok_or(Error(Errno::ENOENT))?;
            let is_dir = kind == Kind::Directory;
            match operation {
                Operation::Rmdir if !is_dir => return Err(Error(Errno::ENOTDIR)),
                Operation::Unlink if is_dir => return Err(Error(Errno::EISDIR)),
                _ => {}
            }
            let inode = self.inode(ino)?;
            let mut locked = Locked::new(&[&dir, &inode]);
            let (state, child) = (held(locked.get(parent))?, held(locked.get(ino))?);
            if self.find_name(state.directory()?, name)? != found {
                continue;
            }
            let time = now();
            let left = if is_dir {
                0
            } else {
                child.meta.nlink.saturating_sub(1)
            };
            if is_dir && child.directory()?.count > 0 {
                return Err(Error(Errno::ENOTEMPTY));
            }
            let nlink = state.meta.nlink.saturating_sub(u32::from(is_dir));
            let changes = [
                Change::Leave {
                    ino: parent,
                    name,
                    below: found.below,
                },
                Change::Linked {
                    ino,
                    nlink: left,
                    ctime: time,
                },
                Change::Touch {
                    ino: parent,
                    nlink,
                    time,
                },
            ];
            self.upper
                .commit(operation, caller.unique, &changes, Room::Reserve, &mut locked)?;
            return Ok(ino);
        }
    }
}

/// ENOENT for a directory that was removed but is still open: nothing may come into it.
pub(super) fn still_there(dir: &State) -> Result<()> {
    if dir.meta.nlink == 0 {
        Err(Error(Errno::ENOENT))
    } else {
        Ok(())
    }
}

/// What a new inode in `dir` gets: the umask or the default access control list, and the group of a set-gid directory.
fn inherit(dir: &State, caller: &Caller, new: &New<'_>) -> Inherited {
    let set_gid = dir.meta.perm & SET_GID != 0;
    let is_dir = new.kind == Kind::Directory;
    let gid = if set_gid { dir.meta.gid } else { caller.gid };
    let mut perm = new.perm | if set_gid && is_dir { SET_GID } else { 0 };
    let mut acls = Vec::new();
    if new.kind == Kind::Symlink {
        return Inherited { perm, gid, acls };
    }
    let default = dir
        .xattrs
        .get(acl::DEFAULT)
        .map(|value| (value, Acl::read(value)));
    match default {
        Some((value, Ok(list))) => {
            let access = list.inherited(perm & 0o777);
            perm = perm & !0o777 | access.mode();
            if !access.is_mode() {
                acls.push((acl::ACCESS, access.value()));
            }
            if is_dir {
                acls.push((acl::DEFAULT, value.to_vec()));
            }
        }
        _ => perm &= !caller.umask,
    }
    Inherited { perm, gid, acls }
}

fn acl_changes(ino: Ino, inherited: &Inherited) -> impl Iterator<Item = Change<'_>> {
    inherited.acls.iter().map(move |(name, value)| Change::Xattr {
        ino,
        name,
        value: Some(value),
    })
}
