//! The network process's loop: what is ready, in turn, so that nobody keeps the others waiting.

mod askers;
mod datagram;
mod drain;
mod names;

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use self::askers::Askers;
use self::drain::{Drain, LOOK};
use self::names::Names;
use super::clients;
use super::connections::{self, Connections};
use super::datagrams::Flows;
use super::dns::Servers;
use super::names::{Keeper, Reach};
use super::packet::{self, Body, Ends, Packet, Reason, Segment};
use super::reach::{self, Place};
use super::tcp::{self, Ready, Turn, Wire};
use super::timers::Timers;
use super::{Addresses, Listener, NetError, Network, Protocol};

/// What an event, or a time, is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// The container's device.
    Device,
    /// A published port, by its place in the list.
    Listener(u64),
    /// A connection, by its number.
    Connection(u64),
    /// A flow of datagrams, by its number.
    Flow(u64),
    /// Where the order to end comes.
    Orders,
    /// Where questions for names come by TCP, by its number.
    Asker(u64),
    /// The server that is asked for that one.
    Server(u64),
}

/// How far up the kind of a token stands in epoll's 64 bits.
const KIND: u32 = 56;

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        match token {
            Token::Device => 0,
            Token::Listener(place) => 1 << KIND | place,
            Token::Connection(id) => 2 << KIND | id,
            Token::Flow(id) => 3 << KIND | id,
            Token::Orders => 4 << KIND,
            Token::Asker(id) => 5 << KIND | id,
            Token::Server(id) => 6 << KIND | id,
        }
    }
}

impl Token {
    fn read(bits: u64) -> Option<Token> {
        let value = bits & ((1 << KIND) - 1);
        match bits >> KIND {
            0 => Some(Token::Device),
            1 => Some(Token::Listener(value)),
            2 => Some(Token::Connection(value)),
            3 => Some(Token::Flow(value)),
            4 => Some(Token::Orders),
            5 => Some(Token::Asker(value)),
            6 => Some(Token::Server(value)),
            _ => None,
        }
    }
}

/// Packets that are read before others have their turn.
const PACKETS: usize = 64;
/// Clients that are taken at once.
const CLIENTS: usize = 64;
/// Events that are asked for at once.
const EVENTS: usize = 256;
/// What is peeked at once: a few packets, so that it stays in the processor's cache.
const SCRATCH: usize = 256 << 10;
/// How long no client is taken when there are no descriptors left.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Engine {
    device: Device,
    /// When events were last asked for, it had no packets.
    device_rests: bool,
    orders: OwnedFd,
    drain: Option<Drain>,
    addresses: Addresses,
    listeners: Vec<Listener>,
    connections: Connections,
    flows: Flows,
    servers: Servers,
    names: Names,
    askers: Askers,
    /// That echo requests do not leave was said.
    said_no_echo: bool,
    timers: Timers,
    epoll: Rc<Epoll>,
    scratch: Vec<u8>,
    now: Instant,
}

/// The container's device.
struct Device(File);

impl Wire for Device {
    fn put(&mut self, head: &[u8], payload: &[u8]) {
        // One that is not taken is lost, as on any network.
        if let Err(error) = self
            .0
            .write_vectored(&[IoSlice::new(head), IoSlice::new(payload)])
        {
            tracing::debug!(%error, "network: a packet was lost");
        }
    }
}

impl Engine {
    pub(super) fn new(
        network: Network,
        keeper: Option<Box<dyn Keeper>>,
        reach: Reach,
    ) -> Result<Engine, NetError> {
        let failed = |what| {
            move |error: nix::errno::Errno| NetError::Serve {
                what,
                error: error.into(),
            }
        };
        let epoll = Rc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll"))?);
        let watch = |event: Token| EpollEvent::new(EpollFlags::EPOLLIN, event.into());
        epoll
            .add(&network.tun, watch(Token::Device))
            .map_err(failed("the container's device"))?;
        // Whatever comes there is the order.
        epoll
            .add(&network.orders, watch(Token::Orders))
            .map_err(failed("the orders"))?;
        for (place, listener) in (0..).zip(&network.listeners) {
            epoll
                .add(&listener.socket, watch(Token::Listener(place)))
                .map_err(failed("a published port"))?;
        }
        Ok(Engine {
            device: Device(network.tun.into()),
            device_rests: true,
            orders: network.orders,
            drain: None,
            addresses: network.addresses,
            listeners: network.listeners,
            connections: Connections::new(&epoll),
            flows: Flows::default(),
            servers: Servers::new(network.resolvers),
            names: Names::new(keeper, reach),
            askers: Askers::default(),
            said_no_echo: false,
            timers: Timers::default(),
            epoll,
            scratch: vec![0; SCRATCH],
            now: Instant::now(),
        })
    }

