//! What becomes of UDP and of echo requests?

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use super::names::Asker;
use super::{Engine, is_exhausted};
use crate::net::connections::reason;
use crate::net::datagrams::{Arrived, Flow, Key, Way, receive_from, send_from};
use crate::net::packet::{self, Datagram, Echo, Ends, Reason};
use crate::net::reach::{self, Place};
use crate::net::tcp::Wire as _;
use crate::net::{Listener, Port, Protocol, clients};

/// Datagrams that are read from one socket before others have their turn.
const DATAGRAMS: usize = 64;
/// UDP's number, for what is told of it.
const UDP: u8 = 17;

impl Engine {
    /// A datagram from the container.
    pub(super) fn datagram(&mut self, ends: Ends, datagram: &Datagram<'_>) {
        match Place::of(ends.remote, &self.addresses) {
            Place::Dns => self.question(Asker::Datagram(ends), datagram.payload),
            _ if !self.names.reach.outside => self.datagram_unreachable(&ends, Reason::Forbidden),
            _ => self.forward(ends, datagram.payload),
        }
    }

    /// Sends a datagram of the container's on its way.
    pub(super) fn forward(&mut self, ends: Ends, payload: &[u8]) {
        let key = Key::Udp(ends);
        if let Some(server) = self.flows.server(&key)
            && self.servers.is_passed_over(server, self.now)
        {
            // What it says now comes too late; the question goes to the next.
            self.flows.forget(&key);
        }
        if !self.flows.contains(&key)
            && let Err(error) = self.open_flow(ends)
        {
            if let Some(reason) = datagram_reason(&error) {
                self.datagram_unreachable(&ends, reason);
            }
            return;
        }
        let Some(flow) = self.flows.of(&key, self.now) else {
            return;
        };
        if let Way::Dns { server, .. } = flow.way {
            self.servers.asked(server, self.now);
        }
        if let Err(error) = send(flow, &self.listeners, payload)
            && let Some(reason) = datagram_reason(&error)
        {
            self.datagram_unreachable(&ends, reason);
        }
    }

    /// Makes a socket for a flow that the container begins.
    fn open_flow(&mut self, ends: Ends) -> io::Result<()> {
        let place = Place::of(ends.remote, &self.addresses);
        let to = match place {
            Place::Host(to) => Some(to),
            Place::Gateway => reach::outward(ends.remote),
            Place::Dns => return self.open_question(ends),
            Place::Forbidden => return Err(ErrorKind::PermissionDenied.into()),
        };
        let to = to.ok_or_else(|| io::Error::from_raw_os_error(libc::ECONNREFUSED))?;
        let published = match place {
            Place::Host(_) => self.published(ends.container.port(), to),
            Place::Gateway | Place::Dns | Place::Forbidden => None,
        };
        let epoll = &self.epoll;
        self.flows
            .add(Key::Udp(ends), self.now, &mut self.timers, |token| {
                if let Some(way) = published {
                    return Ok(way);
                }
                Way::own(ends.container.port(), to, epoll, token)
            })
    }

    /// Makes a socket for questions to the first name server that one can be connected to.
    fn open_question(&mut self, ends: Ends) -> io::Result<()> {
        let mut last = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        for server in self.servers.order(self.now) {
            let epoll = &self.epoll;
            let added = self
                .flows
                .add(Key::Udp(ends), self.now, &mut self.timers, |token| {
                    Way::dns(server, epoll, token)
                });
            match added {
                Err(error) if !is_exhausted(&error) => {
                    self.servers.failed(server, self.now);
                    last = error;
                }
                added => return added,
            }
        }
        Err(last)
    }

    /// The way by a published port, for what the container sends from there: to the other it is one and the same, whoever
    /// speaks first, and after however long a silence.
    fn published(&mut self, port: u16, to: SocketAddr) -> Option<Way> {
        let is_from = |listener: &Listener| {
            let Port {
                protocol,
                host,
                container,
            } = listener.port();
            // From loopback nothing goes into the world.
            protocol == Protocol::Udp
                && container == port
                && host.is_ipv4() == to.is_ipv4()
                && !host.ip().is_loopback()
        };
        let place = self.listeners.iter().position(is_from)? as u64;
        // One whom the container knows by another name keeps it.
        let is_known = self.flows.client(place, to, self.now).is_some();
        (!is_known).then_some(Way::Published {
            place,
            client: to,
            local: None,
        })
    }

