//! A container's cgroups: made before it starts, limited, removed when it has ended. `cgroup.json` in the container's
//! directory names them from before the first is made until the last is gone, so whoever finds it without a container that
//! runs removes what it names.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hierarchy::{self, Hierarchy};
use super::limits::{Limits, Line};
use super::place::{self, Place};
use super::{CgroupError, Controller, Settings, Version};
use crate::store::write::{Durability, replace};

const NAME: &str = "cgroup.json";

/// How long the dead may keep a group.
const DYING: Duration = Duration::from_secs(2);

/// One of a container's cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containers) struct Seat {
    pub(super) path: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containers) struct Group {
    pub(super) seats: Vec<Seat>,
}

/// What limits have no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::containers) struct Shortfall {
    /// The flags of controllers that are not there.
    flags: Vec<&'static str>,
    /// Memory is limited, but not swap.
    swap: bool,
    /// There are cgroups, but without these controllers.
    placed: bool,
}

/// Those of the container in this directory; none if it has none, or does not run.
pub(in crate::containers) fn of(container: &Path) -> Group {
    // It is written whole or not at all.
    let text = fs::read(container.join(NAME)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Does it name some, which a supervisor that was killed has left if none is there?
pub(in crate::containers) fn is_left(container: &Path) -> bool {
    container.join(NAME).exists()
}

/// Removes them. What a process is still in stays, and stays named.
pub(in crate::containers) fn remove(container: &Path) {
    remove_within(container, DYING);
}

/// The same, without waiting for the dead: it was waited for them before.
pub(in crate::containers) fn remove_now(container: &Path) {
    remove_within(container, Duration::ZERO);
}

fn remove_within(container: &Path, patience: Duration) {
    if !is_left(container) {
        return;
    }
    let group = of(container);
    let end = Instant::now() + patience;
    while !group.seats.iter().all(|seat| is_removed(&seat.path)) {
        if Instant::now() >= end {
            tracing::warn!("a cgroup of a container that has ended cannot be removed yet: {group:?}");
            return;
        }
        sleep(Duration::from_millis(5));
    }
    // If it stays, it names what is not there.
    let _ = fs::remove_file(container.join(NAME));
}

/// The group is gone, with those that the container made in it.
fn is_removed(path: &Path) -> bool {
    match fs::remove_dir(path) {
        Ok(()) => return true,
        Err(error) if error.kind() == ErrorKind::NotFound => return true,
        Err(_) => {}
    }
    let mut all = true;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // As deep as the kernel lets a path be long, at most.
            all &= is_removed(&entry.path());
        }
    }
    all && fs::remove_dir(path).is_ok()
}

impl Group {
    /// Makes those of a container. Where nobody may, there are none.
    ///
    /// # Errors
    /// [`CgroupError::Parent`]; one cannot be made in a place that is ours.
    pub(in crate::containers) fn make(
        container: &Path,
        id: &str,
        settings: &Settings,
    ) -> Result<Group, CgroupError> {
        remove(container);
        let needed = settings.limits.controllers();
        let places = place::find(&hierarchy::all(), &needed, settings.parent.as_deref())?;
        let seat = |place: &Place| Seat {
            path: place.directory.join(format!("bryo-{id}")),
            version: place.version,
            controllers: place.controllers.clone(),
        };
        let group = Group {
            seats: places.iter().map(seat).collect(),
        };
        if group.is_empty() {
            return Ok(group);
        }
        group.note(container)?;
        let made = group.seats.iter().try_for_each(Seat::make);
        made.inspect_err(|_| remove(container))?;
        Ok(group)
    }

