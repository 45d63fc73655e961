//! How does a reader wait for more? It hears when the log has grown or has another name. The supervisor's end is the log's.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use crate::containers::process::Process;
use crate::store::{Changes, Which};

/// A wait for a running container's next output.
#[derive(Debug)]
pub struct Wait {
    supervisor: OwnedFd,
    changes: Changes,
}

impl Wait {
    /// `None`: it has ended. To be made before the log is read: what is written after that ends the wait.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn of(supervisor: Process, directory: &Path) -> io::Result<Option<Wait>> {
        let supervisor = supervisor.open()?;
        Ok(supervisor.map(|supervisor| Wait {
            supervisor,
            changes: Changes::of(directory, Which::Growth),
        }))
    }

    /// Returns when there may be more; `false`: this was the end, and all is written.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn more(&self) -> io::Result<bool> {
        let ended = self.changes.wait(Some(self.supervisor.as_fd()), None)?;
        Ok(!ended)
    }
}
