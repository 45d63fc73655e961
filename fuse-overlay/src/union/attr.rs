//! Attributes change: chmod, chown, truncate, utimensat, with what POSIX wants besides.

use nix::errno::Errno;

use super::acl::{self, Acl};
use super::data::Placed;
use super::dir::{SET_GID, SET_UID};
use super::{Caller, SetAttr, SetTime, Tree, held, now};
use crate::attr::{Attr, Ino, Kind, MAX_FILE, Time};
use crate::error::{Error, Result};
use crate::upper::Locked;
use crate::upper::inode::{Inode, State};
use crate::upper::journal::format::{Change, Meta, Operation};
use crate::upper::journal::log::Room;

/// The extended attribute with a file's capabilities, which goes whenever its set-id bits would.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

impl Tree {
    /// Changes attributes; the new ones come back.
    pub fn setattr(&self, caller: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        self.upper
            .with_space_for_bytes(|| self.try_setattr(caller, ino, set))
    }

    /// Takes set-id bits and capabilities away on a request that says no more than that, as the kernel sends it.
    ///
    /// With a change time, or for what is no regular file, it is chown(2) that names neither owner nor group. That clears
    /// what each chown clears; but set-id bits only for the owner or root (else EPERM), which the kernel has not checked.
    /// Without, it comes before a write, which clears the set-id bits itself.
    pub fn take_privileges(&self, caller: &Caller, ino: Ino, ctime: Option<Time>) -> Result<Attr> {
        let inode = self.inode(ino)?;
        let mut locked = Locked::new(&[&inode]);
        let state = held(locked.get(ino))?;
        let chown = state.kind() != Kind::Regular || ctime.is_some();
        let capable = state.kind() != Kind::Directory && state.xattrs.contains_key(CAPABILITY);
        let mut meta = Meta {
            ctime: ctime.unwrap_or_else(now),
            ..state.meta
        };
        if chown {
            meta.perm = without_set_id(caller, &meta, state.kind());
        }
        if meta.perm != state.meta.perm && !may_change(caller, state) {
            return Err(Error(Errno::EPERM));
        }
        let mut changes = Vec::new();
        if capable {
            changes.push(Change::Xattr {
                ino,
                name: CAPABILITY,
                value: None,
            });
        }
        if capable || chown {
            changes.push(Change::Meta { ino, meta });
            let (operation, unique) = (Operation::SetAttr, caller.unique);
            self.upper
                .commit(operation, unique, &changes, Room::Reserve, &mut locked)?;
        }
        Ok(held(locked.get(ino))?.attr(ino))
    }

    fn try_setattr(&self, caller: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        let inode = self.inode(ino)?;
        let mut locked = Locked::new(&[&inode]);
        let mut placed = Placed::default();
        let done = self.set_locked(caller, &inode, &mut locked, set, &mut placed);
        if done.is_err() {
            self.discard(placed);
        }
        done
    }

    fn set_locked<'a>(
        &'a self,
        caller: &Caller,
        inode: &Inode,
        locked: &mut Locked<'_>,
        set: &SetAttr,
        placed: &mut Placed<'a>,
    ) -> Result<Attr> {
        let ino = inode.ino;
        let present = now();
        let mut changes = Vec::with_capacity(4);
        let state = held(locked.get(ino))?;
        let is_written = state.content().is_ok_and(|content| content.pages() > 0);
        let mut room = match self.upper.is_made(ino) || is_written {
            true => Room::InPlace,
            // It may be the first change to one of the image's, of which there are many.
            false => Room::Ordinary,
        };
        if let Some(size) = set.size {
            if size > MAX_FILE {
                return Err(Error(Errno::EFBIG));
            }
            let state = held(locked.get_mut(ino))?;
            state.content()?;
            if size > state.size {
                self.lengthen(state, size, placed)?;
                // (No `extend`, which would have all changes live for ever.)
                placed.changes(ino).for_each(|change| changes.push(change));
                if !placed.is_empty() {
                    room = Room::Ordinary;
                }
            } else {
                room = Room::Reserve;
            }
            changes.push(Change::Resize { ino, size });
        }
        let state = held(locked.get(ino))?;
        let acl = changed_acl(state, set);
        if let Some(list) = &acl {
            changes.push(Change::Xattr {
                ino,
                name: acl::ACCESS,
                value: Some(list),
            });
        }
        if set.kill_priv && state.xattrs.contains_key(CAPABILITY) {
            changes.push(Change::Xattr {
                ino,
                name: CAPABILITY,
                value: None,
            });
        }
        let meta = changed_meta(caller, &state.meta, state.kind(), set, present);
        if meta != state.meta {
            changes.push(Change::Meta { ino, meta });
        }
        if !changes.is_empty() {
            self.upper
                .commit(Operation::SetAttr, caller.unique, &changes, room, locked)?;
        }
        Ok(held(locked.get(ino))?.attr(ino))
    }
}

fn changed_meta(caller: &Caller, old: &Meta, kind: Kind, set: &SetAttr, present: Time) -> Meta {
    let time = |new: Option<SetTime>, old: Time| match new {
        None => old,
        Some(SetTime::Now) => present,
        Some(SetTime::At(time)) => time,
    };
    let mtime = if set.size.is_some() { present } else { old.mtime };
    let mut meta = Meta {
        perm: set.perm.map_or(old.perm, |perm| perm & 0o7777),
        uid: set.uid.unwrap_or(old.uid),
        gid: set.gid.unwrap_or(old.gid),
        atime: time(set.atime, old.atime),
        mtime: time(set.mtime, mtime),
        ctime: set.ctime.unwrap_or(present),
        ..*old
    };
    if set.kill_priv && set.perm.is_none() {
        meta.perm = without_set_id(caller, old, kind);
    }
    meta
}

/// The permissions after a write or chown by one without privilege. Set-gid without group execution gives nobody anything
/// yet, so it stays for root and for members of the group. Of the caller's groups a request names one alone.
pub(super) fn without_set_id(caller: &Caller, meta: &Meta, kind: Kind) -> u16 {
    if kind == Kind::Directory {
        return meta.perm;
    }
    let member = caller.uid == 0 || caller.gid == meta.gid;
    let group = if meta.perm & 0o010 != 0 || !member {
        SET_GID
    } else {
        0
    };
    meta.perm & !(SET_UID | group)
}

/// Is the caller the owner, or root? All that a request says of privileges.
pub(super) fn may_change(caller: &Caller, state: &State) -> bool {
    caller.uid == 0 || caller.uid == state.meta.uid
}

/// The access control list as chmod changes it.
fn changed_acl(state: &State, set: &SetAttr) -> Option<Vec<u8>> {
    let perm = set.perm?;
    let mut list = Acl::read(state.xattrs.get(acl::ACCESS)?).ok()?;
    list.chmod(perm & 0o777);
    Some(list.value())
}
