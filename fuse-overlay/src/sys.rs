//! The crate's only unsafe code: each function a safe face over one thing that Rust cannot check.
#![allow(unsafe_code)]

mod mapping;
mod shared;

pub(crate) use mapping::Mapping;
pub(crate) use shared::{Lent, Shared, memory_file};

use std::os::fd::{AsRawFd, OwnedFd};

use crate::name::Name;

/// Turns checked bytes into an owned name without copying them.
pub(crate) fn boxed_name(bytes: Box<[u8]>) -> Box<Name> {
    // SAFETY: `Name` is `repr(transparent)` over `[u8]`, so both fat pointers have one layout and length.
    unsafe { Box::from_raw(Box::into_raw(bytes) as *mut Name) }
}

mod ioctl {
    // `FUSE_DEV_IOC_CLONE` of linux/fuse.h: takes a pointer to the number of the descriptor to clone.
    nix::ioctl_read!(fuse_dev_clone, 229, 0, u32);
}

/// Makes `device`, a fresh descriptor of `/dev/fuse`, one more of the connection that `mounted` belongs to.
pub(crate) fn fuse_clone(device: &OwnedFd, mounted: &OwnedFd) -> nix::Result<()> {
    let mut source = mounted.as_raw_fd() as u32;
    // SAFETY: the kernel reads one u32 behind the pointer, and both descriptors are open while the call lasts.
    unsafe { ioctl::fuse_dev_clone(device.as_raw_fd(), &mut source) }.map(|_| ())
}

/// Starts writeback of a file's range without waiting (`sync_file_range(2)`, `SYNC_FILE_RANGE_WRITE`): a hint only.
pub(crate) fn start_writeback(file: &std::fs::File, offset: u64, length: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return;
    };
    // SAFETY: takes no pointers; the descriptor is open for the duration of the call. A failure is of no consequence:
    // the data stays dirty and the next flush reports errors.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
