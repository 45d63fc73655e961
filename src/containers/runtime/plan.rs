//! Which steps make this Spec a container? Pure: each refusal and each missing ability is a unit test.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Process, Spec,
};
use rustix::mount::MountPropagationFlags;

use super::crowd;
use super::limits;
use super::mounts;
use super::owners;
use super::seccomp;
use super::step::{Command, Keep, Namespaces, Node, NodeKind, Reaper, Step, UserNamespace};
use crate::host::{IdMaps, IdRange, Probe, ids};

/// The Spec's annotation that asks for an init of ours as pid 1 (`--init`); its value is `true`, or [`KEEP`].
pub const INIT: &str = "bryo.init";

/// Its value where init runs no command, and lives until it is told to end (`--join`).
pub const KEEP: &str = "keep";

/// The Spec's annotation that says which of the groups the user asked for (`--group-add`): a list for people, told when
/// they cannot be had.
pub const GROUPS_ASKED: &str = "bryo.groups-asked";

/// The Spec's annotation that gives a network namespace of the container's own a device and a way out: its addresses, as
/// JSON.
pub const NETWORK: &str = "bryo.network";
/// Its value if somebody else makes the device, in the namespace that is handed out.
pub const HANDED_OUT: &str = "handed out";

/// Where the container's root comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// A FUSE mount made over the Spec's `root.path`, an existing directory (nothing of it is shown).
    Fuse {
        /// How many descriptors of the connection [`super::Launch::devices`] is to give: one per server thread.
        devices: usize,
    },
    /// A directory, also mounted over the Spec's `root.path`, which may be the same.
    Path(PathBuf),
}

/// Ordered steps, ready to be carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) user_namespace: UserNamespace,
    pub(super) namespaces: Namespaces,
    /// How eager the kernel is to kill the command when memory is short.
    pub(super) oom_score: Option<i32>,
    pub(super) propagation: MountPropagationFlags,
    pub(super) root: RootSource,
    pub(super) place: PathBuf,
    /// Where the container's views are mounted, each as the root is.
    pub(in crate::containers) views: Vec<PathBuf>,
    pub(super) steps: Vec<Step>,
    pub(super) command: Command,
    /// Descriptors that the container's processes have no room for.
    pub(in crate::containers) foreign: Vec<RawFd>,
    /// Those of the caller that the command finds open besides its three streams.
    pub(in crate::containers) kept: Vec<RawFd>,
    /// Files by which the container's processes come into its cgroups.
    pub(in crate::containers) cgroups: Vec<PathBuf>,
    /// Notes of what the command will touch first (`fuse_overlay::fuse::touched`).
    pub(in crate::containers) touched: Vec<u8>,
    /// What cannot be done as asked, one line each, for the user.
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// The program of the command.
    pub(in crate::containers) fn program(&self) -> Option<&[u8]> {
        self.command.arguments.first().map(|program| program.as_bytes())
    }
}

/// Why a Spec cannot be carried out here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The Spec asks for something that Bryo does not do (yet).
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The Spec contradicts itself or the runtime specification.
    #[error("bad container configuration: {0}")]
    Invalid(String),
    /// The user or the machine lacks what the Spec needs.
    #[error("{what}: {remedy}")]
    Lacking {
        /// What cannot be done.
        what: String,
        /// Why, and what would help.
        remedy: String,
    },
}

