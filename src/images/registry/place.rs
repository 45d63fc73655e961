//! One host of a repository: which scheme does it speak, what may it be shown, where does it redirect to?

use std::io::Read;
use std::time::Duration;

use parking_lot::Mutex;
use ureq::SendBody;
use ureq::http::{Method, Response, Uri, header};

use super::challenge::Challenge;
use super::config::{Place, Trust};
use super::credentials::Credentials;
use super::http::{Certificates, Http, MAX_REDIRECTS, origin, redirect};
use super::token::{Login, host_of};
use super::watched::Watched;
use super::{RegistryError, is_loopback};
use crate::images::manifest::printable;

/// The most of an error's text that is read, in bytes.
const MAX_REFUSAL: u64 = 64 << 10;

/// A request below a repository.
#[derive(Debug)]
pub(super) struct Asked {
    /// `manifests/…` or `blobs/…`.
    pub(super) path: String,
    /// In a user's words.
    pub(super) what: String,
    /// Media types, or empty.
    pub(super) accept: String,
    /// The first byte that is wanted, if not all are.
    pub(super) range: Option<u64>,
    /// GET, HEAD, or a POST without a body.
    pub(super) method: Method,
}

/// A host, and what was learned about it.
#[derive(Debug)]
pub(super) struct Reached {
    place: Place,
    scheme: Mutex<Option<Scheme>>,
    /// The `Authorization` header that it accepted last.
    proof: Mutex<Option<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
}

/// Who gave an answer? Only the registry itself may ask for its login: another's realm would be sent the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giver {
    Registry,
    /// Where a redirect led to.
    Other,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
        }
    }
}

impl Reached {
    pub(super) fn new(place: Place) -> Reached {
        Reached {
            place,
            scheme: Mutex::new(None),
            proof: Mutex::new(None),
        }
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        &self.place.host
    }

    /// Asks, logs in where that is wanted, follows redirects. The answer may have any status but 401 and 3xx.
    pub(super) fn get(&self, http: &Http, asked: &Asked) -> Result<Response<Watched>, RegistryError> {
        let used = self.proof.lock().clone();
        let (giver, response) = self.follow(http, asked, used.as_deref())?;
        if response.status() != 401 {
            return Ok(response);
        }
        if giver == Giver::Other {
            return Err(self.refusal(asked, response));
        }
        let renewed = self.log_in(http, &response, used)?;
        // The body is short; reading it lets the connection serve again.
        drain(response);
        let (_, response) = self.follow(http, asked, Some(&renewed))?;
        if response.status() == 401 {
            *self.proof.lock() = None;
            return Err(self.refusal(asked, response));
        }
        Ok(response)
    }

    /// The error for an answer that is no success.
    pub(super) fn refusal(&self, asked: &Asked, response: Response<Watched>) -> RegistryError {
        let status = response.status().as_u16();
        let seconds = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let detail = said(response);
        match status {
            401 | 403 => {
                let reason = if detail.is_empty() {
                    format!("it answered {status}")
                } else {
                    detail
                };
                self.login(None).denied(&reason)
            }
            _ => RegistryError::Status {
                host: self.host().into(),
                what: asked.what.clone(),
                status,
                detail: if detail.is_empty() {
                    detail
                } else {
                    format!(": {detail}")
                },
                retry_after: seconds.map(Duration::from_secs),
            },
        }
    }

    fn login<'a>(&'a self, credentials: Option<&'a Credentials>) -> Login<'a> {
        Login {
            host: self.host(),
            path: &self.place.path,
            credentials,
            trust: self.place.trust,
        }
    }

    /// Answers a 401; `used` is the proof that was refused. Threads that come together share one answer.
    fn log_in(
        &self,
        http: &Http,
        refused: &Response<Watched>,
        used: Option<String>,
    ) -> Result<String, RegistryError> {
        let mut proof = self.proof.lock();
        if let Some(newer) = proof.as_ref()
            && Some(newer) != used.as_ref()
        {
            return Ok(newer.clone());
        }
        let headers = refused.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = Challenge::best(headers.iter().filter_map(|value| value.to_str().ok()));
        let challenge =
            challenge.ok_or_else(|| self.login(None).denied("it asks for a login in an unknown way"))?;
        let saved = self.saved()?;
        let renewed = self.login(saved.as_ref()).answer(http, &challenge)?;
        *proof = Some(renewed.clone());
        Ok(renewed)
    }

