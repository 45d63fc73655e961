//! How do all processes of a container stop, and go on? By `cgroup.freeze` of version 2, or the freezer of version 1.
//!
//! What is frozen dies of SIGKILL in version 2, but in version 1 only when it is thawed; other signals wait in both.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::group::{Seat, of, remedy};
use super::place::{read, write};
use super::{CgroupError, Controller, Version};

/// How long processes may take to stop: one that waits in the kernel stops when that lets it go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops the processes of the container in this directory; returns when they have.
///
/// # Errors
/// [`CgroupError::NotFreezable`], [`CgroupError::NotFrozen`].
pub fn freeze(container: &Path) -> Result<(), CgroupError> {
    let group = of(container);
    let placed = !group.is_empty();
    let seat = group
        .with(Controller::Freezer)
        .ok_or_else(|| CgroupError::NotFreezable(remedy(placed)))?;
    seat.ask("1", "FROZEN")?;
    let end = Instant::now() + PATIENCE;
    while !seat.is_frozen() {
        if Instant::now() > end {
            seat.ask("0", "THAWED")?;
            return Err(CgroupError::NotFrozen(PATIENCE.as_secs()));
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Lets them go on, if they were stopped.
///
/// # Errors
/// The kernel refuses.
pub fn thaw(container: &Path) -> Result<(), CgroupError> {
    match of(container).with(Controller::Freezer) {
        Some(seat) => seat.ask("0", "THAWED"),
        None => Ok(()),
    }
}

/// Are they stopped, or about to be?
pub fn is_frozen(container: &Path) -> bool {
    let group = of(container);
    group.with(Controller::Freezer).is_some_and(|seat| {
        let asked = |file: &str| read(&seat.path.join(file)).unwrap_or_default();
        match seat.version {
            Version::Two => asked("cgroup.freeze") == "1",
            Version::One => matches!(asked("freezer.state").as_str(), "FROZEN" | "FREEZING"),
        }
    })
}

impl Seat {
    fn ask(&self, two: &str, one: &str) -> Result<(), CgroupError> {
        let (file, text) = match self.version {
            Version::Two => ("cgroup.freeze", two),
            Version::One => ("freezer.state", one),
        };
        let path = self.path.join(file);
        match write(&path, text) {
            Err(error) if is_gone(&error) => Ok(()),
            Err(source) => Err(CgroupError::Io {
                action: "write",
                path,
                source,
            }),
            Ok(()) => Ok(()),
        }
    }

    fn is_frozen(&self) -> bool {
        let (file, line) = match self.version {
            Version::Two => ("cgroup.events", "frozen 1"),
            Version::One => ("freezer.state", "FROZEN"),
        };
        match read(&self.path.join(file)) {
            Ok(text) => text.lines().any(|one| one == line),
            // Nothing is left that would run.
            Err(_) => true,
        }
    }
}

/// The container has ended meanwhile: before the file was opened, or before it was written to.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_meanwhile_needs_no_thaw() {
        for (number, gone) in [(libc::ENOENT, true), (libc::ENODEV, true), (libc::EACCES, false)] {
            assert_eq!(is_gone(&io::Error::from_raw_os_error(number)), gone);
        }
    }
}
