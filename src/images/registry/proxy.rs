//! Does a request go through a proxy? HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go programs (Docker among them) read
//! them (`golang.org/x/net/http/httpproxy`).

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

/// The proxies that the environment names.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    excluded: Vec<String>,
}

impl Proxies {
    /// Reads the environment.
    pub(super) fn from_environment() -> Result<Proxies, String> {
        Proxies::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, String> {
        let either = |name: &str| {
            let found = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
            found.filter(|value| !value.is_empty())
        };
        let proxy = |name: &str| match either(name) {
            Some(text) => {
                let proxy = Proxy::new(&text).map_err(|error| format!("{name} is not a proxy: {error}"))?;
                match proxy.protocol() {
                    ProxyProtocol::Http | ProxyProtocol::Https => Ok(Some(proxy)),
                    _ => Err(format!(
                        "{name} is a SOCKS proxy; only HTTP and HTTPS proxies work"
                    )),
                }
            }
            None => Ok(None),
        };
        let excluded = either("NO_PROXY").unwrap_or_default();
        Ok(Proxies {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            excluded: excluded
                .split(',')
                .map(|e| e.trim().to_ascii_lowercase())
                .filter(|e| !e.is_empty())
                .collect(),
        })
    }

    /// The proxy that opens tunnels to whatever is spoken to over TLS.
    pub(super) fn of_tunnels(&self) -> Option<Uri> {
        self.https.as_ref().map(|proxy| proxy.uri().clone())
    }

    /// The proxy for `uri`, if it takes one. Loopback never does.
    pub(super) fn for_uri(&self, uri: &Uri) -> Option<Proxy> {
        let https = uri.scheme_str() == Some("https");
        let proxy = if https { &self.https } else { &self.http };
        let host = uri
            .host()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        if super::is_loopback(&host) || self.excluded.iter().any(|rule| excludes(rule, &host, port)) {
            return None;
        }
        proxy.clone()
    }
}

/// `*`, an address, a network in CIDR form, or a domain with all below it (with a leading dot: only those), each
/// with an optional port.
fn excludes(rule: &str, host: &str, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>()
        && let Some((network, bits)) = rule.split_once('/')
    {
        return network
            .parse()
            .is_ok_and(|network| bits.parse().is_ok_and(|bits| contains(network, bits, address)));
    }
    let (rule, only) = match rule.rsplit_once(':') {
        Some((name, number)) if rule.parse::<IpAddr>().is_err() => match number.parse::<u16>() {
            Ok(number) => (name.trim_start_matches('[').trim_end_matches(']'), Some(number)),
            Err(_) => return false,
        },
        _ => (rule, None),
    };
    if only.is_some_and(|only| only != port) {
        return false;
    }
    let rule = rule
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(rule);
    match rule.strip_prefix('.') {
        Some(_) => host.ends_with(rule),
        None => host == rule || host.strip_suffix(rule).is_some_and(|rest| rest.ends_with('.')),
    }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let prefix = |value: u128, width: u8| {
        let rest = width.checked_sub(bits)?;
        value.checked_shr(rest.into()).or(Some(0))
    };
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            bits <= 32 && prefix(a.to_bits().into(), 32) == prefix(b.to_bits().into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => bits <= 128 && prefix(a.to_bits(), 128) == prefix(b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_its_proxy_and_exceptions_hold() {
        let proxies = Proxies::from(|name| match name {
            "http_proxy" => Some("http://plain:3128".into()),
            "HTTPS_PROXY" => Some("http://user:secret@tls:3128".into()),
            "NO_PROXY" => Some("corp.example, .only.example,10.0.0.0/8,with.port:5000,fd00::1".into()),
            _ => None,
        })
        .unwrap();
        let host = |uri: &str| {
            proxies
                .for_uri(&uri.parse().unwrap())
                .map(|proxy| proxy.host().to_owned())
        };
        assert_eq!(host("http://registry.example/v2/").as_deref(), Some("plain"));
        assert_eq!(host("https://registry.example/v2/").as_deref(), Some("tls"));
        assert_eq!(host("https://only.example/").as_deref(), Some("tls"));
        assert_eq!(host("https://with.port/").as_deref(), Some("tls"));
        assert_eq!(host("https://notcorp.example/").as_deref(), Some("tls"));
        for direct in [
            "https://corp.example/",
            "https://a.corp.example/",
            "https://a.only.example/",
            "http://10.1.2.3:5000/",
            "https://with.port:5000/",
            "http://localhost:5000/",
            "http://127.0.0.1/",
            "https://[::1]/",
            "https://[fd00::1]/",
        ] {
            assert_eq!(host(direct), None, "{direct}");
        }
        assert!(Proxies::from(|_| Some("::not a proxy::".into())).is_err());
        for socks in [
            "socks4://p:1080",
            "socks4a://p:1080",
            "socks5://p:1080",
            "socks://p:1080",
        ] {
            assert!(Proxies::from(|_| Some(socks.into())).is_err(), "{socks}");
        }
    }
}
