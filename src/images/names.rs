//! Which images are there, and what are they called? One file, `references.json`, so that a list of a thousand images
//! opens one file; replaced as a whole under its lock.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;

use fuse_overlay::index::DiffId;
use serde::{Deserialize, Serialize};

use super::Error;
use super::reference::Reference;
use super::remove::Use;
use crate::store::{
    self,
    write::{Durability, replace},
};
use crate::store::{ChainId, Digest, Lock, Mode, Store};

/// What is known of an image without opening its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id: the config's digest.
    pub id: Digest,
    /// The manifest it came with last.
    pub manifest: Digest,
    /// Its layers' diff ids, lowest first.
    pub layers: Vec<Digest>,
    /// Bytes of its layers' tars.
    pub size: u64,
    /// When it was made, in seconds since 1970, if the config says.
    pub created: Option<i64>,
    /// Names with a tag, in full: `docker.io/library/debian:12`. A name belongs to one record only.
    pub names: BTreeSet<String>,
    /// Names with a digest, in full: `docker.io/library/debian@sha256:…`, of a manifest or of an image index.
    pub digests: BTreeSet<String>,
}

/// A name as a user typed it.
///
/// # Errors
/// It is none.
pub fn typed(text: &str) -> Result<Reference, Error> {
    Reference::parse(text).map_err(|source| Error::Name {
        text: text.into(),
        source,
    })
}

impl Record {
    /// Its layers, lowest first.
    pub fn layers(&self) -> Vec<DiffId> {
        self.layers.iter().map(|&layer| layer.into()).collect()
    }

    /// The name of its stack of layers.
    pub fn chain(&self) -> ChainId {
        ChainId::of(&self.layers())
    }

    /// No name with a tag points here.
    pub fn is_dangling(&self) -> bool {
        self.names.is_empty()
    }
}

/// The content of `references.json`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct References {
    images: Vec<Record>,
}

impl References {
    /// Reads the file; without one there are no images.
    pub fn load(store: &Store) -> Result<References, Error> {
        let path = store.references();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::References { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(References::default()),
            Err(error) => Err(store::Error::io("read", &path)(error).into()),
        }
    }

    /// All images, the last added first.
    pub fn images(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.images.iter().rev()
    }

    /// The image of this id.
    pub fn by_id(&self, id: &Digest) -> Option<&Record> {
        self.images.iter().find(|image| image.id == *id)
    }

    /// Finds by name (docker.io, library/ and :latest added as Docker does), name@digest, id, or beginning of an id.
    /// A name wins over the beginning of an id.
    pub fn find(&self, text: &str) -> Result<Option<&Record>, Error> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(id) = format!("sha256:{digits}").parse() {
            return Ok(self.by_id(&id));
        }
        let is_prefix = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match Reference::parse(text) {
            Ok(name) => {
                let found = self.by_name(&name.or_latest());
                if found.is_some() || !is_prefix {
                    return Ok(found);
                }
            }
            Err(source) if !is_prefix => {
                return Err(Error::Name {
                    text: text.into(),
                    source,
                });
            }
            Err(_) => {}
        }
        let mut starting = self
            .images
            .iter()
            .filter(|image| image.id.hex().starts_with(digits));
        match (starting.next(), starting.next()) {
            (Some(_), Some(_)) => Err(Error::Ambiguous(text.into())),
            (found, _) => Ok(found),
        }
    }

    /// The image that a full name points to. With a digest, the digest decides; a tag beside it is passed over.
    pub fn by_name(&self, name: &Reference) -> Option<&Record> {
        match name.digest() {
            Some(&digest) => {
                let wanted = name.at_digest(digest).to_string();
                self.images.iter().find(|image| image.digests.contains(&wanted))
            }
            None => {
                let wanted = name.to_string();
                self.images.iter().find(|image| image.names.contains(&wanted))
            }
        }
    }
}

