//! What did whoever started this program have open, beyond the three streams? A lock of a script, the pipe of a `make`: theirs
//! to be closed when they think the command is over. So a process that outlives the command closes it. What is to reach a
//! container's command (`--preserve-fds`) is closed by all others when that has it.

use std::fs;
use std::os::fd::RawFd;

use parking_lot::Mutex;

use crate::sys;

static OPEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
/// Those that a container's command is to have.
static PRESERVED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// One that is to be preserved is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "file descriptor {0} is not available: --preserve-fds takes those that this command is given, from 3 on without a gap"
)]
pub struct NotOpen(RawFd);

/// Looks what is open. To be called before anything else is done.
pub fn note() {
    // Without /proc nothing is known, and no container can be run.
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    // Among them is the listing's own, closed by now.
    OPEN.lock().extend(
        open.into_iter()
            .filter(|descriptor| fs::symlink_metadata(format!("/proc/self/fd/{descriptor}")).is_ok()),
    );
}

/// Was this open when the program started?
pub fn is_inherited(descriptor: RawFd) -> bool {
    OPEN.lock().contains(&descriptor)
}

/// Keeps so many, from 3 on, for a container's command. Gives them.
///
/// # Errors
/// One of them is not there.
pub fn preserve(count: u16) -> Result<Vec<RawFd>, NotOpen> {
    let wanted: Vec<RawFd> = (3..3 + RawFd::from(count)).collect();
    if let Some(missing) = wanted.iter().find(|descriptor| !is_inherited(**descriptor)) {
        return Err(NotOpen(*missing));
    }
    OPEN.lock().retain(|open| !wanted.contains(open));
    PRESERVED.lock().clone_from(&wanted);
    Ok(wanted)
}

/// Closes those, once the command has them, or in a process that has nothing to do with it.
pub fn close_preserved() {
    sys::close_each(&std::mem::take(&mut *PRESERVED.lock()));
}

/// Adds one of this program's own, which the processes that stay beside containers are not to keep.
pub(super) fn add(descriptor: RawFd) {
    OPEN.lock().push(descriptor);
}

/// Takes that back: it is about to be closed.
pub(super) fn remove(descriptor: RawFd) {
    OPEN.lock().retain(|open| *open != descriptor);
}

/// Closes all of it. For a process that was forked to outlive this command, and that ends without dropping what others own.
pub(super) fn close() {
    sys::close_each(&std::mem::take(&mut *OPEN.lock()));
    if !PRESERVED.lock().is_empty() {
        // What is executed beside the command has no business with them. A kernel that cannot do so leaves them to roles
        // that close all they were not given.
        let _ = sys::close_on_exec_from(3);
    }
}
