//! How is a cache written into a directory? As an OCI image layout (image-layout.md), to which other tags may be added.
//! Files get their names when they are whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fuse_overlay::index::DiffId;

use super::export::ExportError;
use crate::images::archive::layouts::{MARK, REF_NAME, blob};
use crate::images::forms;
use crate::images::manifest::Descriptor;
use crate::images::oci_index::list_in;
use crate::images::packed::{Family, pack};
use crate::images::packing::Packing;
use crate::images::push::{Progress, Sent};
use crate::store::{Digest, Digesting, Given, Store};

/// A directory that takes blobs.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    store: &'a Store,
    path: PathBuf,
}

impl<'a> Layout<'a> {
    /// Makes what is missing.
    pub(super) fn open(store: &'a Store, path: &Path) -> Result<Layout<'a>, ExportError> {
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(write(&blobs))?;
        let layout = Layout {
            store,
            path: path.into(),
        };
        layout.replace("oci-layout", MARK)?;
        Ok(layout)
    }

    /// A layer in the form that is there, else compressed.
    pub(super) fn layer(&self, layer: &DiffId, progress: &dyn Progress) -> Result<Descriptor, ExportError> {
        for (digest, form) in forms::read(self.store, layer)? {
            if let Some(media_type) = Family::Oci.renamed(&form.media_type)
                && self.has(&digest)
            {
                progress.layer(layer, &Sent::Exists);
                return Ok(Descriptor::new(media_type, digest, form.size));
            }
        }
        let (aside, made) = pack(self.store, layer, Family::Oci, Packing::default())?;
        let open = || File::open(aside.path());
        let mut from = open().map_err(write(aside.path()))?;
        self.place(&self.blob_path(&made.digest), |to| {
            io::copy(&mut from, to).map(drop)
        })?;
        // The next export finds the form here.
        let shown = self.path.display().to_string();
        forms::note(self.store, layer, &made, &shown)?;
        progress.layer(layer, &Sent::Pushed);
        Ok(made)
    }

    /// A small one.
    pub(super) fn blob(&self, bytes: &[u8]) -> Result<Digest, ExportError> {
        let digest = Digest::of(bytes);
        self.place(&self.blob_path(&digest), |to| to.write_all(bytes))?;
        Ok(digest)
    }

    /// Lists a manifest under a tag, in place of what the tag was before.
    pub(super) fn list(&self, tag: &str, manifest: &Descriptor) -> Result<(), ExportError> {
        let entry = Descriptor {
            annotations: [(REF_NAME.into(), tag.into())].into(),
            ..manifest.clone()
        };
        list_in(self.store, &self.path, vec![entry]).map_err(write(&self.path.join("index.json")))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(blob(digest))
    }

    /// Is a blob there, whole? One that is damaged is written again.
    fn has(&self, digest: &Digest) -> bool {
        let mut hash = Digesting::new(io::sink());
        let read = File::open(self.blob_path(digest)).and_then(|mut file| io::copy(&mut file, &mut hash));
        read.is_ok() && hash.finish().0 == *digest
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.place(&self.path.join(name), |to| to.write_all(bytes))
    }

    fn place(&self, path: &Path, fill: impl FnOnce(&mut &File) -> io::Result<()>) -> Result<(), ExportError> {
        let placed = || {
            let given = Given::create(self.store, path)?;
            fill(&mut given.file())?;
            given.commit()
        };
        placed().map_err(write(path))
    }
}

fn write(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Write { path, source }
}
