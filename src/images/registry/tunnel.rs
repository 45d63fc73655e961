//! Whose certificate must be right where a registry's need not be? That of the proxy on the way there: it is shown a login, and
//! nobody said that it is insecure. The HTTP client would believe both alike.

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, Transport};

use super::forward::again;

/// Connections to registries of any certificate, and to the proxy that opens tunnels to them.
#[derive(Debug)]
pub(super) struct Tunnelling {
    inner: DefaultConnector,
    proxy: Option<Uri>,
    /// How the proxy is spoken to.
    verifying: Config,
}

impl Tunnelling {
    pub(super) fn through(proxy: Option<Uri>, verifying: Config) -> Tunnelling {
        Tunnelling {
            inner: DefaultConnector::new(),
            proxy,
            verifying,
        }
    }
}

impl Connector for Tunnelling {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        if self.proxy.as_ref() != Some(details.uri) {
            return self.inner.connect(details, chained);
        }
        let to_proxy = ConnectionDetails {
            config: &self.verifying,
            // Not to be remembered for the registries' sake.
            request_level: true,
            ..again(details)
        };
        self.inner.connect(&to_proxy, chained)
    }
}
