//! Parts → the head of a packet to a container. Its payload stays where it is: the two are written together.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::u64_16bit_word as sum;
use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, TcpOptionElement, UdpHeader};

use super::Seq;

/// The length of what stands before each packet of the device: flags, kind of GSO, then 16-bit numbers in the machine's order:
/// length of headers, size of parts, where the checksum's bytes begin, and where in them it goes.
pub const VNET_HEADER: usize = 10;
/// Flag: the receiver is to complete the checksum, if it wants one.
pub(super) const NEEDS_CHECKSUM: u8 = 1;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

const HOPS: u8 = 64;
/// Offsets of the checksums in their headers.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// The two ends of a flow, as the container sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The container's.
    pub container: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
}

/// The flags of a segment that we send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Flags {
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub push: bool,
}

/// A segment that we send, but for its ends and its payload.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Reply {
    pub seq: Seq,
    pub ack: Option<Seq>,
    pub flags: Flags,
    pub window: u16,
    /// The options of a SYN: the largest payload, and how windows are scaled.
    pub mss: Option<u16>,
    pub scale: Option<u8>,
}

impl Reply {
    /// One that ends a connection at once.
    pub(in crate::net) fn reset(seq: Seq, ack: Option<Seq>) -> Reply {
        Reply {
            seq,
            ack,
            flags: Flags {
                rst: true,
                ..Flags::default()
            },
            window: 0,
            mss: None,
            scale: None,
        }
    }
}

/// Why something is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No route leads there.
    Network,
    /// Nobody answers there.
    Host,
    /// Nobody listens at the port.
    Port,
    /// It is forbidden.
    Forbidden,
}

/// The head of a packet: at most a `virtio_net_hdr`, an IPv6 header and a TCP header with options; of errors with what they
/// are about.
pub(in crate::net) type Head = arrayvec::ArrayVec<u8, 160>;

/// The sum of what TCP, UDP and ICMPv6 add to their own bytes.
pub(super) fn pseudo_sum(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let start = sum::add_4bytes(0, (length as u32).to_be_bytes());
    let start = sum::add_2bytes(start, [0, protocol]);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            sum::add_4bytes(sum::add_4bytes(start, source.octets()), destination.octets())
        }
        (source, destination) => {
            let octets = |address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            sum::add_slice(sum::add_slice(start, &octets(source)), &octets(destination))
        }
    }
}

/// Begins a packet: both headers before the transport's, which has its checksum at `checksum`, left to the kernel.
fn begin(source: IpAddr, destination: IpAddr, protocol: u8, length: usize, checksum: Option<u16>) -> Head {
    let mut head = Head::new();
    let ip = if source.is_ipv4() {
        Ipv4Header::MIN_LEN
    } else {
        Ipv6Header::LEN
    };
    let (flag, start) = if checksum.is_some() {
        (NEEDS_CHECKSUM, ip as u16)
    } else {
        (0, 0)
    };
    head.extend([flag, 0, 0, 0, 0, 0]);
    head.extend(start.to_ne_bytes());
    head.extend(checksum.unwrap_or(0).to_ne_bytes());
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4Header {
                total_len: (ip + length) as u16,
                time_to_live: HOPS,
                protocol: IpNumber(protocol),
                source: source.octets(),
                destination: destination.octets(),
                dont_fragment: true,
                ..Ipv4Header::default()
            };
            header.header_checksum = header.calc_header_checksum();
            head.extend(header.to_bytes());
        }
        (source, destination) => {
            let octets = |address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: length as u16,
                next_header: IpNumber(protocol),
                hop_limit: HOPS,
                source: octets(source),
                destination: octets(destination),
            };
            head.extend(header.to_bytes());
        }
    }
    head
}

