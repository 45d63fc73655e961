//! Which file does a process execute that goes into a container which runs? Not the user's own program: whoever is in there
//! could get hold of it by /proc/PID/exe, at the moment when it executes a path that was swapped for /proc/self/exe, and
//! write to it later (CVE-2019-5736). Comparing files before executing them cannot win that race. So the program first
//! goes on from a copy of itself in memory, which is sealed: nobody can write to it. Init needs none: nothing runs beside it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt as _;

use nix::fcntl::AtFlags;
use nix::unistd::execveat;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;

/// Is this process of the sealed copy?
pub(in crate::containers) fn is_sealed() -> bool {
    let own = File::open("/proc/self/exe");
    own.is_ok_and(|own| fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// Makes this process one of the sealed copy, from its start, unless it is that already. To be called before anything else
/// is done. Returns in the copy.
///
/// # Errors
/// The copy cannot be made or executed (`vm.memfd_noexec`, no memory).
pub fn ensure_sealed() -> io::Result<()> {
    if is_sealed() {
        return Ok(());
    }
    let own = File::open("/proc/self/exe")?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know EXEC, and need it not.
    let copy = match memfd_create("bryo", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("bryo", flags)?,
        copy => copy?,
    };
    let mut copy = File::from(copy);
    io::copy(&mut &own, &mut copy)?;
    fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput);
    let arguments = std::env::args_os().map(|word| text(word.into_vec()));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let variables = std::env::vars_os().map(|(name, value)| {
        let pair = [name.into_vec(), b"=".to_vec(), value.into_vec()].concat();
        text(pair)
    });
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    match execveat(&copy, c"", &arguments, &variables, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}
