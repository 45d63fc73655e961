//! How is a call carried out? The path is followed as the caller would: from its root, with its capabilities, but through no
//! link of /proc into what some process has open. The kernel does that: the helper makes the caller's root its own for the
//! moment. What is found is held by a descriptor from there on, whatever becomes of its names.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use fuse_overlay::fuse::owners::{DEVICE, Device, OWNER, Owner};
use nix::sys::stat::{Mode as NewMode, SFlag, mknodat, umask};
use nix::unistd::{chroot, fchdir};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, XattrFlags, fstat, fstatfs, getxattr, openat2,
    setxattr, statx,
};

use super::Helper;
use super::caller::{self, Call, Last, Place, Way, What};
use super::mounted;
use crate::sys::{self, Answered, Notified};

/// `statfs` of a FUSE filesystem (linux/magic.h).
const FUSE: i64 = 0x6573_5546;

impl Helper {
    /// Carries out a call. Fails only if the helper can be of no use any more.
    pub(super) fn answer(&mut self, notified: &Notified) -> io::Result<Answered> {
        let Some(call) = caller::read(self.proc.as_fd(), notified) else {
            return Ok(Answered::ByKernel);
        };
        if !sys::is_waiting(self.listener.as_fd(), notified.id) {
            // What was read may be another's.
            return Ok(Answered::ByKernel);
        }
        match call.what {
            What::Own { ref place, uid, gid } => self.own(&call, notified.thread, place, Owner { uid, gid }),
            What::Make {
                place: Place::Path(ref way),
                mode,
                rdev,
                umask,
            } => self.make(&call, way, (mode, rdev), umask),
            What::Make { .. } => Ok(Answered::ByKernel),
        }
    }

    /// chown(2). What is not there, or not ours, the kernel answers as it always does.
    fn own(&mut self, call: &Call, thread: i32, place: &Place, owner: Owner) -> io::Result<Answered> {
        let found;
        let file = match place {
            Place::Open(file) => file,
            Place::Path(way) => match self.follow(call, way, way.whole(), way.last)? {
                Ok(file) => {
                    found = file;
                    &found
                }
                Err(_) => return Ok(Answered::ByKernel),
            },
        };
        let is_ours = self.is_ours(file);
        // A volume is the host's filesystem, which has no other owners to give. An error would end the entrypoints that
        // prepare it and the packages that have files in it, for nothing: all in it is everybody's here.
        if !is_ours && !mounted::is_writable_volume(self.proc.as_fd(), thread, file) {
            return Ok(Answered::ByKernel);
        }
        if !call.capabilities.contains(&Capability::CAP_CHOWN) {
            return Ok(Answered::Failed(libc::EPERM));
        }
        if !is_ours {
            return Ok(Answered::Done);
        }
        Ok(done(set(file, OWNER, &owner.value())))
    }

    /// mknod(2) of a device: a socket is made, which then becomes one. Without CAP_MKNOD it is refused, by the kernel.
    fn make(&mut self, call: &Call, way: &Way, node: (u32, u32), mask: u32) -> io::Result<Answered> {
        let Some((parent, name)) = way.split() else {
            return Ok(Answered::ByKernel);
        };
        if !call.capabilities.contains(&Capability::CAP_MKNOD) {
            return Ok(Answered::ByKernel);
        }
        let directory = match self.follow(call, way, parent, Last::Followed)? {
            Ok(directory) if self.is_ours(&directory) => directory,
            _ => return Ok(Answered::ByKernel),
        };
        let (mode, rdev) = node;
        let permissions = NewMode::from_bits_truncate(mode & 0o7777);
        umask(NewMode::from_bits_truncate(mask));
        let made = self.as_capable_as(&call.capabilities, || {
            mknodat(&directory, name, SFlag::S_IFSOCK, permissions, 0)
        })?;
        if let Err(error) = made {
            return Ok(Answered::Failed(error as i32));
        }
        let became = become_device(&directory, name, (mode & libc::S_IFMT, rdev));
        if became.is_err() {
            // Not what was asked for. If the container has put another thing there meanwhile, that is its own doing.
            let _ = self.as_capable_as(&call.capabilities, || {
                nix::unistd::unlinkat(&directory, name, nix::unistd::UnlinkatFlags::NoRemoveDir)
            })?;
        }
        Ok(done(became))
    }

    /// Follows a path of the caller's. The inner error is the path's.
    fn follow(
        &self,
        call: &Call,
        way: &Way,
        path: &Path,
        last: Last,
    ) -> io::Result<rustix::io::Result<OwnedFd>> {
        let link = match last {
            Last::Followed => OFlags::empty(),
            Last::Itself => OFlags::NOFOLLOW,
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC | link;
        let entered = fchdir(&way.root).and_then(|()| chroot("."));
        let found = match entered {
            Ok(()) => self.as_capable_as(&call.capabilities, || {
                openat2(
                    &way.start,
                    path,
                    flags,
                    Mode::empty(),
                    ResolveFlags::NO_MAGICLINKS,
                )
            })?,
            Err(error) => Err(rustix::io::Errno::from_raw_os_error(error as i32)),
        };
        self.go_home()?;
        Ok(found)
    }

    /// Does something with the caller's capabilities alone: users and groups are the same, there being one.
    fn as_capable_as<T>(&self, caller: &CapsHashSet, work: impl FnOnce() -> T) -> io::Result<T> {
        let set = |set: &CapsHashSet| caps::set(None, CapSet::Effective, set).map_err(io::Error::other);
        set(&caller.intersection(&self.capabilities).copied().collect())?;
        let done = work();
        set(&self.capabilities)?;
        Ok(done)
    }

    /// Is the file of a filesystem that keeps owners for us? One that only says so, as a FUSE server inside could, fools its
    /// own container.
    fn is_ours(&mut self, file: &OwnedFd) -> bool {
        // Asks the filesystem for nothing: since the last chown(2) the kernel knows no attributes of the file.
        let unasked = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let Ok(stat) = statx(file, "", unasked, StatxFlags::empty()) else {
            return false;
        };
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        if self.ours == Some(device) {
            return true;
        }
        let ours = fstatfs(file).is_ok_and(|system| system.f_type == FUSE)
            && getxattr(name(file), OWNER, &mut [0; 8]) == Ok(8);
        if ours {
            self.ours = Some(device);
        }
        ours
    }
}

fn become_device(directory: &OwnedFd, name: &Path, (mode, rdev): (u32, u32)) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let alone = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let socket = openat2(directory, name, flags, Mode::empty(), alone)?;
    if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
        return Err(rustix::io::Errno::STALE);
    }
    let device = Device {
        directory: fstat(directory)?.st_ino,
        name: name.as_os_str().as_encoded_bytes(),
        mode,
        rdev,
    };
    set(&socket, DEVICE, &device.value())
}

/// The filesystem gives the errors of a change: a read-only mount's, a full disk's.
fn set(file: &OwnedFd, attribute: &str, value: &[u8]) -> rustix::io::Result<()> {
    setxattr(name(file), attribute, value, XattrFlags::empty())
}

/// An open file's name, of whatever type it is, from /proc.
fn name(file: &OwnedFd) -> String {
    format!("self/fd/{}", file.as_raw_fd())
}

fn done(result: rustix::io::Result<()>) -> Answered {
    match result {
        Ok(()) => Answered::Done,
        Err(error) => Answered::Failed(error.raw_os_error()),
    }
}
