//! How is an event written down?

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use super::{Event, old, path};
use crate::store::failpoint;
use crate::store::lock::is_at;

/// Bytes of the file that is written to, at most, and an event.
const MOST: u64 = 1 << 20;
/// How often a lock is asked for, and how long one waits between.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Writes an event down, below `$BRYO_STATE`. What cannot be written is lost.
pub fn tell(state: &Path, event: &Event) {
    if let Err(error) = failpoint::step().and_then(|()| add(&path(state), event, MOST)) {
        tracing::debug!("an event is lost: {error}");
    }
}

pub(super) fn add(path: &Path, event: &Event, most: u64) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    for _ in 0..TRIES {
        let mut file = open(path)?;
        let locked = lock(&file)?;
        // Somebody may have given it its other name meanwhile.
        if !is_at(&file, path).map_err(io::Error::other)? {
            continue;
        }
        let size = file.metadata()?.len();
        if locked && size >= most {
            failpoint::step().and_then(|()| fs::rename(path, old(path)))?;
            continue;
        }
        if size > 0 && !ends_a_line(&file, size)? {
            line.insert(0, b'\n');
        }
        return file.write_all(&line);
    }
    Err(io::Error::other("the file is always another"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Says whether the lock is ours: who has it may be stopped, and where there are no locks, each writes for itself.
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(_)) => return Ok(false),
        }
    }
    Ok(false)
}

fn ends_a_line(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, size - 1)?;
    Ok(last == *b"\n")
}
