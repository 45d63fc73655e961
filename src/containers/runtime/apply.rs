//! How is each step carried out? Runs in init, the container's first process, before the command.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::setrlimit;
use nix::sys::stat::{Mode as UmaskMode, umask};
use nix::unistd::{
    Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, getcwd, getgid, getuid, pivot_root, setfsgid,
    setfsuid, sethostname,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
};

use super::channel::{Cause, Channel, Failure, Order, Report};
use super::options::{Attributes, Parameter};
use super::rootfs::{Missing, Root, copy_of, host_tree, move_to, tree_below};
use super::step::{Links, Source, Step};
use super::{confine, devices, owners};
use crate::line::chain;
use crate::net::{self, Outlet};
use crate::rooted;
use crate::sys::{self, Depth, MountAttributes};

/// What the steps work on.
pub(super) struct Container<'a> {
    channel: &'a Channel,
    /// Hears of calls that are handed over.
    helper: Option<&'a Channel>,
    root: Root,
    /// Made, not yet attached.
    made: VecDeque<OwnedFd>,
    /// Covers masked files; opened while the host's tree is there.
    null: Option<OwnedFd>,
    /// Covers masked directories.
    empty: Option<OwnedFd>,
}

impl<'a> Container<'a> {
    pub(super) fn new(channel: &'a Channel, helper: Option<&'a Channel>, root: OwnedFd) -> Container<'a> {
        Container {
            channel,
            helper,
            root: Root::new(root),
            made: VecDeque::new(),
            null: None,
            empty: None,
        }
    }

    /// Carries out the steps in order.
    pub(super) fn apply(&mut self, steps: &[Step]) -> Result<(), Failure> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Loopback => loopback(),
            Step::HandOutNetwork => {
                loopback()?;
                self.hand_out(None)
            }
            Step::Network(outlet) => self.network(outlet),
            Step::Make { source, attributes } => self.make(source, *attributes),
            Step::Attach { target, links } => self.attach(target, *links),
            Step::Sysctl(parameters) => self.set_parameters(parameters),
            Step::Device { path, node } => self.root.attach(&devices::host_node(path, *node)?, path),
            Step::StandardDevices => devices::standard(&self.root),
            Step::Terminal { size, owner, console } => self.terminal(*size, *owner, *console),
            Step::Mask(path) => self.mask(path),
            Step::ReadOnly(path) => self.make_read_only(path),
            Step::ReadOnlyRoot => {
                read_only(self.root.as_fd(), Depth::One).map_err(|e| Failure::new("read-only root", e))
            }
            Step::MakeDirectory(path) => self.root.find_or_make(path, Missing::Directory).map(drop),
            Step::Pivot => self.pivot(),
            Step::Hostname(name) => sethostname(name).map_err(|error| named("set the host name", error)),
            Step::Domainname(name) => rustix::system::setdomainname(name.as_bytes())
                .map_err(|error| Failure::new("set the domain name", error)),
            Step::Gate => self.wait(),
            Step::Limit(resource, soft, hard) => setrlimit(*resource, *soft, *hard)
                .map_err(|error| named(format!("set {resource:?} to {soft}:{hard}"), error)),
            Step::Umask(mask) => {
                umask(UmaskMode::from_bits_truncate(*mask));
                Ok(())
            }
            Step::Bounding(kept) => confine::bound(kept),
            Step::Identity { uid, gid, groups } => confine::become_user(*uid, *gid, groups.as_deref()),
            Step::Enter(directory) => enter(directory),
            Step::NoNewPrivileges => {
                nix::sys::prctl::set_no_new_privs().map_err(|error| named("set no_new_privs", error))
            }
            Step::Capabilities { sets, keep } => confine::limit(sets, *keep),
            Step::HandOver(program) => match owners::hand_over(program, self.helper)? {
                Some(warning) => self.report(&Report::Warning(warning)),
                None => Ok(()),
            },
            Step::Seccomp(programs) => confine::filter(programs),
        }
    }

    fn network(&self, outlet: &Outlet) -> Result<(), Failure> {
        let device = net::set_up_as(&outlet.addresses, &outlet.device)
            .map_err(|error| Failure::new("make the container's network", chain(&error)))?;
        self.hand_out(Some(device))
    }

    /// The network namespace, and the device, if it is made already.
    fn hand_out(&self, device: Option<OwnedFd>) -> Result<(), Failure> {
        // Nobody else could open it: see `hide`.
        let namespace = net::own_namespace().map_err(|error| Failure::new("/proc/self/ns/net", error))?;
        let ends: Vec<OwnedFd> = [namespace].into_iter().chain(device).collect();
        self.channel
            .send(&Report::Network, &ends)
            .map_err(|error| named("hand out the network", error))
    }

    fn make(&mut self, source: &Source, attributes: Attributes) -> Result<(), Failure> {
        let mount = match source {
            Source::Bind { path, below } => bind(path, below.as_deref(), attributes).map_err(|error| {
                let below = below.as_deref().unwrap_or(Path::new(""));
                Failure::new(format!("bind {}", path.join(below).display()), error)
            })?,
            Source::Handed(descriptor) => handed(*descriptor)?,
            Source::Filesystem { kind, parameters } => match filesystem(kind, parameters, attributes) {
                Err(Errno::EPERM) if kind == "proc" => self.outer("/proc", "processes", attributes)?,
                // Whose network devices the outer one shows, it is not the container's to write.
                Err(Errno::EPERM) if kind == "sysfs" => {
                    let set = attributes.set | libc::MOUNT_ATTR_RDONLY;
                    self.outer("/sys", "network devices", Attributes { set, ..attributes })?
                }
                made => made.map_err(|error| named(format!("mount a filesystem of type {kind}"), error))?,
            },
        };
        self.made.push_back(mount);
        Ok(())
    }

    /// Where parts of /proc or /sys are masked (in a container), the kernel refuses a fresh one, which would show them.
    fn outer(&self, path: &str, seen: &str, attributes: Attributes) -> Result<OwnedFd, Failure> {
        self.report(&Report::Warning(format!(
            "the kernel refuses a fresh {path}, since parts of this one are masked: the container sees the outer one, with \
             the outer {seen} (an outer container with --security-opt systempaths=unconfined masks nothing)"
        )))?;
        let depth = Depth::Tree;
        bind(Path::new(path), None, Attributes { depth, ..attributes })
            .map_err(|error| Failure::new(format!("bind {path}"), error))
    }

    fn attach(&mut self, target: &Path, links: Links) -> Result<(), Failure> {
        let Some(mount) = self.made.pop_front() else {
            return Err(Failure::new(
                format!("mount on {}", target.display()),
                "no mount was prepared for it",
            ));
        };
        match links {
            Links::Inside => self.root.attach(&mount, target),
            Links::Refused => self.root.attach_plainly(&mount, target),
        }
    }

    fn set_parameters(&self, parameters: &[(std::path::PathBuf, String)]) -> Result<(), Failure> {
        for (name, value) in parameters {
            let path = Path::new("/proc/sys").join(name);
            let failed =
                |error: std::io::Error| Failure::new(format!("set {} to {value}", path.display()), error);
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let file = openat2(&self.root, &path, flags, Mode::empty(), resolve)
                .map_err(|error| failed(error.into()))?;
            std::io::Write::write_all(&mut fs::File::from(file), value.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }

    fn terminal(&self, size: Option<(u16, u16)>, owner: u32, console: bool) -> Result<(), Failure> {
        let (master, slave) = devices::terminal(&self.root, size, owner)?;
        if console {
            devices::console(&self.root, &master)?;
        }
        self.channel
            .send(&Report::Terminal, &[master])
            .map_err(|error| named("hand out the terminal", error))?;
        connect([&slave, &slave, &slave])?;
        sys::control_terminal(slave.as_fd()).map_err(|error| Failure::new("control the terminal", error))
    }

    fn mask(&mut self, path: &Path) -> Result<(), Failure> {
        let Some(place) = self.root.find(path)? else {
            return Ok(());
        };
        let failed = |error: rustix::io::Errno| Failure::new(format!("mask {}", path.display()), error);
        let is_directory =
            FileType::from_raw_mode(fstat(&place).map_err(failed)?.st_mode) == FileType::Directory;
        let cover = if is_directory {
            &mut self.empty
        } else {
            &mut self.null
        };
        let cover = match cover {
            Some(cover) => copy_of(cover).map_err(failed)?,
            None if is_directory => cover
                .insert(empty_directory()?)
                .try_clone()
                .map_err(|e| Failure::new("mask", e))?,
            None => cover
                .insert(devices::null()?)
                .try_clone()
                .map_err(|e| Failure::new("mask", e))?,
        };
        move_to(cover, place).map_err(failed)
    }

    fn make_read_only(&self, path: &Path) -> Result<(), Failure> {
        let Some(place) = self.root.find(path)? else {
            return Ok(());
        };
        let failed =
            |error: std::io::Error| Failure::new(format!("make {} read-only", path.display()), error);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let copy = open_tree(&place, c"", flags).map_err(|error| failed(error.into()))?;
        read_only(copy.as_fd(), Depth::Tree).map_err(failed)?;
        move_to(copy, place).map_err(|error| failed(error.into()))
    }

    /// pivot_root(2), "pivot_root(".", ".")": the old root comes to lie over the new one and is taken off.
    fn pivot(&self) -> Result<(), Failure> {
        fchdir(&self.root).map_err(|error| named("enter the root", error))?;
        pivot_root(".", ".").map_err(|error| named("make the root the root", error))?;
        unmount(".", UnmountFlags::DETACH).map_err(|error| Failure::new("leave the host's tree", error))?;
        nix::unistd::chdir("/").map_err(|error| named("enter the root", error))
    }

    fn wait(&self) -> Result<(), Failure> {
        match self.channel.receive() {
            Ok(Some((Order::Go, _))) => Ok(()),
            Ok(_) => Err(Failure::new("start", "the supervisor is gone")),
            Err(error) => Err(named("wait for the supervisor", error)),
        }
    }

    fn report(&self, report: &Report) -> Result<(), Failure> {
        self.channel
            .send(report, &[] as &[OwnedFd])
            .map_err(|error| named("speak with the supervisor", error))
    }
}

fn loopback() -> Result<(), Failure> {
    sys::loopback_up().map_err(|error| Failure::new("bring the device lo up", error))
}

/// Makes three descriptors 0, 1 and 2.
pub(super) fn connect(from: [&OwnedFd; 3]) -> Result<(), Failure> {
    let failed = |error: Errno| named("connect standard input and output", error);
    // Copies above 2 first: one of the three may lie where another one is to go.
    let copy = |descriptor: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(descriptor, 3);
    let copies = [copy(from[0]), copy(from[1]), copy(from[2])];
    let [input, output, errors] =
        copies.map(|copy| copy.map_err(|error| Failure::new("connect standard input", error)));
    dup2_stdin(input?).map_err(failed)?;
    dup2_stdout(output?).map_err(failed)?;
    dup2_stderr(errors?).map_err(failed)
}

fn filesystem(kind: &str, parameters: &[Parameter], attributes: Attributes) -> Result<OwnedFd, Errno> {
    let errno = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(errno)?;
    for Parameter { key, value } in parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, key.as_str()),
        }
        .map_err(errno)?;
    }
    fsconfig_create(&context).map_err(errno)?;
    let flags = MountAttrFlags::from_bits_retain(attributes.set as u32);
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(errno)?;
    if attributes.propagation != libc::MS_PRIVATE {
        let change = MountAttributes {
            propagation: attributes.propagation,
            ..MountAttributes::default()
        };
        sys::mount_setattr(&mount, Depth::One, change)
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    }
    Ok(mount)
}

