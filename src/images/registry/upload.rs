//! How does something come into a repository? The OCI distribution spec, "Pushing": a blob that is not there yet in one
//! PUT, then the manifest. Only the repository's own registry is asked, never a mirror.

use std::io::Read;

use ureq::http::{Method, Uri};

use super::place::{Asked, Reached};
use super::{RegistryError, Repository, with_patience};
use crate::store::Digest;

/// Does a repository have a blob?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It does.
    Yes,
    /// It took it from another of the registry's repositories.
    Mounted,
    /// It does not.
    No,
}

impl Repository {
    /// The repository's own registry: mirrors come before it, and take no pushes.
    fn own(&self) -> Result<&Reached, RegistryError> {
        let missing = || RegistryError::Settings(format!("no registry serves {}", self.name));
        self.places.last().ok_or_else(missing)
    }

    /// Host and port of the repository's own registry.
    ///
    /// # Errors
    /// The settings name none.
    pub fn host(&self) -> Result<&str, RegistryError> {
        Ok(self.own()?.host())
    }

    /// Asks whether a blob is there.
    ///
    /// # Errors
    /// The registry refuses or cannot be reached.
    pub fn has_blob(&self, digest: &Digest) -> Result<Held, RegistryError> {
        let place = self.own()?;
        let asked = asked(Method::HEAD, format!("blobs/{digest}"), format!("blob {digest}"));
        let response = with_patience(|| place.get(&self.http, &asked))?;
        match response.status().as_u16() {
            200 => Ok(Held::Yes),
            404 => Ok(Held::No),
            _ => Err(place.refusal(&asked, response)),
        }
    }

    /// Asks to take a blob from another repository of the same registry.
    ///
    /// # Errors
    /// As [`Repository::has_blob`].
    pub fn mount_blob(&self, digest: &Digest, from: &str) -> Result<Held, RegistryError> {
        let place = self.own()?;
        let path = format!("blobs/uploads/?mount={digest}&from={from}");
        let asked = asked(Method::POST, path, format!("blob {digest}"));
        match with_patience(|| place.get(&self.http, &asked)) {
            Ok(response) if response.status() == 201 => Ok(Held::Mounted),
            // It has begun an upload instead, which it will forget; or nothing may be read there. Then it is sent.
            Ok(response) if response.status().as_u16() < 500 => Ok(Held::No),
            Err(RegistryError::Denied { .. }) => Ok(Held::No),
            Ok(response) => Err(place.refusal(&asked, response)),
            Err(error) => Err(error),
        }
    }

    /// Sends a blob of `length` bytes. `open` gives them from their first, once for each try.
    ///
    /// # Errors
    /// As [`Repository::has_blob`]; or the blob cannot be read.
    pub fn send_blob(
        &self,
        digest: &Digest,
        length: u64,
        open: &dyn Fn() -> std::io::Result<Box<dyn Read>>,
    ) -> Result<(), RegistryError> {
        let place = self.own()?;
        let begin = asked(
            Method::POST,
            "blobs/uploads/".into(),
            format!("an upload of blob {digest}"),
        );
        with_patience(|| {
            let response = place.get(&self.http, &begin)?;
            if response.status().as_u16() != 202 {
                return Err(place.refusal(&begin, response));
            }
            let to = with_digest(&place.location(&response)?, digest)?;
            let unread = |error: std::io::Error| {
                RegistryError::Settings(format!("blob {digest} cannot be read: {error}"))
            };
            let mut body = || open().map_err(unread);
            let response = place.put(&self.http, &to, "application/octet-stream", length, &mut body)?;
            match response.status().as_u16() {
                201 | 204 => Ok(()),
                _ => Err(place.refusal(&begin, response)),
            }
        })
    }

    /// Sends a manifest under a tag or a digest.
    ///
    /// # Errors
    /// As [`Repository::has_blob`].
    pub fn send_manifest(&self, selector: &str, media_type: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let place = self.own()?;
        let path = format!("manifests/{selector}");
        let asked = asked(
            Method::PUT,
            path.clone(),
            format!("manifest {}:{selector}", self.name),
        );
        with_patience(|| {
            let mut body = || Ok(Box::new(std::io::Cursor::new(bytes.to_vec())) as Box<dyn Read>);
            let to = place.below(&path)?;
            let response = place.put(&self.http, &to, media_type, bytes.len() as u64, &mut body)?;
            match response.status().as_u16() {
                200..=202 => Ok(()),
                _ => Err(place.refusal(&asked, response)),
            }
        })
    }
}

fn asked(method: Method, path: String, what: String) -> Asked {
    Asked {
        path,
        what,
        accept: String::new(),
        range: None,
        method,
    }
}

fn with_digest(location: &Uri, digest: &Digest) -> Result<Uri, RegistryError> {
    let joint = if location.query().is_some() { '&' } else { '?' };
    let url = format!("{location}{joint}digest={digest}");
    url.parse()
        .map_err(|_| RegistryError::Settings(format!("\"{url}\" is not a URL")))
}
