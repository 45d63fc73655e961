//! How does one hear that files of a directory have changed? inotify says so; a network filesystem says nothing, so one also
//! looks from time to time.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

/// How often one looks anyway.
const INTERVAL: Duration = Duration::from_millis(500);

/// Which changes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// A file grows, or is another: of logs.
    Growth,
    /// A file is replaced, or goes: of records.
    Replacement,
}

/// A watch over a directory.
#[derive(Debug)]
pub struct Changes(Option<OwnedFd>);

impl Changes {
    /// To be made before the files are read: what changes after that ends the wait.
    pub fn of(directory: &Path, which: Which) -> Changes {
        let watched = match which {
            Which::Growth => WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO,
            Which::Replacement => WatchFlags::MOVED_TO | WatchFlags::DELETE,
        };
        // Without one (too many of this user's are open), looking has to do.
        let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Changes(changes.filter(|changes| add_watch(changes, directory, watched).is_ok()))
    }

    /// Returns when something may have changed, when `end` becomes readable, or after `at_most`. Is `end` readable?
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn wait(&self, end: Option<BorrowedFd<'_>>, at_most: Option<Duration>) -> io::Result<bool> {
        let time = at_most.unwrap_or(INTERVAL).min(INTERVAL);
        let fds = end
            .into_iter()
            .chain(self.0.iter().map(|changes| changes.as_fd()));
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = end.is_some() && fds.first().and_then(PollFd::any).unwrap_or(false);
        if let Some(changes) = &self.0 {
            // What has changed is read anyway.
            while nix::unistd::read(changes, &mut [0; 4096]).is_ok_and(|length| length > 0) {}
        }
        Ok(ended)
    }
}
