//! Which address has a host? Without getaddrinfo, whose plugins a static binary cannot load: /etc/hosts and
//! /etc/resolv.conf are read, and the servers asked, in Rust.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The longest that a name may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Finds addresses for the HTTP client.
#[derive(Debug, Default)]
pub(super) struct HostNames;

impl Resolver for HostNames {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let limit = LIMIT.min(*timeout.after);
        let mut found = self.empty();
        // The client has room for 16 addresses.
        for address in addresses(host, limit)?.into_iter().take(16) {
            found.push(SocketAddr::new(address, port));
        }
        if found.is_empty() {
            Err(Error::HostNotFound)
        } else {
            Ok(found)
        }
    }
}

/// The addresses of `host`: itself if it is one, IPv4 first, since more networks carry it.
fn addresses(host: &str, limit: Duration) -> Result<Vec<IpAddr>, Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    // RFC 6761: never asked of a server, and needs neither file.
    let lower = bare.trim_end_matches('.').to_ascii_lowercase();
    if lower == "localhost" || lower.ends_with(".localhost") {
        return Ok(vec![
            [127, 0, 0, 1].into(),
            IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ]);
    }
    // First, as getaddrinfo does: an address that stands there must not wait for servers that are out of reach, which
    // hickory would still ask for the other family.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let listed = in_hosts(&hosts, &lower);
    if !listed.is_empty() {
        return Ok(ipv4_first(listed));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let lookup = async {
            // Without a resolv.conf there is nobody to ask, which is said as "no such host".
            let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
                TokioResolver::builder_with_config(
                    ResolverConfig::from_name_servers(Vec::new()),
                    TokioRuntimeProvider::default(),
                )
            });
            let mut builder = builder;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            let resolver = builder.build().map_err(std::io::Error::other)?;
            resolver.lookup_ip(bare).await.map_err(|error| {
                tracing::debug!(%error, host, "name lookup failed");
                Error::HostNotFound
            })
        };
        let found = tokio::time::timeout(limit, lookup)
            .await
            .map_err(|_| Error::HostNotFound)??;
        Ok(ipv4_first(found.iter()))
    })
}

fn ipv4_first(found: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut addresses, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv4);
    addresses.extend(v6);
    addresses
}

/// The addresses that a text like /etc/hosts (hosts(5)) has for a name in lower case.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|known| known.eq_ignore_ascii_case(name))
            .then_some(address)
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_need_no_server() {
        let limit = Duration::from_secs(1);
        assert_eq!(
            addresses("127.0.0.1", limit).unwrap(),
            [IpAddr::from([127, 0, 0, 1])]
        );
        assert_eq!(
            addresses("[::1]", limit).unwrap(),
            ["::1".parse::<IpAddr>().unwrap()]
        );
        assert!(
            addresses("localhost", limit)
                .unwrap()
                .contains(&[127, 0, 0, 1].into())
        );
    }
    #[test]
    fn hosts_are_read_line_by_line() {
        let text = "127.0.0.1 localhost\n\n::2 Six.test both.test # not.test\n10.0.0.1\tboth.test\n# 10.0.0.2 six.test\nx y";
        assert_eq!(in_hosts(text, "six.test"), ["::2".parse::<IpAddr>().unwrap()]);
        let both = ipv4_first(in_hosts(text, "both.test"));
        assert_eq!(both, [IpAddr::from([10, 0, 0, 1]), "::2".parse().unwrap()]);
        assert!(in_hosts(text, "not.test").is_empty());
        assert!(in_hosts(text, "y").is_empty());
    }
}
