//! How is an image written to a file, a stream or a directory? As `docker save` has it: config and plain tars, with a
//! `manifest.json`; or in OCI's layout: compressed layers, as a push sends them, with an `index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::archive::layouts::{FULL_NAME, MARK, REF_NAME, blob};
use super::manifest::Descriptor;
use super::oci_index::{Index, list_in};
use super::packed::{self, Family, Whole};
use super::packing::Packing;
use super::reference::Reference;
use super::{Error, Image, layers};
use crate::store::{self, Digest, Given, Store};

/// An image that is to be saved.
#[derive(Debug)]
pub struct Saved {
    /// The image. Its layers stay: it is on the list, or they are claimed.
    pub image: Image,
    /// What it is called there.
    pub names: Vec<Reference>,
    /// What it is called in OCI's layout instead, where a name need be no reference.
    pub tag: Option<String>,
    /// Those of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The form of its layers, where the archive's is OCI's.
    pub packing: Packing,
}

impl Saved {
    /// A listed image, with the annotations that it has.
    ///
    /// # Errors
    /// Its manifest is gone or damaged.
    pub fn listed(store: &Store, image: Image, names: Vec<Reference>) -> Result<Saved, Error> {
        let own = packed::own_manifest(store, &image)?;
        Ok(Saved {
            annotations: own.map(|(own, _)| own.annotations).unwrap_or_default(),
            image,
            names,
            tag: None,
            packing: Packing::default(),
        })
    }
}

/// How archives are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `docker save`.
    Docker,
    /// OCI image spec, image-layout.md.
    Oci,
}

/// Where images are written to.
pub enum To<'a> {
    /// A tar in a file, which is replaced when all is written.
    File(&'a Path),
    /// A tar on a stream, such as standard output.
    Stream(&'a mut dyn Write),
    /// A directory in OCI's layout, which keeps other images that it has.
    Directory(&'a Path),
}

/// Why images were not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file, stream or directory.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An image.
    #[error(transparent)]
    Image(#[from] Error),
}

impl SaveError {
    /// What would help, where something is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SaveError::Write { .. } => None,
            SaveError::Image(error) => error.hint(),
        }
    }
}

/// Writes images. Gives their manifests, in order, if the format has such.
///
/// # Errors
/// See [`SaveError`]. A file is as it was before; a directory has more blobs, and the same images.
pub fn save(
    store: &Store,
    images: &[Saved],
    format: Format,
    to: To<'_>,
) -> Result<Vec<Descriptor>, SaveError> {
    let format = match to {
        To::Directory(_) => Format::Oci,
        _ => format,
    };
    write(store, to, &mut |writer| match format {
        Format::Docker => writer.docker(images).map(|()| Vec::new()),
        Format::Oci => writer.oci(images),
    })
}

