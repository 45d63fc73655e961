//! Extended attributes (xattr(7)).

use nix::errno::Errno;

use super::acl::{self, Acl};
use super::attr::{CAPABILITY, may_change};
use super::{Caller, SetGroupId, SetXattr, Tree, held, now};
use crate::attr::{Ino, Kind, MAX_XATTRS, xattr_room};
use crate::error::{Error, Result};
use crate::upper::Locked;
use crate::upper::inode::State;
use crate::upper::journal::format::{Change, Meta, Operation};
use crate::upper::journal::log::Room;

/// Limits of Linux (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX`). Its third, on the names' length in a listing, [`MAX_XATTRS`] keeps.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 64 * 1024;

impl Tree {
    /// An extended attribute's value; ENODATA if there is none, or what is wrong with the name.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        if is_hidden(name) {
            return Err(Error(Errno::ENODATA));
        }
        // An image's layer may hold names that could not be set here.
        let none = check_name(name).err().unwrap_or(Error(Errno::ENODATA));
        match self.known(ino)? {
            Some(inode) => inode
                .read()
                .xattrs
                .get(name)
                .map(|value| value.to_vec())
                .ok_or(none),
            None => {
                let view = self.below.view();
                let xattrs = view.xattrs(self.below.node(ino)?)?;
                let (_, value) = xattrs.into_iter().find(|(own, _)| *own == name).ok_or(none)?;
                Ok(view.copied(value)?.into_vec())
            }
        }
    }

    /// Names of the extended attributes.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        let names: Vec<Vec<u8>> = match self.known(ino)? {
            Some(inode) => inode.read().xattrs.keys().map(|name| name.to_vec()).collect(),
            None => {
                let view = self.below.view();
                let xattrs = view.xattrs(self.below.node(ino)?)?;
                let names = xattrs.into_iter();
                names
                    .map(|(name, _)| Ok(view.copied(name)?.into_vec()))
                    .collect::<Result<_>>()?
            }
        };
        Ok(names.into_iter().filter(|name| !is_hidden(name)).collect())
    }

    /// Sets an extended attribute, and with it what belongs to it, in one record.
    pub fn setxattr(
        &self,
        caller: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
        set_gid: SetGroupId,
    ) -> Result<()> {
        check_name(name)?;
        if value.len() > MAX_VALUE {
            return Err(Error(Errno::E2BIG));
        }
        self.with_space(|| self.try_setxattr(caller, ino, name, value, how, set_gid))
    }

    fn try_setxattr(
        &self,
        caller: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
        set_gid: SetGroupId,
    ) -> Result<()> {
        let inode = self.inode(ino)?;
        let mut locked = Locked::new(&[&inode]);
        let state = held(locked.get(ino))?;
        match (how, state.xattrs.contains_key(name)) {
            (SetXattr::Create | SetXattr::Never, true) => return Err(Error(Errno::EEXIST)),
            (SetXattr::Replace | SetXattr::Never, false) => return Err(Error(Errno::ENODATA)),
            _ => {}
        }
        refuse_too_much(state, name, value)?;
        let mut meta = Meta {
            ctime: now(),
            ..state.meta
        };
        if set_gid == SetGroupId::Clear {
            meta.perm &= !(libc::S_ISGID as u16);
        }
        let mut kept = Some(value);
        match name {
            acl::ACCESS => {
                let list = Acl::read(value)?;
                meta.perm = meta.perm & !0o777 | list.mode();
                // A list that says no more than the bits is not kept, as on other filesystems.
                kept = kept.filter(|_| !list.is_mode());
            }
            acl::DEFAULT if state.kind() != Kind::Directory => return Err(Error(Errno::EACCES)),
            acl::DEFAULT => drop(Acl::read(value)?),
            _ => {}
        }
        let changes = [
            Change::Xattr {
                ino,
                name,
                value: kept,
            },
            Change::Meta { ino, meta },
        ];
        self.upper.commit(
            Operation::SetXattr,
            caller.unique,
            &changes,
            Room::Ordinary,
            &mut locked,
        )
    }

    /// Removes an extended attribute; ENODATA if there is none, unless it is an access control list.
    ///
    /// Capabilities stay if neither owner nor root asks: that is the kernel on behalf of somebody who writes, or who calls
    /// chown(2) without a right to, and [`Tree::take_privileges`] follows, which knows which.
    pub fn removexattr(&self, caller: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let inode = self.inode(ino)?;
        let mut locked = Locked::new(&[&inode]);
        let state = held(locked.get(ino))?;
        if !state.xattrs.contains_key(name) {
            let list = name == acl::ACCESS || name == acl::DEFAULT;
            return if list { Ok(()) } else { Err(Error(Errno::ENODATA)) };
        }
        if name == CAPABILITY && !may_change(caller, state) {
            return Ok(());
        }
        let meta = Meta {
            ctime: now(),
            ..state.meta
        };
        let changes = [
            Change::Xattr {
                ino,
                name,
                value: None,
            },
            Change::Meta { ino, meta },
        ];
        self.upper.commit(
            Operation::RemoveXattr,
            caller.unique,
            &changes,
            Room::Reserve,
            &mut locked,
        )
    }
}

/// `trusted.*` is for the host's administrator: overlayfs keeps its marks there, and an image's must not be taken for
/// a container's.
fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b"trusted.")
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > MAX_NAME {
        return Err(Error(Errno::ERANGE));
    }
    if is_hidden(name) {
        return Err(Error(Errno::EPERM));
    }
    if name == b"user." || name == b"security." || name.contains(&0) {
        return Err(Error(Errno::EINVAL));
    }
    let known = name.starts_with(b"user.") || name.starts_with(b"security.");
    if known || name == acl::ACCESS || name == acl::DEFAULT {
        Ok(())
    } else {
        Err(Error(Errno::EOPNOTSUPP))
    }
}

/// ENOSPC, as on ext4, if they would take more room than a file has for them. What takes no more than before is never refused.
fn refuse_too_much(state: &State, name: &[u8], value: &[u8]) -> Result<()> {
    let all = state.xattrs.iter();
    let before: usize = all.map(|(name, value)| xattr_room(name, value)).sum();
    let replaced = state.xattrs.get(name).map_or(0, |old| xattr_room(name, old));
    let after = before - replaced + xattr_room(name, value);
    if after > MAX_XATTRS && after > before {
        Err(Error(Errno::ENOSPC))
    } else {
        Ok(())
    }
}
