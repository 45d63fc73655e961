//! What does this machine offer an ordinary user? Read once per command, from a few small files; what only use can
//! tell (whether a user namespace may be made, /dev/fuse opened) is told by the call that fails, with [`namespace_remedy`].

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{getgid, getuid};

use super::IdMaps;
use super::account::login_name;
use super::ids::{Subordinate, clip, existing, spare, subordinates};

/// The machine as the caller sees it. Plain data, so that plans can be tested for machines that lack something.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The caller's user id.
    pub uid: u32,
    /// The caller's group id.
    pub gid: u32,
    /// The caller's login name, if `/etc/passwd` or the environment tell it.
    pub user: Option<String>,
    /// The caller's subordinate user ids, as far as they exist here.
    pub subuids: Vec<Subordinate>,
    /// The caller's subordinate group ids.
    pub subgids: Vec<Subordinate>,
    /// A range that the caller could be given, if there is one.
    pub spare_ids: Option<Range<u32>>,
    /// newuidmap(1) and newgidmap(1), if both are on the PATH.
    pub map_tools: Option<[PathBuf; 2]>,
    /// /sys/fs/cgroup is the unified hierarchy.
    pub cgroup2: bool,
    /// /proc shows the pid namespace that the caller is in.
    pub own_proc: bool,
}

impl Probe {
    /// Looks.
    pub fn now() -> Probe {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let user = login_name(uid);
        let names: Vec<String> = user.iter().cloned().chain([uid.to_string()]).collect();
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let (uids, gids) = (
            existing(&read("/proc/self/uid_map")),
            existing(&read("/proc/self/gid_map")),
        );
        let ranges = |file, existing| clip(subordinates(&read(file), &names), existing);
        Probe {
            uid,
            gid,
            user,
            subuids: ranges("/etc/subuid", &uids),
            subgids: ranges("/etc/subgid", &gids),
            spare_ids: spare(uid, &uids),
            map_tools: own_path("newuidmap").zip(own_path("newgidmap")).map(Into::into),
            cgroup2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            own_proc: fs::read_link("/proc/self")
                .is_ok_and(|pid| pid.as_os_str() == std::process::id().to_string().as_str()),
        }
    }

    /// The widest id maps that the caller may use: what belongs in a Spec's `linux.uidMappings` and `gidMappings`
    /// (see [`IdMaps::to_spec`]). The caller is 0 inside; with an id range and the tools, its ids follow from 1 on.
    pub fn id_maps(&self) -> IdMaps {
        if self.why_one_id().is_some() {
            return IdMaps::single(self.uid, self.gid);
        }
        IdMaps::ranges(self.uid, self.gid, &self.subuids, &self.subgids)
    }

    /// The same with the caller as this user and group inside, and all others around.
    pub fn kept_maps(&self, uid: u32, gid: u32) -> IdMaps {
        let (own, inside) = ((self.uid, self.gid), (uid, gid));
        match self.why_one_id() {
            Some(_) => IdMaps::kept(own, inside, &[], &[]),
            None => IdMaps::kept(own, inside, &self.subuids, &self.subgids),
        }
    }

    /// [`Probe::why_one_id`] as a warning.
    pub fn one_id_warning(&self) -> Option<String> {
        let why = self.why_one_id()?;
        Some(format!("containers have one user and one group only: {why}"))
    }

    /// Why [`Probe::id_maps`] holds one id only, with the administrator's remedy; `None` if it holds a range.
    pub fn why_one_id(&self) -> Option<String> {
        let name = self.user.clone().unwrap_or_else(|| self.uid.to_string());
        if self.subuids.is_empty() || self.subgids.is_empty() {
            let Some(Range { start, end }) = self.spare_ids else {
                return Some("this container has one user and one group only itself".to_owned());
            };
            let range = format!("{start}-{}", end - 1);
            return Some(format!(
                "{name} has no id range in /etc/subuid and /etc/subgid; an administrator can give one: \
                 usermod --add-subuids {range} --add-subgids {range} {name}"
            ));
        }
        self.map_tools.is_none().then(|| {
            "newuidmap and newgidmap are not on the PATH; an administrator can install the package uidmap \
             (shadow-utils on Fedora)"
                .to_owned()
        })
    }
}