    /// Tells the container that a datagram did not arrive; nobody is told so of what was for many.
    fn datagram_unreachable(&mut self, ends: &Ends, reason: Reason) {
        let address = ends.remote.ip();
        if address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
            return;
        }
        let mut first = [0; 8];
        first[..2].copy_from_slice(&ends.container.port().to_be_bytes());
        first[2..4].copy_from_slice(&ends.remote.port().to_be_bytes());
        let head = packet::unreachable(self.gateway(ends.remote), ends, UDP, first, reason);
        self.device.put(&head, &[]);
    }

    /// An echo request from the container. Those to us are answered here.
    pub(super) fn echo(&mut self, from: IpAddr, to: IpAddr, echo: &Echo<'_>) {
        let ends = Ends {
            container: SocketAddr::new(from, echo.identifier),
            remote: SocketAddr::new(to, 0),
        };
        match Place::of(ends.remote, &self.addresses) {
            Place::Host(_) if self.names.reach.outside => {}
            Place::Host(_) | Place::Forbidden => return,
            Place::Gateway | Place::Dns => {
                let head = packet::echo_reply(to, from, echo.identifier, echo.sequence, echo.payload);
                return self.device.put(&head, echo.payload);
            }
        }
        let key = Key::Echo(ends);
        let (epoll, now) = (&self.epoll, self.now);
        if !self.flows.contains(&key) {
            let opened = self
                .flows
                .add(key, now, &mut self.timers, |token| Way::echo(to, epoll, token));
            if let Err(error) = opened {
                return self.no_echo(&error);
            }
        }
        let Some(Flow {
            way: Way::Echo(socket),
            ..
        }) = self.flows.of(&key, now)
        else {
            return;
        };
        let mut request = Vec::with_capacity(8 + echo.payload.len());
        // The kernel puts in its own identifier, and the checksum.
        request.extend([if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 0]);
        request.extend(echo.sequence.to_be_bytes());
        request.extend(echo.payload);
        // One that is lost is what the sender looks for.
        let _ = socket.write(&request);
    }

    /// Says once why nobody answers echo requests.
    fn no_echo(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.said_no_echo, true) {
            tracing::warn!(%error, "network: ping does not leave the container; net.ipv4.ping_group_range must allow the user's group");
        }
    }

    /// A flow's socket has something, or an error.
    pub(super) fn flow_ready(&mut self, id: u64) {
        for _ in 0..DATAGRAMS {
            let Some(flow) = self.flows.get(id) else { return };
            let read = match &flow.way {
                Way::Own(socket) | Way::Dns { socket, .. } => socket.recv(&mut self.scratch),
                Way::Echo(socket) => (&*socket).read(&mut self.scratch),
                Way::Published { .. } => return,
            };
            match read {
                Ok(length) => {
                    if let Way::Dns { server, .. } = flow.way {
                        self.servers.answered(server);
                    }
                    self.deliver(id, length);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return self.flow_failed(id, &error),
            }
        }
    }

    /// Gives the container what came into the scratch.
    fn deliver(&mut self, id: u64, length: usize) {
        let bytes = &self.scratch[..length];
        match self.flows.answered(id, self.now) {
            Some(Key::Udp(ends)) => self.device.put(&packet::datagram(&ends, length), bytes),
            Some(Key::Echo(ends)) => {
                let (Some(sequence), Some(payload)) = (bytes.get(6..8), bytes.get(8..)) else {
                    return;
                };
                let (from, to) = (ends.remote.ip(), ends.container.ip());
                let sequence = u16::from_be_bytes([sequence[0], sequence[1]]);
                let head = packet::echo_reply(from, to, ends.container.port(), sequence, payload);
                self.device.put(&head, payload);
            }
            None => {}
        }
    }

    /// What was sent did not arrive.
    fn flow_failed(&mut self, id: u64, error: &io::Error) {
        let Some(flow) = self.flows.get(id) else { return };
        if let Way::Dns { server, .. } = flow.way {
            // The container hears of it too, and will ask again.
            self.servers.failed(server, self.now);
        }
        let key = flow.key;
        if let (Key::Udp(ends), Some(reason)) = (key, datagram_reason(error)) {
            self.datagram_unreachable(&ends, reason);
        }
        if matches!(key, Key::Echo(_)) {
            self.flows.remove(id);
        }
    }

    /// Datagrams came to a published port.
    pub(super) fn published_ready(&mut self, place: u64) {
        for _ in 0..DATAGRAMS {
            let Some(listener) = self.listeners.get(place as usize) else {
                return;
            };
            let port = listener.port().container;
            match receive_from(&listener.socket, &mut self.scratch) {
                Ok(arrived) => self.deliver_from_client(place, port, &arrived),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What a client refused that was sent to it; the next may be another's.
                Err(_) => {}
            }
        }
    }

    fn deliver_from_client(&mut self, place: u64, port: u16, arrived: &Arrived) {
        if !self.names.reach.outside {
            return;
        }
        let known = self.flows.client(place, arrived.client, self.now);
        let key = known.or_else(|| {
            let ends = clients::ends(arrived.client, port, &self.addresses);
            let key = Key::Udp(clients::distinct(ends, |ends| {
                self.flows.contains(&Key::Udp(*ends))
            })?);
            let way = Way::Published {
                place,
                client: arrived.client,
                local: arrived.local,
            };
            let added = self.flows.add(key, self.now, &mut self.timers, |_| Ok(way));
            added.ok().map(|()| key)
        });
        if let Some(Key::Udp(ends)) = key {
            let head = packet::datagram(&ends, arrived.length);
            self.device.put(&head, &self.scratch[..arrived.length]);
        }
    }
}

/// Sends a datagram of the container's on its way.
fn send(flow: &Flow, listeners: &[Listener], payload: &[u8]) -> io::Result<()> {
    match &flow.way {
        Way::Own(socket) | Way::Dns { socket, .. } => socket.send(payload).map(drop),
        Way::Published { place, client, local } => match listeners.get(*place as usize) {
            Some(listener) => send_from(&listener.socket, *local, *client, payload),
            None => Ok(()),
        },
        Way::Echo(_) => Ok(()),
    }
}

/// How a container hears that a datagram did not arrive; `None`: not at all, as of any that a network loses.
fn datagram_reason(error: &io::Error) -> Option<Reason> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Reason::Port),
        ErrorKind::PermissionDenied => Some(Reason::Forbidden),
        _ => reason(error),
    }
}
