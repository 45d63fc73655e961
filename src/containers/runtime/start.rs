//! Which processes make a container, and what do they say to each other?
//!
//! ```text
//! supervisor ── fork ──► child   enters or makes the user namespace, mounts FUSE, sends its descriptors, forks init
//!            └────────── init    pid 1 inside; CLONE_PARENT makes it the supervisor's own child, to be reaped by it
//! ```

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;

use super::plan::Plan;
use crate::host::IdMaps;

/// What the container's command gets as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// These.
    Fds([OwnedFd; 3]),
    /// A pty of the container's own devpts (so that `tty` inside is right); its master is [`Init::terminal`]. For a
    /// Spec with `process.terminal`; its size is the Spec's `consoleSize`.
    Terminal,
}

/// A container on its way; dropping it ends what was started.
#[derive(Debug)]
pub struct Launch {
    _child: Pid,
}

/// A container whose command runs. Keep it as long as the container lives: it also holds the shared user namespace.
#[derive(Debug)]
pub struct Init {
    /// Pid 1 of the container as the supervisor sees it: its child, to be reaped by it.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// The pty's master, for [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
}

/// Why a container did not start: one line each, and Docker's exit code.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command is not in the container.
    #[error("{0}")]
    NotFound(String),
    /// The command is there, but cannot be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// Everything else: what failed, on what, why, what would help.
    #[error("{0}")]
    Failed(String),
}

impl StartError {
    /// Docker's exit code: 127, 126 or 125.
    pub fn code(&self) -> u8 {
        match self {
            StartError::NotFound(_) => 127,
            StartError::NotExecutable(_) => 126,
            StartError::Failed(_) => 125,
        }
    }
}

/// Starts the container's processes and returns at once. To be called by a process with one thread (the supervisor),
/// which stays the container's parent: when it dies, the container does. `run` is `$BRYO_RUN`, where holders are found.
///
/// # Errors
/// Fails if no process can be made.
pub fn spawn(plan: Plan, stdio: Stdio, run: &Path) -> Result<Launch, StartError> {
    let _ = (plan, stdio, run);
    todo!()
}

impl Launch {
    /// Waits until the user namespace is there and the root is mounted; gives the descriptors of `/dev/fuse` to serve
    /// (none for [`super::RootSource::Path`]). Serve them from another process before [`Launch::go`].
    ///
    /// # Errors
    /// The namespace or the mount could not be made.
    pub fn devices(&mut self) -> Result<Vec<OwnedFd>, StartError> {
        todo!()
    }

    /// The id maps in force, known after [`Launch::devices`]: those of the Spec, or one id if newuidmap failed.
    pub fn id_maps(&self) -> &IdMaps {
        todo!()
    }

    /// What could not be done as asked, one line each, for the user; known after [`Launch::devices`].
    pub fn warnings(&self) -> &[String] {
        todo!()
    }

    /// Lets the command start and waits until it runs.
    ///
    /// # Errors
    /// Says what failed, in the child or in init.
    pub fn go(self) -> Result<Init, StartError> {
        todo!()
    }
}
