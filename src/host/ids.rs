//! Which ids may the user map into a container? `/etc/subuid` and `/etc/subgid` (subuid(5)).

use std::ops::Range;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

/// As whose the kernel shows what belongs to no id inside (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65_534;

/// A run of ids: `inside` … in the container are `outside` … on the host, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdRange {
    /// First id in the container.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many; never 0.
    pub count: u32,
}

/// The id maps of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// One user and one group, root inside: what every user may map without any help.
    pub fn single(uid: u32, gid: u32) -> IdMaps {
        let one = |outside| {
            vec![IdRange {
                inside: 0,
                outside,
                count: 1,
            }]
        };
        IdMaps {
            uids: one(uid),
            gids: one(gid),
        }
    }

    /// The caller as root, its subordinate ids from 1 on.
    pub(super) fn ranges(uid: u32, gid: u32, subuids: &[Subordinate], subgids: &[Subordinate]) -> IdMaps {
        let mut maps = IdMaps::single(uid, gid);
        extend(&mut maps.uids, subuids);
        extend(&mut maps.gids, subgids);
        maps
    }

    /// The caller as this user and group, its subordinate ids around that from 0 on.
    pub(super) fn kept(
        own: (u32, u32),
        inside: (u32, u32),
        subuids: &[Subordinate],
        subgids: &[Subordinate],
    ) -> IdMaps {
        IdMaps {
            uids: around(own.0, inside.0, subuids),
            gids: around(own.1, inside.1, subgids),
        }
    }

    /// Is the caller root inside?
    pub fn is_root(&self, uid: u32, gid: u32) -> bool {
        self.shown(uid, gid) == (0, 0)
    }

    /// Whether the kernel lets an ordinary user write these maps without newuidmap: one id each, its own.
    pub fn is_single(&self) -> bool {
        let one = |ids: &[IdRange]| matches!(ids, [id] if id.count == 1);
        one(&self.uids) && one(&self.gids)
    }

    /// The ids that exist inside: what a filesystem server may tell the kernel.
    pub fn inside(&self) -> (Vec<Range<u32>>, Vec<Range<u32>>) {
        let ranges = |ids: &[IdRange]| {
            ids.iter()
                .map(|id| id.inside..id.inside.saturating_add(id.count))
                .collect()
        };
        (ranges(&self.uids), ranges(&self.gids))
    }

    /// The owner inside of a file of the host's user and group: nobody's where the maps have none.
    pub fn shown(&self, uid: u32, gid: u32) -> (u32, u32) {
        let inside = |ids: &[IdRange], id: u32| {
            let mapped = |range: &IdRange| {
                let place = id.checked_sub(range.outside)?;
                (place < range.count).then(|| range.inside + place)
            };
            ids.iter().find_map(mapped).unwrap_or(NOBODY)
        };
        (inside(&self.uids, uid), inside(&self.gids, gid))
    }

    /// The maps as a Spec's `linux.uidMappings` and `linux.gidMappings`.
    pub fn to_spec(&self) -> (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>) {
        let mappings = |ids: &[IdRange]| {
            ids.iter()
                .filter_map(|id| {
                    let mapping = LinuxIdMappingBuilder::default().container_id(id.inside);
                    mapping.host_id(id.outside).size(id.count).build().ok()
                })
                .collect()
        };
        (mappings(&self.uids), mappings(&self.gids))
    }
}

/// Whether `id`, of the container, is mapped.
pub fn maps(ids: &[IdRange], id: u32) -> bool {
    ids.iter()
        .any(|range| id >= range.inside && id - range.inside < range.count)
}

/// One line of `/etc/subuid` or `/etc/subgid`: ids that the user may map besides its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subordinate {
    /// First id on the host.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The entries of `text` for the user of these names (login name, uid in digits). Lines that cannot be read are
/// skipped, as newuidmap(1) does.
pub(super) fn subordinates(text: &str, names: &[String]) -> Vec<Subordinate> {
    let entry = |line: &str| {
        let mut fields = line.trim().splitn(3, ':');
        let owner = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let fits = count > 0 && u32::checked_add(first, count).is_some();
        (fits && names.iter().any(|name| name == owner)).then_some(Subordinate { first, count })
    };
    text.lines().filter_map(entry).collect()
}

/// The ranges of a process's uid_map or gid_map (user_namespaces(7)), its `text` in /proc.
pub fn mapped(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse);
        let mut number = || fields.next()?.ok();
        Some(IdRange {
            inside: number()?,
            outside: number()?,
            count: number()?,
        })
    };
    text.lines().filter_map(range).collect()
}

/// The ids that exist in a user namespace, by its `text` in /proc/self/uid_map or gid_map (user_namespaces(7)).
pub(super) fn existing(text: &str) -> Vec<Range<u32>> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.nth(1)?.parse().ok()?;
        Some(first..first.saturating_add(count))
    };
    let mut runs: Vec<Range<u32>> = Vec::new();
    for next in text.lines().filter_map(range) {
        match runs.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ => runs.push(next),
        }
    }
    runs
}

/// Of `ranges`, what exists: in a container, `useradd` gives ranges that only the machine around it has.
pub(super) fn clip(ranges: Vec<Subordinate>, existing: &[Range<u32>]) -> Vec<Subordinate> {
    let common = |range: &Subordinate, here: &Range<u32>| {
        let first = range.first.max(here.start);
        let end = range.first.saturating_add(range.count).min(here.end);
        (first < end).then(|| Subordinate {
            first,
            count: end - first,
        })
    };
    let parts = ranges
        .iter()
        .flat_map(|range| existing.iter().filter_map(move |here| common(range, here)));
    parts.collect()
}

