//! Who stays beside a container? The supervisor: forked by the tool, the parent of filesystem server and init, the owner
//! of the FUSE connection and of the container's streams.
//!
//! [`start`] is the tool's side; `beside` is the supervisor's life; `server` the supervisor's side
//! of the filesystem server, `serving` the server's own, `confine` what it may do.

mod beside;
mod confine;
mod inlet;
mod protocol;
mod server;
mod serving;
pub(super) mod stdio;
pub(super) mod terminal;
pub(super) mod tool;

pub use serving::successor;
pub use stdio::Attach;
pub use terminal::size as terminal_size;
pub use tool::{Ending, SignalProxy, Supervisor, start};

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use fuse_overlay::union::Lower;

use super::attach::Keys;
use super::record::Held;
use super::runtime::Plan;
use crate::host::Probe;

/// All that a container needs to start.
#[derive(Debug)]
pub struct Start {
    /// The container, locked.
    pub held: Held,
    /// Its image.
    pub lower: Lower,
    /// What the executor is to do.
    pub plan: Plan,
    /// The machine it was planned for.
    pub host: Probe,
    /// Whether the plan makes a pty.
    pub terminal: bool,
    /// The user's streams.
    pub attach: Attach,
    /// Where output that is shown goes, instead of to the user's streams.
    pub log: Option<OwnedFd>,
    /// What leaves the terminal: `--detach-keys`.
    pub keys: Keys,
    /// `$BRYO_RUN`.
    pub run: PathBuf,
}
