//! What does the kernel not pass on? It refuses an owner that the mount's user namespace does not map, and device nodes,
//! before it asks a filesystem. To the tree both are plain data, so who stands in for the kernel says them by two extended
//! attributes, which are none: they are neither kept nor listed.
//!
//! Nobody but the privileged can: for names of `security.*` the kernel wants CAP_SYS_ADMIN in the user namespace that
//! the filesystem was mounted in. Who has that there is as good as root in the container. The kernel checks read-only mounts, too.
//!
//! | attribute | value, little-endian | set, it means |
//! | --- | --- | --- |
//! | `security.fuse-overlay.owner` | uid u32, gid u32; 2³²−1 leaves one as it is | chown(2) of this file |
//! | `security.fuse-overlay.device` | directory's inode u64, mode u32, rdev u32, name | mknod(2): this socket, at this name, becomes the device |
//!
//! Read, the first tells the true owner; who is answered stands on a server that knows them.
//!
//! A device takes two calls since the kernel would not learn of an entry that comes behind its back. It makes the socket
//! itself, and with that all checks of a new name. Why sockets' entries are not believed: else it would go on showing one.

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::reply::Reply;
use crate::attr::{Ino, Kind};
use crate::name::Name;
use crate::union::{Caller, SetAttr, Tree};

/// Sets, and tells, the owner.
pub const OWNER: &str = "security.fuse-overlay.owner";
/// Makes a device of a socket.
pub const DEVICE: &str = "security.fuse-overlay.device";

/// Leaves an id as it is, as chown(2) has it.
const LEAVE: u32 = u32::MAX;

/// Who is to own a file, as chown(2) says it: 2³²−1 leaves an id as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// The value of [`OWNER`].
    pub fn value(self) -> Vec<u8> {
        [self.uid.to_le_bytes(), self.gid.to_le_bytes()].concat()
    }

    fn read(value: &[u8]) -> Option<Owner> {
        let (uid, gid) = value.split_first_chunk()?;
        Some(Owner {
            uid: u32::from_le_bytes(*uid),
            gid: u32::from_le_bytes(gid.try_into().ok()?),
        })
    }
}

/// Which device a socket is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// The inode number of its directory.
    pub directory: u64,
    /// Its name there.
    pub name: &'a [u8],
    /// Character or block device, as the upper bits of `st_mode`.
    pub mode: u32,
    /// The device's number, as mknod(2) takes it.
    pub rdev: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct DeviceHead {
    directory: [u8; 8],
    mode: [u8; 4],
    rdev: [u8; 4],
}

impl<'a> Device<'a> {
    /// The value of [`DEVICE`].
    pub fn value(&self) -> Vec<u8> {
        let head = DeviceHead {
            directory: self.directory.to_le_bytes(),
            mode: self.mode.to_le_bytes(),
            rdev: self.rdev.to_le_bytes(),
        };
        [head.as_bytes(), self.name].concat()
    }

    fn read(value: &'a [u8]) -> Option<Device<'a>> {
        let (head, name) = DeviceHead::ref_from_prefix(value).ok()?;
        Some(Device {
            directory: u64::from_le_bytes(head.directory),
            name,
            mode: u32::from_le_bytes(head.mode),
            rdev: u32::from_le_bytes(head.rdev),
        })
    }
}

/// Is the attribute one of the two?
pub(super) fn is_ours(name: &[u8]) -> bool {
    name == OWNER.as_bytes() || name == DEVICE.as_bytes()
}

/// The directory whose listing changes, if setting this attribute changes one.
fn changed_directory(name: &[u8], value: &[u8]) -> Option<Ino> {
    let device = Device::read(value).filter(|_| name == DEVICE.as_bytes())?;
    Some(Ino(device.directory))
}

/// Has the kernel forget what setting an attribute of [`is_ours`] changes behind its back.
pub(super) fn outdate(ino: Ino, name: &[u8], value: &[u8], reply: &mut Reply) {
    reply.outdates(ino);
    if let Some(directory) = changed_directory(name, value) {
        reply.outdates_directory(directory);
    }
}

/// Carries out what setting an attribute of [`is_ours`] means.
pub(super) fn set(tree: &Tree, caller: &Caller, ino: Ino, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    if name == OWNER.as_bytes() {
        let Owner { uid, gid } = Owner::read(value).ok_or(Errno::EINVAL)?;
        let kept = |id: u32| (id != LEAVE).then_some(id);
        let set = SetAttr {
            uid: kept(uid),
            gid: kept(gid),
            kill_priv: true,
            ..SetAttr::default()
        };
        return tree.setattr(caller, ino, &set).map(drop).map_err(|error| error.0);
    }
    let device = Device::read(value).ok_or(Errno::EINVAL)?;
    let name = Name::new(device.name).map_err(|_| Errno::EINVAL)?;
    let kind = Kind::from_mode(device.mode).ok_or(Errno::EINVAL)?;
    tree.become_device(caller, (Ino(device.directory), name), ino, kind, device.rdev)
        .map_err(|error| error.0)
}

/// The value of [`OWNER`] of a file.
pub(super) fn owner(tree: &Tree, ino: Ino) -> Result<Vec<u8>, Errno> {
    let attr = tree.getattr(ino).map_err(|error| error.0)?;
    Ok(Owner {
        uid: attr.uid,
        gid: attr.gid,
    }
    .value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_were_written_and_no_others() {
        let owner = Owner { uid: 33, gid: LEAVE };
        assert_eq!(Owner::read(&owner.value()), Some(owner));
        assert_eq!(Owner::read(&[0; 7]), None);
        assert_eq!(Owner::read(&[0; 9]), None);
        let device = Device {
            directory: 7,
            name: b"null",
            mode: 0o020_000,
            rdev: 0x103,
        };
        assert_eq!(Device::read(&device.value()), Some(device));
        assert_eq!(Device::read(&[0; 15]), None);
    }
}
