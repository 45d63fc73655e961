//! POSIX access control lists: what a new file inherits, and how a list and the permission bits follow each other
//! (acl(5); the kernel leaves both to the filesystem once it has negotiated `FUSE_POSIX_ACL`).
//!
//! A list is kept as the bytes of its extended attribute: version 2, then `{tag u16, perm u16, id u32}` each.

use nix::errno::Errno;

use crate::error::{Error, Result};

/// The attribute with the list that rules access.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute with the list that new files in a directory get.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: [u8; 4] = 2u32.to_le_bytes();
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Whom an entry names.
pub(crate) enum Who {
    User(u32),
    Group(u32),
}

/// The list without the entries of those whom `keep` leaves out. `None`: there are none, or it is no list.
pub(crate) fn without(value: &[u8], keep: impl Fn(Who) -> bool) -> Option<Vec<u8>> {
    let mut list = Acl::read(value).ok()?;
    let all = list.entries.len();
    list.entries.retain(|(tag, _, id)| match *tag {
        USER => keep(Who::User(*id)),
        GROUP => keep(Who::Group(*id)),
        _ => true,
    });
    (list.entries.len() < all).then(|| list.value())
}

/// A list, read from an attribute's value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Acl {
    /// Tag, permissions, id.
    entries: Vec<(u16, u16, u32)>,
}

impl Acl {
    /// Reads an attribute's value; EINVAL if it is no list.
    pub(super) fn read(value: &[u8]) -> Result<Acl> {
        let invalid = Error(Errno::EINVAL);
        let body = value.strip_prefix(&VERSION).ok_or(invalid)?;
        let (chunks, rest) = body.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(invalid);
        }
        let entries = chunks
            .iter()
            .map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| {
                let tag = u16::from_le_bytes([t0, t1]);
                (
                    tag,
                    u16::from_le_bytes([p0, p1]) & 7,
                    u32::from_le_bytes([i0, i1, i2, i3]),
                )
            })
            .collect();
        let acl = Acl { entries };
        let whole = [USER_OBJ, GROUP_OBJ, OTHER]
            .iter()
            .all(|tag| acl.perm(*tag).is_some());
        if whole { Ok(acl) } else { Err(invalid) }
    }

    /// The attribute's value.
    pub(super) fn value(&self) -> Vec<u8> {
        let mut value = VERSION.to_vec();
        for (tag, perm, id) in &self.entries {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&perm.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }

    fn perm(&self, tag: u16) -> Option<u16> {
        self.entries
            .iter()
            .find(|entry| entry.0 == tag)
            .map(|entry| entry.1)
    }

    fn set(&mut self, tag: u16, perm: u16) {
        self.entries
            .iter_mut()
            .filter(|entry| entry.0 == tag)
            .for_each(|entry| entry.1 = perm);
    }

    /// The entry that the group bits of the mode stand for.
    fn group_tag(&self) -> u16 {
        if self.perm(MASK).is_some() {
            MASK
        } else {
            GROUP_OBJ
        }
    }

    /// Does it say no more than permission bits can?
    pub(super) fn is_mode(&self) -> bool {
        self.entries.len() == 3
    }

    /// The nine permission bits that it stands for.
    pub(super) fn mode(&self) -> u16 {
        let perm = |tag| self.perm(tag).unwrap_or(0);
        perm(USER_OBJ) << 6 | perm(self.group_tag()) << 3 | perm(OTHER)
    }

    /// The list after chmod(2).
    pub(super) fn chmod(&mut self, mode: u16) {
        self.set(USER_OBJ, mode >> 6 & 7);
        self.set(self.group_tag(), mode >> 3 & 7);
        self.set(OTHER, mode & 7);
    }

    /// The access list of a new file that was asked for with `mode` in a directory with this default list.
    pub(super) fn inherited(&self, mode: u16) -> Acl {
        let mut acl = self.clone();
        acl.chmod(self.mode() & mode);
        acl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl {
            entries: entries.to_vec(),
        }
    }

    #[test]
    fn values_round_trip_and_nonsense_is_refused() {
        let list = acl(&[
            (1, 7, u32::MAX),
            (2, 5, 1000),
            (4, 5, u32::MAX),
            (0x10, 5, u32::MAX),
            (0x20, 0, u32::MAX),
        ]);
        assert_eq!(Acl::read(&list.value()), Ok(list.clone()));
        let value = list.value();
        for bad in [&value[..3], &value[1..], &value[..9], &VERSION[..], b""] {
            assert_eq!(Acl::read(bad), Err(Error(Errno::EINVAL)));
        }
    }

    #[test]
    fn the_mask_stands_for_the_group_bits() {
        let mut list = acl(&[(1, 7, 0), (2, 7, 1000), (4, 5, 0), (0x10, 6, 0), (0x20, 4, 0)]);
        assert_eq!(list.mode(), 0o764);
        list.chmod(0o610);
        assert_eq!((list.mode(), list.perm(GROUP_OBJ)), (0o610, Some(5)));
        assert!(!list.is_mode());
    }

    #[test]
    fn a_new_file_gets_no_more_than_it_asked_for() {
        let default = acl(&[(1, 7, 0), (2, 6, 1000), (4, 5, 0), (0x10, 7, 0), (0x20, 5, 0)]);
        assert_eq!(default.inherited(0o640).mode(), 0o640);
        assert_eq!(default.inherited(0o777).mode(), 0o775);
    }
}