    /// There are none.
    pub(in crate::containers) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Writes down what there is, before it is there. After a power cut nothing is.
    pub(in crate::containers) fn note(&self, container: &Path) -> Result<(), CgroupError> {
        let path = container.join(NAME);
        let failed = |path: &Path, source| CgroupError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        };
        let text = serde_json::to_vec(self).map_err(|error| failed(&path, error.into()))?;
        replace(container, &path, &text, Durability::Volatile)
            .map_err(|error| failed(&path, io::Error::other(error)))
    }

    /// Limits what is in them.
    ///
    /// # Errors
    /// [`CgroupError::Refused`].
    pub(in crate::containers) fn limit(&self, limits: &Limits) -> Result<Shortfall, CgroupError> {
        let asked = limits.lines(Version::Two);
        let missing = asked
            .iter()
            .filter(|line| self.with(line.controller).is_none())
            // What is not said follows from `--memory`.
            .filter(|line| line.flag != "--memory-swap" || limits.memory_swap.is_some())
            .map(|line| line.flag);
        let mut shortfall = Shortfall {
            placed: !self.is_empty(),
            ..Shortfall::default()
        };
        shortfall.flags.extend(missing);
        for seat in &self.seats {
            let lines = limits.lines(seat.version);
            let lines = lines
                .into_iter()
                .filter(|line| seat.controllers.contains(&line.controller));
            for flag in seat.limit(lines.collect())? {
                match flag {
                    "--memory-swap" => shortfall.swap = true,
                    flag => shortfall.flags.push(flag),
                }
            }
        }
        shortfall.flags.dedup();
        Ok(shortfall)
    }

    /// What the user is told if these groups lie beside the one that this process is in, and so are not limited as that is.
    pub(in crate::containers) fn outside(&self) -> Option<String> {
        let seat = self.seats.iter().find(|seat| seat.version == Version::Two)?;
        let all = hierarchy::all();
        let own = all.iter().find(|one| one.version == Version::Two)?;
        let left = place::left(&own.own, seat.path.parent()?);
        let files: Vec<String> = left.iter().map(|file| file.display().to_string()).collect();
        (!files.is_empty()).then(|| {
            format!(
                "the container's limits need a group beside the one that bryo was started in, whose own do not hold for it: {}",
                files.join(", ")
            )
        })
    }

    /// Asks the groups above for what is missing.
    pub(in crate::containers) fn widen(&mut self, limits: &Limits) {
        let needed: Vec<Controller> = limits.controllers();
        let missing: Vec<Controller> = needed
            .into_iter()
            .filter(|one| self.with(*one).is_none())
            .collect();
        for seat in &mut self.seats {
            if let (Version::Two, Some(above)) = (seat.version, seat.path.parent()) {
                let given = place::given(above, &missing);
                seat.controllers
                    .extend(missing.iter().filter(|one| given.contains(one)));
            }
        }
    }

    pub(super) fn with(&self, controller: Controller) -> Option<&Seat> {
        self.seats
            .iter()
            .find(|seat| seat.controllers.contains(&controller))
    }

    /// The files by which a process comes in.
    pub(in crate::containers) fn entries(&self) -> Vec<PathBuf> {
        self.seats
            .iter()
            .map(|seat| seat.path.join("cgroup.procs"))
            .collect()
    }
}

impl Seat {
    fn make(&self) -> Result<(), CgroupError> {
        let make = || match fs::create_dir(&self.path) {
            // Of a run that nobody noted, as by an older program; nobody is in it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_removed(&self.path) => {
                fs::create_dir(&self.path)
            }
            made => made,
        };
        make().map_err(|source| CgroupError::Io {
            action: "make the cgroup",
            path: self.path.clone(),
            source,
        })?;
        if self.version == Version::One && self.controllers.contains(&Controller::CpuSet) {
            self.inherit(["cpuset.cpus", "cpuset.mems"])?;
        }
        Ok(())
    }

    /// In version 1 a new group has no processors, and nobody can go there.
    fn inherit(&self, files: [&str; 2]) -> Result<(), CgroupError> {
        for file in files {
            let path = self.path.join(file);
            let above = self.path.with_file_name(file);
            let copied = place::read(&above).and_then(|text| place::write(&path, &text));
            copied.map_err(|source| CgroupError::Io {
                action: "write",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// Some depend on each other, as memory and memory with swap do: what is refused is tried again after the others. Gives
    /// the flags for which this kernel has no file. If one is refused in the end, all are what they were.
    fn limit(&self, lines: Vec<Line>) -> Result<Vec<&'static str>, CgroupError> {
        let files: Vec<PathBuf> = lines.iter().map(|line| self.path.join(line.file)).collect();
        let before: Vec<(&PathBuf, String)> = files
            .iter()
            .filter_map(|file| Some((file, place::read(file).ok()?)))
            .collect();
        self.set(lines).inspect_err(|_| {
            // Twice, as some depend on each other.
            for (file, text) in before.iter().chain(before.iter().rev()) {
                // What is empty is set so by a line that is.
                let _ = place::write(file, &format!("{text}\n"));
            }
        })
    }

    fn set(&self, lines: Vec<Line>) -> Result<Vec<&'static str>, CgroupError> {
        let (mut missing, mut again) = (Vec::new(), Vec::new());
        for line in lines {
            match place::write(&self.path.join(line.file), &line.text) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(line.flag),
                Err(_) => again.push(line),
            }
        }
        for line in again {
            let path = self.path.join(line.file);
            place::write(&path, &line.text).map_err(|source| CgroupError::Refused {
                flag: line.flag,
                text: line.text,
                path,
                source,
            })?;
        }
        Ok(missing)
    }
}

impl Shortfall {
    /// What the user is told: a line for each reason.
    pub(in crate::containers) fn warnings(&self) -> Vec<String> {
        // Docker's words.
        let swap = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
                    without swap.";
        let swap = self.swap.then(|| swap.to_owned());
        no_effect(&self.flags, self.placed)
            .into_iter()
            .chain(swap)
            .collect()
    }
}

