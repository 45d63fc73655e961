//! How does this program start itself in another role? It is executed anew, so nothing of whoever starts it is left but what
//! is given; the role is the name under which it is executed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::store::Store;

/// The program that runs.
const OWN: &str = "/proc/self/exe";

/// This program in a role, without streams.
pub(super) fn command(role: &str) -> Command {
    command_of(Path::new(OWN), role)
}

/// Another version of it.
pub(super) fn command_of(program: &Path, role: &str) -> Command {
    let mut command = Command::new(program);
    command
        .arg0(role)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// This program in a role, at work in this store.
pub(super) fn command_in(store: &Store, role: &str) -> Command {
    let mut command = command(role);
    command
        .env("BRYO_ROOT", store.root())
        .env("BRYO_STATE", store.state())
        .env("BRYO_RUN", store.run());
    command
}

/// Starts it; gives a descriptor of the process, too.
pub(super) fn start(command: &mut Command) -> io::Result<(Child, OwnedFd)> {
    let mut child = command.spawn()?;
    match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(error) => {
            // Both fail only for one that was reaped.
            let _ = child.kill();
            let _ = child.wait();
            Err(error.into())
        }
    }
}

/// The arguments of this process, if it was started in this role. To be asked before anything else is done.
pub(super) fn arguments(role: &str) -> Option<impl Iterator<Item = String>> {
    let mut arguments = std::env::args_os();
    arguments.next().filter(|name| name == role)?;
    Some(arguments.map(|word| word.into_string().unwrap_or_default()))
}
