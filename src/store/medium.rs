//! Does a path lie on this machine's own disk, or on one that others change too?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fuse_overlay::index::view::Access;
use nix::sys::statfs::statfs;
use nix::unistd::geteuid;

use super::Error;

/// Where a file lies. A file on a network may shrink or go stale under a mapping, which is SIGBUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A disk or memory of this machine.
    Local,
    /// A network filesystem, or one that is not known to be local (FUSE, for instance).
    Network,
}

/// `f_type` of the filesystems known to be local (statfs(2); linux/magic.h): bcachefs, btrfs, ext2–4, f2fs, jfs,
/// nilfs, overlayfs, ramfs, reiserfs, tmpfs, xfs, zfs.
const LOCAL: [i64; 12] = [
    0xca45_1a4e,
    0x9123_683e,
    0xef53,
    0xf2f5_2010,
    0x3153_464a,
    0x3434,
    0x794c_7630,
    0x8584_58f6,
    0x5265_4973,
    0x0102_1994,
    0x5846_5342,
    0x2fc1_2fc1,
];

impl Medium {
    /// Asks the kernel about an existing path.
    pub fn of(path: &Path) -> Result<Medium, Error> {
        let found = statfs(path).map_err(|errno| Error::io("find the filesystem of", path)(errno.into()))?;
        // The type is signed or not, 32 or 64 bits, by architecture; the magic numbers are 32 bits.
        #[allow(clippy::unnecessary_cast)]
        let magic = found.filesystem_type().0 as i64 & 0xffff_ffff;
        Ok(if LOCAL.contains(&magic) {
            Medium::Local
        } else {
            Medium::Network
        })
    }

    /// How an open index of this medium may be held: only our own file on our own disk is mapped.
    pub fn access(self, index: &fs::File) -> Access {
        let mine = index
            .metadata()
            .is_ok_and(|found| found.uid() == geteuid().as_raw());
        if self == Medium::Local && mine {
            Access::Map
        } else {
            Access::Read
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_is_local_and_proc_is_not_known_to_be() {
        assert_eq!(Medium::of(Path::new("/dev/shm")).unwrap(), Medium::Local);
        assert_eq!(Medium::of(Path::new("/proc")).unwrap(), Medium::Network);
    }
}
