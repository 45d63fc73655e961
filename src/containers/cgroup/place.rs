//! Where may a container's cgroups be made? In the groups that this process is in, if they are delegated to its user; in the
//! unified hierarchy also in those above, as far as they are: a group with processes of its own cannot give its children
//! controllers ("no internal processes"), but the one above can, and in a delegated part one may move processes from one group
//! to the other ("delegation containment": the files `cgroup.procs` of the target and of the nearest common ancestor count).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};

use super::hierarchy::{Hierarchy, words};
use super::{CgroupError, Controller, Version};

/// A group in which others can be made, with what those would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
    pub(super) controllers: Vec<Controller>,
}

/// The places of a container that needs these controllers, most of all; each controller is had once, from the unified
/// hierarchy first.
pub(super) fn find(
    hierarchies: &[Hierarchy],
    needed: &[Controller],
    parent: Option<&str>,
) -> Result<Vec<Place>, CgroupError> {
    let mut places: Vec<Place> = Vec::new();
    let (two, one): (Vec<_>, Vec<_>) = hierarchies
        .iter()
        .partition(|hierarchy| hierarchy.version == Version::Two);
    for hierarchy in two.into_iter().chain(one) {
        let candidates = match parent {
            Some(parent) => under(hierarchy, parent),
            None => delegated(hierarchy),
        };
        let had = |one: &Controller| places.iter().any(|place| place.controllers.contains(one));
        let new = match hierarchy.version {
            Version::Two => unified(&candidates, needed),
            Version::One => candidates.into_iter().next().map(|directory| Place {
                version: Version::One,
                directory,
                controllers: hierarchy
                    .controllers
                    .iter()
                    .copied()
                    .filter(|one| !had(one))
                    .collect(),
            }),
        };
        places.extend(new.filter(|place| !place.controllers.is_empty()));
    }
    match parent {
        Some(parent) if places.is_empty() => Err(CgroupError::Parent(parent.to_owned())),
        _ => Ok(places),
    }
}

/// The group `--cgroup-parent` names: an absolute path from the hierarchy's top, any other from the group we are in.
fn under(hierarchy: &Hierarchy, parent: &str) -> Vec<PathBuf> {
    let path = Path::new(parent);
    if path.components().any(|part| part == Component::ParentDir) {
        return Vec::new();
    }
    let directory = match path.strip_prefix("/") {
        Ok(below) => hierarchy.top.join(below),
        Err(_) => hierarchy.own.join(path),
    };
    if is_ours(&directory) {
        vec![directory]
    } else {
        Vec::new()
    }
}

/// The group we are in, and those above, nearest first, as far as they are delegated.
fn delegated(hierarchy: &Hierarchy) -> Vec<PathBuf> {
    let above = match hierarchy.version {
        Version::One => 1,
        Version::Two => usize::MAX,
    };
    let all = hierarchy
        .own
        .ancestors()
        .take_while(|directory| directory.starts_with(&hierarchy.top));
    all.take(above)
        .take_while(|directory| is_ours(directory))
        .map(Path::to_owned)
        .collect()
}

/// What containers could have here. Nothing is asked to give it.
pub(super) fn offered(hierarchies: &[Hierarchy]) -> BTreeSet<Controller> {
    let mut offered = BTreeSet::new();
    for hierarchy in hierarchies {
        for directory in delegated(hierarchy) {
            if hierarchy.version == Version::One {
                offered.extend(&hierarchy.controllers);
                continue;
            }
            offered.extend([Controller::Freezer, Controller::Time]);
            // One that has processes gives nothing else.
            let free = read(&directory.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty());
            let file = match free {
                true => "cgroup.controllers",
                false => "cgroup.subtree_control",
            };
            offered.extend(words(&directory.join(file)));
        }
    }
    offered
}

fn is_ours(directory: &Path) -> bool {
    let writable = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    writable(directory) && writable(&directory.join("cgroup.procs"))
}

/// The nearest with all that is needed, else the nearest of those with most of it.
fn unified(candidates: &[PathBuf], needed: &[Controller]) -> Option<Place> {
    let mut best: Option<(usize, Place)> = None;
    for directory in candidates {
        let mut controllers = given(directory, needed);
        let count = needed.iter().filter(|one| controllers.contains(one)).count();
        controllers.extend([Controller::Freezer, Controller::Time]);
        let place = Place {
            version: Version::Two,
            directory: directory.clone(),
            controllers,
        };
        if best.as_ref().is_none_or(|(most, _)| count > *most) {
            best = Some((count, place));
        }
    }
    best.map(|(_, place)| place)
}

/// The controllers that a group gives its children; those that are needed it is asked to give.
pub(super) fn given(directory: &Path, needed: &[Controller]) -> Vec<Controller> {
    let control = directory.join("cgroup.subtree_control");
    let mut given = words(&control);
    let there = words(&directory.join("cgroup.controllers"));
    for one in needed {
        // It refuses as long as it has processes of its own.
        if there.contains(one) && !given.contains(one) && write(&control, &format!("+{}", one.name())).is_ok()
        {
            given.push(*one);
        }
    }
    given
}

/// The limits that a group beside this one does not have: the files that set them in `own`, and in those above, below `place`.
pub(super) fn left(own: &Path, place: &Path) -> Vec<PathBuf> {
    // Not the number of processes: systemd limits that everywhere.
    let files = ["memory.max", "memory.high", "cpu.max", "cpuset.cpus"];
    let is_limit = |file: &PathBuf| read(file).is_ok_and(|text| !text.is_empty() && !text.starts_with("max"));
    if !own.starts_with(place) {
        return Vec::new();
    }
    let groups = own.ancestors().take_while(|group| *group != place);
    let all = groups.flat_map(|group| files.map(|file| group.join(file)));
    all.filter(is_limit).collect()
}

