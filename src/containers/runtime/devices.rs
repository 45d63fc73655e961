//! What lies in the container's /dev? Device nodes cannot be made in a user namespace, nor opened on a FUSE mount, so the
//! host's are bound one by one; each is compared with what it should be, since a bind follows whatever lies there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, fstat, major, minor, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use super::channel::Failure;
use super::rootfs::{Missing, Root, host_tree, move_to};
use super::step::{Node, NodeKind};
use crate::sys;

/// What every container has (config-linux.md, "Default Devices").
const STANDARD: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links beside them (config-linux.md, "Dev symbolic links", and runc's ptmx).
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A detached mount of the host's node at `path`.
pub(super) fn host_node(path: &Path, expected: Node) -> Result<OwnedFd, Failure> {
    let failed = |error: Errno| Failure::new(format!("device {}", path.display()), error);
    let tree = host_tree(path, OpenTreeFlags::empty()).map_err(failed)?;
    let found = fstat(&tree).map_err(failed)?;
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => Some(NodeKind::Character),
        FileType::BlockDevice => Some(NodeKind::Block),
        _ => None,
    };
    let same = kind == Some(expected.kind)
        && (major(found.st_rdev), minor(found.st_rdev)) == (expected.major, expected.minor);
    if same {
        return Ok(tree);
    }
    let wanted = format!(
        "the host has another file there than the device {}:{}",
        expected.major, expected.minor
    );
    Err(Failure::new(format!("device {}", path.display()), wanted))
}

/// The host's /dev/null, which covers masked files too.
pub(super) fn null() -> Result<OwnedFd, Failure> {
    host_node(
        Path::new("/dev/null"),
        Node {
            kind: NodeKind::Character,
            major: 1,
            minor: 3,
        },
    )
}

/// Fills /dev.
pub(super) fn standard(root: &Root) -> Result<(), Failure> {
    let dev = root.find_or_make(Path::new("/dev"), Missing::Directory)?;
    for (name, major, minor) in STANDARD {
        let node = host_node(
            &Path::new("/dev").join(name),
            Node {
                kind: NodeKind::Character,
                major,
                minor,
            },
        )?;
        bind_in(&dev, name, &node)?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Failure::new(format!("/dev/{name}"), error)),
        }
    }
    Ok(())
}

/// Makes a pty in the container's own devpts, so that its names are right inside. Gives master and slave.
pub(super) fn terminal(
    root: &Root,
    size: Option<(u16, u16)>,
    owner: u32,
) -> Result<(OwnedFd, OwnedFd), Failure> {
    let failed = |error: Errno| Failure::new("terminal", error);
    let system = |error| Failure::new("terminal", error);
    let Some(points) = root.find(Path::new("/dev/pts"))? else {
        return Err(Failure::new(
            "terminal",
            "the configuration mounts no devpts at /dev/pts",
        ));
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = openat(&points, c"ptmx", flags, Mode::empty()).map_err(failed)?;
    unlockpt(&master).map_err(failed)?;
    if let Some((rows, columns)) = size {
        sys::set_terminal_size(master.as_fd(), rows, columns).map_err(system)?;
    }
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    );
    let slave = slave.map_err(failed)?;
    rustix::fs::chownat(
        &slave,
        c"",
        Some(Uid::from_raw(owner)),
        None::<Gid>,
        AtFlags::EMPTY_PATH,
    )
    .map_err(failed)?;
    Ok((master, slave))
}

/// Shows a pty's slave as /dev/console too.
pub(super) fn console(root: &Root, master: &OwnedFd) -> Result<(), Failure> {
    let failed = |error: Errno| Failure::new("/dev/console", error);
    let Some(points) = root.find(Path::new("/dev/pts"))? else {
        return Err(failed(Errno::NOENT));
    };
    let number = sys::pty_number(master.as_fd()).map_err(|error| Failure::new("/dev/console", error))?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let node = open_tree(&points, number.to_string(), clone).map_err(failed)?;
    let dev = root.find_or_make(Path::new("/dev"), Missing::Directory)?;
    bind_in(&dev, "console", &node)
}

/// Attaches `node` over a file made in `dev`.
fn bind_in(dev: &OwnedFd, name: &str, node: &OwnedFd) -> Result<(), Failure> {
    let failed = |error: Errno| Failure::new(format!("/dev/{name}"), error);
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
    let place = match openat(dev, name, flags | OFlags::EXCL, Mode::from_raw_mode(0o666)) {
        Err(Errno::EXIST) => openat(
            dev,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ),
        made => made,
    };
    move_to(node, place.map_err(failed)?).map_err(failed)
}
