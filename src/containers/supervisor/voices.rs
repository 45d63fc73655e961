//! Who has something to say while a container runs? Its tool, other tools by signals, those who attach, and the processes
//! beside it that die: all are heard in one loop, until init ends.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::begin::Guests;
use super::beside::tell;
use super::checker::Checker;
use super::links::Links;
use super::network::Network;
use super::protocol::{Notice, Order};
use super::ranks::Ranks;
use super::stdio::{self, Relay};
use super::told::Told;
use crate::containers::cgroup;
use crate::containers::end;
use crate::containers::notify::Proxy;
use crate::containers::record::Held;
use crate::containers::runtime::Init;
use crate::containers::runtime::channel::Channel;
use crate::sys;

/// How long who wants to attach waits where there are no descriptors left.
const CROWDED: Duration = Duration::from_secs(1);

/// How long a container may take to end when its last rank has left. Whoever was in it may have stopped what is to end.
const EMPTY: Duration = Duration::from_secs(2);

/// A container that runs, and who has something to say about it.
pub(super) struct Voices<'a> {
    pub(super) init: &'a mut Init,
    pub(super) relay: &'a Relay,
    pub(super) guests: &'a Guests,
    pub(super) tool: &'a Channel,
    pub(super) told: &'a mut Told,
    pub(super) checker: Checker<'a>,
    pub(super) network: &'a mut Option<Network>,
    pub(super) links: &'a mut Links,
    pub(super) ranks: &'a mut Option<Ranks>,
    pub(super) proxy: Option<&'a Proxy>,
}

/// Milliseconds that the end alone is waited for when more cannot be.
const LATER: u8 = 100;

/// Who has something to say at the moment.
struct Heard {
    ended: bool,
    succeeded: bool,
    told: bool,
    left: bool,
    tool: bool,
    door: bool,
    /// The network process, in words.
    voice: bool,
    ranks: bool,
    proxy: bool,
}

/// When something is due; each is `None` while nothing is.
#[derive(Default)]
struct Due {
    /// Until then nobody comes in by the door, for want of descriptors.
    closed: Option<Instant>,
    /// The container is killed, since nobody is in it any more.
    last: Option<Instant>,
    /// It is killed, since it may not run for longer.
    timeout: Option<Instant>,
}

