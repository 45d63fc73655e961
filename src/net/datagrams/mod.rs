//! Which datagrams belong together? UDP and echo requests have no connections, so we remember who spoke to whom, for a while.

mod way;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(super) use way::{Arrived, Way, receive_from, send_from};

use super::engine::Token;
use super::packet::Ends;
use super::timers::Timers;

/// More are not remembered of one kind: one that was quiet for long is forgotten, and of these one that had no answer.
const MOST: usize = 4096;
/// How long a flow is remembered that had no answer, and one that had: as Linux's own address translation does.
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(180);

/// What a flow is found by: the identifier of an echo request stands in the container's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Udp(Ends),
    Echo(Ends),
}

/// One flow.
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) way: Way,
    /// When anything last happened, and whether the other side has ever sent something.
    last: Instant,
    answered: bool,
    queued: Option<Instant>,
}

/// All flows of a container.
#[derive(Default)]
pub(super) struct Flows {
    by_id: HashMap<u64, Flow>,
    by_key: HashMap<Key, u64>,
    /// Those of clients of a published port, by its place and their address.
    by_client: HashMap<(u64, SocketAddr), u64>,
    /// Clients of published ports must not push out what the container began itself: they may be anybody, and many.
    clients: Kind,
    own: Kind,
    last: u64,
}

/// Flows of one kind.
#[derive(Default)]
struct Kind {
    count: usize,
    /// Those that may be forgotten, the quiet ones first, as they were when last looked at; some are gone already.
    unanswered: VecDeque<(u64, Instant)>,
    answered: VecDeque<(u64, Instant)>,
}

impl Kind {
    /// The one to forget.
    fn quietest(&mut self, flows: &HashMap<u64, Flow>) -> Option<u64> {
        while let Some((id, seen)) = self.unanswered.pop_front() {
            match flows.get(&id) {
                Some(flow) if flow.answered => self.answered.push_back((id, flow.last)),
                Some(flow) if flow.last > seen => self.unanswered.push_back((id, flow.last)),
                Some(_) => return Some(id),
                None => {}
            }
        }
        while let Some((id, seen)) = self.answered.pop_front() {
            match flows.get(&id) {
                Some(flow) if flow.last > seen => self.answered.push_back((id, flow.last)),
                Some(_) => return Some(id),
                None => {}
            }
        }
        None
    }

    fn add(&mut self, id: u64, now: Instant, flows: &HashMap<u64, Flow>) {
        if self.unanswered.len() > 2 * MOST {
            self.unanswered.retain(|(id, _)| flows.contains_key(id));
        }
        if self.answered.len() > 2 * MOST {
            self.answered.retain(|(id, _)| flows.contains_key(id));
        }
        self.unanswered.push_back((id, now));
        self.count += 1;
    }
}

impl Flows {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// The flow that the container sends into.
    pub(super) fn of(&mut self, key: &Key, now: Instant) -> Option<&mut Flow> {
        let flow = self.by_id.get_mut(self.by_key.get(key)?)?;
        flow.last = now;
        // A client's question, and this is the answer.
        flow.answered |= matches!(flow.way, Way::Published { .. });
        Some(flow)
    }

    /// The name server that the container's questions go to there.
    pub(super) fn server(&self, key: &Key) -> Option<SocketAddr> {
        match self.by_id.get(self.by_key.get(key)?)?.way {
            Way::Dns { server, .. } => Some(server),
            Way::Own(_) | Way::Published { .. } | Way::Echo(_) => None,
        }
    }

    /// The flow of a socket.
    pub(super) fn get(&mut self, id: u64) -> Option<&mut Flow> {
        self.by_id.get_mut(&id)
    }

    /// Something came for the container; gives the flow's key.
    pub(super) fn answered(&mut self, id: u64, now: Instant) -> Option<Key> {
        let flow = self.by_id.get_mut(&id)?;
        (flow.last, flow.answered) = (now, true);
        Some(flow.key)
    }

    /// The ends of a client's flow, which lives on.
    pub(super) fn client(&mut self, place: u64, client: SocketAddr, now: Instant) -> Option<Key> {
        let id = *self.by_client.get(&(place, client))?;
        let flow = self.by_id.get_mut(&id)?;
        flow.last = now;
        Some(flow.key)
    }

    /// Remembers a new flow, whose socket is made by `open` with its token.
    ///
    /// # Errors
    /// `open`'s.
    pub(super) fn add(
        &mut self,
        key: Key,
        now: Instant,
        timers: &mut Timers,
        open: impl FnOnce(Token) -> io::Result<Way>,
    ) -> io::Result<()> {
        self.last += 1;
        let id = self.last;
        let way = open(Token::Flow(id))?;
        let kind = self.kind(&way);
        if kind.count >= MOST {
            let mut kind = std::mem::take(kind);
            let quietest = kind.quietest(&self.by_id);
            *self.kind(&way) = kind;
            quietest.into_iter().for_each(|id| self.remove(id));
        }
        if let Way::Published { place, client, .. } = way {
            self.by_client.insert((place, client), id);
            self.clients.add(id, now, &self.by_id);
        } else {
            self.own.add(id, now, &self.by_id);
        }
        let mut queued = None;
        timers.set(Token::Flow(id), Some(now + UNANSWERED), &mut queued);
        self.by_key.insert(key, id);
        let flow = Flow {
            key,
            way,
            last: now,
            answered: false,
            queued,
        };
        self.by_id.insert(id, flow);
        Ok(())
    }

