//! How does a directory in OCI's layout list what it holds? By `index.json` (OCI image spec, image-layout.md). Saved images
//! and caches of builds may lie in one directory, and other tools put theirs there: what is not replaced is kept. It
//! changes under a lock beside it, `index.json.lock`, as BuildKit does it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::archive::layouts::{FULL_NAME, REF_NAME};
use super::manifest::{Descriptor, MAX_MANIFEST};
use crate::store::{Given, Lock, Mode, Store};

/// The document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<Descriptor>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

impl Index {
    /// One that lists nothing.
    pub(super) fn empty() -> Index {
        Index {
            schema_version: 2,
            media_type: Some("application/vnd.oci.image.index.v1+json".into()),
            manifests: Vec::new(),
            others: serde_json::Map::new(),
        }
    }

    /// Lists manifests, in place of those that had their names. What has a full name, too, loses its tag alone.
    pub(super) fn list(&mut self, entries: Vec<Descriptor>) {
        let of_tag = |new: &Descriptor| match new.annotations.contains_key(FULL_NAME) {
            true => None,
            false => new.annotations.get(REF_NAME).cloned(),
        };
        let tags: Vec<String> = entries.iter().filter_map(of_tag).collect();
        self.manifests.retain_mut(|known| {
            let is_replaced = entries.iter().any(|new| replaces(new, known));
            known
                .annotations
                .retain(|key, tag| key != REF_NAME || !tags.contains(tag));
            !is_replaced
        });
        self.manifests.extend(entries);
    }

    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::from)
    }
}

/// Lists manifests in a directory's index, which is made if it is missing.
///
/// # Errors
/// The index cannot be read or written, or is none; then it is as it was.
pub(super) fn list_in(store: &Store, directory: &Path, entries: Vec<Descriptor>) -> io::Result<()> {
    let lock = Lock::acquire(&directory.join("index.json.lock"), Mode::Exclusive);
    let _alone = lock.map_err(io::Error::other)?;
    let path = directory.join("index.json");
    let mut index = match File::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_MANIFEST).read_to_end(&mut bytes)?;
            let wrong = |error| io::Error::other(format!("it is no index of a layout: {error}"));
            serde_json::from_slice(&bytes).map_err(wrong)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Index::empty(),
        Err(error) => return Err(error),
    };
    index.list(entries);
    let given = Given::create(store, &path)?;
    given.file().write_all(&index.bytes()?)?;
    given.commit()
}

/// Takes an entry the place of one that is there? A name means one image, and an image without one is there once.
fn replaces(new: &Descriptor, known: &Descriptor) -> bool {
    let of = |entry: &Descriptor, key| entry.annotations.get(key).cloned();
    match (of(new, FULL_NAME), of(known, FULL_NAME)) {
        (Some(name), Some(known)) => name == known,
        // As skopeo, podman and BuildKit name what they put there.
        _ => match of(new, REF_NAME) {
            Some(tag) => of(known, FULL_NAME).is_none() && of(known, REF_NAME) == Some(tag),
            None => of(known, REF_NAME).is_none() && new.digest == known.digest,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::{Digest, scratch};

    fn entry(content: &str, names: &[(&str, &str)]) -> Descriptor {
        let names = names.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        Descriptor {
            annotations: names.collect(),
            ..Descriptor::new("a/b", Digest::of(content.as_bytes()), 1)
        }
    }

    #[test]
    fn a_name_means_one_manifest() {
        let full = |name, tag| [(FULL_NAME, name), (REF_NAME, tag)];
        let mut index = Index::empty();
        index.list(vec![
            entry("one", &full("a:1", "1")),
            entry("two", &full("b:1", "1")),
            entry("three", &[(REF_NAME, "cache")]),
            entry("four", &[]),
        ]);
        index.list(vec![
            entry("five", &full("a:1", "1")),
            entry("six", &[(REF_NAME, "cache")]),
            entry("four", &[]),
        ]);
        let listed: Vec<_> = index.manifests.iter().map(|entry| entry.digest).collect();
        let digests = |all: &[&str]| {
            all.iter()
                .map(|content| Digest::of(content.as_bytes()))
                .collect::<Vec<_>>()
        };
        assert_eq!(listed, digests(&["two", "five", "six", "four"]));
        // A tag alone is taken from whoever has it, a name in full from nobody; who has none takes no place.
        index.list(vec![entry("seven", &[(REF_NAME, "1")]), entry("six", &[])]);
        let listed: Vec<_> = index.manifests.iter().map(|entry| entry.digest).collect();
        assert_eq!(listed, digests(&["two", "five", "six", "four", "seven", "six"]));
        let tags = index.manifests.iter().map(|entry| entry.annotations.len());
        assert_eq!(tags.collect::<Vec<_>>(), [1, 1, 1, 0, 1, 0]);
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (directory, (_dir, store)) = (directory.path(), scratch());
        let store = &store;
        std::thread::scope(|scope| {
            for number in 0..20 {
                scope.spawn(move || {
                    let tag = number.to_string();
                    list_in(store, directory, vec![entry(&tag, &[(REF_NAME, &tag)])]).unwrap();
                });
            }
        });
        let index: Index =
            serde_json::from_slice(&std::fs::read(directory.join("index.json")).unwrap()).unwrap();
        assert_eq!(index.manifests.len(), 20);
    }
}
