//! What is in a packet? Bytes to checked parts (`read`) and parts to bytes (`write`); nothing here knows of sockets.

mod read;
mod seq;
mod write;

pub use read::{Body, Datagram, Echo, Packet, Segment};
pub use seq::Seq;
pub use write::{Ends, Flags, Reason, Reply, VNET_HEADER};

pub(super) use write::{datagram, echo_reply, segment, unreachable};

/// The largest packet with what the device puts before it.
pub const MOST: usize = write::VNET_HEADER + 65535;
