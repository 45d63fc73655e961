//! Who stays beside a container? The supervisor: forked by the tool, the parent of filesystem server and init, the owner
//! of the FUSE connection and of the container's streams.
//!
//! [`start`] is the tool's side; `beside` is the supervisor's life (`begin`, `voices`); `server` the supervisor's side
//! of a filesystem server, `servers` all of a container's, `serving` the server's own, `confine` what it may do; `network` is about the network process, `hired` about a program in its place, `links` and `wire` about networks of the user's own;
//! `warden` who ends what is left when it is killed; `told` what others say to it, `again` its next life when the container is restarted.

mod again;
mod announce;
mod begin;
mod beside;
mod checker;
mod confine;
mod hired;
mod inlet;
mod links;
mod network;
mod protocol;
mod ranks;
mod server;
mod servers;
mod serving;
pub(super) mod stdio;
pub(super) mod terminal;
mod told;
pub(super) mod tool;
mod voices;
mod warden;
mod wire;

pub use again::resumed;
pub use hired::hired;
pub use stdio::Attach;
pub use terminal::size as terminal_size;
pub use tool::{Ending, SignalProxy, Supervisor, start, unblock_signals};
pub use warden::warden;

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use fuse_overlay::union::Lower;

use super::attach::Keys;
use super::log::Stream;
use super::neighbour::Joined;
use super::network::Ready;
use super::record::Held;
use super::role;
use super::runtime::channel::Channel;
use super::runtime::{Ahead, Plan};
use super::view::View;
use crate::host::Probe;
use crate::store::Store;

/// All that a container needs to start.
#[derive(Debug)]
pub struct Start {
    /// The container, locked.
    pub held: Held,
    /// Its image.
    pub lower: Lower,
    /// Other trees that it sees.
    pub views: Vec<View>,
    /// What the executor is to do.
    pub plan: Plan,
    /// A user namespace that is being made for it.
    pub ahead: Option<Ahead>,
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
    /// What of its output is not shown.
    pub hidden: Option<Stream>,
    /// Where everything lies.
    pub store: Store,
    /// How long it waited for this start, if it is one by the restart policy.
    pub pause: Duration,
    /// The host's side of its network.
    pub network: Ready,
    /// What it has of other containers.
    pub joined: Joined,
}

/// What this process was started for, if a supervisor started it: its whole life, and its exit code.
pub fn helper() -> Option<u8> {
    let is = |name| role::arguments(name).is_some_and(|mut words| words.next().is_none());
    let life = if is(serving::NAME) {
        serving::succeed
    } else if is(network::NAME) {
        // What the user's shell had open is not for it. A kernel that cannot close them leaves them.
        let _ = crate::sys::close_all_from(3);
        network::serve
    } else if is(wire::NAME) {
        wire::serve
    } else {
        return None;
    };
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    Some(stdin.map_or(1, |stdin| life(Channel::from(stdin))))
}
