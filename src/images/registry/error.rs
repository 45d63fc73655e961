//! Why did a registry not serve? One line each, and what would help.

use std::time::Duration;

use thiserror::Error;

use super::config::ConfigError;
use super::credentials::CredentialsError;
use crate::images::manifest::{ManifestError, printable};
use crate::store::Digest;

/// Why a registry did not give what was asked for.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// An environment variable makes no sense.
    #[error("{0}")]
    Settings(String),
    /// The settings of registries.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A saved login.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No answer.
    #[error("cannot reach registry {host}{}: {reason}", through(.proxy))]
    Unreachable {
        /// Host and port.
        host: String,
        /// The proxy on the way there, with its port.
        proxy: Option<String>,
        /// In words.
        reason: String,
        /// Whether trying again may help.
        transient: bool,
    },
    /// 401 or 403.
    #[error("pull access denied for {name}: it does not exist or needs a login: {reason}")]
    Denied {
        /// The repository.
        name: String,
        /// What the registry or the token server said, and which login was used.
        reason: String,
    },
    /// The name is not there.
    #[error("manifest for {name} not found in registry {host}: manifest unknown")]
    ManifestUnknown {
        /// As the user knows it.
        name: String,
        /// Who was asked.
        host: String,
    },
    /// A blob is not there.
    #[error("blob {digest} not found in registry {host}, though the manifest names it")]
    BlobUnknown {
        /// The blob.
        digest: Digest,
        /// Who was asked.
        host: String,
    },
    /// Any other answer that is no success.
    #[error("registry {host} answered {status} for {what}{detail}")]
    Status {
        /// Who answered.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The server's own words, if it has any; with a colon before them.
        detail: String,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// A redirect that must not be followed.
    #[error("registry {host} redirects to \"{to}\", which is refused: {reason}")]
    Redirect {
        /// Who redirects.
        host: String,
        /// Where to.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// Content and name disagree.
    #[error("registry {host} served wrong content for {what}: {reason}")]
    Content {
        /// Who served it.
        host: String,
        /// What was asked for.
        what: String,
        /// In words.
        reason: String,
    },
    /// A document broke a limit while it was read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Mirrors and registry, each with its reason.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Everywhere(Vec<RegistryError>),
}

impl RegistryError {
    /// Whether the same request may succeed soon.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            RegistryError::Unreachable { transient, .. } => *transient,
            RegistryError::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What would help, where something is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            RegistryError::Unreachable { reason, .. } if reason.contains("certificate") => {
                Some("set SSL_CERT_FILE to the registry's authority, or mark it insecure in registries.toml")
            }
            RegistryError::Unreachable { proxy: Some(_), .. } => Some(PROXIES),
            RegistryError::Unreachable { .. } => Some(
                "is the name right, the registry running, and HTTPS_PROXY needed? registries.toml can name mirrors",
            ),
            RegistryError::Denied { .. } => Some(
                "logins are read from auth.json and ~/.docker/config.json, as `docker login` and `podman login` write them",
            ),
            RegistryError::Status { status: 429, .. } => {
                Some("log in for a higher limit, wait, or name a mirror in registries.toml")
            }
            RegistryError::Status { status: 500.., .. } => {
                Some("the fault is the registry's: try again later")
            }
            RegistryError::Content { .. } => {
                Some("nothing of it was kept; a proxy or a broken mirror may be in between")
            }
            RegistryError::Everywhere(all) => all.iter().find_map(RegistryError::hint),
            _ => None,
        }
    }
}

/// What helps where a proxy is on the way.
pub(super) const PROXIES: &str =
    "are HTTP_PROXY and HTTPS_PROXY right, and is the proxy running? NO_PROXY names what is reached without";

/// The words for a proxy on the way, if there is one.
pub(super) fn through(proxy: &Option<String>) -> String {
    let words = proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}"));
    words.unwrap_or_default()
}

/// A failed exchange, in a user's words.
pub(super) fn unreachable(host: &str, proxy: Option<String>, error: &ureq::Error) -> RegistryError {
    let unlasting = |kind| {
        use std::io::ErrorKind::*;
        !matches!(
            kind,
            // InvalidData is TLS: a certificate that is not believed, or no TLS at all.
            ConnectionRefused | HostUnreachable | InvalidData | NetworkUnreachable | PermissionDenied
        )
    };
    let (reason, transient) = match error {
        ureq::Error::HostNotFound => (
            "no such host (asked /etc/hosts and the servers of /etc/resolv.conf)".into(),
            false,
        ),
        ureq::Error::Io(source) if source.kind() == std::io::ErrorKind::ConnectionRefused => {
            ("connection refused".into(), false)
        }
        ureq::Error::Io(source) => (source.to_string(), unlasting(source.kind())),
        ureq::Error::Timeout(what) => (format!("no answer in time ({what})"), true),
        ureq::Error::Rustls(source) => (source.to_string(), false),
        ureq::Error::ConnectProxyFailed(reason) => (format!("the proxy refused: {reason}"), false),
        other => (other.to_string(), true),
    };
    RegistryError::Unreachable {
        host: host.into(),
        proxy,
        reason: printable(&reason),
        transient,
    }
}