/// Turns `spec` into steps for the machine that `host` describes.
///
/// # Errors
/// Refuses what cannot be done, rather than leaving it out.
pub fn plan(spec: &Spec, rootfs: RootSource, host: &Probe) -> Result<Plan, PlanError> {
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| invalid("it has no \"linux\" part"))?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| invalid("it has no \"process\" part"))?;
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| invalid("it has no \"root\" part"))?;
    refuse_unsupported(spec, linux, process)?;
    if !host.own_proc {
        return Err(PlanError::Lacking {
            what: "no container can be started here".to_owned(),
            remedy: "/proc is not this pid namespace's: in a container, the outer ones need \
                     --security-opt systempaths=unconfined"
                .to_owned(),
        });
    }
    let (user_namespace, namespaces) = namespaces(linux)?;
    let ids = Ids {
        maps: match &user_namespace {
            UserNamespace::Holder(maps) => Some(maps),
            UserNamespace::Path(_) => None,
        },
        host,
    };
    let mounts = mounts::steps(spec, &namespaces, &ids)?;
    let propagation = mounts.propagation;
    let mut steps = Vec::new();
    if namespaces.new.contains(CloneFlags::CLONE_NEWNET) {
        steps.push(network(spec)?);
    }
    steps.extend(mounts.steps);
    furnish(&mut steps, linux, process, &namespaces)?;
    if root.readonly().unwrap_or(false) {
        steps.push(Step::ReadOnlyRoot);
    }
    steps.push(Step::Pivot);
    steps.extend(names(spec, &namespaces)?);
    steps.push(Step::Gate);
    confinement(&mut steps, spec, linux, process, &ids)?;
    if let (Some(maps), RootSource::Fuse { .. }) = (ids.maps, &rootfs) {
        owners::plan(&mut steps, maps);
    }

    let warnings = ids
        .maps
        .and_then(|maps| groups_missed(spec, maps))
        .into_iter()
        .collect();
    Ok(Plan {
        user_namespace,
        namespaces,
        oom_score: process.oom_score_adj(),
        propagation,
        root: rootfs,
        place: root.path().clone(),
        views: Vec::new(),
        steps,
        command: command(spec, process)?,
        foreign: Vec::new(),
        kept: Vec::new(),
        cgroups: Vec::new(),
        touched: Vec::new(),
        warnings,
    })
}

/// What stands in the tree besides mounts, and what of it is hidden.
fn furnish(
    steps: &mut Vec<Step>,
    linux: &Linux,
    process: &Process,
    namespaces: &Namespaces,
) -> Result<(), PlanError> {
    for device in linux.devices().iter().flatten() {
        steps.push(self::device(device)?);
    }
    if process.terminal().unwrap_or(false) {
        let size = process
            .console_size()
            .map(|size| (cells(size.height()), cells(size.width())));
        steps.push(Step::Terminal {
            size,
            owner: process.user().uid(),
            console: true,
        });
    }
    if let Some(parameters) = linux.sysctl() {
        steps.push(Step::Sysctl(sysctls(parameters.iter(), namespaces)?));
    }
    for path in linux.readonly_paths().iter().flatten() {
        steps.push(Step::ReadOnly(absolute(Path::new(path))?));
    }
    for path in linux.masked_paths().iter().flatten() {
        steps.push(Step::Mask(absolute(Path::new(path))?));
    }
    steps.push(Step::MakeDirectory(absolute(process.cwd())?));
    Ok(())
}

fn network(spec: &Spec) -> Result<Step, PlanError> {
    match spec.annotations().as_ref().and_then(|notes| notes.get(NETWORK)) {
        None => Ok(Step::Loopback),
        Some(text) if text == HANDED_OUT => Ok(Step::HandOutNetwork),
        Some(text) => serde_json::from_str(text)
            .map(Step::Network)
            .map_err(|error| invalid(&format!("{NETWORK}: {error}"))),
    }
}

fn groups_missed(spec: &Spec, maps: &IdMaps) -> Option<String> {
    let asked = spec.annotations().as_ref()?.get(GROUPS_ASKED)?;
    maps.is_single()
        .then(|| format!("--group-add {asked} has no effect: with one id only, groups cannot be set"))
}

impl Plan {
    /// By what the container's processes are known, if it has no pid namespace of its own.
    pub(super) fn mark(&self) -> Option<String> {
        let shares = !self.namespaces.new.contains(CloneFlags::CLONE_NEWPID);
        let id = self.place.parent().and_then(|directory| directory.file_name());
        id.filter(|_| shares).map(|id| crowd::mark(&id.to_string_lossy()))
    }

