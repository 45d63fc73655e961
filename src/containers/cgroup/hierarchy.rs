//! Which hierarchies of cgroups are mounted, and which group of each is this process in?

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Controller, Version};

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// What it is for; of version 2 each group says that for itself.
    pub(super) controllers: Vec<Controller>,
    /// Its topmost group that is seen here.
    pub(super) top: PathBuf,
    /// The group that this process is in.
    pub(super) own: PathBuf,
}

/// Those of this process.
pub(super) fn all() -> Vec<Hierarchy> {
    // Without /proc there are none to be found.
    let read = |file: &str| fs::read_to_string(Path::new("/proc/self").join(file)).unwrap_or_default();
    parse(&read("cgroup"), &read("mountinfo"))
}

/// The controllers that a file of version 2 names.
pub(super) fn words(file: &Path) -> Vec<Controller> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|name| Controller::named(name.trim_start_matches('+')))
        .collect()
}

/// From cgroups(7)'s `/proc/self/cgroup` (`number:controllers:path`) and proc_pid_mountinfo(5).
fn parse(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(mount).collect();
    let hierarchy = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let version = if names.is_empty() {
            Version::Two
        } else {
            Version::One
        };
        let controllers: Vec<Controller> = names.split(',').filter_map(Controller::named).collect();
        if version == Version::One && controllers.is_empty() {
            return None;
        }
        let is_it = |mount: &&Mount<'_>| match version {
            Version::Two => mount.kind == "cgroup2",
            Version::One => mount.kind == "cgroup" && names.split(',').all(|name| mount.has(name)),
        };
        let found = mounts.iter().find(is_it)?;
        Some(Hierarchy {
            version,
            controllers,
            top: found.point.into(),
            own: found.place(path)?,
        })
    };
    groups.lines().filter_map(hierarchy).collect()
}

struct Mount<'a> {
    kind: &'a str,
    /// Which group is seen there.
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let mut after = after.split(' ');
    Some(Mount {
        root: before.next()?,
        point: before.next()?,
        kind: after.next()?,
        options: after.nth(1)?,
    })
}

impl Mount<'_> {
    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }

    /// Where a group is seen; `None`: nowhere, as of one outside of the cgroup namespace.
    fn place(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        let climbs = below.components().any(|part| part == Component::ParentDir);
        (!climbs).then(|| Path::new(self.point).join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_unified_hierarchy_of_a_user_session() {
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope";
        let found = parse(&format!("0::{path}\n"), UNIFIED);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].own, Path::new(&format!("/sys/fs/cgroup{path}")));
        assert_eq!(found[0].version, Version::Two);
    }

    #[test]
    fn hierarchies_of_version_1_are_found_by_their_controllers() {
        let mounts = "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 23 0:28 /a /sys/fs/cgroup/memory rw shared:1 master:2 - cgroup cgroup rw,memory\n\
                      33 23 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let groups = "4:memory:/a/b\n3:cpu,cpuacct:/\n2:name=systemd:/x\n1:pids:/nowhere\n0::/\n";
        let found = parse(groups, mounts);
        let own: Vec<&str> = found.iter().map(|one| one.own.to_str().unwrap()).collect();
        assert_eq!(own, ["/sys/fs/cgroup/memory/b", "/sys/fs/cgroup/cpu,cpuacct/"]);
        assert_eq!(found[1].controllers, [Controller::Cpu, Controller::Time]);
    }

    #[test]
    fn a_group_outside_of_the_namespace_is_none() {
        assert_eq!(parse("0::/../other\n", UNIFIED), []);
    }
}