/// The references, locked for a change. What is not [`Change::save`]d is as if it had not been.
#[derive(Debug)]
pub struct Change<'a> {
    store: &'a Store,
    references: References,
    _lock: Lock,
}

impl<'a> Change<'a> {
    /// Waits for the lock and reads the file. While it is held, no image arrives and none is removed.
    pub fn begin(store: &'a Store) -> Result<Change<'a>, Error> {
        let lock = store.lock("references", Mode::Exclusive)?;
        Ok(Change {
            store,
            references: References::load(store)?,
            _lock: lock,
        })
    }

    /// Takes images off the list and saves, but puts those back that a container was made from meanwhile. Gives the ones
    /// that are off.
    ///
    /// A start takes no lock of the images' store: it writes its container's record and then looks whether the image is
    /// still listed. A removal writes the list and then, here, reads the records. So one of the two sees the other.
    pub(super) fn take_off(
        &mut self,
        images: Vec<Record>,
        uses: &dyn Fn() -> Result<Vec<Use>, Error>,
    ) -> Result<Vec<Record>, Error> {
        if images.is_empty() {
            return Ok(images);
        }
        images.iter().for_each(|image| self.forget(&image.id));
        self.save()?;
        let uses = uses();
        let is_used = |image: &Record| match &uses {
            Ok(uses) => uses.iter().any(|used| used.image == image.id),
            Err(_) => true,
        };
        let (back, gone): (Vec<_>, Vec<_>) = images.into_iter().partition(is_used);
        if !back.is_empty() {
            back.into_iter().for_each(|image| self.put(image));
            self.save()?;
        }
        uses?;
        Ok(gone)
    }

    /// As they stand now, changes included.
    pub fn references(&self) -> &References {
        &self.references
    }

    /// Adds an image, or joins its names and digests to those of the record with its id.
    pub fn put(&mut self, new: Record) {
        let images = &mut self.references.images;
        for image in images.iter_mut() {
            image.names.retain(|name| !new.names.contains(name));
        }
        match images.iter_mut().find(|image| image.id == new.id) {
            Some(image) => {
                image.manifest = new.manifest;
                image.size = new.size;
                image.names.extend(new.names);
                image.digests.extend(new.digests);
            }
            None => images.push(new),
        }
    }

    /// Points a name with a tag to an image, away from whatever it pointed to.
    pub fn tag(&mut self, id: &Digest, name: &Reference) {
        let name = name.to_string();
        for image in &mut self.references.images {
            image.names.remove(&name);
            if image.id == *id {
                image.names.insert(name.clone());
            }
        }
    }

    /// Takes one name, with a tag or a digest, from whatever image has it.
    pub fn untag(&mut self, name: &str) {
        for image in &mut self.references.images {
            image.names.remove(name);
            image.digests.remove(name);
        }
    }

    /// Takes an image with all its names off the list.
    pub fn forget(&mut self, id: &Digest) {
        self.references.images.retain(|image| image.id != *id);
    }

    /// Takes all off the list, and saves.
    ///
    /// # Errors
    /// As [`Change::save`].
    pub fn forget_all(mut self) -> Result<(), Error> {
        // Nor is there room to write in, in what a killed reset left.
        if self.references.images.is_empty() {
            return Ok(());
        }
        self.references.images.clear();
        self.save()
    }

    /// Writes the file; from here on the change is the truth, also after a power cut. The lock stays held.
    pub fn save(&self) -> Result<(), Error> {
        let path = self.store.references();
        let text = serde_json::to_vec(&self.references).map_err(|source| Error::References {
            path: path.clone(),
            source,
        })?;
        Ok(replace(&self.store.tmp(), &path, &text, Durability::Durable)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;

    fn record(id: u8, names: &[&str]) -> Record {
        Record {
            id: Digest([id; 32]),
            manifest: Digest([id; 32]),
            layers: vec![Digest([1; 32])],
            size: 1,
            created: Some(0),
            names: names.iter().map(|name| name.to_string()).collect(),
            digests: BTreeSet::new(),
        }
    }

    fn saved(records: &[Record]) -> (tempfile::TempDir, Store) {
        let (dir, store) = scratch();
        let mut change = Change::begin(&store).unwrap();
        records.iter().cloned().for_each(|record| change.put(record));
        change.save().unwrap();
        drop(change);
        (dir, store)
    }

    #[test]
    fn images_are_found_by_name_id_and_beginning() {
        let mut pulled = record(0xab, &["docker.io/library/debian:12"]);
        let digest = format!("docker.io/library/debian@{}", Digest([7; 32]));
        pulled.digests.insert(digest.clone());
        let (_dir, store) = saved(&[pulled, record(0xac, &["quay.io/a/b:latest"])]);
        let references = References::load(&store).unwrap();
        let first = |text: &str| references.find(text).unwrap().map(|found| found.id.0[0]);
        assert_eq!(first("debian:12"), Some(0xab));
        assert_eq!(first("docker.io/library/debian:12"), Some(0xab));
        assert_eq!(first("debian"), None);
        assert_eq!(first("quay.io/a/b"), Some(0xac));
        assert_eq!(first(&digest), Some(0xab));
        assert_eq!(first(&"ab".repeat(32)), Some(0xab));
        assert_eq!(first(&format!("sha256:{}", "ac".repeat(32))), Some(0xac));
        assert_eq!(first("ac"), Some(0xac));
        assert_eq!(first("sha256:aba"), Some(0xab));
        assert_eq!(first("b"), None);
        assert!(matches!(references.find("a"), Err(Error::Ambiguous(_))));
        assert!(matches!(references.find("Debian"), Err(Error::Name { .. })));
        assert!(matches!(
            references.find("debian@sha256:12"),
            Err(Error::Name { .. })
        ));
    }

    #[test]
    fn a_name_wins_over_the_beginning_of_an_id() {
        let (_dir, store) = saved(&[record(0xab, &[]), record(1, &["docker.io/library/abab:latest"])]);
        assert_eq!(
            References::load(&store)
                .unwrap()
                .find("abab")
                .unwrap()
                .unwrap()
                .id,
            Digest([1; 32])
        );
    }

    #[test]
    fn a_name_moves_and_leaves_its_old_image_dangling() {
        let (_dir, store) = saved(&[record(1, &["docker.io/library/a:latest"])]);
        let mut change = Change::begin(&store).unwrap();
        change.put(record(2, &["docker.io/library/a:latest"]));
        assert!(change.references().by_id(&Digest([1; 32])).unwrap().is_dangling());
        change.tag(&Digest([1; 32]), &Reference::parse("a:latest").unwrap());
        assert!(change.references().by_id(&Digest([2; 32])).unwrap().is_dangling());
        change.save().unwrap();
        let after = References::load(&store).unwrap();
        assert_eq!(after, change.references().clone());
    }

    #[test]
    fn the_same_image_again_keeps_its_names() {
        let (_dir, store) = saved(&[
            record(1, &["docker.io/library/a:1"]),
            record(1, &["docker.io/library/a:2"]),
        ]);
        let references = References::load(&store).unwrap();
        assert_eq!(references.images().count(), 1);
        assert_eq!(references.by_id(&Digest([1; 32])).unwrap().names.len(), 2);
    }

    #[test]
    fn changes_by_many_at_once_are_all_there() {
        let (_dir, store) = scratch();
        std::thread::scope(|scope| {
            for id in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    let mut change = Change::begin(store).unwrap();
                    change.put(record(id, &[]));
                    change.save().unwrap();
                });
            }
        });
        assert_eq!(References::load(&store).unwrap().images().count(), 8);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_store() {
        let (_dir, store) = scratch();
        fs::write(store.references(), "{\"images\":[{").unwrap();
        assert!(matches!(References::load(&store), Err(Error::References { .. })));
    }
}
