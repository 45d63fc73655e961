//! The executor's vocabulary: what a step can be. Plain data, made by `plan`, carried out by `apply`.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use caps::CapsHashSet;
use nix::sched::CloneFlags;
use nix::sys::resource::Resource;

use super::options::{Attributes, Parameter};
use crate::host::IdMaps;
use crate::net::Outlet;

/// The user namespace a container lives in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserNamespace {
    /// The holder of these maps, shared with the user's other containers; made if there is none.
    Holder(IdMaps),
    /// An existing one.
    Path(PathBuf),
}

/// The other namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespaces {
    /// Made with init.
    pub(super) new: CloneFlags,
    /// Joined before init is made.
    pub(super) join: Vec<(CloneFlags, PathBuf)>,
}

impl Namespaces {
    /// Is there one that is not the host's?
    pub(super) fn has(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind) || self.join.iter().any(|(joined, _)| *joined == kind)
    }
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A new filesystem of a kernel type.
    Filesystem {
        kind: String,
        parameters: Vec<Parameter>,
    },
    /// A file or directory of the host; or what lies `below` it, by a path that leads nowhere out of it.
    Bind { path: PathBuf, below: Option<PathBuf> },
    /// A mount that is made already: this descriptor.
    Handed(RawFd),
}

/// What happens in the container's first process, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Brings `lo` up.
    Loopback,
    /// The same, and makes a device with these addresses, for the supervisor to carry its packets; hands out the namespace, too.
    Network(Outlet),
    /// Brings `lo` up, and hands out the namespace, in which somebody else makes a device.
    HandOutNetwork,
    /// Prepares a mount, detached. The FUSE server may not answer yet, so nothing of the root is touched.
    Make { source: Source, attributes: Attributes },
    /// Attaches the oldest prepared mount at a path in the root, which is made if it is missing.
    Attach { target: PathBuf, links: Links },
    /// Sets namespaced kernel parameters, by their paths below `/proc/sys`.
    Sysctl(Vec<(PathBuf, String)>),
    /// Shows the host's device node of this path at the same path inside.
    Device { path: PathBuf, node: Node },
    /// Shows the devices that every container has, and the links beside them.
    StandardDevices,
    /// Makes a pty in the container's devpts: descriptors 0, 1, 2, the controlling terminal and, for init, /dev/console.
    Terminal {
        size: Option<(u16, u16)>,
        owner: u32,
        console: bool,
    },
    /// Hides a path, if it is there.
    Mask(PathBuf),
    /// Makes a path unwritable, if it is there.
    ReadOnly(PathBuf),
    /// Makes the root unwritable.
    ReadOnlyRoot,
    /// Makes the working directory, if it is missing.
    MakeDirectory(PathBuf),
    /// Makes the root the process's root; the host's tree is gone.
    Pivot,
    /// Names the machine.
    Hostname(String),
    /// Names its NIS domain.
    Domainname(String),
    /// Waits until the supervisor lets the command start.
    Gate,
    /// Limits a resource: soft, hard.
    Limit(Resource, u64, u64),
    /// The file creation mask.
    Umask(u32),
    /// Limits what any process of the container can ever be capable of.
    Bounding(CapsHashSet),
    /// Becomes this user. The caller's supplementary groups stay if `groups` is none.
    Identity {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    /// Goes to the working directory, as that user, and makes sure that it is inside.
    Enter(PathBuf),
    /// Privileges never grow again by exec.
    NoNewPrivileges,
    /// Sets the other capability sets. `keep` is for the step that follows.
    Capabilities { sets: Box<Capabilities>, keep: Keep },
    /// Hands calls that the kernel would refuse to the helper ([`super::owners`]): a program of this kind.
    HandOver(Vec<u8>),
    /// Filters system calls: programs, each of them as [`crate::sys::install_seccomp`] takes it.
    Seccomp(Vec<Vec<u8>>),
}

/// What becomes of symbolic links on the way to a mount's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// They are followed inside the root.
    Inside,
    /// They are refused: /proc and /sys are where they are (CVE-2019-19921).
    Refused,
}

/// What a step after [`Step::Capabilities`] still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing.
    None,
    /// CAP_SYS_ADMIN in the user namespace, which a filter needs without no_new_privs. Exec takes it away: what a
    /// program gets is computed from the bounding, inheritable and ambient sets alone (capabilities(7)).
    SysAdmin,
}

/// Capability sets but the bounding one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) effective: CapsHashSet,
    pub(super) permitted: CapsHashSet,
    pub(super) inheritable: CapsHashSet,
    pub(super) ambient: CapsHashSet,
}

/// A device node as the Spec names it, to be compared with the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// Kinds of device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Character,
    Block,
}

/// The command, ready for execve(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) reaper: Reaper,
}

/// Who is pid 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaper {
    /// The command.
    Command,
    /// A process of ours that passes signals to the command and reaps what is left over.
    Ours,
    /// The same, around one that waits in the command's stead (`keeper`).
    Keeper,
}