impl Voices<'_> {
    /// Passes on what is said until init ends, and takes in who attaches. A tool that was killed takes the user's streams
    /// with it. `renewed` is called when another filesystem server or network process has taken over.
    pub(super) fn carry(
        &mut self,
        held: &mut Held,
        succeeded: &EventFd,
        mut renewed: impl FnMut(&mut Held, (Option<&Network>, &Links)),
    ) {
        let mut listening = true;
        held.amend();
        // Whoever changed it before it was recorded that the container runs could not say so.
        if self.links.are_outdated(&held.record) && self.settle(held) {
            renewed(held, (self.network.as_ref(), &*self.links));
        }
        let seconds = held.record.settings.upkeep.timeout;
        let timeout = Instant::now().checked_add(Duration::from_secs(seconds));
        let mut due = Due {
            timeout: timeout.filter(|_| seconds > 0),
            ..Due::default()
        };
        loop {
            for end in [&mut due.last, &mut due.timeout] {
                if end.take_if(|end| *end <= Instant::now()).is_some() {
                    self.end(held, libc::SIGKILL);
                }
            }
            due.closed = due.closed.filter(|end| *end > Instant::now());
            let heard = match self.listen(succeeded, listening, &due) {
                Ok(heard) if heard.ended => return,
                Ok(heard) => heard,
                Err(Errno::EINTR) => continue,
                // Memory, or descriptors that a limit allows, are missing for so many, and may come back.
                Err(_) if !self.has_ended(LATER) => continue,
                Err(_) => return,
            };
            if self.has_renewed(succeeded, &heard) {
                renewed(held, (self.network.as_ref(), &*self.links));
            }
            if heard.told && self.told.hear() {
                self.end(held, end::stop_signal(&held.record));
            }
            if self.told.take_networks() && self.settle(held) {
                renewed(held, (self.network.as_ref(), &*self.links));
            }
            self.checker.look();
            self.init.see_off();
            if heard.left && self.relay.left().read().is_ok() {
                // First: the user's terminal is somebody else's then.
                stdio::forget_streams();
                let _ = tell(self.tool, &Notice::Left);
            }
            if heard.tool && !self.hear_tool(held) {
                listening = false;
                stdio::forget_streams();
            }
            if heard.door && !self.welcome() {
                due.closed = Some(Instant::now() + CROWDED);
            }
            if let Some(proxy) = self.proxy.filter(|_| heard.proxy) {
                proxy.pass();
            }
            if heard.ranks && self.are_ranks_gone() {
                self.end(held, libc::SIGTERM);
                due.last = Some(Instant::now() + EMPTY);
            }
        }
    }

    /// Waits until somebody has something to say, or something is due.
    fn listen(&self, succeeded: &EventFd, listening: bool, due: &Due) -> nix::Result<Heard> {
        let door = self.guests.door.as_ref().filter(|_| due.closed.is_none());
        let all = [
            Some(self.init.pidfd.as_fd()),
            Some(succeeded.as_fd()),
            Some(self.told.as_fd()),
            Some(self.relay.left().as_fd()),
            listening.then(|| self.tool.as_fd()),
            door.map(AsFd::as_fd),
            self.network.as_ref().and_then(Network::voice),
            self.ranks.as_ref().map(AsFd::as_fd),
            self.proxy.map(AsFd::as_fd),
            // These only wake: who looks after them asks them itself.
            self.init.warmer(),
            self.checker.fd(),
            self.network.as_ref().and_then(Network::pidfd),
        ];
        // In place of one that is not there, one that is looked at anyway.
        let mut fds = all.map(|fd| PollFd::new(fd.unwrap_or(self.init.pidfd.as_fd()), PollFlags::POLLIN));
        poll(&mut fds, self.patience([due.closed, due.last, due.timeout]))?;
        let ready = fds.map(|fd| fd.any().unwrap_or(false));
        let mut ready = ready
            .into_iter()
            .zip(all)
            .map(|(ready, fd)| ready && fd.is_some());
        let mut next = || ready.next().unwrap_or(false);
        // In the order of `all`.
        Ok(Heard {
            ended: next(),
            succeeded: next(),
            told: next(),
            left: next(),
            tool: next(),
            door: next(),
            voice: next(),
            ranks: next(),
            proxy: next(),
        })
    }

    /// Has another filesystem server or network process taken over? Answers what the network process asks, too.
    fn has_renewed(&mut self, succeeded: &EventFd, heard: &Heard) -> bool {
        let server = heard.succeeded && succeeded.read().is_ok();
        if let Some(network) = self.network.as_mut().filter(|_| heard.voice) {
            network.answer(|name| self.links.known(name));
        }
        let network = self.network.as_mut().is_some_and(Network::renew);
        server || network
    }

    /// Does what the tool asks for; `false`: it is gone.
    fn hear_tool(&mut self, held: &Held) -> bool {
        match self.tool.receive() {
            // The terminal's size is that of who attached last.
            Ok(Some((Order::Resize { .. }, _))) if !self.guests.audience.is_empty() => true,
            Ok(Some((order, _))) => {
                self.obey(order, held);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Takes in who wants to attach; `false`: there is no room for anybody just now.
    fn welcome(&self) -> bool {
        let door = self.guests.door.as_ref();
        door.is_none_or(|door| self.guests.audience.welcome(door, self.relay.inlet()))
    }

    /// Is the last rank gone? From then on nobody comes in; who wants to makes another container.
    fn are_ranks_gone(&mut self) -> bool {
        match self.ranks.take_if(Ranks::look) {
            Some(ranks) => {
                ranks.close();
                true
            }
            None => false,
        }
    }

    /// Has init ended, or does it within so many milliseconds? Also if that cannot be waited for.
    fn has_ended(&self, within: u8) -> bool {
        let mut end = [PollFd::new(self.init.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut end, PollTimeout::from(within)) {
            Ok(0) | Err(Errno::EINTR) => false,
            Ok(_) | Err(_) => true,
        }
    }

    /// Sees to the networks that the container is to be on.
    fn settle(&mut self, held: &mut Held) -> bool {
        let Some(network) = self.network.as_mut() else {
            return false;
        };
        held.amend();
        self.links.settle(&mut held.record);
        network.set_reach(self.links.reach());
        true
    }

    /// How long nobody is due.
    fn patience(&self, ends: [Option<Instant>; 3]) -> PollTimeout {
        let now = Instant::now();
        let rests = ends.map(|end| end.map(|end| end.saturating_duration_since(now)));
        let due = [self.checker.rest(), self.network.as_ref().and_then(Network::due)];
        // Rounded up, so that what is waited for is due then.
        due.into_iter()
            .chain(rests)
            .flatten()
            .min()
            .map_or(PollTimeout::NONE, |rest| {
                PollTimeout::try_from(rest + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            })
    }

    fn obey(&mut self, order: Order, held: &Held) {
        match order {
            Order::Signal(number) => {
                if end::is_ending(&held.record, number) {
                    self.told.note_ending();
                }
                self.signal(number);
                if end::is_ending(&held.record, number) {
                    let _ = cgroup::thaw(held.directory());
                }
            }
            Order::Resize { rows, columns } => self.relay.resize(rows, columns),
        }
    }

    /// A signal by which it is to end. What is paused would not hear it.
    fn end(&self, held: &Held, number: i32) {
        self.signal(number);
        let _ = cgroup::thaw(held.directory());
    }

    fn signal(&self, number: i32) {
        // Init may have ended in between.
        let _ = sys::signal::send(self.init.pidfd.as_fd(), number);
    }
}
