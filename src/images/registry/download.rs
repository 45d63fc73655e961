//! How is a file fetched that a URL names? By the same connections, proxies and authorities as images.

use std::io::{self, Write};
use std::time::Duration;

use thiserror::Error;
use ureq::Body;
use ureq::http::{Response, Uri, header};

use super::error::unreachable;
use super::http::{Certificates, Http, MAX_REDIRECTS, redirect};
use super::{RegistryError, with_patience};

/// What a server says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downloaded {
    /// Bytes.
    pub size: u64,
    /// `Last-Modified`, in seconds since 1970.
    pub modified: Option<i64>,
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

/// Fetches what `url` names into `to`. Redirects are followed, but not from HTTPS to HTTP.
///
/// # Errors
/// There is no such file, or it does not come whole.
pub fn download(url: &str, to: &mut dyn Write) -> Result<Downloaded, DownloadError> {
    let shown = without_secrets(url);
    let at: Uri = url.parse().map_err(|_| DownloadError::Url(shown.clone()))?;
    if !matches!(at.scheme_str(), Some("http" | "https")) || at.host().is_none() {
        return Err(DownloadError::Url(shown));
    }
    let http = Http::new()?;
    let refused = |reason: String| DownloadError::Refused {
        url: shown.clone(),
        reason,
    };
    let response = with_patience(|| ask(&http, &at)).map_err(|error| {
        refused(match error {
            RegistryError::Unreachable { reason, .. } => reason,
            RegistryError::Status { status, .. } => format!("the server answered {status}"),
            RegistryError::Redirect { to, reason, .. } => {
                format!("it redirects to {to:?}, which is refused: {reason}")
            }
            other => other.to_string(),
        })
    })?;
    let modified = response.headers().get(header::LAST_MODIFIED);
    let modified = modified
        .and_then(|value| jiff::fmt::rfc2822::parse(value.to_str().ok()?).ok())
        .map(|time| time.timestamp().as_second());
    let body = response.into_body();
    let promised = body.content_length();
    let broken = |source| DownloadError::Broken {
        url: shown.clone(),
        source,
    };
    let size = io::copy(&mut body.into_reader(), to).map_err(broken)?;
    match promised.is_some_and(|promised| promised != size) {
        true => Err(broken(io::ErrorKind::UnexpectedEof.into())),
        false => Ok(Downloaded { size, modified }),
    }
}

fn ask(http: &Http, from: &Uri) -> Result<Response<Body>, RegistryError> {
    let mut at = from.clone();
    for _ in 0..MAX_REDIRECTS {
        let host = at.host().unwrap_or_default().to_owned();
        let response = http.get(&at, Certificates::Verified, &[]);
        let response = response.map_err(|error| unreachable(&host, &error))?;
        let status = response.status().as_u16();
        match status {
            200 => return Ok(response),
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
