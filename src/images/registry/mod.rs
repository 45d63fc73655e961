//! Who serves an image, and how is it asked? The OCI distribution spec, read side, over the places of a repository:
//! its mirrors, then its own registry.

mod authorities;
mod blob;
mod challenge;
pub mod config;
mod credentials;
mod download;
mod error;
mod forward;
mod http;
mod place;
mod proxy;
mod resolver;
mod token;
mod tunnel;
mod upload;
mod watched;

use std::io::Read;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use blob::BlobReader;
pub use config::Registries;
pub use download::{Answer, DownloadError, Downloaded, Version, download};
pub use error::RegistryError;
use http::Http;
use place::{Asked, Reached};
pub use upload::Held;
use ureq::http::{Method, Response};
use watched::Watched;

use crate::images::manifest::{self, Descriptor, MAX_MANIFEST, ManifestError};
use crate::images::reference::Reference;
use crate::store::Digest;

/// How often a request is repeated that failed for a passing reason.
const RETRIES: u32 = 4;
/// The first pause before a repetition; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A repository, ready to be read.
#[derive(Debug)]
pub struct Repository {
    http: Http,
    name: String,
    places: Vec<Reached>,
    /// The place that served last: a mirror that has the manifest has the blobs.
    current: AtomicUsize,
}

/// A manifest as it was served, verified.
#[derive(Debug)]
pub struct Served {
    /// Byte for byte.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

impl Repository {
    /// The places of `reference`; nothing is sent yet.
    pub fn open(reference: &Reference, registries: &Registries) -> Result<Repository, RegistryError> {
        let places = registries.places(reference)?;
        Ok(Repository {
            http: Http::new()?,
            name: reference.familiar_repository(),
            places: places.into_iter().map(Reached::new).collect(),
            current: AtomicUsize::new(0),
        })
    }

    /// The manifest or index under a tag.
    pub fn by_tag(&self, tag: &str) -> Result<Served, RegistryError> {
        self.manifest(tag, None)
    }

    /// The manifest or index of a digest.
    pub fn by_digest(&self, digest: &Digest) -> Result<Served, RegistryError> {
        self.manifest(&digest.to_string(), Some(digest))
    }

    /// A blob's bytes, from its first. A connection that breaks is taken up again where it broke.
    pub fn blob<'a>(&'a self, blob: &Descriptor) -> BlobReader<'a> {
        BlobReader::new(self, blob.digest, blob.size)
    }

    fn manifest(&self, selector: &str, expected: Option<&Digest>) -> Result<Served, RegistryError> {
        let joint = if expected.is_some() { '@' } else { ':' };
        let asked = Asked {
            path: format!("manifests/{selector}"),
            what: format!("manifest {}{joint}{selector}", self.name),
            accept: manifest::ACCEPTED.join(", "),
            range: None,
            method: Method::GET,
        };
        self.anywhere(|place| {
            let response = place.get(&self.http, &asked)?;
            match response.status().as_u16() {
                200 => {}
                404 => {
                    let name = format!("{}{joint}{selector}", self.name);
                    return Err(RegistryError::ManifestUnknown {
                        name,
                        host: place.host().into(),
                    });
                }
                _ => return Err(place.refusal(&asked, response)),
            }
            let bytes = read_limited(response, place.host())?;
            let digest = Digest::of(&bytes);
            if let Some(expected) = expected
                && *expected != digest
            {
                let reason = format!("its digest is {digest}");
                return Err(RegistryError::Content {
                    host: place.host().into(),
                    what: asked.what.clone(),
                    reason,
                });
            }
            Ok(Served { bytes, digest })
        })
    }

    /// Asks the place that served last, then the others, each with patience.
    fn anywhere<T>(
        &self,
        mut ask: impl FnMut(&Reached) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let start = self.current.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for (number, place) in self.places.iter().enumerate().skip(start) {
            match with_patience(|| ask(place)) {
                Ok(answer) => {
                    self.current.store(number, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failure) => failures.push(failure),
            }
        }
        match failures.pop() {
            Some(only) if failures.is_empty() => Err(only),
            Some(last) => {
                failures.push(last);
                Err(RegistryError::Everywhere(failures))
            }
            None => Err(RegistryError::Settings(format!(
                "no registry serves {}",
                self.name
            ))),
        }
    }
}

/// Repeats what failed for a passing reason, with growing pauses.
fn with_patience<T>(mut ask: impl FnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
    let mut pause = FIRST_PAUSE;
    let mut left = RETRIES;
    loop {
        match ask() {
            Err(failure) if failure.is_transient() && left > 0 => {
                tracing::debug!(%failure, left, "repeating a request");
                std::thread::sleep(failure.retry_after().unwrap_or(pause).min(LONGEST_PAUSE));
                pause *= 2;
                left -= 1;
            }
            answer => return answer,
        }
    }
}

/// Reads a document of at most [`MAX_MANIFEST`] bytes, whatever the server claims.
fn read_limited(response: Response<Watched>, host: &str) -> Result<Vec<u8>, RegistryError> {
    let too_large = |size| ManifestError::TooLarge {
        what: "manifest",
        size,
        limit: MAX_MANIFEST,
    };
    let body = response.into_body();
    if let Some(size) = body.content_length().filter(|size| *size > MAX_MANIFEST) {
        return Err(too_large(size).into());
    }
    let mut bytes = Vec::new();
    let read = body.take(MAX_MANIFEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| error::unreachable(host, None, &ureq::Error::Io(error)))?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(too_large(bytes.len() as u64).into());
    }
    Ok(bytes)
}

/// Whether `host` is this machine for certain: then plain HTTP is as good as TLS, as Docker has it.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
