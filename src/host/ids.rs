//! Which ids may the user map into a container? `/etc/subuid` and `/etc/subgid` (subuid(5)), newuidmap(1).

use std::ops::Range;

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
    /// The ids that exist inside: what a filesystem server may tell the kernel.
    pub fn inside(&self) -> (Vec<Range<u32>>, Vec<Range<u32>>) {
        let ranges = |ids: &[IdRange]| {
            ids.iter()
                .map(|id| id.inside..id.inside.saturating_add(id.count))
                .collect()
        };
        (ranges(&self.uids), ranges(&self.gids))
    }
}