    /// The user's login for this host, if it may be shown: over verified TLS, or without leaving the machine.
    fn saved(&self) -> Result<Option<Credentials>, RegistryError> {
        let name = if self.host() == "registry-1.docker.io" {
            "docker.io"
        } else {
            self.host()
        };
        let saved = Credentials::find(name, &self.place.path)?;
        if saved.is_some() && self.certificates() == Certificates::Any && !self.is_loopback() {
            return Err(self.login(None).denied(
                "a login is saved, but this registry is marked insecure, and logins are only sent over verified TLS; \
                 set SSL_CERT_FILE to its authority instead",
            ));
        }
        Ok(saved)
    }

    fn is_loopback(&self) -> bool {
        is_loopback(host_of(self.host()))
    }

    fn certificates(&self) -> Certificates {
        match self.place.trust {
            Trust::Verified if !self.is_loopback() => Certificates::Verified,
            _ => Certificates::Any,
        }
    }

    /// The schemes to try, best first, until one has answered.
    fn schemes(&self) -> Vec<Scheme> {
        match (*self.scheme.lock(), self.certificates()) {
            (Some(known), _) => vec![known],
            (None, Certificates::Verified) => vec![Scheme::Https],
            (None, Certificates::Any) => vec![Scheme::Https, Scheme::Http],
        }
    }

    /// Sends to this host, whichever scheme it speaks.
    fn send(
        &self,
        http: &Http,
        asked: &Asked,
        proof: Option<&str>,
    ) -> Result<(Uri, Response<Watched>), RegistryError> {
        let mut failure = None;
        for scheme in self.schemes() {
            let url = format!(
                "{}://{}/v2/{}/{}",
                scheme.name(),
                self.host(),
                self.place.path,
                asked.path
            );
            let uri: Uri = url
                .parse()
                .map_err(|_| RegistryError::Settings(format!("\"{url}\" is not a URL")))?;
            match self.exchange(http, &uri, self.certificates(), asked, proof) {
                Ok(response) => {
                    *self.scheme.lock() = Some(scheme);
                    return Ok((uri, response));
                }
                // What the last scheme says is what the user can act on.
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| RegistryError::Settings("no scheme".into())))
    }

    fn exchange(
        &self,
        http: &Http,
        uri: &Uri,
        certificates: Certificates,
        asked: &Asked,
        proof: Option<&str>,
    ) -> Result<Response<Watched>, RegistryError> {
        let range = asked.range.map(|first| format!("bytes={first}-"));
        let mut headers = Vec::new();
        headers.extend((!asked.accept.is_empty()).then_some(("Accept", asked.accept.as_str())));
        headers.extend(range.as_deref().map(|range| ("Range", range)));
        headers.extend(proof.map(|proof| ("Authorization", proof)));
        let method = asked.method.clone();
        let answer = http.send(method, uri, certificates, &headers, SendBody::none());
        answer.map_err(|error| http.unreachable(uri, &error))
    }

    /// Where an answer of this host says that something is to be sent.
    pub(super) fn location(&self, response: &Response<Watched>) -> Result<Uri, RegistryError> {
        self.target(&self.below("")?, response)
    }

    /// A place below the repository, in the scheme that the host was found to speak.
    pub(super) fn below(&self, path: &str) -> Result<Uri, RegistryError> {
        let scheme = self.schemes().first().map_or("https", |scheme| scheme.name());
        let url = format!("{scheme}://{}/v2/{}/{path}", self.host(), self.place.path);
        url.parse()
            .map_err(|_| RegistryError::Settings(format!("\"{url}\" is not a URL")))
    }

