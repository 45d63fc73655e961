//! What did whoever started this program have open, beyond the three streams? A lock of a script, the pipe of a `make`: theirs
//! to be closed when they think the command is over. So a process that outlives the command closes it.

use std::fs;
use std::os::fd::RawFd;

use parking_lot::Mutex;

use crate::sys;

static OPEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

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
}
