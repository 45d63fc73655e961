//! How is a token got? The distribution project's token authentication, with and without a login, and OAuth 2's
//! refresh form for identity tokens.

use std::io::Read;

use serde::Deserialize;
use ureq::http::{Response, Uri};

use super::challenge::Challenge;
use super::config::Trust;
use super::credentials::Credentials;
use super::error::unreachable;
use super::http::{Certificates, Http, basic};
use super::watched::Watched;
use super::{RegistryError, is_loopback};

/// The longest answer of a token server in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// For whom and how a token is asked.
pub(super) struct Login<'a> {
    /// The registry, with its port.
    pub(super) host: &'a str,
    /// The repository within it.
    pub(super) path: &'a str,
    /// What may be shown; `None` asks anonymously.
    pub(super) credentials: Option<&'a Credentials>,
    /// How far the registry is believed.
    pub(super) trust: Trust,
}

/// Where tokens are given, and how it is reached.
struct Realm {
    uri: Uri,
    certificates: Certificates,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Login<'_> {
    /// The value of the `Authorization` header that answers `challenge`.
    pub(super) fn answer(&self, http: &Http, challenge: &Challenge) -> Result<String, RegistryError> {
        match (challenge, self.credentials) {
            (Challenge::Basic, Some(Credentials::Password { user, password })) => Ok(basic(user, password)),
            (Challenge::Basic, Some(Credentials::Identity { .. })) => {
                Err(self.denied("the saved login is a token, but the registry wants a name and a password"))
            }
            (Challenge::Basic, None) => Err(self.denied("no login is saved for it")),
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                credentials,
            ) => {
                let realm = self.check_realm(realm)?;
                let own = format!("repository:{}:pull", self.path);
                let scope = scope.as_deref().unwrap_or(&own);
                let token = match credentials {
                    Some(Credentials::Identity { token }) => {
                        self.refresh(http, &realm, service.as_deref(), scope, token)
                    }
                    Some(Credentials::Password { user, password }) => {
                        let proof = (user.as_str(), basic(user, password));
                        self.ask(http, &realm, service.as_deref(), scope, Some(proof))
                    }
                    None => self.ask(http, &realm, service.as_deref(), scope, None),
                };
                token.map(|token| format!("Bearer {token}"))
            }
        }
    }

    /// Logins go to token servers over verified TLS only; a registry on loopback may have one on loopback. Without a
    /// login there is nothing to steal: an insecure registry's token server may be as insecure.
    fn check_realm(&self, realm: &str) -> Result<Realm, RegistryError> {
        let refused = |reason| {
            Err(RegistryError::Redirect {
                host: self.host.into(),
                to: crate::images::manifest::printable(realm),
                reason,
            })
        };
        let Ok(uri) = realm.parse::<Uri>() else {
            return refused("it is not the URL of a token server");
        };
        let host = uri.host().unwrap_or_default();
        let stays_here = is_loopback(host) && is_loopback(host_of(self.host));
        let is_believed = stays_here || (self.credentials.is_none() && self.trust == Trust::Insecure);
        let certificates = if is_believed {
            Certificates::Any
        } else {
            Certificates::Verified
        };
        match uri.scheme_str() {
            Some("https") if !host.is_empty() => Ok(Realm { uri, certificates }),
            Some("http") if is_believed => Ok(Realm { uri, certificates }),
            _ => refused("a token server must use HTTPS"),
        }
    }

    fn ask(
        &self,
        http: &Http,
        realm: &Realm,
        service: Option<&str>,
        scope: &str,
        proof: Option<(&str, String)>,
    ) -> Result<String, RegistryError> {
        let mut query: Vec<_> = service.iter().map(|service| ("service", *service)).collect();
        query.push(("scope", scope));
        query.extend(proof.iter().map(|(user, _)| ("account", *user)));
        let encoded: Vec<_> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", escape(value)))
            .collect();
        let joint = if realm.uri.query().is_some() { '&' } else { '?' };
        let uri: Uri = format!("{}{joint}{}", realm.uri, encoded.join("&"))
            .parse()
            .map_err(|_| self.denied("the token server's URL cannot be used"))?;
        let headers: Vec<_> = proof
            .iter()
            .map(|(_, header)| ("Authorization", header.as_str()))
            .collect();
        let response = http.get(&uri, realm.certificates, &headers);
        self.read(http, &realm.uri, response)
    }

    fn refresh(
        &self,
        http: &Http,
        realm: &Realm,
        service: Option<&str>,
        scope: &str,
        token: &str,
    ) -> Result<String, RegistryError> {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", "bryo"),
            ("refresh_token", token),
        ];
        form.push(("scope", scope));
        form.extend(service.iter().map(|service| ("service", *service)));
        let response = http.post_form(&realm.uri, realm.certificates, &form);
        self.read(http, &realm.uri, response)
    }

    fn read(
        &self,
        http: &Http,
        realm: &Uri,
        response: Result<Response<Watched>, ureq::Error>,
    ) -> Result<String, RegistryError> {
        let server = realm.authority().map(ToString::to_string).unwrap_or_default();
        let response = response.map_err(|error| http.unreachable(realm, &error))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {}
            401 | 403 => return Err(self.denied("the token server refused the login")),
            _ => {
                return Err(RegistryError::Status {
                    host: server,
                    what: format!("a token for {}", self.path),
                    status,
                    detail: String::new(),
                    retry_after: None,
                });
            }
        }
        let mut text = Vec::new();
        let read = response.into_body().take(MAX_ANSWER).read_to_end(&mut text);
        read.map_err(|error| unreachable(&server, None, &ureq::Error::Io(error)))?;
        let answer: Option<Answer> = serde_json::from_slice(&text).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        // It becomes a header: nothing may end it early.
        let token = token.filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        token.ok_or_else(|| self.denied("the token server's answer has no token"))
    }

    pub(super) fn denied(&self, reason: &str) -> RegistryError {
        RegistryError::Denied {
            name: format!("{}/{}", self.host, self.path),
            reason: reason.into(),
        }
    }
}

/// The host of `host:port`.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Percent-encoding of a query's value (RFC 3986, unreserved characters stay).
fn escape(text: &str) -> String {
    let keep =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',');
    text.bytes()
        .map(|b| {
            if keep(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
