//! Whom is the container's next question for a name sent to? The host's first name server, until it does not answer.

use std::net::{IpAddr, SocketAddr};

use super::Resolvers;

/// Where name servers listen.
const PORT: u16 = 53;

/// The host's name servers, and which of them is asked.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<IpAddr>,
    current: usize,
}

impl Servers {
    pub(super) fn new(resolvers: Resolvers) -> Servers {
        Servers {
            servers: resolvers.servers,
            current: 0,
        }
    }

    /// The one to ask, if there is any.
    pub(super) fn current(&self) -> Option<SocketAddr> {
        let server = self.servers.get(self.current)?;
        Some(SocketAddr::new(*server, PORT))
    }

    /// `failed` did not answer: the next one is asked, if nobody has seen to that.
    pub(super) fn failed(&mut self, failed: SocketAddr) {
        if self.current() == Some(failed) {
            self.current = (self.current + 1) % self.servers.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_is_followed_by_the_next() {
        let mut servers = Servers::new(Resolvers::parse("nameserver 10.0.0.1\nnameserver 10.0.0.2\n"));
        let first = servers.current().unwrap();
        servers.failed(first);
        let second = servers.current().unwrap();
        assert_eq!(second, "10.0.0.2:53".parse().unwrap());
        // Told late, by another question.
        servers.failed(first);
        assert_eq!(servers.current(), Some(second));
        servers.failed(second);
        assert_eq!(servers.current(), Some(first));
    }
}
