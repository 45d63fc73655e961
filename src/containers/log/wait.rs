//! How does a reader wait for more? inotify says that the log has grown or has another name; a network filesystem says
//! nothing, so it also looks from time to time. The supervisor's end is the log's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::containers::process::Process;

/// How often it looks anyway.
const INTERVAL: Duration = Duration::from_millis(500);

/// A wait for a running container's next output.
#[derive(Debug)]
pub struct Wait {
    supervisor: OwnedFd,
    changes: Option<OwnedFd>,
}

impl Wait {
    /// `None`: it has ended. To be made before the log is read: what is written after that ends the wait.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn of(supervisor: Process, directory: &Path) -> io::Result<Option<Wait>> {
        let Some(supervisor) = supervisor.open()? else {
            return Ok(None);
        };
        // Without one (too many of this user's are open), looking has to do.
        let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let watched = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let changes = changes.filter(|changes| add_watch(changes, directory, watched).is_ok());
        Ok(Some(Wait { supervisor, changes }))
    }

    /// Returns when there may be more; `false`: this was the end, and all is written.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn more(&self) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(self.supervisor.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            self.changes
                .iter()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
        );
        let timeout = PollTimeout::try_from(INTERVAL).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = fds.first().and_then(PollFd::any).unwrap_or(false);
        if let Some(changes) = &self.changes {
            // What has changed is read anyway.
            while nix::unistd::read(changes, &mut [0; 4096]).is_ok_and(|length| length > 0) {}
        }
        Ok(!ended)
    }
}
