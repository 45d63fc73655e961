//! How does plain HTTP go through a proxy? With the whole URL in the request's line (RFC 9112, section 3.2.2), as Docker
//! sends it: many proxies open tunnels to the ports of TLS alone. The HTTP client knows tunnels only. The proxy itself may
//! be spoken to over TLS.

use std::io;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Error, Proxy};

use super::resolver::HostNames;

/// Whatever is asked for, the address is the proxy's.
#[derive(Debug)]
pub(super) struct ProxyInstead(Uri);

impl ProxyInstead {
    pub(super) fn of(proxy: &Proxy) -> ProxyInstead {
        ProxyInstead(proxy.uri().clone())
    }
}

impl Resolver for ProxyInstead {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        HostNames.resolve(&self.0, config, timeout)
    }
}

/// Connections to the proxy, of one request each.
#[derive(Debug)]
pub(super) struct Forwarding {
    inner: DefaultConnector,
    proxy: Uri,
}

impl Forwarding {
    pub(super) fn to(proxy: &Proxy) -> Forwarding {
        Forwarding {
            inner: DefaultConnector::new(),
            proxy: proxy.uri().clone(),
        }
    }
}

impl Connector for Forwarding {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        // Its scheme decides whether there is TLS, and its name is the one to prove.
        let to_proxy = ConnectionDetails {
            uri: &self.proxy,
            ..again(details)
        };
        let connection = self.inner.connect(&to_proxy, chained)?;
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        let prefix = format!("http://{authority}");
        Ok(connection.map(|inner| {
            let forwarded = Forwarded {
                inner,
                prefix: Some(prefix),
            };
            forwarded.boxed()
        }))
    }
}

/// The same once more, to change a part of it.
pub(super) fn again<'a>(details: &ConnectionDetails<'a>) -> ConnectionDetails<'a> {
    ConnectionDetails {
        addrs: details.addrs.clone(),
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
        ..*details
    }
}

#[derive(Debug)]
struct Forwarded {
    inner: Box<dyn Transport>,
    /// What comes before the path, until it was sent.
    prefix: Option<String>,
}

impl Transport for Forwarded {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some(prefix) = self.prefix.take() else {
            return self.inner.transmit_output(amount, timeout);
        };
        let longer = with_prefix(self.inner.buffers().output(), amount, prefix.as_bytes());
        let amount = longer.ok_or_else(|| Error::Io(io::Error::other("the request's head is too long")))?;
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

/// Puts `prefix` before the path of the request whose first `amount` bytes these are; gives how many they are then.
fn with_prefix(output: &mut [u8], amount: usize, prefix: &[u8]) -> Option<usize> {
    let path = 1 + output.get(..amount)?.iter().position(|byte| *byte == b' ')?;
    let longer = amount
        .checked_add(prefix.len())
        .filter(|end| *end <= output.len())?;
    output.copy_within(path..amount, path + prefix.len());
    output.get_mut(path..path + prefix.len())?.copy_from_slice(prefix);
    Some(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_whole_and_what_has_no_room_is_refused() {
        let head = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut output = [0; 64];
        output[..head.len()].copy_from_slice(head);
        let count = with_prefix(&mut output, head.len(), b"http://a:80").unwrap();
        assert_eq!(
            &output[..count],
            b"GET http://a:80/v2/ HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        assert_eq!(with_prefix(&mut output, count, &[b'x'; 40]), None);
        assert_eq!(with_prefix(&mut output, 2, b"http://a"), None);
    }
}
