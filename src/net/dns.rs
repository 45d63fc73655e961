//! Whom is the container's next question for a name sent to? The host's first name server, as the host's own programs do,
//! but for a while after it did not answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Resolvers;

/// Where name servers listen.
const PORT: u16 = 53;
/// A question that had no answer for so long was not heard, if another is asked.
const UNHEARD: Duration = Duration::from_millis(900);
/// So long one that failed is passed over; and a question that was the last for so long says nothing about it.
const PASSED_OVER: Duration = Duration::from_secs(10);

/// The host's name servers, in its order.
#[derive(Debug)]
pub(super) struct Servers(Vec<Server>);

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    failed: Option<Instant>,
    /// When the first and the last question was asked since it last answered.
    unanswered: Option<(Instant, Instant)>,
}

impl Servers {
    pub(super) fn new(resolvers: Resolvers) -> Servers {
        let server = |address| Server {
            address: SocketAddr::new(address, PORT),
            failed: None,
            unanswered: None,
        };
        Servers(resolvers.servers.into_iter().map(server).collect())
    }

    /// Whom to ask, one after the other, until one can be asked: at the end those that failed, the latest of them last.
    pub(super) fn order(&mut self, now: Instant) -> Vec<SocketAddr> {
        for server in &mut self.0 {
            if server.is_silent(now) {
                (server.failed, server.unanswered) = (Some(now), None);
            }
        }
        let mut servers: Vec<&Server> = self.0.iter().collect();
        servers.sort_by_key(|server| server.failed.filter(|_| server.is_passed_over(now)));
        servers.iter().map(|server| server.address).collect()
    }

    /// Is another to be asked instead of this one?
    pub(super) fn is_passed_over(&mut self, address: SocketAddr, now: Instant) -> bool {
        let is_first = self.order(now).first() == Some(&address);
        !is_first && self.of(address).is_some_and(|server| server.is_passed_over(now))
    }

    /// It was asked.
    pub(super) fn asked(&mut self, address: SocketAddr, now: Instant) {
        if let Some(server) = self.of(address) {
            let first = server.waited_since(now).unwrap_or(now);
            server.unanswered = Some((first, now));
        }
    }

    /// It has answered something.
    pub(super) fn answered(&mut self, address: SocketAddr) {
        if let Some(server) = self.of(address) {
            (server.failed, server.unanswered) = (None, None);
        }
    }

    /// It cannot be reached, or is silent.
    pub(super) fn failed(&mut self, address: SocketAddr, now: Instant) {
        if let Some(server) = self.of(address) {
            (server.failed, server.unanswered) = (Some(now), None);
        }
    }

    fn of(&mut self, address: SocketAddr) -> Option<&mut Server> {
        self.0.iter_mut().find(|server| server.address == address)
    }
}

impl Server {
    /// Since when somebody waits for an answer; nobody waits for that to a question that was the last for long.
    fn waited_since(&self, now: Instant) -> Option<Instant> {
        let (first, last) = self.unanswered?;
        (now.saturating_duration_since(last) < PASSED_OVER).then_some(first)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.waited_since(now)
            .is_some_and(|since| now.saturating_duration_since(since) > UNHEARD)
    }

    fn is_passed_over(&self, now: Instant) -> bool {
        self.failed
            .is_some_and(|failed| now.saturating_duration_since(failed) < PASSED_OVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Servers, [SocketAddr; 2], Instant) {
        let mut servers = Servers::new(Resolvers::parse("nameserver 10.0.0.1\nnameserver 10.0.0.2\n"));
        let now = Instant::now();
        let both = servers.order(now).try_into().unwrap();
        (servers, both, now)
    }

    #[test]
    fn one_that_fails_is_passed_over_for_a_while() {
        let (mut servers, [first, second], now) = two();
        assert_eq!(first, "10.0.0.1:53".parse().unwrap());
        servers.failed(first, now);
        assert_eq!(servers.order(now), [second, first]);
        let later = now + UNHEARD;
        servers.failed(second, later);
        assert_eq!(servers.order(later), [first, second]);
        servers.failed(first, later + UNHEARD);
        assert_eq!(servers.order(later + UNHEARD), [second, first]);
        assert_eq!(servers.order(later + UNHEARD + PASSED_OVER), [first, second]);
    }

    #[test]
    fn one_that_answers_nothing_is_followed_by_the_next() {
        let (mut servers, [first, second], now) = two();
        servers.asked(first, now);
        assert!(!servers.is_passed_over(first, now + UNHEARD));
        servers.asked(first, now + UNHEARD);
        // It is slow with one name only.
        servers.answered(first);
        servers.asked(first, now + UNHEARD);
        let later = now + UNHEARD * 3;
        assert!(servers.is_passed_over(first, later));
        assert_eq!(servers.order(later), [second, first]);
        // What nobody waits for any more says nothing.
        servers.asked(second, later);
        assert!(!servers.is_passed_over(second, later + PASSED_OVER));
        // An only one is asked, whatever it does.
        let mut one = Servers::new(Resolvers::parse("nameserver 10.0.0.1\n"));
        one.asked(first, now);
        assert!(!one.is_passed_over(first, later));
    }
}
