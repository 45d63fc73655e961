//! Which file does a process execute that goes into a container which runs? Not the user's own program as it lies on the
//! disk: whoever is in there could get hold of it by /proc/PID/exe, at the moment when it executes a path that was swapped
//! for /proc/self/exe, and write to it later (CVE-2019-5736). Comparing files before executing them cannot win that race.
//! So the program first goes on by a way to itself that nobody can write through:
//! - a read-only mount of its file, attached nowhere, made in namespaces in which no container has a say; when it has been
//!   executed it is in no namespace at all, so nobody can copy it or make it writable;
//! - where that cannot be, a sealed copy in memory, which costs some 4 ms.
//!
//! Init needs neither: nothing runs beside it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;

use nix::fcntl::AtFlags;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::execveat;
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
    fcntl_add_seals, fcntl_get_seals, fstatvfs, memfd_create, openat, statx,
};
use rustix::io::Errno;

use super::channel::Channel;
use super::rootfs::copy_of;
use crate::sys::{self, Depth, MountAttributes};

/// Is this process of the sealed program?
pub(in crate::containers) fn is_sealed() -> bool {
    let own = File::open("/proc/self/exe");
    own.is_ok_and(|own| leads_to_sealed(&own).unwrap_or(false))
}

/// Makes this process one of the sealed program, from its start, unless it is that already. To be called before anything
/// else is done, by a process with one thread. Returns in the sealed one.
///
/// # Errors
/// Neither mount nor copy can be made and executed (`vm.memfd_noexec`, no memory).
pub fn ensure_sealed() -> io::Result<()> {
    let own = File::open("/proc/self/exe")?;
    if leads_to_sealed(&own)? {
        return Ok(());
    }
    let error = match read_only(&own) {
        Ok(mount) => execute(&mount),
        Err(error) => error,
    };
    tracing::debug!("no read-only mount of this program: {error}; a copy in memory");
    Err(execute(&copy(&own)?))
}

/// Whether nobody can write to a program that was executed by this file.
pub(super) fn leads_to_sealed(own: &File) -> io::Result<bool> {
    if fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return Ok(true);
    }
    // A filesystem that is read-only could become writable: what counts is a mount of this one file.
    let root = statx(own, c"", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::empty())?.stx_attributes;
    Ok(root.contains(StatxAttributes::MOUNT_ROOT)
        && fstatvfs(own)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A mount of the program's file, made by a child in a user namespace of its own.
fn read_only(own: &File) -> io::Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    let mut ends = Some(ours);
    sys::fork(|| {
        drop(ends.take());
        let made = read_only_mount(own);
        let told = match &made {
            Ok(mount) => theirs.send(&None::<i32>, &[mount]),
            Err(error) => theirs.send(&Some(error.raw_os_error()), &[] as &[OwnedFd]),
        };
        u8::from(told.is_err())
    })?;
    drop(theirs);
    // The child is reaped by whom this process leaves it to: its end, with that of its namespaces, is not waited for.
    let ours = ends.ok_or(io::ErrorKind::Other)?;
    match ours.receive::<Option<i32>>()? {
        Some((None, mounts)) => mounts.into_iter().next().ok_or(io::ErrorKind::InvalidData.into()),
        Some((Some(error), _)) => Err(io::Error::from_raw_os_error(error)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_only_mount(own: &File) -> io::Result<OwnedFd> {
    let path = fs::read_link("/proc/self/exe")?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    // By its path: what was opened before lies on a mount of the old namespace.
    let again = openat(
        CWD,
        &path,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )?;
    let again = File::from(again);
    let (there, here) = (again.metadata()?, own.metadata()?);
    if (there.dev(), there.ino()) != (here.dev(), here.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mount = copy_of(&again)?;
    let set = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    sys::mount_setattr(&mount, Depth::One, set)?;
    Ok(mount)
}

fn copy(own: &File) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know EXEC, and need it not.
    let copy = match memfd_create("bryo", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("bryo", flags)?,
        copy => copy?,
    };
    let mut copy = File::from(copy);
    io::copy(&mut &*own, &mut copy)?;
    fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(copy)
}

/// Executes the program by this file. Returns only if it fails.
fn execute(program: impl std::os::fd::AsFd) -> io::Error {
    match arguments_and_variables() {
        Ok((arguments, variables)) => {
            match execveat(program, c"", &arguments, &variables, AtFlags::AT_EMPTY_PATH) {
                Ok(never) => match never {},
                Err(error) => error.into(),
            }
        }
        Err(error) => error,
    }
}

fn arguments_and_variables() -> io::Result<(Vec<CString>, Vec<CString>)> {
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let arguments = std::env::args_os().map(|word| text(word.into_vec()));
    let variables = std::env::vars_os().map(|(name, value)| {
        let pair = [name.into_vec(), b"=".to_vec(), value.into_vec()].concat();
        text(pair)
    });
    Ok((
        arguments.collect::<io::Result<_>>()?,
        variables.collect::<io::Result<_>>()?,
    ))
}
