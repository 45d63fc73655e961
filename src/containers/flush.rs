//! How does what the kernel holds of a running container's files reach its writable layer, before somebody looks at that?
//! sync(2) would do it for all filesystems of the machine, and wait for each of them, a dead server's NFS too, but not for ours:
//! of FUSE it only begins to write pages out, as syncfs(2) does. Closing a file waits for that file's pages. What is neither open
//! nor mapped has none: its last user has closed it.
//!
//! From outside nobody can open what is in the tree. So a process goes into the container's user namespace, and into none of its
//! others, and reaches the tree by the container's processes in /proc.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::unistd::Pid;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, openat, statx, syncfs};

use super::record::{Life, Record};
use super::runtime::{MOUNT, as_root_of_process, mark};
use super::{exec, processes};

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
    let names = [MOUNT, &mark(&record.id)];
    let work = || write_out(process.pid, &names, &all).is_some();
    let why = match as_root_of_process(Pid::from_raw(process.pid), work) {
        Ok(true) => return,
        Ok(false) => "its root is not its tree".into(),
        Err(error) => error.to_string(),
    };
    tracing::debug!(container = record.name, why, "all filesystems are written out");
    nix::unistd::sync();
}

/// The work itself. `None`: the first process, `top`, has not the tree, which is mounted under one of these names, as its root.
fn write_out(top: i32, names: &[&str], all: &[i32]) -> Option<()> {
    let mounts = fs::read_to_string(format!("/proc/{top}/mountinfo")).ok()?;
    let tree = device_of_root(&mounts, names)?;
    let (root, ..) = found(format!("/proc/{top}/root")).filter(|(_, device, _)| *device == tree)?;
    // Pages that find no room now are the container's own, which hears of it.
    let begun = syncfs(reopened(&root)?).ok();
    for pid in all {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        let open = open.into_iter().flatten().flatten();
        for (file, device, kind) in open.filter_map(|descriptor| found(descriptor.path())) {
            if device == tree && kind == FileType::RegularFile {
                drop(reopened(&file));
            }
        }
    }
    begun
}

/// A file, its filesystem and its kind. Nobody is asked for them: whose it is is not sure yet.
fn found(path: impl rustix::path::Arg) -> Option<(OwnedFd, Device, FileType)> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let unasked = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&file, "", unasked, StatxFlags::TYPE).ok()?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    Some((file, (stat.stx_dev_major, stat.stx_dev_minor), kind))
}

/// The same file, opened to be read.
fn reopened(file: &OwnedFd) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).ok()
}

/// The device of the filesystem at the root of this list of mounts (proc_pid_mountinfo(5)), if it is FUSE and has one of these names.
fn device_of_root(mounts: &str, names: &[&str]) -> Option<Device> {
    // What was mounted last hides what is below.
    let (mount, of) = mounts.lines().rev().find_map(|line| {
        let (mount, of) = line.split_once(" - ")?;
        (mount.split(' ').nth(4) == Some("/")).then_some((mount, of))
    })?;
    let mut of = of.split(' ');
    let is_ours = of.next()?.starts_with("fuse") && names.contains(&of.next()?);
    let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
    is_ours.then_some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_root_is_ours_or_anothers() {
        let device_of_root = |mounts: &str| device_of_root(mounts, &["fuse-overlay", "bryo:1"]);
        let ours = "90 80 0:50 / / rw,nodev - fuse fuse-overlay rw,user_id=0\n91 90 0:51 / /proc rw - proc proc rw\n";
        assert_eq!(device_of_root(ours), Some((0, 50)));
        let marked = ours.replace("fuse-overlay", "bryo:1");
        assert_eq!(device_of_root(&marked), Some((0, 50)));
        assert_eq!(device_of_root(&marked.replace("bryo:1", "bryo:2")), None);
        let others = format!("{ours}92 90 0:52 / / rw - fuse.sshfs host:/ rw\n");
        assert_eq!(device_of_root(&others), None);
        assert_eq!(
            device_of_root("90 80 0:50 / / rw - tmpfs fuse-overlay rw\n"),
            None
        );
        assert_eq!(device_of_root("nothing"), None);
    }
}
