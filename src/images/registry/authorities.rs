//! Whose certificates are believed? Those that the authorities signed which SSL_CERT_FILE and SSL_CERT_DIR name, or the
//! system's.

use std::path::{Path, PathBuf};

use rustls_native_certs::{CertificateResult, load_certs_from_paths};
use ureq::tls::{Certificate, RootCerts};

/// The authorities of the two variables, which add to each other; else those of the system, or Mozilla's built in where a
/// machine has none. A variable that leads nowhere is obeyed: then nobody is believed. An empty one is as good as none.
pub(super) fn authorities() -> RootCerts {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let file = variable("SSL_CERT_FILE").map(PathBuf::from);
    let directories: Vec<PathBuf> = variable("SSL_CERT_DIR")
        .map(|all| {
            std::env::split_paths(&all)
                .filter(|one| !one.as_os_str().is_empty())
                .collect()
        })
        .unwrap_or_default();
    let is_chosen = file.is_some() || !directories.is_empty();
    let found = match is_chosen {
        true => load(file.as_deref(), &directories),
        false => {
            let system = openssl_probe::probe();
            load(system.cert_file.as_deref(), &system.cert_dir)
        }
    };
    let mut certificates = Vec::new();
    for part in found {
        for error in &part.errors {
            tracing::warn!(%error, "certificate authorities");
        }
        certificates.extend(part.certs.iter().map(|one| Certificate::from_der(one).to_owned()));
    }
    match certificates.is_empty() && !is_chosen {
        true => RootCerts::WebPki,
        false => certificates.into(),
    }
}

fn load(file: Option<&Path>, directories: &[PathBuf]) -> Vec<CertificateResult> {
    let of_file = load_certs_from_paths(file, None);
    let of_directories = directories
        .iter()
        .map(|directory| load_certs_from_paths(None, Some(directory)));
    std::iter::once(of_file).chain(of_directories).collect()
}
