//! As whom does the container see a client of a published port? By its own address, wherever the container could answer to it.

use std::net::{IpAddr, SocketAddr};

use super::Addresses;
use super::packet::Ends;
use super::reach::is_forbidden;

/// The ends of a flow from `client` to the container's `port`.
pub(super) fn ends(client: SocketAddr, port: u16, addresses: &Addresses) -> Ends {
    let (own, gateway): (IpAddr, IpAddr) = match (client.ip(), addresses.v6) {
        (IpAddr::V6(_), Some(v6)) => (v6.address.into(), v6.gateway.into()),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => (addresses.v4.address.into(), addresses.v4.gateway.into()),
    };
    let same_family = client.ip().is_ipv4() == own.is_ipv4();
    // Loopback is another one inside; the container's own addresses and ours are not the client's, whoever has them outside.
    let is_taken = is_forbidden(client.ip()) || client.ip() == own || addresses.is_dns(client.ip());
    let seen = if same_family && !is_taken {
        client.ip()
    } else {
        gateway
    };
    Ends {
        container: SocketAddr::new(own, port),
        remote: SocketAddr::new(seen, client.port()),
    }
}

/// The same with another port of the client's, where two clients would be the same to the container.
pub(super) fn distinct(mut ends: Ends, is_taken: impl Fn(&Ends) -> bool) -> Option<Ends> {
    /// So many are tried; two clients are the same only by chance, or by design.
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        if !is_taken(&ends) {
            return Some(ends);
        }
        // Above the ports that services have.
        let next = ends.remote.port().checked_add(1).unwrap_or(1024).max(1024);
        ends.remote.set_port(next);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Routes;

    fn seen(client: &str, addresses: &Addresses) -> String {
        ends(client.parse().unwrap(), 80, addresses).remote.to_string()
    }

    #[test]
    fn a_client_keeps_its_address() {
        let both = Addresses::choose(&Routes::default().with_v6()).unwrap();
        assert_eq!(seen("192.0.2.7:1234", &both), "192.0.2.7:1234");
        assert_eq!(seen("[2001:db8::7]:1234", &both), "[2001:db8::7]:1234");
        assert_eq!(seen("127.0.0.1:1234", &both), "10.0.2.2:1234");
        assert_eq!(seen("[::1]:1234", &both), "[fd00::2]:1234");
        assert_eq!(seen("[fe80::7]:1234", &both), "[fd00::2]:1234");
        assert_eq!(seen("10.0.2.100:1234", &both), "10.0.2.2:1234");
        let v4 = Addresses { v6: None, ..both };
        assert_eq!(seen("[2001:db8::7]:1234", &v4), "10.0.2.2:1234");
    }

    #[test]
    fn two_clients_are_not_one() {
        let addresses = Addresses::choose(&Routes::default()).unwrap();
        let first = ends("127.0.0.1:65535".parse().unwrap(), 80, &addresses);
        let second = distinct(first, |ends| *ends == first).unwrap();
        assert_eq!(second.remote.port(), 1024);
        assert_eq!(distinct(first, |_| true), None);
    }
}
