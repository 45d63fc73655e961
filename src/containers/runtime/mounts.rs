//! Which mounts does the Spec ask for, and as what can an ordinary user make them? Pure.

use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Mount, Spec};
use rustix::mount::MountPropagationFlags;

use super::options::{self, Attributes, HANDED, Parameter};
use super::plan::{Ids, PlanError, absolute, invalid};
use super::step::{Links, Namespaces, Source, Step};
use crate::host::{IdMaps, ids};
use crate::sys::Depth;

/// The mounts' part of a plan.
pub(super) struct Mounts {
    pub(super) steps: Vec<Step>,
    /// Of the whole mount namespace before anything is mounted.
    pub(super) propagation: MountPropagationFlags,
}

/// All are made before any is attached: making needs nothing of the root, whose server may be starting meanwhile.
pub(super) fn steps(spec: &Spec, namespaces: &Namespaces, ids: &Ids<'_>) -> Result<Mounts, PlanError> {
    let (mut make, mut attach) = (Vec::new(), Vec::new());
    let mut receives = false;
    let (mut own_dev, mut any_dev) = (false, false);
    for mount in spec.mounts().iter().flatten() {
        let target = absolute(mount.destination())?;
        if target == Path::new("/") {
            return Err(invalid("a mount on / would hide the image"));
        }
        let (source, attributes) = source(mount, &target, namespaces, ids)?;
        receives |= attributes.propagation & (libc::MS_SLAVE | libc::MS_SHARED) != 0;
        if target == Path::new("/dev") {
            own_dev = matches!(source, Source::Filesystem { .. });
            any_dev = true;
        }
        let links = match &source {
            Source::Filesystem { kind, .. } if kind == "proc" || kind == "sysfs" => Links::Refused,
            Source::Bind { .. } if ["/sys", "/proc"].map(Path::new).contains(&target.as_path()) => {
                Links::Refused
            }
            _ => Links::Inside,
        };
        make.push(Step::Make { source, attributes });
        attach.push(Step::Attach { target, links });
    }
    let mut steps = make;
    steps.append(&mut attach);
    if own_dev || !any_dev {
        steps.push(Step::StandardDevices);
    }
    receives |= match spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation().as_deref())
    {
        None | Some("" | "private" | "rprivate") => false,
        Some("slave" | "rslave") => true,
        Some(other) => return Err(PlanError::Unsupported(format!("rootfsPropagation \"{other}\""))),
    };
    let propagation = if receives {
        MountPropagationFlags::DOWNSTREAM
    } else {
        MountPropagationFlags::PRIVATE
    };
    Ok(Mounts { steps, propagation })
}

fn source(
    mount: &Mount,
    target: &Path,
    namespaces: &Namespaces,
    ids: &Ids<'_>,
) -> Result<(Source, Attributes), PlanError> {
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(PlanError::Unsupported(
            "a mount with id mappings of its own".to_owned(),
        ));
    }
    let mut sorted =
        options::parse(mount.options().as_deref().unwrap_or_default()).map_err(PlanError::Unsupported)?;
    let kind = mount.typ().as_deref().unwrap_or("none");
    if sorted.bind || matches!(kind, "none" | "bind") {
        return bind(mount, target, sorted);
    }
    if kind == HANDED {
        return Ok((handed(mount)?, sorted.attributes));
    }
    let has_own = |kind| namespaces.new.contains(kind);
    let has = |kind| namespaces.has(kind);
    let (kind, parameters) = match kind {
        // The kernel gives a sysfs only to who owns the network namespace, a cgroup tree to who owns the cgroup namespace:
        // without them the host's is shown, unwritable all through.
        "sysfs" if !has(CloneFlags::CLONE_NEWNET) => return Ok(host_copy("/sys", sorted.attributes)),
        "cgroup" | "cgroup2" if !has_own(CloneFlags::CLONE_NEWCGROUP) || !ids.host.cgroup2 => {
            return Ok(host_copy("/sys/fs/cgroup", sorted.attributes));
        }
        "cgroup" | "cgroup2" => ("cgroup2", Vec::new()),
        // Nor a proc of the host's processes; what of it is to be unwritable or hidden, the Spec says by name.
        "proc" if !has(CloneFlags::CLONE_NEWPID) => {
            return Ok(host_tree("/proc", sorted.attributes));
        }
        "mqueue" if !has(CloneFlags::CLONE_NEWIPC) => return Ok(host_copy("/dev/mqueue", sorted.attributes)),
        // The group of ptys (5, tty) needs to exist; without it they get the opener's.
        "devpts" => {
            sorted
                .parameters
                .retain(|parameter| gid(parameter).is_none_or(|gid| ids.has_gid(gid)));
            ("devpts", sorted.parameters)
        }
        kind @ ("proc" | "sysfs" | "tmpfs" | "mqueue") => (kind, sorted.parameters),
        other => return Err(PlanError::Unsupported(format!("a mount of type {other}"))),
    };
    Ok((
        Source::Filesystem {
            kind: kind.to_owned(),
            parameters,
        },
        sorted.attributes,
    ))
}

fn bind(mount: &Mount, target: &Path, sorted: options::Options) -> Result<(Source, Attributes), PlanError> {
    let path = mount
        .source()
        .as_ref()
        .ok_or_else(|| invalid("a bind mount has no source"))?;
    if let Some(parameter) = sorted.parameters.first() {
        return Err(PlanError::Unsupported(format!(
            "mount option \"{}\" of a bind mount",
            parameter.key
        )));
    }
    if target == Path::new("/proc") {
        return Err(PlanError::Unsupported("a bind mount on /proc".to_owned()));
    }
    Ok((
        Source::Bind {
            path: absolute(path)?,
            below: sorted.below,
        },
        sorted.attributes,
    ))
}

fn host_copy(path: &str, attributes: Attributes) -> (Source, Attributes) {
    let set = attributes.set | libc::MOUNT_ATTR_RDONLY;
    host_tree(path, Attributes { set, ..attributes })
}

fn host_tree(path: &str, attributes: Attributes) -> (Source, Attributes) {
    let (path, below, depth) = (PathBuf::from(path), None, Depth::Tree);
    (Source::Bind { path, below }, Attributes { depth, ..attributes })
}

/// A mount that the caller has made.
fn handed(mount: &Mount) -> Result<Source, PlanError> {
    let source = mount.source().as_deref();
    let number = source.and_then(|path| path.strip_prefix("/proc/self/fd").ok()?.to_str()?.parse().ok());
    number
        .map(Source::Handed)
        .ok_or_else(|| invalid("a mount that is handed over has no descriptor"))
}

fn gid(parameter: &Parameter) -> Option<u32> {
    (parameter.key == "gid")
        .then(|| parameter.value.as_ref()?.parse().ok())
        .flatten()
}

/// Takes out groups that `maps` has not.
pub(super) fn drop_foreign_groups(source: &mut Source, maps: &IdMaps) {
    if let Source::Filesystem { parameters, .. } = source {
        parameters.retain(|parameter| gid(parameter).is_none_or(|gid| ids::maps(&maps.gids, gid)));
    }
}
