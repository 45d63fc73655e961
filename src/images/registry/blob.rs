//! How is a blob read to its end over a network that breaks? From where it broke, by `Range` where the server knows
//! it, else by reading again what was read before and passing it over. Whoever reads verifies the digest.

use std::io::{self, Read};

use ureq::http::header;

use super::place::{Asked, Reached};
use super::watched::Watched;
use super::{FIRST_PAUSE, LONGEST_PAUSE, RETRIES, RegistryError, Repository};
use crate::store::Digest;

/// A connection that gave this many bytes since it was made has earned a new one when it breaks.
const PROGRESS: u64 = 1 << 20;

/// The bytes of a blob. Errors are of kind `Other` and hold a [`RegistryError`].
pub struct BlobReader<'a> {
    repository: &'a Repository,
    digest: Digest,
    size: u64,
    /// Bytes given so far.
    at: u64,
    body: Option<Watched>,
    /// Bytes of the present body that were given already.
    skip: u64,
    retries: u32,
    /// Where the present connection began.
    began: u64,
}

impl<'a> BlobReader<'a> {
    pub(super) fn new(repository: &'a Repository, digest: Digest, size: u64) -> BlobReader<'a> {
        BlobReader {
            repository,
            digest,
            size,
            at: 0,
            body: None,
            skip: 0,
            retries: RETRIES,
            began: 0,
        }
    }

    fn connect(&mut self) -> Result<(), RegistryError> {
        let asked = Asked {
            path: format!("blobs/{}", self.digest),
            what: format!("blob {}", self.digest),
            accept: String::new(),
            range: (self.at > 0).then_some(self.at),
            method: ureq::http::Method::GET,
        };
        let (body, skip) = self.repository.anywhere(|place| self.open(place, &asked))?;
        self.body = Some(body);
        self.skip = skip;
        self.began = self.at;
        Ok(())
    }

    /// A response's body, and how many bytes of it are known already.
    fn open(&self, place: &Reached, asked: &Asked) -> Result<(Watched, u64), RegistryError> {
        let response = place.get(&self.repository.http, asked)?;
        let wrong = |reason: String| RegistryError::Content {
            host: place.host().into(),
            what: asked.what.clone(),
            reason,
        };
        let (skip, expected) = match response.status().as_u16() {
            200 => (self.at, self.size),
            206 if asked.range.is_some() => {
                let range = response
                    .headers()
                    .get(header::CONTENT_RANGE)
                    .and_then(|value| value.to_str().ok());
                let first =
                    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
                if first != Some(self.at) {
                    return Err(wrong(format!(
                        "asked from byte {}, it answered with another range",
                        self.at
                    )));
                }
                (0, self.size.saturating_sub(self.at))
            }
            404 => {
                return Err(RegistryError::BlobUnknown {
                    digest: self.digest,
                    host: place.host().into(),
                });
            }
            _ => return Err(place.refusal(asked, response)),
        };
        let body = response.into_body();
        match body.content_length() {
            Some(length) if length != expected => Err(wrong(format!(
                "{length} bytes instead of the {expected} that the manifest says"
            ))),
            _ => Ok((body, skip)),
        }
    }

    fn broken(&self, error: &io::Error) -> RegistryError {
        let place = self
            .repository
            .places
            .get(self.repository.current.load(std::sync::atomic::Ordering::Relaxed));
        RegistryError::Unreachable {
            host: place.map(|place| place.host().to_owned()).unwrap_or_default(),
            proxy: None,
            reason: format!(
                "blob {} broke off after {} of {} bytes: {error}",
                self.digest, self.at, self.size
            ),
            transient: true,
        }
    }

    /// One read of the present connection.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        let Some(body) = &mut self.body else {
            return Ok(0);
        };
        if self.skip > 0 {
            let passed = pass_over(body, self.skip);
            passed.map_err(|error| self.broken(&error))?;
            self.skip = 0;
        }
        let Some(body) = &mut self.body else {
            return Ok(0);
        };
        match body.read(buffer) {
            Ok(0) => Err(self.broken(&io::Error::other("the connection was closed"))),
            Ok(count) => Ok(count),
            Err(error) => Err(self.broken(&error)),
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Never more than the manifest says: a body without a length could go on for ever.
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let mut pause = FIRST_PAUSE;
        loop {
            if self.body.is_none() {
                // Patient by itself, so what it says is final.
                self.connect().map_err(io::Error::other)?;
            }
            match self.step(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(failure) => {
                    self.body = None;
                    if self.at.saturating_sub(self.began) >= PROGRESS {
                        self.retries = RETRIES;
                    }
                    if self.retries == 0 {
                        return Err(io::Error::other(failure));
                    }
                    tracing::debug!(%failure, left = self.retries, "taking up a blob again");
                    self.retries -= 1;
                    std::thread::sleep(pause.min(LONGEST_PAUSE));
                    pause *= 2;
                }
            }
        }
    }
}

/// Reads `count` bytes and forgets them.
fn pass_over(body: &mut impl Read, count: u64) -> io::Result<()> {
    let passed = io::copy(&mut body.take(count), &mut io::sink())?;
    if passed < count {
        return Err(io::Error::other("the connection was closed"));
    }
    Ok(())
}