fn no_effect(flags: &[&str], placed: bool) -> Option<String> {
    let (last, before) = flags.split_last()?;
    let list = match before {
        [] => (*last).to_owned(),
        _ => format!("{} and {last}", before.join(", ")),
    };
    let verb = if before.is_empty() { "has" } else { "have" };
    Some(format!("{list} {verb} no effect: {}", remedy(placed)))
}

/// Why there is no cgroup for a container, and what would help.
pub(super) fn remedy(placed: bool) -> String {
    remedy_of(&hierarchy::all(), placed).to_owned()
}

fn remedy_of(hierarchies: &[Hierarchy], placed: bool) -> &'static str {
    let limits = |one: &Hierarchy| {
        one.version == Version::One
            && one
                .controllers
                .iter()
                .any(|controller| !matches!(controller, Controller::Freezer | Controller::Time))
    };
    if hierarchies.is_empty() {
        "no cgroups are mounted here"
    } else if placed {
        "the cgroups in which bryo may make others do not have that controller; an administrator can give it to them (with \
         systemd by Delegate=yes for user@.service)"
    } else if hierarchies.iter().any(limits) {
        "cgroups of version 1 are not given to users; an administrator can boot with version 2 \
         (systemd.unified_cgroup_hierarchy=1), or give you groups in which you start bryo"
    } else {
        "bryo was started in a cgroup that is not yours: `systemd-run --user --scope bryo …` starts it in one that is \
         (for cpu and cpuset an administrator has to add Delegate=yes to user@.service)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(files: &[&str], controllers: &[Controller], version: Version) -> (tempfile::TempDir, Group) {
        let top = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(top.path().join(file), "").unwrap();
        }
        let seat = Seat {
            path: top.path().to_owned(),
            version,
            controllers: controllers.to_vec(),
        };
        (top, Group { seats: vec![seat] })
    }

    #[test]
    fn limits_are_written_into_the_files_of_version_2() {
        let (top, group) = seat(
            &["memory.max", "memory.swap.max", "pids.max"],
            &[Controller::Memory, Controller::Pids, Controller::Freezer],
            Version::Two,
        );
        let limits = Limits {
            memory: Some(64 << 20),
            pids: Some(7),
            nano_cpus: Some(500_000_000),
            ..Limits::default()
        };
        assert_eq!(group.limit(&limits).unwrap().flags, ["--cpus"]);
        let said = |file: &str| fs::read_to_string(top.path().join(file)).unwrap();
        assert_eq!(said("memory.max"), "67108864");
        assert_eq!(said("memory.swap.max"), "67108864");
        assert_eq!(said("pids.max"), "7");
    }

    #[test]
    fn a_kernel_without_a_limit_of_swap_is_told() {
        let (_top, group) = seat(&["memory.limit_in_bytes"], &[Controller::Memory], Version::One);
        let limits = Limits {
            memory: Some(64 << 20),
            ..Limits::default()
        };
        let warnings = group.limit(&limits).unwrap().warnings();
        assert!(
            warnings.len() == 1 && warnings[0].contains("without swap"),
            "{warnings:?}"
        );
    }

    #[test]
    fn the_warning_is_one_line_that_names_all() {
        let flags = ["--memory", "--cpus", "--pids-limit"];
        let text = no_effect(&flags, false).unwrap();
        assert!(
            text.starts_with("--memory, --cpus and --pids-limit have no effect: "),
            "{text}"
        );
        assert!(
            no_effect(&["--cpus"], true)
                .unwrap()
                .starts_with("--cpus has no effect: ")
        );
        assert_eq!(no_effect(&[], true), None);
        let version = |version| Hierarchy {
            version,
            controllers: vec![Controller::Memory],
            top: "/".into(),
            own: "/".into(),
        };
        assert!(remedy_of(&[version(Version::One), version(Version::Two)], false).contains("version 2"));
        assert!(remedy_of(&[version(Version::Two)], false).contains("systemd-run --user --scope"));
    }

    #[test]
    fn what_is_refused_half_way_changes_nothing() {
        let (top, group) = seat(
            &["memory.max"],
            &[Controller::Memory, Controller::Pids],
            Version::Two,
        );
        fs::write(top.path().join("memory.max"), "max\n").unwrap();
        // What cannot be written to stands for the kernel's refusal.
        fs::create_dir(top.path().join("pids.max")).unwrap();
        let limits = Limits {
            memory: Some(1 << 30),
            memory_swap: Some(-1),
            pids: Some(5),
            ..Limits::default()
        };
        assert!(matches!(group.limit(&limits), Err(CgroupError::Refused { .. })));
        let text = fs::read_to_string(top.path().join("memory.max")).unwrap();
        assert!(text.starts_with("max\n"), "{text}");
    }

    #[test]
    fn groups_within_go_first() {
        let top = tempfile::tempdir().unwrap();
        let group = top.path().join("bryo-1");
        fs::create_dir_all(group.join("a/b")).unwrap();
        fs::create_dir(group.join("c")).unwrap();
        assert!(is_removed(&group) && !group.exists());
        assert!(is_removed(&group));
    }
}
