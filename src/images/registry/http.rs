//! How is one request sent? TLS, proxies, time limits; redirects are the caller's, who knows what may be shown to whom.

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::config::ConfigBuilder;
use ureq::http::{Method, Request, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::typestate::AgentScope;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy, ProxyProtocol, SendBody};

use super::RegistryError;
use super::authorities::authorities;
use super::error::unreachable;
use super::forward::{Forwarding, ProxyInstead};
use super::proxy::Proxies;
use super::resolver::HostNames;
use super::tunnel::Tunnelling;
use super::watched::Watched;

/// As many redirects are followed, one after the other.
pub(super) const MAX_REDIRECTS: usize = 10;
const PROXY_AUTHORIZATION: &str = "Proxy-Authorization";

/// Whose certificates are believed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificates {
    /// Those that the system's authorities signed.
    Verified,
    /// Anyone's: the user said that this registry is insecure.
    Any,
}

/// A pool of connections.
#[derive(Debug)]
pub(super) struct Http {
    proxies: Proxies,
    patience: Duration,
    verified: OnceLock<Agent>,
    any: OnceLock<Agent>,
    /// To the proxy of plain HTTP.
    forwarded: OnceLock<Agent>,
}

/// How a request leaves this machine.
struct Way<'a> {
    agent: &'a Agent,
    /// Opens a tunnel for it.
    tunnel: Option<Proxy>,
    /// What the proxy that it is sent to wants to see.
    proof: Option<String>,
}

impl Http {
    /// Reads proxies and time limits from the environment.
    pub(super) fn new() -> Result<Http, RegistryError> {
        let proxies = Proxies::from_environment().map_err(RegistryError::Settings)?;
        let patience = match std::env::var("BRYO_NETWORK_TIMEOUT") {
            Err(_) => Duration::from_secs(60),
            Ok(text) => match text.parse() {
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => {
                    let reason =
                        format!("BRYO_NETWORK_TIMEOUT is \"{text}\", not a number of seconds above 0");
                    return Err(RegistryError::Settings(reason));
                }
            },
        };
        Ok(Http {
            proxies,
            patience,
            verified: OnceLock::new(),
            any: OnceLock::new(),
            forwarded: OnceLock::new(),
        })
    }

    /// Sends a GET. Any status is an answer; redirects are not followed.
    pub(super) fn get(
        &self,
        uri: &Uri,
        certificates: Certificates,
        headers: &[(&str, &str)],
    ) -> Result<Response<Watched>, ureq::Error> {
        self.send(Method::GET, uri, certificates, headers, SendBody::none())
    }

    /// Sends any request. Any status is an answer; redirects are not followed.
    pub(super) fn send(
        &self,
        method: Method,
        uri: &Uri,
        certificates: Certificates,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
    ) -> Result<Response<Watched>, ureq::Error> {
        let way = self.way(uri, certificates);
        let proof = way.proof.as_deref().map(|proof| (PROXY_AUTHORIZATION, proof));
        let request = headers.iter().copied().chain(proof).fold(
            Request::builder().method(method).uri(uri),
            |request, (name, value)| request.header(name, value),
        );
        let request = way.agent.configure_request(request.body(body)?);
        Ok(self.watched(way.agent.run(request.proxy(way.tunnel).build())?))
    }

    /// Sends a form.
    pub(super) fn post_form(
        &self,
        uri: &Uri,
        certificates: Certificates,
        form: &[(&str, &str)],
    ) -> Result<Response<Watched>, ureq::Error> {
        let way = self.way(uri, certificates);
        let request = way.agent.post(uri).config().proxy(way.tunnel).build();
        let request = way.proof.iter().fold(request, |request, proof| {
            request.header(PROXY_AUTHORIZATION, proof)
        });
        Ok(self.watched(request.send_form(form.iter().copied())?))
    }

    fn watched(&self, response: Response<Body>) -> Response<Watched> {
        response.map(|body| Watched::new(body, self.patience))
    }

