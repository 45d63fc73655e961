//! How does the child get where init is to be made: the user namespace, the mount namespace, the root?

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use fuse_overlay::fuse;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change};

use super::channel::{Channel, Failure, Order, Report};
use super::idmap;
use super::plan::RootSource;
use super::rootfs::{host_tree, move_to};
use super::step::Namespaces;
use crate::host::IdMaps;
use crate::host::probe::namespace_remedy;
use crate::sys::{self, Depth, MountAttributes};

/// How the child comes into its user namespace.
#[derive(Debug)]
pub(super) enum Entry {
    /// By joining one.
    Join(OwnedFd),
    /// By making one, for the supervisor to map and keep.
    Make(IdMaps),
}

/// Enters the user namespace, as its root where it has one.
pub(super) fn enter_user_namespace(entry: &Entry, channel: &Channel) -> Result<(), Failure> {
    match entry {
        Entry::Join(namespace) => setns(namespace, CloneFlags::CLONE_NEWUSER)
            .map_err(|error| Failure::new("enter the user namespace", error.desc())),
        Entry::Make(maps) => {
            unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| {
                refused("make a user namespace", "user.max_user_namespaces", error.into())
            })?;
            if maps.is_single() {
                // Where security modules give user namespaces without capabilities, this is the first to need some.
                idmap::map_oneself(maps)
                    .map_err(|(file, error)| refused(file, "user.max_user_namespaces", error))?;
            }
            let lost = |error: Errno| Failure::new("speak with the supervisor", error.desc());
            channel
                .send(&Report::UserNamespace, &[] as &[OwnedFd])
                .map_err(lost)?;
            match channel.receive().map_err(lost)? {
                Some((Order::Mapped, _)) => Ok(()),
                _ => Err(Failure::new("map ids", "the supervisor is gone")),
            }
        }
    }
}

/// The user namespace of a process, which stays as long as the descriptor.
pub(super) fn namespace_of(process: Pid) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/{process}/ns/user");
    match File::open(&path) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(Failure::new(path, error)),
    }
}

/// A namespace that the kernel refuses, or gives without capabilities in it.
pub(super) fn refused(what: &str, limits: &str, error: io::Error) -> Failure {
    match namespace_remedy(limits, &error) {
        Some(remedy) => Failure::new(what, format!("{error} ({remedy})")),
        None => Failure::new(what, error),
    }
}

/// Makes a mount namespace of the child's own, from which nothing spreads to the host; and, unless something of the host's
/// later mounts is wanted inside, nothing the other way.
pub(super) fn enter_mount_namespace(propagation: MountPropagationFlags) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| refused("make a mount namespace", "user.max_mnt_namespaces", error.into()))?;
    mount_change("/", propagation | MountPropagationFlags::REC)
        .map_err(|error| Failure::new("detach the mounts", error))
}

/// Joins the namespaces that the Spec names by path.
pub(super) fn join(namespaces: &Namespaces) -> Result<(), Failure> {
    for (kind, path) in &namespaces.join {
        let failed = |error: &dyn std::fmt::Display| Failure::new(format!("join {}", path.display()), error);
        let namespace = File::open(path).map_err(|error| failed(&error))?;
        setns(namespace, *kind).map_err(|error| match error {
            Errno::EPERM => failed(&"it belongs to a container of other ids than this one's"),
            error => failed(&error.desc()),
        })?;
    }
    Ok(())
}

/// Mounts the container's root at `place`, as `name` in the list of mounts, and gives its descriptor, and those of the FUSE connection to serve.
pub(super) fn mount_root(
    source: &RootSource,
    place: &Path,
    name: &str,
) -> Result<(OwnedFd, Vec<OwnedFd>), Failure> {
    let what = || format!("mount the root on {}", place.display());
    let failed = |error: rustix::io::Errno| Failure::new(what(), error);
    let open = || {
        openat(
            CWD,
            place,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed)
    };
    match source {
        RootSource::Fuse { devices } => {
            let system = |error: std::io::Error| Failure::new(what(), error);
            let devices = fuse::open_devices((*devices).max(1)).map_err(system)?;
            let first = devices
                .first()
                .ok_or_else(|| Failure::new(what(), "no device was opened"))?;
            fuse::mount(first.as_fd(), place, name).map_err(system)?;
            Ok((open()?, devices))
        }
        RootSource::Path(directory) => {
            let tree = host_tree(directory, OpenTreeFlags::AT_RECURSIVE).map_err(failed)?;
            let private = MountAttributes {
                propagation: libc::MS_PRIVATE,
                ..MountAttributes::default()
            };
            sys::mount_setattr(&tree, Depth::Tree, private).map_err(|error| Failure::new(what(), error))?;
            move_to(&tree, open()?).map_err(failed)?;
            Ok((tree, Vec::new()))
        }
    }
}