/// The caller's descriptor is open in this process, too, which was forked from it.
fn handed(descriptor: RawFd) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/self/fd/{descriptor}");
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| Failure::new(path, error))
}

fn bind(path: &Path, below: Option<&Path>, attributes: Attributes) -> std::io::Result<OwnedFd> {
    let depth = match attributes.depth {
        Depth::One => OpenTreeFlags::empty(),
        Depth::Tree => OpenTreeFlags::AT_RECURSIVE,
    };
    let tree = as_oneself(|| match below {
        None => host_tree(path, depth),
        Some(below) => tree_below(path, below, depth),
    })?;
    let Attributes {
        set,
        clear,
        top,
        propagation,
        depth,
    } = attributes;
    sys::mount_setattr(
        &tree,
        depth,
        MountAttributes {
            set,
            clear,
            propagation,
        },
    )?;
    if top != 0 {
        let change = MountAttributes {
            set: top,
            ..MountAttributes::default()
        };
        sys::mount_setattr(&tree, Depth::One, change)?;
    }
    Ok(tree)
}

/// What is made in a container is its root's, where it has one, whoever the caller is in there. Else the kernel changes nothing.
pub(super) fn make_as_root() {
    setfsgid(Gid::from_raw(0));
    setfsuid(Uid::from_raw(0));
}

