//! Is a file one of a volume's? The kernel says which mount it was found by, and of each mount which directory it shows.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags, StatxFlags, fstatvfs, openat, statx};

/// Bytes of a list of mounts that are read: a container may make as many as it likes.
const LONGEST: u64 = 1 << 20;

/// Was this found in a volume, as the caller has it mounted, and can it be changed there?
pub(super) fn is_writable_volume(proc: BorrowedFd<'_>, thread: i32, file: &OwnedFd) -> bool {
    let unasked = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(found) = statx(file, "", unasked, StatxFlags::MNT_ID) else {
        return false;
    };
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        // Before Linux 5.8.
        return false;
    }
    let is_read_only = fstatvfs(file).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY));
    !is_read_only && text(proc, thread).is_some_and(|text| shows_volume(&text, found.stx_mnt_id))
}

fn text(proc: BorrowedFd<'_>, thread: i32) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(proc, format!("{thread}/mountinfo"), flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    File::from(file).take(LONGEST).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Does the mount of this id show what lies in a `volumes/NAME/_data` (proc_pid_mountinfo(5): the first and fourth field)?
fn shows_volume(mounts: &str, id: u64) -> bool {
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let is_it = fields.next()?.parse() == Ok(id);
        fields.nth(2).filter(|_| is_it)
    });
    let parts: Vec<_> = Path::new(root.unwrap_or_default()).components().collect();
    let is_data = |parts: &[Component<'_>]| matches!(parts, [volumes, _, data] if volumes.as_os_str() == "volumes" && data.as_os_str() == "_data");
    parts.windows(3).any(is_data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_the_directory_that_it_shows() {
        let mounts = "21 1 0:20 / / rw - fuse fuse rw\n\
                      22 21 8:1 /home/me/state/volumes/db/_data /v rw - ext4 /dev/sda1 rw\n\
                      23 21 8:1 /home/me/state/volumes/db/_data/part /w rw - ext4 /dev/sda1 rw\n\
                      24 21 8:1 /home/me/volumes/_data /x rw - ext4 /dev/sda1 rw\n\
                      225 21 8:1 /home/me /y/volumes/db/_data rw - ext4 /dev/sda1 rw\n";
        let is = |id| shows_volume(mounts, id);
        assert!(is(22) && is(23));
        assert!(!is(21) && !is(24) && !is(225) && !is(2) && !is(99));
    }
}