    /// Sends `length` bytes, and once more if a login is wanted: a token that was enough to look may not be to write. `open`
    /// gives them from their first.
    pub(super) fn put(
        &self,
        http: &Http,
        to: &Uri,
        media_type: &str,
        length: u64,
        open: &mut dyn FnMut() -> Result<Box<dyn Read>, RegistryError>,
    ) -> Result<Response<Watched>, RegistryError> {
        let used = self.proof.lock().clone();
        let response = self.put_once(http, to, media_type, length, &mut open()?)?;
        if response.status() != 401 || origin(to) != origin(&self.below("")?) {
            return Ok(response);
        }
        self.log_in(http, &response, used)?;
        drain(response);
        self.put_once(http, to, media_type, length, &mut open()?)
    }

    /// The login is shown to this host alone.
    fn put_once(
        &self,
        http: &Http,
        to: &Uri,
        media_type: &str,
        length: u64,
        body: &mut dyn Read,
    ) -> Result<Response<Watched>, RegistryError> {
        let home = origin(to) == origin(&self.below("")?);
        let proof = self.proof.lock().clone().filter(|_| home);
        let certificates = if home {
            self.certificates()
        } else {
            Certificates::Verified
        };
        let length = length.to_string();
        let mut headers = vec![("Content-Type", media_type), ("Content-Length", length.as_str())];
        headers.extend(proof.as_deref().map(|proof| ("Authorization", proof)));
        http.send(
            Method::PUT,
            to,
            certificates,
            &headers,
            SendBody::from_reader(body),
        )
        .map_err(|error| http.unreachable(to, &error))
    }

    /// Follows redirects. The login is shown to this host alone, never to where it redirects (CVE-2020-15157).
    fn follow(
        &self,
        http: &Http,
        asked: &Asked,
        proof: Option<&str>,
    ) -> Result<(Giver, Response<Watched>), RegistryError> {
        let (own, mut response) = self.send(http, asked, proof)?;
        let (mut at, mut giver) = (own.clone(), Giver::Registry);
        for _ in 0..MAX_REDIRECTS {
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((giver, response));
            }
            at = self.target(&at, &response)?;
            drain(response);
            let home = origin(&at) == origin(&own);
            let certificates;
            (giver, certificates) = if home {
                (Giver::Registry, self.certificates())
            } else {
                (Giver::Other, Certificates::Verified)
            };
            response = self.exchange(http, &at, certificates, asked, proof.filter(|_| home))?;
        }
        Err(self.refused_redirect(&at.to_string(), "too many redirects"))
    }

    /// Where a redirect from `at` leads.
    fn target(&self, at: &Uri, response: &Response<Watched>) -> Result<Uri, RegistryError> {
        redirect(at, response).map_err(|(to, reason)| self.refused_redirect(&to, reason))
    }

    fn refused_redirect(&self, to: &str, reason: &'static str) -> RegistryError {
        // Signed links carry secrets behind the question mark.
        let bare = to.split('?').next().unwrap_or_default();
        RegistryError::Redirect {
            host: self.host().into(),
            to: printable(bare),
            reason,
        }
    }
}

fn drain(response: Response<Watched>) {
    let mut rest = response.into_body().take(MAX_REFUSAL);
    // Only to reuse the connection: a failure costs a new one.
    let _ = std::io::copy(&mut rest, &mut std::io::sink());
}

/// The messages in an error of the distribution spec, or the text's first line.
fn said(response: Response<Watched>) -> String {
    let mut bytes = Vec::new();
    // What arrived before a failure is said all the same.
    let _ = response.into_body().take(MAX_REFUSAL).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let messages = json
        .as_ref()
        .and_then(|json| json.get("errors")?.as_array())
        .map(|errors| {
            let field = |error: &serde_json::Value, name: &str| Some(error.get(name)?.as_str()?.to_owned());
            let lines = errors
                .iter()
                .filter_map(|e| field(e, "message").or_else(|| field(e, "code")));
            lines.collect::<Vec<_>>().join(", ")
        });
    let plain = || {
        if text.trim_start().starts_with('<') {
            ""
        } else {
            text.lines().next().unwrap_or_default()
        }
        .into()
    };
    printable(messages.unwrap_or_else(plain).trim())
}