    /// The same with other id maps, unless a step needs an id that they lack.
    pub(super) fn with_maps(&self, maps: IdMaps) -> Option<Plan> {
        let mut plan = Plan {
            user_namespace: UserNamespace::Holder(maps.clone()),
            ..self.clone()
        };
        for step in &mut plan.steps {
            match step {
                Step::Identity { uid, gid, .. }
                    if !ids::maps(&maps.uids, *uid) || !ids::maps(&maps.gids, *gid) =>
                {
                    return None;
                }
                // setgroups(2) is shut then; see `confinement`.
                Step::Identity { groups, .. } if maps.is_single() => *groups = None,
                Step::Identity { groups, .. }
                    if groups.iter().flatten().any(|gid| !ids::maps(&maps.gids, *gid)) =>
                {
                    return None;
                }
                Step::Make { source, .. } => mounts::drop_foreign_groups(source, &maps),
                _ => {}
            }
        }
        if let RootSource::Fuse { .. } = plan.root {
            owners::plan(&mut plan.steps, &maps);
        }
        Some(plan)
    }
}

/// Ids inside, for checks.
pub(super) struct Ids<'a> {
    /// None in a namespace that is joined by path: the kernel will tell.
    pub(super) maps: Option<&'a IdMaps>,
    pub(super) host: &'a Probe,
}

impl Ids<'_> {
    pub(super) fn has_gid(&self, gid: u32) -> bool {
        self.maps.is_none_or(|maps| ids::maps(&maps.gids, gid))
    }

    fn require(&self, uid: u32, gid: u32, more: &[u32]) -> Result<(), PlanError> {
        let Some(maps) = self.maps else { return Ok(()) };
        let missing_group = || {
            [gid]
                .iter()
                .chain(more)
                .copied()
                .find(|gid| !ids::maps(&maps.gids, *gid))
        };
        let what = if !ids::maps(&maps.uids, uid) {
            format!("user {uid} does not exist in the container")
        } else if let Some(gid) = missing_group() {
            format!("group {gid} does not exist in the container")
        } else {
            return Ok(());
        };
        let remedy = self.host.why_one_id().unwrap_or_else(|| {
            "it lies beyond the id range of /etc/subuid and /etc/subgid; an administrator can enlarge that".to_owned()
        });
        Err(PlanError::Lacking { what, remedy })
    }
}