    /// That the exchange about `uri` failed, with its host and the proxy on the way there.
    pub(super) fn unreachable(&self, uri: &Uri, error: &ureq::Error) -> RegistryError {
        let host = origin(uri).1.rsplit('@').next().unwrap_or_default();
        let proxy = self.proxies.for_uri(uri);
        let proxy = proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        unreachable(host, proxy, error)
    }

    fn way(&self, uri: &Uri, certificates: Certificates) -> Way<'_> {
        let proxy = self.proxies.for_uri(uri);
        match proxy {
            Some(proxy) if uri.scheme_str() == Some("http") => {
                let login = proxy.username().zip(proxy.password().or(Some("")));
                Way {
                    proof: login.map(|(user, password)| basic(user, password)),
                    tunnel: None,
                    agent: self.forwarded.get_or_init(|| self.forwarding(&proxy)),
                }
            }
            tunnel => Way {
                agent: self.agent(certificates),
                tunnel,
                proof: None,
            },
        }
    }

    /// To a proxy that is given whole requests, over TLS if it wants that: what a registry is believed says nothing of it.
    fn forwarding(&self, proxy: &Proxy) -> Agent {
        // A connection whose request's line was changed carries no second request.
        let config = self.config().max_idle_connections(0);
        let config = match proxy.protocol() {
            ProxyProtocol::Https => config.tls_config(tls(Certificates::Verified)),
            _ => config,
        };
        Agent::with_parts(config.build(), Forwarding::to(proxy), ProxyInstead::of(proxy))
    }

    fn agent(&self, certificates: Certificates) -> &Agent {
        let config = |certificates| self.config().tls_config(tls(certificates)).build();
        match certificates {
            Certificates::Verified => self.verified.get_or_init(|| {
                let config = config(Certificates::Verified);
                Agent::with_parts(config, DefaultConnector::new(), HostNames)
            }),
            Certificates::Any => self.any.get_or_init(|| {
                let tunnelling =
                    Tunnelling::through(self.proxies.of_tunnels(), config(Certificates::Verified));
                Agent::with_parts(config(Certificates::Any), tunnelling, HostNames)
            }),
        }
    }

    fn config(&self) -> ConfigBuilder<AgentScope> {
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("bryo/", env!("CARGO_PKG_VERSION")))
            // The environment's are chosen by request, and ours to choose.
            .proxy(None)
            .timeout_connect(Some(self.patience.min(Duration::from_secs(15))))
            .timeout_recv_response(Some(self.patience))
            .timeout_per_read(Some(self.patience))
            .timeout_per_write(Some(self.patience))
            .input_buffer_size(256 << 10)
    }
}

fn tls(certificates: Certificates) -> TlsConfig {
    match certificates {
        Certificates::Verified => TlsConfig::builder().root_certs(authorities()).build(),
        Certificates::Any => TlsConfig::builder().disable_verification(true).build(),
    }
}

/// The value of a header that proves a name by its password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Where a redirect from `at` leads; or what it says, and why that is refused.
pub(super) fn redirect<B>(at: &Uri, response: &Response<B>) -> Result<Uri, (String, &'static str)> {
    let location = response.headers().get(header::LOCATION);
    let location = location
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| (String::new(), "it names no place"))?;
    let (scheme, authority) = origin(at);
    let absolute = if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location
        .split(['?', '#'])
        .next()
        .is_some_and(|place| place.contains("://"))
    {
        location.to_owned()
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let refused = |reason| (location.to_owned(), reason);
    let to: Uri = absolute.parse().map_err(|_| refused("it is not a URL"))?;
    match (scheme, to.scheme_str()) {
        (_, Some("https")) | ("http", Some("http")) => Ok(to),
        ("https", Some("http")) => Err(refused("from HTTPS to plain HTTP")),
        _ => Err(refused("neither HTTPS nor HTTP")),
    }
}

/// Scheme, and host with port.
pub(super) fn origin(uri: &Uri) -> (&str, &str) {
    (
        uri.scheme_str().unwrap_or_default(),
        uri.authority().map_or("", |authority| authority.as_str()),
    )
}
