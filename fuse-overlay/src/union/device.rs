//! A socket becomes a device node: what mknod(2) of a device comes down to where the kernel makes none
//! ([`crate::fuse::owners`] says who asks for it).

use nix::errno::Errno;

use super::{Caller, Tree, held, now};
use crate::attr::{Ino, Kind};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::upper::Locked;
use crate::upper::journal::format::{Change, Meta, Operation};
use crate::upper::journal::log::Room;

impl Tree {
    /// Puts a new device node in the place of the socket `ino`, whose only name is `place`, with its owner, permissions and
    /// attributes, in one record. ESTALE if another file stands there, or `ino` is no such socket.
    pub fn become_device(
        &self,
        caller: &Caller,
        place: (Ino, &Name),
        ino: Ino,
        kind: Kind,
        rdev: u32,
    ) -> Result<()> {
        if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            return Err(Error(Errno::EINVAL));
        }
        self.with_space(|| self.try_become_device(caller, place, ino, kind, rdev))?;
        self.upper.release(ino);
        Ok(())
    }

    fn try_become_device(
        &self,
        caller: &Caller,
        (parent, name): (Ino, &Name),
        ino: Ino,
        kind: Kind,
        rdev: u32,
    ) -> Result<()> {
        let (dir, socket) = (self.inode(parent)?, self.inode(ino)?);
        let mut locked = Locked::new(&[&dir, &socket]);
        let (state, old) = (held(locked.get(parent))?, held(locked.get(ino))?);
        let found = self.find_name(state.directory()?, name)?;
        let is_it = found.target == Some((ino, Kind::Socket));
        if !is_it || old.meta.nlink != 1 {
            return Err(Error(Errno::ESTALE));
        }
        let (device, time) = (self.upper.new_ino()?, now());
        let xattrs: Vec<_> = old
            .xattrs
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        let mut changes = vec![
            Change::Make {
                ino: device,
                kind,
                meta: Meta { rdev, ..old.meta },
                target: b"",
                parent: Ino(0),
            },
            Change::Enter {
                ino: parent,
                name,
                below: found.below,
                target: device,
                kind,
            },
            Change::Linked {
                ino,
                nlink: 0,
                ctime: time,
            },
        ];
        changes.extend(xattrs.iter().map(|(name, value)| Change::Xattr {
            ino: device,
            name,
            value: Some(value),
        }));
        let (operation, unique) = (Operation::Mknod, caller.unique);
        self.upper
            .commit(operation, unique, &changes, Room::Ordinary, &mut locked)
    }
}
