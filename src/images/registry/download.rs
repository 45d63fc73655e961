//! How is a file fetched that a URL names? By the same connections, proxies and authorities as images.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use ureq::http::{Response, Uri, header};

use super::error::{PROXIES, through};
use super::http::{Certificates, Http, MAX_REDIRECTS, redirect};
use super::watched::Watched;
use super::{RegistryError, with_patience};
use crate::store::Digest;

/// What a server says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Bytes.
    pub size: u64,
    /// `Last-Modified`, in seconds since 1970.
    pub modified: Option<i64>,
    /// By which it can be asked later whether it is still the same.
    pub version: Option<Version>,
}

/// How a server names what a file holds (RFC 9110, section 8.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The digest of the URL that answered, after redirects: of another the names would mean nothing.
    at: Digest,
    etag: Option<String>,
    /// `Last-Modified`, if nothing could have changed in the same second.
    modified: Option<String>,
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is still the same.
    Unchanged,
    /// It was fetched.
    Fetched(Downloaded),
}

/// Why a file was not fetched. URLs are told without what may be secret in them.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// No URL of HTTP or HTTPS.
    #[error("{0:?} is no URL of a file")]
    Url(String),
    /// No file was served.
    #[error("cannot fetch {url}: {reason}")]
    Refused {
        /// The URL.
        url: String,
        /// In words.
        reason: String,
    },
    /// No answer.
    #[error("cannot fetch {url}{}: {reason}{}", through(.proxy), hint(.proxy))]
    Unreachable {
        /// The URL.
        url: String,
        /// The proxy on the way there, with its port.
        proxy: Option<String>,
        /// In words.
        reason: String,
    },
    /// The file broke off, or could not be written.
    #[error("cannot fetch {url}")]
    Broken {
        /// The URL.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// An environment variable makes no sense.
    #[error(transparent)]
    Settings(#[from] RegistryError),
}

/// Fetches what `url` names into `to`, unless it is still what it was under `known`. Redirects are followed, but not from
/// HTTPS to HTTP.
///
/// # Errors
/// There is no such file, or it does not come whole.
pub fn download(url: &str, known: Option<&Version>, to: &mut dyn Write) -> Result<Answer, DownloadError> {
    let shown = without_secrets(url);
    let at: Uri = url.parse().map_err(|_| DownloadError::Url(shown.clone()))?;
    if !matches!(at.scheme_str(), Some("http" | "https")) || at.host().is_none() {
        return Err(DownloadError::Url(shown));
    }
    let http = Http::new()?;
    let (response, from) =
        with_patience(|| ask(&http, &at, known)).map_err(|error| DownloadError::of(shown.clone(), error))?;
    if response.status().as_u16() == 304 {
        return Ok(Answer::Unchanged);
    }
    let modified = time(&response, header::LAST_MODIFIED);
    let version = Version::of(&response, &from);
    let mut body = response.into_body();
    let promised = body.content_length();
    let broken = |source| DownloadError::Broken {
        url: shown.clone(),
        source,
    };
    let size = io::copy(&mut body, to).map_err(broken)?;
    match promised.is_some_and(|promised| promised != size) {
        true => Err(broken(io::ErrorKind::UnexpectedEof.into())),
        false => Ok(Answer::Fetched(Downloaded {
            size,
            modified,
            version,
        })),
    }
}

/// What helps where a proxy is on the way: a build has no hints of its own.
fn hint(proxy: &Option<String>) -> String {
    let words = proxy.as_ref().map(|_| format!(" ({PROXIES})"));
    words.unwrap_or_default()
}

impl DownloadError {
    fn of(url: String, error: RegistryError) -> DownloadError {
        let reason = match error {
            RegistryError::Unreachable { proxy, reason, .. } => {
                return DownloadError::Unreachable { url, proxy, reason };
            }
            RegistryError::Status { status, .. } => format!("the server answered {status}"),
            RegistryError::Redirect { to, reason, .. } => {
                format!("it redirects to {to:?}, which is refused: {reason}")
            }
            other => other.to_string(),
        };
        DownloadError::Refused { url, reason }
    }
}

impl Version {
    fn of(response: &Response<Watched>, from: &Uri) -> Option<Version> {
        let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_string());
        let modified = time(response, header::LAST_MODIFIED);
        // What changed within the minute may change again without another time.
        let is_old = time(response, header::DATE).zip(modified);
        let is_old = is_old.is_some_and(|(now, modified)| now.saturating_sub(modified) >= 60);
        let version = Version {
            at: Digest::of(from.to_string().as_bytes()),
            etag: text(header::ETAG),
            modified: text(header::LAST_MODIFIED).filter(|_| is_old),
        };
        (version.etag.is_some() || version.modified.is_some()).then_some(version)
    }

    /// The headers that ask for it to be sent only if it is another.
    fn condition(&self) -> Vec<(&str, &str)> {
        match (&self.etag, &self.modified) {
            (Some(etag), _) => vec![("If-None-Match", etag)],
            (None, Some(modified)) => vec![("If-Modified-Since", modified)],
            (None, None) => Vec::new(),
        }
    }
}

/// A header that is a time, in seconds since 1970.
fn time(response: &Response<Watched>, name: header::HeaderName) -> Option<i64> {
    let text = response.headers().get(name)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second())
}

/// The answer, and the URL that gave it.
fn ask(http: &Http, from: &Uri, known: Option<&Version>) -> Result<(Response<Watched>, Uri), RegistryError> {
    let mut at = from.clone();
    for _ in 0..MAX_REDIRECTS {
        let host = at.host().unwrap_or_default().to_owned();
        let known = known.filter(|known| known.at == Digest::of(at.to_string().as_bytes()));
        let condition = known.map(Version::condition).unwrap_or_default();
        let response = http.get(&at, Certificates::Verified, &condition);
        let response = response.map_err(|error| http.unreachable(&at, &error))?;
        let status = response.status().as_u16();
        match status {
            200 => return Ok((response, at)),
            304 if !condition.is_empty() => return Ok((response, at)),
            301 | 302 | 303 | 307 | 308 => {
                at = redirect(&at, &response).map_err(|(to, reason)| RegistryError::Redirect {
                    host,
                    to: without_secrets(&to),
                    reason,
                })?;
            }
            _ => {
                return Err(RegistryError::Status {
                    host,
                    what: "a file".into(),
                    status,
                    detail: String::new(),
                    retry_after: None::<Duration>,
                });
            }
        }
    }
    Err(RegistryError::Redirect {
        host: from.host().unwrap_or_default().into(),
        to: without_secrets(&at.to_string()),
        reason: "too many redirects",
    })
}

/// A URL without login and query.
fn without_secrets(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_told() {
        for (url, shown) in [
            ("https://user:pass@host/a?token=x#y", "https://host/a"),
            ("http://host:80", "http://host:80"),
            ("nothing?x", "nothing"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
