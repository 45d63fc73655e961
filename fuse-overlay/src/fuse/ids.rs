//! Which owner is the kernel told? The kernel refuses most work on an inode whose owner its mount's user namespace
//! does not map (append is EACCES, chmod and rename are EOVERFLOW, even for the container's root), so it never hears of
//! such an owner. Index and journal keep the truth.

use std::ops::Range;
use std::{fs, io};

use crate::attr::Attr;
use crate::union::acl;

/// "nobody" of Linux, shown for an owner that is not mapped, if it is mapped itself.
const OVERFLOW_ID: u32 = 65534;
/// Set-user-id and set-group-id.
pub(super) const SET_ID_BITS: u16 = 0o6000;

/// Which ids the mount's user namespace maps, as ranges inside it. The kernel refuses most work on an inode whose owner
/// it cannot map, so it is told another owner then: 65534 if that is mapped, else 0, else whoever is; and no set-id bits.
#[derive(Clone, Debug, Default)]
pub struct IdMap {
    /// Mapped user ids.
    pub uids: Vec<Range<u32>>,
    /// Mapped group ids.
    pub gids: Vec<Range<u32>>,
}

impl IdMap {
    /// Every id, as in the first user namespace.
    pub fn all() -> IdMap {
        // `u32::MAX` is no id: it means "none" to chown(2) and to the kernel.
        #[allow(clippy::single_range_in_vec_init)]
        let every = vec![0..u32::MAX];
        IdMap {
            uids: every.clone(),
            gids: every,
        }
    }

    /// What the user namespace of process `pid` maps.
    ///
    /// # Errors
    /// There is no such process, or /proc is not to be read.
    pub fn of_process(pid: u32) -> io::Result<IdMap> {
        let map = |name| fs::read_to_string(format!("/proc/{pid}/{name}"));
        Ok(IdMap {
            uids: parse(&map("uid_map")?)?,
            gids: parse(&map("gid_map")?)?,
        })
    }

    /// Is one user and one group all there is? Then all other owners are said by [`super::owners`].
    pub(super) fn is_single(&self) -> bool {
        let one = |ranges: &[Range<u32>]| matches!(ranges, [range] if range.len() == 1);
        one(&self.uids) && one(&self.gids)
    }

    /// A POSIX access control list as the kernel may know it, which takes none with an id that it cannot map: without the
    /// entries of those who cannot be here. `None`: as it is, or no list.
    pub(super) fn shown_list(&self, value: &[u8]) -> Option<Vec<u8>> {
        acl::without(value, |who| match who {
            acl::Who::User(id) => holds(&self.uids, id),
            acl::Who::Group(id) => holds(&self.gids, id),
        })
    }

    /// The attributes as the kernel may know them.
    pub(super) fn shown(&self, attr: &Attr) -> Attr {
        match (stand_in(&self.uids, attr.uid), stand_in(&self.gids, attr.gid)) {
            (None, None) => *attr,
            (uid, gid) => Attr {
                uid: uid.unwrap_or(attr.uid),
                gid: gid.unwrap_or(attr.gid),
                perm: attr.perm & !SET_ID_BITS,
                ..*attr
            },
        }
    }
}

/// Reads lines of "first inside, first outside, count" (user_namespaces(7)).
fn parse(map: &str) -> io::Result<Vec<Range<u32>>> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => Ok(first..first.saturating_add(count)),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("id map line {line:?}"),
            )),
        }
    };
    map.lines().map(range).collect()
}

fn holds(mapped: &[Range<u32>], id: u32) -> bool {
    mapped.iter().any(|range| range.contains(&id))
}

/// Who is shown in place of `id`, if it is not mapped.
fn stand_in(mapped: &[Range<u32>], id: u32) -> Option<u32> {
    let maps = |id| holds(mapped, id);
    if maps(id) {
        None
    } else if maps(OVERFLOW_ID) {
        Some(OVERFLOW_ID)
    } else if maps(0) {
        Some(0)
    } else {
        mapped.first().map(|range| range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::{Ino, Kind, Time};

    fn setuid_file(uid: u32, gid: u32) -> Attr {
        let zero = Time::default();
        Attr {
            ino: Ino(2),
            kind: Kind::Regular,
            perm: 0o6755,
            uid,
            gid,
            nlink: 1,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: zero,
            mtime: zero,
            ctime: zero,
        }
    }

    fn shown(map: &IdMap, uid: u32, gid: u32) -> (u32, u32, u16) {
        let attr = map.shown(&setuid_file(uid, gid));
        (attr.uid, attr.gid, attr.perm)
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn one_mapped_id_stands_for_all_and_lends_nobody_its_rights() {
        let map = IdMap {
            uids: vec![0..1],
            gids: vec![0..1],
        };
        assert_eq!(shown(&map, 0, 0), (0, 0, 0o6755));
        assert_eq!(shown(&map, 33, 0), (0, 0, 0o755));
        assert_eq!(shown(&map, 0, 4), (0, 0, 0o755));
        assert!(map.is_single() && !IdMap::all().is_single());
        let other = IdMap {
            uids: vec![1000..1001],
            gids: vec![100..101],
        };
        assert_eq!(shown(&other, 0, 0), (1000, 100, 0o755));
        assert_eq!(shown(&other, 1000, 100), (1000, 100, 0o6755));
    }

    #[test]
    fn reads_an_id_map() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(parse(map).unwrap(), [0..1, 1..65537]);
        assert!(parse("0 0").is_err());
    }

    #[test]
    fn an_owner_outside_a_range_is_nobody() {
        let map = IdMap {
            uids: vec![0..1, 1..65536],
            gids: vec![0..1, 1..65536],
        };
        assert_eq!(shown(&map, 33, 65535), (33, 65535, 0o6755));
        assert_eq!(shown(&map, 172_761_424, 33), (65534, 33, 0o755));
    }
}
