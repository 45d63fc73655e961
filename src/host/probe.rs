//! What does this machine offer an ordinary user? Read once per command; cheap (a few small files).

use std::path::PathBuf;

use super::{IdMaps, IdRange};

/// The machine as the caller sees it. Plain data, so that plans can be tested for machines that lack something.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The caller's user id.
    pub uid: u32,
    /// The caller's group id.
    pub gid: u32,
    /// The caller's subordinate user ids, as (first, count).
    pub subuids: Vec<(u32, u32)>,
    /// The caller's subordinate group ids.
    pub subgids: Vec<(u32, u32)>,
    /// newuidmap(1) and newgidmap(1), if both are on the PATH.
    pub map_tools: Option<[PathBuf; 2]>,
}

impl Probe {
    /// Looks.
    pub fn now() -> Probe {
        Probe {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            subuids: Vec::new(),
            subgids: Vec::new(),
            map_tools: None,
        }
    }

    /// The widest id maps that the caller may use: what belongs in a Spec's `linux.uidMappings` and `gidMappings`
    /// (see [`IdMaps::to_spec`]). The caller is 0 inside; with an id range, its ids follow from 1 on.
    pub fn id_maps(&self) -> IdMaps {
        let one = |outside| {
            vec![IdRange {
                inside: 0,
                outside,
                count: 1,
            }]
        };
        IdMaps {
            uids: one(self.uid),
            gids: one(self.gid),
        }
    }
}
