//! What did a URL hold when a build fetched it last? If the server says that it is still the same, it need not be sent again.
//!
//! Below `$BRYO_STATE/urls`, by the sha256 of the URL, which may have secrets in it: `<hex>`, the file, and `<hex>.json`, a
//! [`Note`] on it, written after it. Neither is believed that is not whole, or not the other's. Nobody writes to a file
//! that lies there: a build has it under a name of its own (a hard link), so a prune takes nothing from it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::workspace::{io_error, remove_tree};

use crate::images::registry::Version;
use crate::store::root;
use crate::store::seal::{sealed, unsealed};
use crate::store::write::{self, replace};
use crate::store::{Digest, Digesting, Durability, Store};

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    format: u32,
    /// The digest of the URL: a note under another's name is not believed.
    url: Digest,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// When it was changed, as the server said.
    pub(super) modified: Option<i64>,
    pub(super) version: Version,
}

const FORMAT: u32 = 1;

impl Note {
    pub(super) fn new(
        url: &str,
        (digest, size): (Digest, u64),
        modified: Option<i64>,
        version: Version,
    ) -> Note {
        let (format, url) = (FORMAT, Digest::of(url.as_bytes()));
        Note {
            format,
            url,
            digest,
            size,
            modified,
            version,
        }
    }
}

/// Where builds keep files by URL.
pub(super) fn directory(store: &Store) -> PathBuf {
    store.state().join("urls")
}

/// The files that are kept.
pub(super) fn files(store: &Store) -> Result<Vec<PathBuf>, Error> {
    let entries = root::list(&directory(store))?
        .into_iter()
        .map(|entry| entry.path());
    let is_file = |path: &PathBuf| path.extension().is_none() && path.is_file();
    Ok(entries.filter(is_file).collect())
}

/// Removes a file that is kept, and the note on it. Gives the bytes that this frees.
pub(super) fn remove(file: &Path) -> Result<u64, Error> {
    Ok(write::remove(&file.with_extension("json"))? + write::remove(file)?)
}

/// Removes what killed builds left: directories aside, and notes on nothing.
pub(super) fn remove_orphans(store: &Store) -> Result<(), Error> {
    for entry in root::list(&directory(store))? {
        let path = entry.path();
        if path.is_dir() {
            match remove_tree(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        } else if path.extension().is_some() && !path.with_extension("").exists() {
            write::remove(&path)?;
        }
    }
    Ok(())
}

/// Gives the file that was kept of a URL the name `to`, if it is whole.
pub(super) fn find(store: &Store, url: &str, to: &Path) -> Option<Note> {
    let url = Digest::of(url.as_bytes());
    let place = directory(store).join(url.hex());
    let bytes = fs::read(place.with_extension("json")).ok()?;
    let note: Note = serde_json::from_slice(unsealed(&bytes)?).ok()?;
    if note.format != FORMAT || note.url != url {
        return None;
    }
    fs::hard_link(&place, to).ok()?;
    let found = File::open(to).and_then(|mut file| {
        let mut digesting = Digesting::new(io::sink());
        io::copy(&mut file, &mut digesting)?;
        Ok(digesting.finish())
    });
    match found {
        Ok(found) if found == (note.digest, note.size) => Some(note),
        _ => {
            // In the way of what is fetched now.
            let _ = fs::remove_file(to);
            None
        }
    }
}

/// Keeps a file that was fetched, and that nobody writes to any more. Failing, it costs the next build a fetch.
pub(super) fn keep(store: &Store, fetched: &Path, note: &Note) {
    let above = directory(store);
    let place = above.join(note.url.hex());
    let kept = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&above)?;
        let aside = tempfile::Builder::new().prefix(".").tempdir_in(&above)?;
        let linked = aside.path().join("file");
        fs::hard_link(fetched, &linked)?;
        fs::rename(&linked, &place)?;
        let note = sealed(&serde_json::to_vec(note)?);
        let done = replace(&above, &place.with_extension("json"), &note, Durability::Volatile);
        done.map_err(io::Error::other)
    };
    if let Err(error) = kept() {
        tracing::warn!(path = %place.display(), %error, "a file by URL is not kept for the next build");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;

    const URL: &str = "http://host/file?token=secret";

    fn kept(store: &Store, dir: &Path) -> Note {
        let version = serde_json::json!({"at": Digest::of(b"at"), "etag": "\"1\"", "modified": null});
        let version = serde_json::from_value(version).unwrap();
        let note = Note::new(URL, (Digest::of(b"content"), 7), Some(5), version);
        fs::write(dir.join("fetched"), b"content").unwrap();
        keep(store, &dir.join("fetched"), &note);
        note
    }

    #[test]
    fn what_was_fetched_is_found_again() {
        let (dir, store) = scratch();
        let to = dir.path().join("to");
        assert_eq!(find(&store, URL, &to), None);
        let note = kept(&store, dir.path());
        assert_eq!(find(&store, URL, &to), Some(note.clone()));
        assert_eq!(fs::read(&to).unwrap(), b"content");
        assert_eq!(find(&store, "http://host/other", &to), None);
        // Again, over what is there.
        fs::remove_file(dir.path().join("fetched")).unwrap();
        assert_eq!(kept(&store, dir.path()), note);
        let left = fs::read_dir(directory(&store)).unwrap().count();
        assert_eq!(left, 2, "nothing lies about");
    }

    #[test]
    fn what_is_not_whole_is_not_believed() {
        let (dir, store) = scratch();
        let to = dir.path().join("to");
        let place = directory(&store).join(Digest::of(URL.as_bytes()).hex());
        let damages: [&dyn Fn(); 5] = [
            &|| fs::write(&place, b"Content").unwrap(),
            &|| fs::write(&place, b"conten").unwrap(),
            &|| fs::remove_file(&place).unwrap(),
            &|| fs::remove_file(place.with_extension("json")).unwrap(),
            &|| fs::write(place.with_extension("json"), b"").unwrap(),
        ];
        for (number, damage) in damages.iter().enumerate() {
            let _ = fs::remove_file(dir.path().join("fetched"));
            kept(&store, dir.path());
            damage();
            assert_eq!(find(&store, URL, &to), None, "{number}");
            assert!(!to.exists(), "{number}");
        }
        // One that is another URL's.
        let _ = fs::remove_file(dir.path().join("fetched"));
        kept(&store, dir.path());
        let other = directory(&store).join(Digest::of(b"http://other").hex());
        fs::rename(&place, &other).unwrap();
        fs::rename(place.with_extension("json"), other.with_extension("json")).unwrap();
        assert_eq!(find(&store, "http://other", &to), None);
    }
}
