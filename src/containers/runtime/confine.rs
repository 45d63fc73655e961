//! What may the command's processes never do? Identity, capability sets, no_new_privs, system call filter: in this order,
//! the filter last, so that it need not allow what the steps before it call.

use std::io::{stderr, stdin, stdout};
use std::os::fd::AsFd as _;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};
use rustix::fs::{FileType, fstat};

use super::channel::Failure;
use super::step::{Capabilities, Keep};
use crate::sys;

/// Drops from the bounding set what is not in `kept`, capabilities that this program does not know included.
pub(super) fn bound(kept: &CapsHashSet) -> Result<(), Failure> {
    for number in 0..64 {
        if kept.iter().any(|capability| capability.index() == number) {
            continue;
        }
        match sys::drop_from_bounding_set(number) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break, // beyond the kernel's last one
            Err(error) => return Err(Failure::new(format!("drop capability {number}"), error)),
        }
    }
    Ok(())
}

/// Becomes the user; capabilities stay permitted until [`limit`].
pub(super) fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<(), Failure> {
    let failed = |what: String| move |error: Errno| Failure::new(what, error.desc());
    if let Some(groups) = groups {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(failed("set the supplementary groups".to_owned()))?;
    }
    prctl::set_keepcaps(true).map_err(failed("keep capabilities".to_owned()))?;
    let gid = Gid::from_raw(gid);
    setresgid(gid, gid, gid).map_err(failed(format!("become group {gid}")))?;
    let uid = Uid::from_raw(uid);
    give_streams(uid);
    setresuid(uid, uid, uid).map_err(failed(format!("become user {uid}")))
}

/// Gives the user the pipes that are its streams: they were made for root inside, and a program that opens `/dev/stdout`
/// asks for the right anew (moby#31243; runc's fixStdioPermissions).
fn give_streams(uid: Uid) {
    for stream in [stdin().as_fd(), stdout().as_fd(), stderr().as_fd()] {
        let is_pipe = fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_pipe && !uid.is_root() {
            // One that is not ours to give, such as a pipe of the caller's, works as before: through its descriptor.
            let _ = fchown(stream, Some(uid), None);
        }
    }
}

/// Sets the capability sets. The inheritable one is first: only what is still permitted may enter it.
pub(super) fn limit(sets: &Capabilities, keep: Keep) -> Result<(), Failure> {
    let failed = |error: caps::errors::CapsError| Failure::new("set capabilities", error);
    let with_kept = |set: &CapsHashSet| {
        let mut set = set.clone();
        if keep == Keep::SysAdmin {
            set.insert(Capability::CAP_SYS_ADMIN);
        }
        set
    };
    caps::set(None, CapSet::Inheritable, &sets.inheritable).map_err(failed)?;
    caps::set(None, CapSet::Effective, &with_kept(&sets.effective)).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &with_kept(&sets.permitted)).map_err(failed)?;
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    for capability in &sets.ambient {
        caps::raise(None, CapSet::Ambient, *capability).map_err(failed)?;
    }
    Ok(())
}

/// Installs the filters, oldest first.
pub(super) fn filter(programs: &[Vec<u8>]) -> Result<(), Failure> {
    programs.iter().try_for_each(|program| {
        sys::install_seccomp(program).map_err(|error| Failure::new("install the seccomp filter", error))
    })
}
