//! Whom does the host ask for names? The container asks us, and we ask them: from here, so that one on loopback works too.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// The host's name servers and search list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolvers {
    /// Their addresses, in the host's order; never empty.
    pub servers: Vec<IpAddr>,
    /// The domains that short names are looked up in.
    pub search: Vec<String>,
    /// The host's `options`.
    pub options: Vec<String>,
}

/// As many as the C library uses.
const MOST: usize = 3;

impl Resolvers {
    /// Reads /etc/resolv.conf. A host without one asks itself (resolv.conf(5)).
    pub fn read() -> Resolvers {
        Resolvers::parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    /// Reads the text of a resolv.conf.
    pub fn parse(text: &str) -> Resolvers {
        let mut found = Resolvers {
            servers: Vec::new(),
            search: Vec::new(),
            options: Vec::new(),
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let mut rest = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => {
                    // With a zone, as of a link-local one, it is not used: the container's side has no such zone.
                    let server = rest.next().and_then(|word| word.parse::<IpAddr>().ok());
                    found
                        .servers
                        .extend(server.filter(|_| found.servers.len() < MOST));
                }
                // The last of them counts.
                Some("search") => found.search = rest.collect(),
                Some("domain") => found.search = rest.take(1).collect(),
                Some("options") => found.options.extend(rest),
                _ => {}
            }
        }
        if found.servers.is_empty() {
            found.servers.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read() {
        let text = "# by hand\nnameserver 127.0.0.53\nnameserver fd00::1\nnameserver fe80::1%eth0\n\
                    search a.example b.example\noptions edns0 trust-ad\nnameserver\n";
        let found = Resolvers::parse(text);
        assert_eq!(
            found.servers,
            [
                "127.0.0.53".parse::<IpAddr>().unwrap(),
                "fd00::1".parse().unwrap()
            ]
        );
        assert_eq!(found.search, ["a.example", "b.example"]);
        assert_eq!(found.options, ["edns0", "trust-ad"]);
        assert_eq!(Resolvers::parse("").servers, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!(
            Resolvers::parse(&"nameserver 10.0.0.1\n".repeat(9)).servers.len(),
            MOST
        );
    }
}
