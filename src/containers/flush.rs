//! How does what the kernel holds of a running container's files reach its writable layer, before somebody looks at that?
//! sync(2) would do it for all filesystems of the machine, and wait for each of them, a dead server's NFS too, but not for ours:
//! of FUSE it only begins to write pages out, as syncfs(2) does. Closing a file waits for that file's pages. What is neither open
//! nor mapped has none: its last user has closed it.
//!
//! From outside nobody can open what is in the tree. So a process goes into the container's user namespace, and into none of its
//! others, and reaches the tree by the container's processes in /proc.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, openat, statx, syncfs};

use super::record::{Life, Record};
use super::runtime::as_root_of_process;
use super::{exec, processes};

/// What a FUSE filesystem of ours is called among the mounts.
const SOURCE: &str = "fuse-overlay";

/// The numbers of a filesystem's device.
type Device = (u32, u32);

/// Has what the kernel held of a container's files written out: all that is open, and what is only mapped is on its way. Where the
/// way to it is barred, with everybody's.
pub(super) fn flush(record: &Record) {
    let Life::Running { init, .. } = record.life else {
        return;
    };
    let Some(process) = exec::door(init, record) else {
        return;
    };
    let all: Vec<i32> = processes::processes(record)
        .iter()
        .map(|running| running.pid)
        .collect();
    let done = as_root_of_process(Pid::from_raw(process.pid), || write_out(process.pid, &all));
    let why = match done {
        Ok(true) => return,
        Ok(false) => "its root is not its tree".into(),
        Err(error) => error.to_string(),
    };
    tracing::debug!(container = record.name, why, "all filesystems are written out");
    nix::unistd::sync();
}

/// The work itself. `false`: the first process, `top`, has not the tree as its root.
fn write_out(top: i32, all: &[i32]) -> bool {
    let root = format!("/proc/{top}/root");
    let Some(tree) = mounted(top).filter(|tree| device(&root).is_some_and(|(_, found, _)| found == *tree))
    else {
        return false;
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = openat(CWD, root, flags, Mode::empty()) else {
        return false;
    };
    // Pages that find no room now are the container's own, which hears of it.
    let begun = syncfs(&root).is_ok();
    for pid in all {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        for descriptor in open.into_iter().flatten().flatten() {
            let Some((file, found, FileType::RegularFile)) = device(descriptor.path()) else {
                continue;
            };
            if found == tree {
                drop(reopened(&file));
            }
        }
    }
    begun
}

/// The file, which nobody is asked for until it is sure whose it is, its filesystem, and its kind.
fn device(path: impl rustix::path::Arg) -> Option<(OwnedFd, Device, FileType)> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(&file, c"", flags, StatxFlags::TYPE).ok()?;
    let kind = FileType::from_raw_mode(found.stx_mode.into());
    Some((file, (found.stx_dev_major, found.stx_dev_minor), kind))
}

/// Opened to be read.
fn reopened(file: &OwnedFd) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

/// The device of the filesystem at a process's root, if it is one of ours (proc_pid_mountinfo(5)).
fn mounted(pid: i32) -> Option<Device> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    device_of_root(&mounts)
}

fn device_of_root(mounts: &str) -> Option<Device> {
    // What was mounted last hides what is below.
    let (mount, of) = mounts.lines().rev().find_map(|line| {
        let (mount, of) = line.split_once(" - ")?;
        (mount.split(' ').nth(4) == Some("/")).then_some((mount, of))
    })?;
    let mut of = of.split(' ');
    let is_ours = of.next()?.starts_with("fuse") && of.next() == Some(SOURCE);
    let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
    is_ours.then_some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_root_is_ours_or_anothers() {
        let ours = "90 80 0:50 / / rw,nodev - fuse fuse-overlay rw,user_id=0\n91 90 0:51 / /proc rw - proc proc rw\n";
        assert_eq!(device_of_root(ours), Some((0, 50)));
        let others = format!("{ours}92 90 0:52 / / rw - fuse.sshfs host:/ rw\n");
        assert_eq!(device_of_root(&others), None);
        assert_eq!(
            device_of_root("90 80 0:50 / / rw - tmpfs fuse-overlay rw\n"),
            None
        );
        assert_eq!(device_of_root("nothing"), None);
    }
}
