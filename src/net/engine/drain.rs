//! How does the network of a container end that has ended itself? What it wrote last is still in its kernel, or in the device:
//! the other sides are to have all of it, or hear that it is not all.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::Engine;
use crate::net::{Listener, Protocol};

/// Who takes nothing for so long is not waited for, and nobody longer than that.
const STALLED: Duration = Duration::from_secs(2);
const MOST: Duration = Duration::from_secs(10);
/// Between two looks at how far everyone is, if nothing happens.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    began: Instant,
    /// When what was left last changed, and what it was.
    changed: Instant,
    left: (usize, u32),
}

impl Engine {
    /// The order has come: no more clients.
    pub(super) fn drain(&mut self) {
        // Told once; it was there.
        let _ = self.epoll.delete(&self.orders);
        // Those of datagrams are ways of the container's last ones, too.
        let tcp = |listener: &&Listener| listener.port().protocol == Protocol::Tcp;
        for listener in self.listeners.iter().filter(tcp) {
            // One that pauses is not there.
            let _ = self.epoll.delete(&listener.socket);
        }
        self.drain = Some(Drain {
            began: self.now,
            changed: self.now,
            left: self.connections.left(),
        });
    }

    /// Has everybody all that the container sent, or been waited for long enough?
    pub(super) fn is_drained(&mut self) -> bool {
        let Some(drain) = &mut self.drain else {
            return false;
        };
        let left = self.connections.left();
        if left != drain.left {
            (drain.left, drain.changed) = (left, self.now);
        }
        let since = |then| self.now.saturating_duration_since(then);
        if since(drain.changed) >= STALLED || since(drain.began) >= MOST {
            return true;
        }
        if !self.device_rests {
            return false;
        }
        for listener in self.listeners.drain(..) {
            // Closed here alone it would stay; the supervisor may have it open still.
            let _ = self.epoll.delete(&listener.socket);
        }
        left.0 == 0
    }

    /// Ends everything. Who has not had all sees a reset.
    pub(super) fn end(mut self) {
        self.listeners.clear();
        self.connections.end();
        // Before the device is closed, which takes the kernel a while. Who ordered may be gone.
        let _ = shutdown(self.orders.as_raw_fd(), Shutdown::Both);
    }
}