fn refuse_unsupported(spec: &Spec, linux: &Linux, process: &Process) -> Result<(), PlanError> {
    let hooks = spec
        .hooks()
        .as_ref()
        .is_some_and(|hooks| *hooks != oci_spec::runtime::Hooks::default());
    let resources = linux.resources().as_ref().is_some_and(|resources| {
        // Device rules are a cgroup's; without one the user namespace forbids what they would.
        let mut rest = resources.clone();
        rest.set_devices(None);
        rest != oci_spec::runtime::LinuxResources::default()
    });
    let asked = [
        (hooks, "hooks"),
        (resources, "limiting resources by cgroups (linux.resources)"),
        (
            linux.net_devices().is_some(),
            "moving network devices (linux.netDevices)",
        ),
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy"),
        (linux.personality().is_some(), "linux.personality"),
        (linux.time_offsets().is_some(), "linux.timeOffsets"),
        (
            linux.mount_label().is_some(),
            "an SELinux label (linux.mountLabel)",
        ),
        (
            process.selinux_label().is_some(),
            "an SELinux label (process.selinuxLabel)",
        ),
        (
            process.apparmor_profile().is_some(),
            "an AppArmor profile (process.apparmorProfile)",
        ),
        (process.io_priority().is_some(), "process.ioPriority"),
        (process.scheduler().is_some(), "process.scheduler"),
        (process.exec_cpu_affinity().is_some(), "process.execCPUAffinity"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(PlanError::Unsupported(what.to_owned())),
        None => Ok(()),
    }
}

pub(super) fn namespaces(linux: &Linux) -> Result<(UserNamespace, Namespaces), PlanError> {
    let mut all = Namespaces {
        new: CloneFlags::empty(),
        join: Vec::new(),
    };
    let (mut user, mut mount) = (None, false);
    for namespace in linux.namespaces().iter().flatten() {
        let path = namespace
            .path()
            .as_ref()
            .filter(|path| !path.as_os_str().is_empty());
        let kind = match namespace.typ() {
            LinuxNamespaceType::User => {
                user = Some(match path {
                    Some(path) => UserNamespace::Path(path.clone()),
                    None => UserNamespace::Holder(IdMaps {
                        uids: ranges(linux.uid_mappings().as_deref())?,
                        gids: ranges(linux.gid_mappings().as_deref())?,
                    }),
                });
                continue;
            }
            LinuxNamespaceType::Mount if path.is_none() => {
                mount = true;
                continue;
            }
            LinuxNamespaceType::Mount => {
                return Err(PlanError::Unsupported("joining a mount namespace".to_owned()));
            }
            LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
            LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
            LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
            LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            LinuxNamespaceType::Time => return Err(PlanError::Unsupported("a time namespace".to_owned())),
        };
        match path {
            Some(path) => all.join.push((kind, path.clone())),
            None => all.new |= kind,
        }
    }
    let user =
        user.ok_or_else(|| PlanError::Unsupported("a container without a user namespace".to_owned()))?;
    if !mount {
        return Err(PlanError::Unsupported(
            "a container without a mount namespace".to_owned(),
        ));
    }
    Ok((user, all))
}

fn ranges(mappings: Option<&[LinuxIdMapping]>) -> Result<Vec<IdRange>, PlanError> {
    let mappings = mappings.filter(|mappings| !mappings.is_empty());
    let mappings =
        mappings.ok_or_else(|| invalid("a new user namespace needs uidMappings and gidMappings"))?;
    let range = |mapping: &LinuxIdMapping| {
        let (inside, outside, count) = (mapping.container_id(), mapping.host_id(), mapping.size());
        let fits = count > 0 && inside.checked_add(count).is_some() && outside.checked_add(count).is_some();
        fits.then_some(IdRange {
            inside,
            outside,
            count,
        })
        .ok_or_else(|| invalid("an id mapping is empty or too large"))
    };
    mappings.iter().map(range).collect()
}

fn device(device: &LinuxDevice) -> Result<Step, PlanError> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Character,
        LinuxDeviceType::B => NodeKind::Block,
        LinuxDeviceType::A | LinuxDeviceType::P => {
            return Err(PlanError::Unsupported(format!(
                "the device {}, which is neither b nor c",
                device.path().display()
            )));
        }
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| invalid("a device number is out of range"));
    let node = Node {
        kind,
        major: number(device.major())?,
        minor: number(device.minor())?,
    };
    Ok(Step::Device {
        path: absolute(device.path())?,
        node,
    })
}

/// Does a kernel parameter, by its name with dots, belong to one of these namespaces?
pub fn is_own_sysctl(name: &str, namespaces: CloneFlags) -> bool {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let has = |kind| namespaces.contains(kind);
    (name.starts_with("net.") && has(CloneFlags::CLONE_NEWNET))
        || ((IPC.contains(&name) || name.starts_with("fs.mqueue.")) && has(CloneFlags::CLONE_NEWIPC))
        || (name == "kernel.domainname" && has(CloneFlags::CLONE_NEWUTS))
}