    pub(super) fn run(mut self) -> Result<(), NetError> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut packet = vec![0; packet::MOST];
        loop {
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => {
                    let error = error.into();
                    return Err(NetError::Serve { what: "epoll", error });
                }
            };
            self.now = Instant::now();
            // Unless there were more events than places for them.
            self.device_rests = count < EVENTS;
            for event in &events[..count] {
                match Token::read(event.data()) {
                    Some(Token::Device) => match self.read_device(&mut packet) {
                        Err(_) if self.drain.is_some() => {
                            self.end();
                            return Ok(());
                        }
                        read => read?,
                    },
                    Some(Token::Listener(place)) => self.listener_ready(place),
                    Some(Token::Connection(id)) => self.ready(id, event.events()),
                    Some(Token::Flow(id)) => self.flow_ready(id),
                    Some(Token::Orders) => self.hear(),
                    Some(Token::Asker(id)) => self.asker_ready(id, event.events()),
                    Some(Token::Server(id)) => self.server_ready(id),
                    None => {}
                }
            }
            self.flush();
            self.wake();
            if self.is_drained() {
                self.end();
                return Ok(());
            }
        }
    }

    fn patience(&self) -> EpollTimeout {
        if self.connections.is_busy() {
            return EpollTimeout::ZERO;
        }
        let look = self.drain.map(|_| LOOK);
        match self.timers.rest(Instant::now()).into_iter().chain(look).min() {
            None => EpollTimeout::NONE,
            // Rounded up, or it would be asked again and again in the last millisecond.
            Some(rest) => {
                let millis = rest.as_micros().div_ceil(1000).min(u128::from(u16::MAX));
                EpollTimeout::from(millis as u16)
            }
        }
    }

    fn read_device(&mut self, packet: &mut [u8]) -> Result<(), NetError> {
        self.device_rests = false;
        for _ in 0..PACKETS {
            match self.device.0.read(packet) {
                Ok(length) => self.packet(&packet[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return Err(NetError::Gone),
                Err(error) => {
                    let what = "the container's device";
                    return Err(NetError::Serve { what, error });
                }
            }
        }
        Ok(())
    }

    /// A packet from the container.
    fn packet(&mut self, bytes: &[u8]) {
        let Some(packet) = Packet::read(bytes) else {
            return;
        };
        // Nobody else sends from there.
        if !self.addresses.is_container(packet.source) {
            return;
        }
        let ends = packet
            .ends()
            .map(|(container, remote)| Ends { container, remote });
        match (&packet.body, ends) {
            (Body::Tcp(segment), Some(ends)) => self.segment(ends, segment),
            (Body::Udp(datagram), Some(ends)) => self.datagram(ends, datagram),
            (Body::Echo(echo), _) => self.echo(packet.source, packet.destination, echo),
            (Body::Other(_) | Body::Tcp(_) | Body::Udp(_), _) => {}
        }
    }

    fn segment(&mut self, ends: Ends, segment: &Segment<'_>) {
        let mut turn = Turn {
            wire: &mut self.device,
            now: self.now,
            scratch: &mut self.scratch,
        };
        if self.connections.receive(&ends, segment, &mut turn) {
            return;
        }
        let begins = segment.syn && segment.ack.is_none() && !segment.rst;
        if !begins || self.connections.is_full() {
            return tcp::refuse(&ends, segment, turn.wire);
        }
        let place = Place::of(ends.remote, &self.addresses);
        let ends_here = place == Place::Dns && self.names.are_kept();
        if ends_here && self.listen_to(ends, segment).is_ok() {
            return;
        }
        let to = match place {
            _ if ends_here => Vec::new(),
            _ if !self.names.reach.outside => Vec::new(),
            Place::Host(to) => vec![to],
            Place::Gateway => reach::outward(ends.remote).into_iter().collect(),
            Place::Dns => self.servers.order(self.now),
            Place::Forbidden => Vec::new(),
        };
        let mut reason = None;
        // More than one only of name servers.
        for to in to {
            let Err(error) = self.connections.connect(ends, to, segment) else {
                return;
            };
            self.servers.failed(to, self.now);
            reason = connections::reason(&error);
        }
        match reason {
            Some(reason) => self.unreachable(&ends, segment.seq.0, reason),
            None => tcp::refuse(&ends, segment, &mut self.device),
        }
    }

    /// Tells the container that its SYN led nowhere.
    fn unreachable(&mut self, ends: &Ends, seq: u32, reason: Reason) {
        let mut first = [0; 8];
        first[..2].copy_from_slice(&ends.container.port().to_be_bytes());
        first[2..4].copy_from_slice(&ends.remote.port().to_be_bytes());
        first[4..].copy_from_slice(&seq.to_be_bytes());
        let head = packet::unreachable(self.gateway(ends.remote), ends, 6, first, reason);
        self.device.put(&head, &[]);
    }

    /// The gateway's address of the other's family.
    fn gateway(&self, other: SocketAddr) -> std::net::IpAddr {
        match (other, self.addresses.v6) {
            (SocketAddr::V6(_), Some(v6)) => v6.gateway.into(),
            _ => self.addresses.v4.gateway.into(),
        }
    }

    fn ready(&mut self, id: u64, events: EpollFlags) {
        let ready = Ready {
            readable: events.contains(EpollFlags::EPOLLIN),
            urgent: events.contains(EpollFlags::EPOLLPRI),
            writable: events.contains(EpollFlags::EPOLLOUT),
            ending: events.contains(EpollFlags::EPOLLRDHUP),
            failed: events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
        };
        let mut turn = Turn {
            wire: &mut self.device,
            now: self.now,
            scratch: &mut self.scratch,
        };
        let failed = self.connections.ready(id, ready, &mut self.timers, &mut turn);
        if let Some(failed) = failed {
            if let Some(server) = failed.to() {
                self.servers.failed(server, self.now);
            }
            match failed.reason() {
                (_, None) => failed.refuse(&mut turn),
                (ends, Some(reason)) => self.unreachable(&ends, failed.syn().0, reason),
            }
        }
    }

    fn listener_ready(&mut self, place: u64) {
        let listener = self.listeners.get(place as usize);
        match listener.map(|listener| listener.port().protocol) {
            Some(Protocol::Tcp) => self.accept(place),
            Some(Protocol::Udp) => self.published_ready(place),
            None => {}
        }
    }

    /// Takes clients of a published port.
    fn accept(&mut self, place: u64) {
        for _ in 0..CLIENTS {
            let Some(listener) = self.listeners.get(place as usize) else {
                return;
            };
            let container = listener.port().container;
            match listener.socket.accept() {
                Ok((stream, client)) => {
                    if let Some(client) = client.as_socket() {
                        self.client(stream, client, container);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_exhausted(&error) => return self.pause(place),
                // It was gone before we came.
                Err(_) => {}
            }
        }
    }

    /// A client came to a published port.
    fn client(&mut self, stream: socket2::Socket, client: SocketAddr, port: u16) {
        let ends = clients::ends(client, port, &self.addresses);
        let ends = clients::distinct(ends, |ends| self.connections.contains(ends));
        let may_come = self.names.reach.outside && !self.connections.has_most_clients();
        let Some(ends) = ends.filter(|_| may_come) else {
            // So that it sees a reset, not an end.
            let _ = stream.set_linger(Some(Duration::ZERO));
            return;
        };
        let mut turn = Turn {
            wire: &mut self.device,
            now: self.now,
            scratch: &mut self.scratch,
        };
        let offered = stream.set_nonblocking(true).and_then(|()| {
            self.connections
                .offer(ends, stream.into(), &mut self.timers, &mut turn)
        });
        if let Err(error) = offered {
            tracing::warn!(%error, "network: a client was turned away");
        }
    }

    /// No client of this port is taken for a while: there are no descriptors.
    fn pause(&mut self, place: u64) {
        if let Some(listener) = self.listeners.get(place as usize) {
            tracing::warn!(port = %listener.port().host, "network: no descriptors are left for clients");
            let _ = self.epoll.delete(&listener.socket);
            self.timers
                .set(Token::Listener(place), Some(self.now + PAUSE), &mut None);
        }
    }

    fn resume(&mut self, place: u64) {
        if let Some(listener) = self.listeners.get(place as usize) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Listener(place).into());
            if let Err(error) = self.epoll.add(&listener.socket, event) {
                tracing::error!(%error, port = %listener.port().host, "network: a published port is lost");
            }
        }
    }

    fn flush(&mut self) {
        let mut turn = Turn {
            wire: &mut self.device,
            now: self.now,
            scratch: &mut self.scratch,
        };
        self.connections.flush(&mut self.timers, &mut turn);
    }

    fn wake(&mut self) {
        while let Some((when, token)) = self.timers.due(self.now) {
            let mut turn = Turn {
                wire: &mut self.device,
                now: self.now,
                scratch: &mut self.scratch,
            };
            match token {
                Token::Connection(id) => self.connections.wake(id, when, &mut self.timers, &mut turn),
                Token::Listener(place) => self.resume(place),
                Token::Flow(id) => self.flows.wake(id, self.now, &mut self.timers),
                Token::Device | Token::Orders | Token::Asker(_) | Token::Server(_) => {}
            }
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