    /// A flow's time may be over.
    pub(super) fn wake(&mut self, id: u64, now: Instant, timers: &mut Timers) {
        let Some(flow) = self.by_id.get_mut(&id) else {
            return;
        };
        let end = flow.last + if flow.answered { ANSWERED } else { UNANSWERED };
        if end <= now {
            return self.remove(id);
        }
        flow.queued = None;
        timers.set(Token::Flow(id), Some(end), &mut flow.queued);
    }

    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(id) = self.by_key.get(key) {
            self.remove(*id);
        }
    }

    fn kind(&mut self, way: &Way) -> &mut Kind {
        match way {
            Way::Published { .. } => &mut self.clients,
            Way::Own(_) | Way::Dns { .. } | Way::Echo(_) => &mut self.own,
        }
    }

    /// Forgets all.
    pub(super) fn end(&mut self) {
        let all: Vec<u64> = self.by_id.keys().copied().collect();
        all.into_iter().for_each(|id| self.remove(id));
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(flow) = self.by_id.remove(&id) {
            self.kind(&flow.way).count -= 1;
            self.by_key.remove(&flow.key);
            if let Way::Published { place, client, .. } = flow.way {
                self.by_client.remove(&(place, client));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        Key::Udp(Ends {
            container: SocketAddr::from(([10, 0, 2, 100], port)),
            remote: SocketAddr::from(([192, 0, 2, 1], 53)),
        })
    }

    fn published(port: u16) -> Way {
        Way::Published {
            place: 0,
            client: SocketAddr::from(([192, 0, 2, 1], port)),
            local: None,
        }
    }

    #[test]
    fn the_quietest_is_forgotten_when_there_are_too_many() {
        let (mut flows, mut timers, start) = (Flows::default(), Timers::default(), Instant::now());
        for n in 0..=MOST as u16 {
            let now = start + Duration::from_millis(n.into());
            flows.add(key(n), now, &mut timers, |_| Ok(published(n))).unwrap();
            flows.of(&key(0), now).unwrap();
        }
        assert_eq!(flows.by_id.len(), MOST);
        assert_eq!(flows.by_client.len(), MOST);
        assert!(flows.contains(&key(0)) && !flows.contains(&key(1)) && flows.contains(&key(2)));
    }

    #[test]
    fn clients_push_out_neither_those_that_had_answers_nor_what_the_container_began() {
        let (mut flows, mut timers, start) = (Flows::default(), Timers::default(), Instant::now());
        let own = |_| Ok(Way::Own(std::net::UdpSocket::bind("127.0.0.1:0")?));
        flows.add(key(1), start, &mut timers, own).unwrap();
        for n in 2..MOST as u16 * 3 {
            let now = start + Duration::from_millis(n.into());
            flows.add(key(n), now, &mut timers, |_| Ok(published(n))).unwrap();
            if n == 2 {
                flows.of(&key(2), now).unwrap();
            }
        }
        assert_eq!((flows.by_id.len(), flows.by_client.len()), (MOST + 1, MOST));
        assert!(flows.contains(&key(1)) && flows.contains(&key(2)) && !flows.contains(&key(3)));
        // What is remembered of those that are gone is bounded, too.
        for n in 2..MOST as u16 * 3 {
            flows.forget(&key(n));
            flows
                .add(key(n), start, &mut timers, |_| Ok(published(n)))
                .unwrap();
            flows.forget(&key(n));
        }
        assert!(flows.clients.count == 0 && flows.clients.unanswered.len() <= 2 * MOST + 1);
    }

    #[test]
    fn a_client_is_answered_by_the_container() {
        let (mut flows, mut timers, start) = (Flows::default(), Timers::default(), Instant::now());
        flows
            .add(key(1), start, &mut timers, |_| Ok(published(1)))
            .unwrap();
        flows.of(&key(1), start).unwrap();
        flows.wake(1, start + UNANSWERED, &mut timers);
        assert!(flows.contains(&key(1)));
        flows.wake(1, start + ANSWERED, &mut timers);
        assert!(!flows.contains(&key(1)));
    }

    #[test]
    fn an_answer_makes_a_flow_live_longer() {
        let (mut flows, mut timers, start) = (Flows::default(), Timers::default(), Instant::now());
        flows
            .add(key(1), start, &mut timers, |_| Ok(published(1)))
            .unwrap();
        flows
            .add(key(2), start, &mut timers, |_| Ok(published(2)))
            .unwrap();
        flows.answered(2, start);
        for (after, left) in [(UNANSWERED, 1), (ANSWERED, 0)] {
            let now = start + after;
            while let Some((_, Token::Flow(id))) = timers.due(now) {
                flows.wake(id, now, &mut timers);
            }
            assert_eq!(flows.by_id.len(), left);
        }
        assert!(flows.by_key.is_empty() && flows.by_client.is_empty());
        assert!(timers.rest(start).is_none());
    }
}