/// Writes to a file that is there, in one call.
pub(super) fn write(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    File::options().write(true).open(file)?.write_all(text.as_bytes())
}

/// What a file says, without its end of line.
pub(super) fn read(file: &Path) -> std::io::Result<String> {
    Ok(fs::read_to_string(file)?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group of a tree that looks like the kernel's.
    fn group(top: &Path, path: &str, controllers: &str, given: &str) -> PathBuf {
        let directory = top.join(path);
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in [
            ("cgroup.procs", ""),
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", given),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        directory
    }

    fn unified_at(top: &Path, own: &Path) -> Hierarchy {
        Hierarchy {
            version: Version::Two,
            controllers: Vec::new(),
            top: top.to_owned(),
            own: own.to_owned(),
        }
    }

    #[test]
    fn the_nearest_group_that_gives_what_is_needed_is_taken() {
        let top = tempfile::tempdir().unwrap();
        let slice = group(top.path(), "app.slice", "cpu memory pids\n", "memory pids\n");
        let own = group(top.path(), "app.slice/run.scope", "memory pids\n", "");
        let hierarchies = [unified_at(&slice, &own)];
        let place = |needed: &[Controller]| find(&hierarchies, needed, None).unwrap().remove(0);
        // A scope has its processes, and a file that takes nothing stands for the kernel's refusal.
        fs::remove_file(own.join("cgroup.controllers")).unwrap();
        assert_eq!(place(&[]).directory, own);
        let found = place(&[Controller::Memory]);
        assert_eq!(found.directory, slice);
        assert!(found.controllers.contains(&Controller::Pids));
        assert!(found.controllers.contains(&Controller::Freezer));
        assert!(!found.controllers.contains(&Controller::Cpu));
        // It is asked for what it does not give yet.
        assert!(place(&[Controller::Cpu]).controllers.contains(&Controller::Cpu));
        let asked = read(&slice.join("cgroup.subtree_control")).unwrap();
        assert!(asked.starts_with("+cpu"), "{asked}");
        // None of them has it.
        assert!(
            !place(&[Controller::CpuSet])
                .controllers
                .contains(&Controller::CpuSet)
        );
    }

    #[test]
    fn what_the_unified_hierarchy_has_is_not_had_twice() {
        let top = tempfile::tempdir().unwrap();
        let own = group(top.path(), "two", "", "");
        let freezer = group(top.path(), "freezer", "", "");
        let memory = group(top.path(), "memory", "", "");
        let one = |directory: &Path, controller| Hierarchy {
            version: Version::One,
            controllers: vec![controller],
            top: directory.to_owned(),
            own: directory.to_owned(),
        };
        let hierarchies = [
            one(&freezer, Controller::Freezer),
            one(&memory, Controller::Memory),
            unified_at(&own, &own),
        ];
        let found = find(&hierarchies, &[Controller::Memory], None).unwrap();
        let places: Vec<&Path> = found.iter().map(|place| place.directory.as_path()).collect();
        assert_eq!(places, [own.as_path(), memory.as_path()]);
    }

    #[test]
    fn what_is_offered_is_what_a_container_would_get() {
        let top = tempfile::tempdir().unwrap();
        let slice = group(top.path(), "app.slice", "memory pids\n", "");
        let own = group(top.path(), "app.slice/run.scope", "memory pids\n", "");
        fs::write(own.join("cgroup.procs"), "17\n").unwrap();
        let core = [Controller::Freezer, Controller::Time];
        let offered = |top: &Path| Vec::from_iter(offered(&[unified_at(top, &own)]));
        assert_eq!(offered(&own), core);
        let all = [&[Controller::Memory, Controller::Pids][..], &core].concat();
        assert_eq!(offered(&slice), all);
        assert_eq!(read(&slice.join("cgroup.subtree_control")).unwrap(), "");
    }

    #[test]
    fn limits_that_are_left_are_known() {
        let top = tempfile::tempdir().unwrap();
        let slice = group(top.path(), "app.slice", "memory\n", "memory\n");
        let own = group(top.path(), "app.slice/run.scope", "memory\n", "");
        fs::write(slice.join("memory.max"), "900\n").unwrap();
        fs::write(own.join("memory.max"), "max\n").unwrap();
        fs::write(own.join("cpuset.cpus"), "\n").unwrap();
        assert_eq!(left(&own, &slice), [] as [PathBuf; 0]);
        fs::write(own.join("memory.max"), "500\n").unwrap();
        fs::write(own.join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(left(&own, &slice), [own.join("memory.max"), own.join("cpu.max")]);
        // In the group itself all hold.
        assert_eq!(left(&own, &own), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_parent_is_one_of_ours_or_refused() {
        let top = tempfile::tempdir().unwrap();
        let own = group(top.path(), "own", "", "");
        let other = group(top.path(), "other", "", "");
        let inner = group(top.path(), "own/inner", "", "");
        let hierarchies = [unified_at(top.path(), &own)];
        let place = |parent| Ok::<_, CgroupError>(find(&hierarchies, &[], Some(parent))?.remove(0).directory);
        assert_eq!(place("/other").unwrap(), other);
        assert_eq!(place("inner").unwrap(), inner);
        for parent in ["/nowhere", "../other", "other", "/own/../other"] {
            let error = place(parent).unwrap_err().to_string();
            assert!(error.contains(&format!("--cgroup-parent {parent}: ")), "{error}");
        }
    }
}