/// A range that an administrator can give to the user `uid`: the usual one, or where that does not exist, as in a
/// container, the ids from the next on.
pub(super) fn spare(uid: u32, existing: &[Range<u32>]) -> Option<Range<u32>> {
    let has = |range: &Range<u32>| {
        existing
            .iter()
            .any(|here| here.start <= range.start && range.end <= here.end)
    };
    let behind = existing
        .iter()
        .find(|here| here.contains(&uid))
        .map(|here| uid + 1..here.end);
    [Some(100_000..165_536), behind]
        .into_iter()
        .flatten()
        .find(|range| !range.is_empty() && has(range))
}

fn extend(ids: &mut Vec<IdRange>, more: &[Subordinate]) {
    let mut inside: u32 = 1;
    for Subordinate { first, count } in more {
        let Some(next) = inside.checked_add(*count) else {
            return;
        };
        ids.push(IdRange {
            inside,
            outside: *first,
            count: *count,
        });
        inside = next;
    }
}

/// One's own id at `place`, others before and behind it.
fn around(own: u32, place: u32, more: &[Subordinate]) -> Vec<IdRange> {
    let range = |inside, outside, count| IdRange {
        inside,
        outside,
        count,
    };
    let mut ids = vec![range(place, own, 1)];
    let mut next: u32 = 0;
    for Subordinate { first, count } in more {
        let before = place.saturating_sub(next).min(*count);
        let behind = count - before;
        if before > 0 {
            ids.push(range(next, *first, before));
            next += before;
        }
        if behind > 0 {
            // The place itself is taken.
            let start = next.max(place.saturating_add(1));
            let Some(end) = start.checked_add(behind) else {
                break;
            };
            ids.push(range(start, first + before, behind));
            next = end;
        }
    }
    ids.sort_by_key(|range| range.inside);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callers_readable_lines_count() {
        let text = "root:1:5\nanna:100000:65536\n1000:300000:10\nanna:x:1\nanna:4294967295:2\nanna:7:0\n# anna:1:1\n";
        let names = ["anna".to_owned(), "1000".to_owned()];
        let found = subordinates(text, &names);
        let expected = [(100_000, 65_536), (300_000, 10)].map(|(first, count)| Subordinate { first, count });
        assert_eq!(found, expected);
    }

    #[test]
    fn only_ids_that_exist_are_mapped_or_proposed() {
        let everywhere = existing("         0          0 4294967295\n");
        let container = existing("         0       1001          1\n         1    1000000      65536\n");
        assert_eq!(format!("{container:?}"), "[0..65537]");
        let range = |first, count| Subordinate { first, count };
        let usual = vec![range(100_000, 65_536)];
        assert_eq!(clip(usual.clone(), &everywhere), usual);
        assert_eq!(clip(usual, &container), []);
        assert_eq!(
            clip(vec![range(2000, 10), range(60_000, 10_000)], &container),
            [range(2000, 10), range(60_000, 5537)]
        );
        assert_eq!(spare(0, &everywhere), Some(100_000..165_536));
        assert_eq!(spare(0, &container), Some(1..65_537));
        assert_eq!(spare(1000, &container), Some(1001..65_537));
        assert_eq!(spare(0, &existing("0 1002 1")), None);
    }

    #[test]
    fn the_caller_is_itself_inside_with_its_ranges_around() {
        let sub = |first, count| Subordinate { first, count };
        let shape = |place, more: &[Subordinate]| -> Vec<_> {
            let ids = around(1000, place, more);
            ids.iter().map(|id| (id.inside, id.outside, id.count)).collect()
        };
        let usual = [sub(100_000, 65_536)];
        let three = [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64_536)];
        assert_eq!(shape(1000, &usual), three);
        assert_eq!(shape(0, &usual), [(0, 1000, 1), (1, 100_000, 65_536)]);
        assert_eq!(shape(70_000, &usual), [(0, 100_000, 65_536), (70_000, 1000, 1)]);
        assert_eq!(shape(65_536, &usual), [(0, 100_000, 65_536), (65_536, 1000, 1)]);
        assert_eq!(shape(7, &[]), [(7, 1000, 1)]);
        let two = [sub(10, 5), sub(30, 5)];
        assert_eq!(shape(5, &two), [(0, 10, 5), (5, 1000, 1), (6, 30, 5)]);
        assert_eq!(shape(7, &two), [(0, 10, 5), (5, 30, 2), (7, 1000, 1), (8, 32, 3)]);
        let maps = IdMaps::kept((1000, 100), (1000, 100), &usual, &usual);
        assert_eq!(maps.shown(1000, 100), (1000, 100));
        assert!(!maps.is_root(1000, 100) && IdMaps::kept((7, 7), (0, 0), &[], &[]).is_root(7, 7));
    }

    #[test]
    fn the_caller_is_root_inside_and_its_ranges_follow() {
        let range = Subordinate {
            first: 100_000,
            count: 65_536,
        };
        let more = Subordinate {
            first: 300_000,
            count: 10,
        };
        let maps_ = IdMaps::ranges(1000, 100, &[range, more], &[range]);
        assert_eq!(
            maps_.uids[2],
            IdRange {
                inside: 65_537,
                outside: 300_000,
                count: 10
            }
        );
        assert!(maps(&maps_.uids, 65_546) && !maps(&maps_.uids, 65_547) && !maps(&maps_.gids, 65_537));
        assert_eq!(maps_.shown(1000, 100), (0, 0));
        assert_eq!(maps_.shown(300_009, 100_000), (65_546, 1));
        assert_eq!(maps_.shown(300_010, 99), (65_534, 65_534));
        assert!(!maps_.is_single() && IdMaps::single(1000, 100).is_single());
        assert_eq!(maps_.inside().1, [0..1, 1..65_537]);
    }
}
