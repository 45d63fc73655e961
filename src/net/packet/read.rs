//! Bytes from a container → a packet, or nothing: what is cut short, contradicts itself, or has a wrong checksum is dropped,
//! as a host does.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::u64_16bit_word as sum;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, TcpOptionElement, UdpHeaderSlice};

use super::Seq;
use super::write::{ICMP, ICMPV6, NEEDS_CHECKSUM, TCP, UDP, VNET_HEADER, pseudo_sum};

/// A packet that is whole.
#[derive(Debug)]
pub struct Packet<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// For whom it is.
    pub destination: IpAddr,
    /// What it carries.
    pub body: Body<'a>,
}

/// What a packet carries.
#[derive(Debug)]
pub enum Body<'a> {
    /// TCP.
    Tcp(Segment<'a>),
    /// UDP.
    Udp(Datagram<'a>),
    /// An echo request.
    Echo(Echo<'a>),
    /// Of another protocol, by its number, or kind.
    Other(u8),
}

/// A segment of TCP (RFC 9293).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Segment<'a> {
    pub source: u16,
    pub destination: u16,
    pub seq: Seq,
    /// The next number that its sender expects, if it has any of ours.
    pub ack: Option<Seq>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// As sent, unscaled.
    pub window: u16,
    /// The largest payload that the sender takes, if it says so.
    pub mss: Option<u16>,
    /// How its windows are scaled, if they are.
    pub scale: Option<u8>,
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// How many numbers it uses.
    pub fn length(&self) -> usize {
        self.payload.len() + usize::from(self.syn) + usize::from(self.fin)
    }
}

/// A datagram of UDP.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Datagram<'a> {
    pub source: u16,
    pub destination: u16,
    pub payload: &'a [u8],
}

/// A request of ICMP to send the same back.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Echo<'a> {
    pub identifier: u16,
    pub sequence: u16,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads what a TUN device gave: a `virtio_net_hdr`, then a packet.
    pub fn read(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let (vnet, packet) = bytes.split_at_checked(VNET_HEADER)?;
        // Of a packet in parts (GSO) nothing was said, so there is none.
        if vnet[1] != 0 {
            return None;
        }
        // The kernel says so of packets whose sender is in the same kernel: nothing can have happened to them.
        let trusted = vnet[0] & NEEDS_CHECKSUM != 0;
        let (source, destination, protocol, body) = match packet.first()? >> 4 {
            4 => read_v4(packet)?,
            6 => read_v6(packet)?,
            _ => return None,
        };
        let checked = |body: &[u8]| {
            trusted || {
                let start = pseudo_sum(source, destination, protocol, body.len());
                sum::ones_complement(sum::add_slice(start, body)) == 0
            }
        };
        let body = match (protocol, source) {
            (TCP, _) => Body::Tcp(read_tcp(body).filter(|_| checked(body))?),
            (UDP, _) => Body::Udp(read_udp(body, source.is_ipv4(), checked)?),
            (ICMP, IpAddr::V4(_)) => read_echo(body, 8, sum::ones_complement(sum::add_slice(0, body)) == 0)?,
            (ICMPV6, IpAddr::V6(_)) => read_echo(body, 128, checked(body))?,
            _ => Body::Other(protocol),
        };
        Some(Packet {
            source,
            destination,
            body,
        })
    }

    /// Sender and receiver, of a protocol with ports.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (source, destination) = match &self.body {
            Body::Tcp(segment) => (segment.source, segment.destination),
            Body::Udp(datagram) => (datagram.source, datagram.destination),
            Body::Echo(_) | Body::Other(_) => return None,
        };
        let at = |address, port| SocketAddr::new(address, port);
        Some((at(self.source, source), at(self.destination, destination)))
    }
}

type Parts<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn read_v4(packet: &[u8]) -> Option<Parts<'_>> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let (start, end) = (header.slice().len(), usize::from(header.total_len()));
    // None is larger than the device's MTU, so the kernel makes no fragments.
    if header.is_fragmenting_payload() || sum::ones_complement(sum::add_slice(0, header.slice())) != 0 {
        return None;
    }
    Some((
        header.source_addr().into(),
        header.destination_addr().into(),
        header.protocol().0,
        packet.get(start..end)?,
    ))
}

fn read_v6(packet: &[u8]) -> Option<Parts<'_>> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let start = header.slice().len();
    let body = packet.get(start..start + usize::from(header.payload_length()))?;
    Some((
        header.source_addr().into(),
        header.destination_addr().into(),
        header.next_header().0,
        body,
    ))
}

fn read_tcp(body: &[u8]) -> Option<Segment<'_>> {
    let header = TcpHeaderSlice::from_slice(body).ok()?;
    let mut segment = Segment {
        source: header.source_port(),
        destination: header.destination_port(),
        seq: Seq(header.sequence_number()),
        ack: header.ack().then(|| Seq(header.acknowledgment_number())),
        syn: header.syn(),
        fin: header.fin(),
        rst: header.rst(),
        window: header.window_size(),
        mss: None,
        scale: None,
        payload: body.get(header.slice().len()..)?,
    };
    if segment.source == 0 || segment.destination == 0 {
        return None;
    }
    if segment.syn {
        for option in header.options_iterator() {
            match option.ok()? {
                TcpOptionElement::MaximumSegmentSize(size) => segment.mss = Some(size),
                TcpOptionElement::WindowScale(scale) => segment.scale = Some(scale),
                _ => {}
            }
        }
    }
    Some(segment)
}

fn read_udp<'a>(body: &'a [u8], may_lack: bool, checked: impl Fn(&[u8]) -> bool) -> Option<Datagram<'a>> {
    let header = UdpHeaderSlice::from_slice(body).ok()?;
    let whole = body.get(..usize::from(header.length()))?;
    // In IPv4 zero says that there is no checksum.
    let valid = (header.checksum() == 0 && may_lack) || checked(whole);
    let datagram = Datagram {
        source: header.source_port(),
        destination: header.destination_port(),
        payload: whole.get(header.slice().len()..)?,
    };
    (valid && datagram.destination != 0).then_some(datagram)
}

fn read_echo(body: &[u8], request: u8, valid: bool) -> Option<Body<'_>> {
    let (header, payload) = body.split_first_chunk::<8>()?;
    if !valid {
        return None;
    }
    let [kind, code, _, _, a, b, c, d] = *header;
    Some(match (kind, code) {
        (kind, 0) if kind == request => Body::Echo(Echo {
            identifier: u16::from_be_bytes([a, b]),
            sequence: u16::from_be_bytes([c, d]),
            payload,
        }),
        _ => Body::Other(kind),
    })
}
