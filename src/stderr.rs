//! How much may this process still log? As much as it likes, but a server, whose log is a file that a container could fill.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes.
static ROOM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// From here on so many bytes are written, and no more.
pub(crate) fn limit(bytes: usize) {
    ROOM.store(bytes, Ordering::Relaxed);
}

/// Standard error, as far as there is room.
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = ROOM.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
            room.checked_sub(bytes.len())
        });
        match room {
            Ok(_) => io::stderr().write(bytes),
            // What does not fit is dropped.
            Err(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