/// Gives something to write to a place.
pub(super) fn write<M>(
    store: &Store,
    to: To<'_>,
    fill: &mut dyn FnMut(&mut Writer<'_>) -> Result<M, SaveError>,
) -> Result<M, SaveError> {
    match to {
        To::Directory(path) => fill(&mut Writer::new(store, path, Sink::Directory(path))),
        To::Stream(out) => stream(store, fill, out, Path::new("standard output")),
        To::File(path) => {
            let failed = |source| SaveError::Write {
                path: path.into(),
                source,
            };
            let given = Given::create(store, path).map_err(failed)?;
            let made = stream(store, fill, &mut given.writer(), path)?;
            given.commit().map_err(failed)?;
            Ok(made)
        }
    }
}

fn stream<M>(
    store: &Store,
    fill: &mut dyn FnMut(&mut Writer<'_>) -> Result<M, SaveError>,
    out: &mut dyn Write,
    shown: &Path,
) -> Result<M, SaveError> {
    let mut out = io::BufWriter::with_capacity(1 << 16, out);
    let mut writer = Writer::new(store, shown, Sink::Tar(Box::new(tar::Builder::new(&mut out))));
    let made = fill(&mut writer)?;
    writer.finish()?;
    let flushed = out.flush();
    flushed.map_err(|source| SaveError::Write {
        path: shown.into(),
        source,
    })?;
    Ok(made)
}

/// Takes the files of an archive.
enum Sink<'a> {
    Tar(Box<tar::Builder<&'a mut dyn Write>>),
    Directory(&'a Path),
}

/// An archive under way.
pub(super) struct Writer<'a> {
    store: &'a Store,
    /// What messages call it.
    shown: &'a Path,
    sink: Sink<'a>,
    /// Names of the files that it has.
    written: BTreeSet<String>,
}

impl<'a> Writer<'a> {
    fn new(store: &'a Store, shown: &'a Path, sink: Sink<'a>) -> Writer<'a> {
        Writer {
            store,
            shown,
            sink,
            written: BTreeSet::new(),
        }
    }

    fn failed(&self, source: io::Error) -> SaveError {
        SaveError::Write {
            path: self.shown.into(),
            source,
        }
    }

    fn docker(&mut self, images: &[Saved]) -> Result<(), SaveError> {
        let mut list = Vec::new();
        for saved in images {
            let image = &saved.image;
            let mut of_layers = Vec::new();
            for layer in &image.layers {
                let name = format!("{layer}.tar");
                if !self.written.contains(&name) {
                    let size = layers::size(self.store, layer)?;
                    let mut tar = Whole::open(self.store, layer)?;
                    let done = self.file(&name, size, &mut tar);
                    done.map_err(|error| tar.failure(error, |error| self.failed(error)))?;
                }
                of_layers.push(name);
            }
            let config = format!("{}.json", image.id.hex());
            self.bytes(&config, &image.raw_config)?;
            // In full, as podman has them, which takes short ones for its own.
            let names: Vec<String> = saved.names.iter().map(ToString::to_string).collect();
            list.push(json!({ "Config": config, "RepoTags": names, "Layers": of_layers }));
        }
        self.bytes("manifest.json", json!(list).to_string().as_bytes())
    }

    fn oci(&mut self, images: &[Saved]) -> Result<Vec<Descriptor>, SaveError> {
        self.begin()?;
        let manifests = images.iter().map(|saved| self.image(saved));
        let manifests = manifests.collect::<Result<Vec<_>, _>>()?;
        let listed = images.iter().zip(&manifests).map(|(saved, manifest)| {
            let mut manifest = manifest.clone();
            let tag = saved.tag.iter().map(|tag| (REF_NAME.to_owned(), tag.clone()));
            manifest.annotations.extend(tag);
            (manifest, saved.names.as_slice())
        });
        self.list(listed.collect())?;
        Ok(manifests)
    }

    /// What OCI's layout begins with.
    pub(super) fn begin(&mut self) -> Result<(), SaveError> {
        self.bytes("oci-layout", MARK)?;
        for name in ["blobs/", "blobs/sha256/"] {
            self.directory(name).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Writes or changes the index: manifests, each with its names.
    pub(super) fn list(&mut self, manifests: Vec<(Descriptor, &[Reference])>) -> Result<(), SaveError> {
        let named = |(manifest, names): (Descriptor, &[Reference])| match names.is_empty() {
            true => vec![manifest],
            false => names.iter().map(|name| named(&manifest, name)).collect(),
        };
        let entries: Vec<Descriptor> = manifests.into_iter().flat_map(named).collect();
        const NAME: &str = "index.json";
        if let Sink::Directory(directory) = self.sink {
            return list_in(self.store, directory, entries).map_err(|source| SaveError::Write {
                path: directory.join(NAME),
                source,
            });
        }
        let mut index = Index::empty();
        index.list(entries);
        let bytes = index.bytes().map_err(|error| self.failed(error))?;
        self.bytes(NAME, &bytes)
    }

    /// Layers, config and manifest of an image.
    pub(super) fn image(&mut self, saved: &Saved) -> Result<Descriptor, SaveError> {
        let (image, family) = (&saved.image, Family::Oci);
        let mut of_layers: Vec<Descriptor> = Vec::new();
        for layer in &image.layers {
            let (file, packed) = packed::pack(self.store, layer, family, saved.packing)?;
            let name = blob(&packed.digest);
            if !self.written.contains(&name) {
                let opened = fs::File::open(file.path()).map_err(store::Error::io("open", file.path()));
                let mut opened = opened.map_err(Error::from)?;
                let done = self.file(&name, packed.size, &mut opened);
                done.map_err(|error| self.failed(error))?;
            }
            of_layers.push(packed);
        }
        self.bytes(&blob(&image.id), &image.raw_config)?;
        let manifest = family.describe(image, of_layers, saved.annotations.clone())?;
        self.blob(family.manifest(), &manifest)
    }

    /// A document.
    pub(super) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, SaveError> {
        let digest = Digest::of(bytes);
        self.bytes(&blob(&digest), bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    /// A small file; one of a tar is written once.
    fn bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<(), SaveError> {
        if self.written.contains(name) {
            return Ok(());
        }
        let done = self.file(name, bytes.len() as u64, &mut bytes);
        done.map_err(|error| self.failed(error))
    }

    fn file(&mut self, name: &str, size: u64, from: &mut dyn Read) -> io::Result<()> {
        // What has fewer or more bytes would shift all behind it.
        let mut from = Exactly { from, left: size };
        match &mut self.sink {
            Sink::Tar(tar) => {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(size);
                header.set_mtime(0);
                tar.append_data(&mut header, name, &mut from)?;
            }
            Sink::Directory(directory) => {
                let path = directory.join(name);
                fs::create_dir_all(directory)?;
                let given = Given::create(self.store, &path)?;
                io::copy(&mut from, &mut given.writer())?;
                given.commit()?;
            }
        }
        self.written.insert(name.into());
        Ok(())
    }

    /// skopeo cannot read an archive as an ordinary user where directories are implied.
    fn directory(&mut self, name: &str) -> io::Result<()> {
        match &mut self.sink {
            Sink::Tar(tar) => {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                header.set_mtime(0);
                tar.append_data(&mut header, name, io::empty())
            }
            Sink::Directory(directory) => fs::create_dir_all(directory.join(name)),
        }
    }

    fn finish(self) -> Result<(), SaveError> {
        let path = self.shown;
        let finished = match self.sink {
            Sink::Tar(tar) => tar.into_inner().map(|_out| ()),
            Sink::Directory(_) => Ok(()),
        };
        finished.map_err(|source| SaveError::Write {
            path: path.into(),
            source,
        })
    }
}

/// An entry of the index under a name, as Docker and BuildKit write it: in full, and by its tag.
fn named(manifest: &Descriptor, name: &Reference) -> Descriptor {
    let tag = name.tag().unwrap_or("latest");
    let annotations = [(FULL_NAME, name.to_string()), (REF_NAME, tag.into())];
    Descriptor {
        annotations: annotations.map(|(key, value)| (key.into(), value)).into(),
        ..manifest.clone()
    }
}

/// Passes on bytes of a known number, and fails if there are others.
struct Exactly<'a> {
    from: &'a mut dyn Read,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let changed = || io::Error::other("what is written changed its size meanwhile");
        self.left = self.left.checked_sub(count as u64).ok_or_else(changed)?;
        match count == 0 && self.left > 0 && !buffer.is_empty() {
            true => Err(changed()),
            false => Ok(count),
        }
    }
}