/// The way to what is the host's is the caller's to go: the container's root may be somebody else.
fn as_oneself<T>(work: impl FnOnce() -> T) -> T {
    setfsuid(getuid());
    setfsgid(getgid());
    let done = work();
    make_as_root();
    done
}

fn empty_directory() -> Result<OwnedFd, Failure> {
    let set =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let attributes = Attributes {
        set,
        clear: 0,
        top: 0,
        propagation: libc::MS_PRIVATE,
        depth: Depth::One,
    };
    let parameters = [("size", "0"), ("mode", "555")].map(|(key, value)| Parameter {
        key: key.to_owned(),
        value: Some(value.to_owned()),
    });
    filesystem("tmpfs", &parameters, attributes).map_err(|error| named("mount an empty directory", error))
}

fn read_only(mount: std::os::fd::BorrowedFd<'_>, depth: Depth) -> std::io::Result<()> {
    sys::mount_setattr(
        mount,
        depth,
        MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY,
            ..MountAttributes::default()
        },
    )
}

/// A magic link would lead to what a descriptor of ours shows, so it is refused; and the place must have a path from the
/// root (CVE-2024-21626).
fn enter(directory: &Path) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(format!("enter the directory {}", directory.display()), why)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let found = rooted::open(CWD, directory, flags, rooted::INSIDE).map_err(|error| Failure {
        cause: match error {
            rustix::io::Errno::NOENT => Cause::NotFound,
            _ => Cause::Other,
        },
        ..failed(&error)
    })?;
    fchdir(found).map_err(|error| failed(&error.desc()))?;
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => Err(failed(&"it lies outside the container")),
    }
}

fn named(what: impl Into<String>, error: Errno) -> Failure {
    Failure::new(what, error.desc())
}