/// Only parameters that belong to a namespace of the container; others would be the host's.
fn sysctls<'a>(
    parameters: impl Iterator<Item = (&'a String, &'a String)>,
    namespaces: &Namespaces,
) -> Result<Vec<(PathBuf, String)>, PlanError> {
    let mut sorted = Vec::new();
    for (name, value) in parameters {
        let name = name.replace('/', ".");
        if !is_own_sysctl(&name, namespaces.new) || name.split('.').any(str::is_empty) {
            return Err(PlanError::Unsupported(format!(
                "sysctl {name}, which is not the container's own,"
            )));
        }
        sorted.push((PathBuf::from(name.replace('.', "/")), value.clone()));
    }
    sorted.sort();
    Ok(sorted)
}

fn names(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    steps.extend(spec.hostname().clone().map(Step::Hostname));
    steps.extend(spec.domainname().clone().map(Step::Domainname));
    if !steps.is_empty() && !namespaces.new.contains(CloneFlags::CLONE_NEWUTS) {
        return Err(invalid("a host name of its own needs a uts namespace of its own"));
    }
    Ok(steps)
}

/// The order matters: what needs capabilities comes before they go, the filter comes last.
pub(super) fn confinement(
    steps: &mut Vec<Step>,
    spec: &Spec,
    linux: &Linux,
    process: &Process,
    ids: &Ids<'_>,
) -> Result<(), PlanError> {
    for limit in process.rlimits().iter().flatten() {
        steps.push(Step::Limit(
            limits::resource(limit.typ())?,
            limit.soft(),
            limit.hard(),
        ));
    }
    let user = process.user();
    // With one id only, the kernel keeps setgroups(2) shut, and the caller's groups stay: no reason to refuse an image
    // whose /etc/group puts root into others.
    let groups = user.additional_gids().clone();
    let groups = groups.filter(|_| ids.maps.is_none_or(|maps| !maps.is_single()));
    ids.require(user.uid(), user.gid(), groups.as_deref().unwrap_or_default())?;

    let (bounding, sets) = limits::capabilities(process.capabilities().as_ref());
    let filter = seccomp::programs(spec, linux.seccomp().as_ref(), &bounding)?;
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    steps.push(Step::Bounding(bounding));
    steps.push(Step::Identity {
        uid: user.uid(),
        gid: user.gid(),
        groups,
    });
    steps.push(Step::Enter(absolute(process.cwd())?));
    steps.push(Step::Umask(user.umask().unwrap_or(0o022) & 0o777));
    if no_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    let keep = if filter.is_empty() || no_new_privileges {
        Keep::None
    } else {
        Keep::SysAdmin
    };
    steps.push(Step::Capabilities {
        sets: Box::new(sets),
        keep,
    });
    if !filter.is_empty() {
        steps.push(Step::Seccomp(filter));
    }
    Ok(())
}

pub(super) fn command(spec: &Spec, process: &Process) -> Result<Command, PlanError> {
    let strings = |list: &Option<Vec<String>>| -> Result<Vec<CString>, PlanError> {
        let string =
            |text: &String| CString::new(text.as_str()).map_err(|_| invalid("an argument holds a zero byte"));
        list.iter().flatten().map(string).collect()
    };
    let arguments = strings(process.args())?;
    if arguments.first().is_none_or(|name| name.is_empty()) {
        return Err(invalid("no command is given"));
    }
    let init = spec.annotations().as_ref().and_then(|notes| notes.get(INIT));
    let reaper = match init.map(String::as_str) {
        Some("true") => Reaper::Ours,
        Some(KEEP) => Reaper::Keeper,
        _ => Reaper::Command,
    };
    Ok(Command {
        arguments,
        environment: strings(process.env())?,
        reaper,
    })
}

/// A path of the Spec: absolute, without `..`.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, PlanError> {
    let climbs = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || climbs || path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(invalid(&format!(
            "{:?} is not an absolute path without \"..\"",
            path
        )));
    }
    Ok(path.components().collect())
}

pub(super) fn cells(count: u64) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

pub(super) fn invalid(why: &str) -> PlanError {
    PlanError::Invalid(why.to_owned())
}

#[cfg(test)]
mod tests;
