//! What does a text name that is no path? A git repository, or a file by URL. ADD and the build's contexts ask alike.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::archive::begins_archive;
use super::dockerfile::MAX_TEXT;
use super::git::{Access, Address, AddressError, NamedBy};
use super::source::Context;
use super::workspace::{Workspace, io_error};
use super::{Error, Material, Progress, Secret};
use crate::images::registry::{Answer, download};
use crate::store::{Digesting, Store};

/// Something that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A git repository.
    Repository(Address),
    /// A file by URL.
    File(String),
}

/// A build context that was fetched.
#[derive(Debug)]
pub enum Fetched {
    /// A repository, or an archive; and what it was.
    Files(Box<Context>, Material),
    /// A file that is no archive: a Dockerfile.
    Text(Vec<u8>, Material),
}

/// Bytes by which an archive is told from a text.
const HEAD: u64 = 512;

impl Remote {
    /// Reads a source of ADD; `None` if it is a path.
    ///
    /// # Errors
    /// It is an address of a repository, and wrong.
    pub fn parse(text: &str) -> Result<Option<Remote>, AddressError> {
        Ok(Address::parse(text)?
            .map(Remote::Repository)
            .or_else(|| file(text)))
    }

    /// Reads what was given as a build context.
    ///
    /// # Errors
    /// It is an address of a repository, and wrong.
    pub fn of_context(text: &str) -> Result<Option<Remote>, AddressError> {
        let address = Address::of_context(text)?;
        Ok(address.map(Remote::Repository).or_else(|| file(text)))
    }

    /// A repository comes with its `.git`.
    pub fn keep_git_dir(&mut self) {
        if let Remote::Repository(address) = self {
            address.keep_git_dir(Some(true));
        }
    }

    /// Fetches a build context that the user named: with the user's logins, but those of the build for its submodules.
    ///
    /// # Errors
    /// It is not there, or does not come whole.
    pub fn fetch(
        &self,
        store: &Store,
        secrets: &[Secret],
        agent: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Fetched, Error> {
        let fetched = match self {
            Remote::Repository(address) => {
                progress.begins(&format!("[internal] load git source {address}"));
                let access = Access {
                    named_by: NamedBy::User,
                    secrets,
                    agent,
                };
                let commit = address.resolve(store, access)?;
                progress.output(format!("{commit}\n").as_bytes());
                let material = Material::repository(&address.to_string(), &commit.id);
                Fetched::Files(Box::new(address.check_out(store, access, &commit)?), material)
            }
            Remote::File(url) => {
                progress.begins("[internal] load remote build context");
                context(store, url, progress)?
            }
        };
        progress.done();
        Ok(fetched)
    }
}

/// A source of ADD as others may see it: without the login in its address. The user of ssh is a part of the place.
pub(super) fn without_login(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.into();
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((login, host)) = authority.rsplit_once('@') else {
        return text.into();
    };
    match scheme.eq_ignore_ascii_case("ssh") {
        true => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{path}")
        }
        false => format!("{scheme}://{host}{path}"),
    }
}

fn file(text: &str) -> Option<Remote> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    is_url.then(|| Remote::File(text.into()))
}

/// An archive, or a text.
fn context(store: &Store, url: &str, progress: &dyn Progress) -> Result<Fetched, Error> {
    let workspace = Workspace::new(store)?;
    let place = workspace.path().join("context");
    let mut to = Digesting::new(File::create(&place).map_err(io_error("make", &place))?);
    if let Answer::Fetched(got) = download(url, None, &mut to)? {
        progress.output(format!("{} bytes\n", got.size).as_bytes());
    }
    let material = Material::file(url, &to.finish().0);
    let open = || File::open(&place);
    let read = |most: u64| {
        let mut bytes = Vec::new();
        open()?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let head = read(HEAD).map_err(io_error("read", &place))?;
    if begins_archive(&head) {
        let tar = open().map_err(io_error("read", &place))?;
        let name = "the context by URL";
        let context = Context::unpack(store, Box::new(tar), name)?;
        return Ok(Fetched::Files(Box::new(context), material));
    }
    // One byte more, so that whoever reads it sees that it is too much.
    let text = read(MAX_TEXT as u64 + 1).map_err(io_error("read", &place))?;
    Ok(Fetched::Text(text, material))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_not_shown() {
        for (text, shown) in [
            ("https://token@host/r.git#main:d", "https://host/r.git#main:d"),
            ("http://me:p@ss@host:80/f?a=b@c", "http://host:80/f?a=b@c"),
            ("HTTPS://me:pw@host", "HTTPS://host"),
            ("https://me:pw@host#x/y", "https://host#x/y"),
            ("git://me@host/r", "git://host/r"),
            ("ssh://me:pw@host/r", "ssh://me@host/r"),
            ("ssh://me@host/r", "ssh://me@host/r"),
            ("git@host:r", "git@host:r"),
            ("https://host/a@b", "https://host/a@b"),
            ("a/b@c", "a/b@c"),
        ] {
            assert_eq!(without_login(text), shown);
        }
    }
}
