//! What does ADD add that a URL names? A file, which is brought into the step's workspace each time, since what it holds
//! decides whether the step was made before; it is fetched if it is not what an earlier build has kept. As BuildKit has it, it is its owner's alone and as old as the server says.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fuse_overlay::attr::{Kind, Time};
use percent_encoding::percent_decode_str;

use super::order::Cache;
use super::source::{Entry, Links, Source};
use super::tree::Owner;
use super::urls::{self, Note};
use super::workspace::{Workspace, io_error};
use super::{Error, Material, Progress};
use crate::images::registry::{Answer, download};
use crate::store::{Digest, Digesting, Store};

/// Files that were fetched. Each has a path of its own in this source: its number, and the last name of its URL.
pub(super) struct Downloads {
    workspace: Workspace,
    files: Vec<(Vec<u8>, Entry)>,
    materials: Vec<Material>,
}

impl Downloads {
    /// Fetches all. `checksum` must be that of each.
    pub(super) fn fetch(
        store: &Store,
        urls: &[String],
        checksum: Option<&Digest>,
        cache: Cache,
        progress: &dyn Progress,
    ) -> Result<Downloads, Error> {
        let workspace = Workspace::new(store)?;
        let (mut files, mut materials) = (Vec::new(), Vec::new());
        for (number, url) in urls.iter().enumerate() {
            let place = workspace.path().join(number.to_string());
            let name = name_of(url);
            let shown = String::from_utf8_lossy(&name).into_owned();
            let got = one(store, url, checksum, cache, &place)?;
            let how = if got.again { "unchanged" } else { "fetched" };
            progress.output(format!("{} bytes of {shown} {how}\n", got.size).as_bytes());
            if checksum.is_some_and(|wanted| *wanted != got.digest) {
                let found = got.digest;
                return Err(Error::Checksum { name: shown, found });
            }
            let entry = Entry {
                kind: Kind::Regular,
                perm: 0o600,
                owner: Owner::default(),
                mtime: Time {
                    sec: got.modified.unwrap_or(0),
                    nsec: 0,
                },
                size: got.size,
                target: Vec::new(),
                id: None,
                xattrs: Vec::new(),
                linked: None,
            };
            files.push((name, entry));
            materials.push(Material::file(url, &got.digest));
        }
        Ok(Downloads {
            workspace,
            files,
            materials,
        })
    }

    /// What was fetched.
    pub(super) fn materials(&self) -> Vec<Material> {
        self.materials.clone()
    }

    /// The paths of all.
    pub(super) fn paths(&self) -> Vec<Vec<u8>> {
        let numbered = self.files.iter().enumerate();
        numbered
            .map(|(number, (name, _))| [number.to_string().as_bytes(), b"/", name].concat())
            .collect()
    }

    fn number(&self, path: &[u8]) -> Option<usize> {
        let number = path.split(|byte| *byte == b'/').next()?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    fn place(&self, path: &[u8]) -> io::Result<PathBuf> {
        let number = self.number(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.workspace.path().join(number.to_string()))
    }
}

/// A file that is there now.
struct Got {
    digest: Digest,
    size: u64,
    modified: Option<i64>,
    /// It is the one of an earlier build.
    again: bool,
}

/// Brings a file to `place`: the one of an earlier build, if it has the checksum or the server says that it is the same.
fn one(
    store: &Store,
    url: &str,
    checksum: Option<&Digest>,
    cache: Cache,
    place: &Path,
) -> Result<Got, Error> {
    let beside = place.with_extension("kept");
    let known = match cache {
        Cache::Use => urls::find(store, url, &beside),
        Cache::Ignore => None,
    };
    let same = known.as_ref().filter(|known| checksum == Some(&known.digest));
    let mut to = Digesting::new(File::create_new(place).map_err(io_error("make", place))?);
    let answer = match same {
        Some(_) => Answer::Unchanged,
        None => download(url, known.as_ref().map(|known| &known.version), &mut to)?,
    };
    let found = to.finish();
    match (answer, known) {
        (Answer::Unchanged, Some(known)) => {
            fs::rename(&beside, place).map_err(io_error("move", &beside))?;
            Ok(Got {
                digest: known.digest,
                size: known.size,
                modified: known.modified,
                again: true,
            })
        }
        (Answer::Fetched(got), _) => {
            if let Some(version) = got.version {
                urls::keep(store, place, &Note::new(url, found, got.modified, version));
            }
            let ((digest, size), modified) = (found, got.modified);
            Ok(Got {
                digest,
                size,
                modified,
                again: false,
            })
        }
        // Without a condition no server is believed that it is unchanged.
        (Answer::Unchanged, None) => Err(io_error("find", &beside)(io::ErrorKind::NotFound.into())),
    }
}

impl Source for Downloads {
    fn look(&self, path: &[u8], _: Links) -> io::Result<Option<Entry>> {
        let file = self.number(path).and_then(|number| self.files.get(number));
        Ok(file.map(|(_, entry)| entry.clone()))
    }

    fn names(&self, _: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(File::open(self.place(path)?)?))
    }

    fn real(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        Ok(path.to_vec())
    }
}

/// The last name of a URL's path; `download` if it has none that could be a file's.
fn name_of(url: &str) -> Vec<u8> {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let path = bare.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    let last = path.map_or("", |(_, path)| path.rsplit('/').next().unwrap_or_default());
    let name: Vec<u8> = percent_decode_str(last).collect();
    let is_name =
        !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0);
    if is_name { name } else { b"download".to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_last_name_of_its_url() {
        for (url, name) in [
            ("https://h/a/b.tar.gz?x=/y", "b.tar.gz"),
            ("http://h/a%20b", "a b"),
            ("http://h/", "download"),
            ("http://h", "download"),
            ("http://h/a/..", "download"),
            ("http://h/a%2Fb", "download"),
        ] {
            assert_eq!(name_of(url), name.as_bytes(), "{url}");
        }
    }
}
