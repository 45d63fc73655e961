//! Which sockets of the host stand for a container's published ports? Bound by the tool before anything starts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use nix::errno::Errno;

use super::{NetworkError, Published};
use crate::net::{self, Listener, NetError, Port};

/// A port drawn for IPv4 may be taken for IPv6; then another is drawn.
const DRAWS: usize = 16;

/// Binds all ports, or none. `holder` knows the container that has a port.
pub(super) fn all(
    published: &[Published],
    holder: impl Fn(&Port) -> Option<String>,
) -> Result<Vec<Listener>, NetworkError> {
    let mut listeners = Vec::with_capacity(published.len() * 2);
    for one in published {
        let bound = match &one.host {
            Some(range) => first_free(one, range),
            None => any(one).map_err(NetworkError::Net),
        };
        listeners.extend(bound.map_err(|error| with_holder(error, one, &listeners, &holder))?);
    }
    Ok(listeners)
}

/// Says who has a port that is taken, if it is one of ours.
fn with_holder(
    error: NetworkError,
    one: &Published,
    listeners: &[Listener],
    holder: impl Fn(&Port) -> Option<String>,
) -> NetworkError {
    let NetworkError::Net(NetError::Taken(address)) = error else {
        return error;
    };
    let wanted = Port {
        protocol: one.container.protocol,
        host: address,
        container: one.container.port,
    };
    if listeners.iter().any(|other| other.port().excludes(&wanted)) {
        return NetworkError::Twice(address);
    }
    match holder(&wanted) {
        Some(name) => NetworkError::TakenBy { address, name },
        None => error,
    }
}

fn first_free(one: &Published, range: &RangeInclusive<u16>) -> Result<Vec<Listener>, NetworkError> {
    for port in range.clone() {
        match at(one, port) {
            Err(NetError::Taken(_)) if range.start() != range.end() => {}
            bound => return Ok(bound?),
        }
    }
    let ip = one.ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    Err(NetworkError::RangeTaken(ip, one.host_port()))
}

fn any(one: &Published) -> Result<Vec<Listener>, NetError> {
    let mut bound = at(one, 0);
    for _ in 1..DRAWS {
        if !matches!(bound, Err(NetError::Taken(_))) {
            break;
        }
        bound = at(one, 0);
    }
    bound
}

/// Binds one port on each address that was asked for; 0 is any, the same on all of them.
fn at(one: &Published, port: u16) -> Result<Vec<Listener>, NetError> {
    let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let addresses = one.ip.as_ref().map_or(&everywhere[..], std::slice::from_ref);
    let (mut port, mut listeners, mut missing) = (port, Vec::new(), None);
    for address in addresses {
        let wanted = Port {
            protocol: one.container.protocol,
            host: SocketAddr::new(*address, port),
            container: one.container.port,
        };
        match net::listen(&wanted) {
            Ok(listener) => {
                port = listener.port().host.port();
                listeners.push(listener);
            }
            Err(error) if one.ip.is_none() && is_family_missing(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// A host without IPv6, or without IPv4.
fn is_family_missing(error: &NetError) -> bool {
    match error {
        NetError::NotOurs(_) => true,
        NetError::Listen { error, .. } => error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32),
        _ => false,
    }
}