/// What an administrator can do when a namespace is refused with this error, or a user namespace comes without
/// capabilities; none for errors of another kind. `limits` are the limits in question (namespaces(7)).
pub fn namespace_remedy(limits: &str, error: &io::Error) -> Option<String> {
    match error.raw_os_error().map(Errno::from_raw)? {
        Errno::ENOSPC | Errno::EUSERS if !user_namespaces_are_off() => Some(format!(
            "the limit {limits} is reached, or namespaces lie 32 deep; an administrator can raise it with sysctl"
        )),
        // EINVAL, ENOSYS: a kernel or a sandbox that knows no such namespaces.
        Errno::ENOSPC | Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOSYS => {
            Some(user_namespace_remedy().to_owned())
        }
        _ => None,
    }
}

/// As a file of the kernel says it.
fn user_namespaces_are_off() -> bool {
    fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|text| text.trim() == "0")
}

fn user_namespace_remedy() -> &'static str {
    let zero = |file: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == "0");
    let one = |file: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == "1");
    if one("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
        "AppArmor withholds capabilities in user namespaces; an administrator can allow them: \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for bryo"
    } else if user_namespaces_are_off() {
        "user namespaces are switched off; an administrator can allow them: sysctl -w user.max_user_namespaces=15000"
    } else if zero("/proc/sys/kernel/unprivileged_userns_clone") {
        "user namespaces are kept from ordinary users; an administrator can allow them: \
         sysctl -w kernel.unprivileged_userns_clone=1"
    } else {
        "a security profile forbids it; in a container, its seccomp profile must allow unshare and clone with CLONE_NEWUSER"
    }
}

/// Where each processor counts its throttling, which shows what others compute: to be hidden from containers.
pub fn thermal_throttles() -> Vec<String> {
    throttles_below("/sys/devices/system/cpu")
}

fn throttles_below(processors: &str) -> Vec<String> {
    let place = |name: &str| format!("{processors}/{name}/thermal_throttle");
    // All processors have it or none.
    if !Path::new(&place("cpu0")).exists() {
        return Vec::new();
    }
    let is_processor = |name: &String| {
        let number = name.strip_prefix("cpu").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let listed = fs::read_dir(processors).into_iter().flatten().flatten();
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    let mut places: Vec<String> = names.filter(is_processor).map(|name| place(&name)).collect();
    places.sort_unstable();
    places
}

fn own_path(program: &str) -> Option<PathBuf> {
    on_path(&std::env::var_os("PATH")?, program).next()
}

/// The programs of this name by this PATH, the one that it means first.
pub fn on_path(path: &OsStr, program: &str) -> impl Iterator<Item = PathBuf> {
    let usable = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|is| is.is_file() && is.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .map(move |directory| directory.join(program))
        .filter(usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        let range = vec![Subordinate {
            first: 100_000,
            count: 65_536,
        }];
        let tools = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"].map(PathBuf::from);
        Probe {
            uid: 1000,
            gid: 1000,
            user: Some("anna".into()),
            subuids: range.clone(),
            subgids: range,
            spare_ids: Some(100_000..165_536),
            map_tools: Some(tools),
            cgroup2: true,
            own_proc: true,
        }
    }

    #[test]
    fn every_processor_counts_its_throttling() {
        let directory = tempfile::tempdir().unwrap();
        let processors = directory.path().to_str().unwrap();
        assert_eq!(throttles_below(processors), [""; 0]);
        for name in ["cpu0", "cpu1", "cpu10", "cpufreq", "cpuidle", "power"] {
            fs::create_dir_all(directory.path().join(name).join("thermal_throttle")).unwrap();
        }
        let expected = ["cpu0", "cpu1", "cpu10"].map(|name| format!("{processors}/{name}/thermal_throttle"));
        assert_eq!(throttles_below(processors), expected);
    }

    #[test]
    fn a_range_needs_both_files_and_both_tools() {
        assert_eq!(probe().id_maps().uids.len(), 2);
        assert_eq!(probe().why_one_id(), None);
        let no_gids = Probe {
            subgids: vec![],
            ..probe()
        };
        assert!(no_gids.id_maps().is_single());
        assert!(
            no_gids.why_one_id().is_some_and(
                |why| why.contains("usermod --add-subuids 100000-165535") && why.contains("anna")
            )
        );
        let in_container = Probe {
            spare_ids: None,
            ..no_gids
        };
        assert!(
            in_container
                .why_one_id()
                .is_some_and(|why| why.contains("this container"))
        );
        let no_tools = Probe {
            map_tools: None,
            ..probe()
        };
        assert!(no_tools.id_maps().is_single());
        assert!(no_tools.why_one_id().is_some_and(|why| why.contains("uidmap")));
    }
}
