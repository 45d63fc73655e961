//! What keeps a container alive in which commands come and go (`run --join`)? A process that waits, below pid 1, by which
//! they come in: pid 1 itself is closed to everybody. It is this program, executed anew so that nothing of the supervisor's
//! memory is open to the container, and sealed, so that nobody gets at its file by /proc/PID/exe (see `sealed`).

use std::fs::File;
use std::io;

use nix::fcntl::AtFlags;
use nix::sys::signal::SigSet;
use nix::unistd::execveat;

use super::channel::Failure;
use super::sealed::leads_to_sealed;
use crate::containers::role;
use crate::sys;

/// The name under which it is executed.
const NAME: &std::ffi::CStr = c"bryo-keeper";

/// The program, to be opened while the host's /proc is there.
pub(super) fn program() -> io::Result<File> {
    File::open("/proc/self/exe")
}

/// Becomes the process that waits. Returns only why it cannot.
pub(super) fn execute(program: &File) -> Failure {
    if !leads_to_sealed(program).unwrap_or(false) {
        return Failure::new(
            "keep the container",
            "this program could be written to from within",
        );
    }
    let none: [&std::ffi::CStr; 0] = [];
    match execveat(program, c"", &[NAME], &none, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(error) => Failure::new("keep the container", error.desc()),
    }
}

/// If this process is one that waits: its whole life, and its exit code. It ends by what ends programs, which pid 1 passes on.
pub fn keep() -> Option<u8> {
    role::arguments(NAME.to_str().ok()?).map(drop)?;
    let all = SigSet::all();
    if all.thread_block().is_err() {
        return Some(1);
    }
    loop {
        match sys::signal::next(&all) {
            Ok(libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP) => return Some(0),
            Ok(_) => {}
            Err(_) => return Some(1),
        }
    }
}