/// What stands in the place of a checksum that the kernel is to complete: the pseudo-header's sum.
fn partial(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u16 {
    // The crate gives the complement in the machine's order, as its own headers are written in it.
    !sum::ones_complement(pseudo_sum(source, destination, protocol, length)).to_be()
}

/// The head of a segment to the container.
pub(in crate::net) fn segment(ends: &Ends, reply: &Reply, payload: usize) -> Head {
    let mut header = TcpHeader::new(
        ends.remote.port(),
        ends.container.port(),
        reply.seq.0,
        reply.window,
    );
    header.ack = reply.ack.is_some();
    header.acknowledgment_number = reply.ack.map_or(0, |ack| ack.0);
    let Flags { syn, fin, rst, push } = reply.flags;
    (header.syn, header.fin, header.rst, header.psh) = (syn, fin, rst, push);
    let mut options = arrayvec::ArrayVec::<_, 3>::new();
    options.extend(reply.mss.map(TcpOptionElement::MaximumSegmentSize));
    options.extend(reply.scale.map(|_| TcpOptionElement::Noop));
    options.extend(reply.scale.map(TcpOptionElement::WindowScale));
    // Eight bytes of forty.
    let _ = header.set_options(&options);
    let (source, destination) = (ends.remote.ip(), ends.container.ip());
    let length = header.header_len() + payload;
    header.checksum = partial(source, destination, TCP, length);
    let mut head = begin(source, destination, TCP, length, Some(TCP_CHECKSUM));
    head.extend(header.to_bytes());
    head
}

/// The head of a datagram to the container.
pub(in crate::net) fn datagram(ends: &Ends, payload: usize) -> Head {
    let (source, destination) = (ends.remote.ip(), ends.container.ip());
    let length = UdpHeader::LEN + payload;
    let header = UdpHeader {
        source_port: ends.remote.port(),
        destination_port: ends.container.port(),
        length: length as u16,
        checksum: partial(source, destination, UDP, length),
    };
    let mut head = begin(source, destination, UDP, length, Some(UDP_CHECKSUM));
    head.extend(header.to_bytes());
    head
}

/// The head of an answer to an echo request that `source` had from `destination`.
pub(in crate::net) fn echo_reply(
    source: IpAddr,
    destination: IpAddr,
    identifier: u16,
    sequence: u16,
    payload: &[u8],
) -> Head {
    let mut bytes = [if source.is_ipv4() { 0 } else { 129 }, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..6].copy_from_slice(&identifier.to_be_bytes());
    bytes[6..8].copy_from_slice(&sequence.to_be_bytes());
    icmp(source, destination, bytes, payload)
}

fn icmp(source: IpAddr, destination: IpAddr, mut header: [u8; 8], payload: &[u8]) -> Head {
    let length = header.len() + payload.len();
    let (protocol, start) = match source {
        IpAddr::V4(_) => (ICMP, 0),
        IpAddr::V6(_) => (ICMPV6, pseudo_sum(source, destination, ICMPV6, length)),
    };
    let whole = sum::add_slice(sum::add_slice(start, &header), payload);
    header[2..4].copy_from_slice(&sum::ones_complement(whole).to_ne_bytes());
    let mut head = begin(source, destination, protocol, length, None);
    head.extend(header);
    head
}

/// Tells the container that what it sent did not arrive: a whole packet, with the head of the one that it is about. `first` are
/// the first eight bytes of that one's transport header.
pub(in crate::net) fn unreachable(
    gateway: IpAddr,
    ends: &Ends,
    protocol: u8,
    first: [u8; 8],
    reason: Reason,
) -> Head {
    let (from, to) = (ends.container.ip(), ends.remote.ip());
    // Its length is not known any more and asked for by nobody.
    let about = begin(from, to, protocol, first.len(), None);
    let mut payload = arrayvec::ArrayVec::<u8, 48>::new();
    payload.extend(about.into_iter().skip(VNET_HEADER).chain(first));
    let (kind, code) = match (from, reason) {
        (IpAddr::V4(_), Reason::Network) => (3, 0),
        (IpAddr::V4(_), Reason::Host) => (3, 1),
        (IpAddr::V4(_), Reason::Port) => (3, 3),
        (IpAddr::V4(_), Reason::Forbidden) => (3, 13),
        (IpAddr::V6(_), Reason::Network) => (1, 0),
        (IpAddr::V6(_), Reason::Host) => (1, 3),
        (IpAddr::V6(_), Reason::Port) => (1, 4),
        (IpAddr::V6(_), Reason::Forbidden) => (1, 1),
    };
    let mut head = icmp(gateway, from, [kind, code, 0, 0, 0, 0, 0, 0], &payload);
    head.extend(payload);
    head
}
