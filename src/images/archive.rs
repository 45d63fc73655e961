//! How is an image read from a file or a directory? OCI image layouts (`oci:DIR`, `oci-archive:FILE`) and what `docker
//! save` writes (`docker-archive:FILE`). Archives are read in place: nothing is unpacked, no path of theirs is opened.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::manifest::{Descriptor, MAX_CONFIG, MAX_MANIFEST, Manifest, printable};
use super::reference::Reference;
use crate::store::Digest;

/// The most files in an archive; `docker save` writes a few per layer.
const MAX_FILES: usize = 100_000;
/// Links that lead to links.
const MAX_LINKS: usize = 8;

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// A file of it, or the file that it is.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not of its kind.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file or directory.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// The name is not in it, or none was given and there are several images.
    #[error("{}: {reason} (it has: {})", path.display(), if names.is_empty() { "no names" } else { names })]
    Choice {
        /// The file or directory.
        path: PathBuf,
        /// In words.
        reason: String,
        /// What there is.
        names: String,
    },
}

/// An archive with one image chosen.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    files: Files,
    top: Vec<u8>,
    names: Vec<Reference>,
    /// Where blobs lie that are not under `blobs/`.
    places: HashMap<Digest, String>,
}

/// Where an archive's files are.
#[derive(Debug)]
enum Files {
    Directory,
    Tar {
        file: Arc<File>,
        entries: HashMap<String, Entry>,
    },
}

#[derive(Debug, Clone)]
enum Entry {
    File { offset: u64, size: u64 },
    Link { to: String },
}

/// Opens `oci:…`, `oci-archive:…` or `docker-archive:…`; `None` for texts of other kinds.
pub fn open(text: &str) -> Option<Result<Archive, ArchiveError>> {
    let (kind, rest) = text.split_once(':')?;
    let (path, name) = split_name(rest);
    let open =
        |layout: fn(&Opened, Option<&str>) -> Result<Chosen, ArchiveError>, files| -> Result<Archive, _> {
            let opened = Opened {
                path: path.clone(),
                files: Files::open(&path, files)?,
            };
            let chosen = layout(&opened, name.as_deref())?;
            let Opened { path, files } = opened;
            Ok(Archive {
                path,
                files,
                top: chosen.top,
                names: chosen.names,
                places: chosen.places,
            })
        };
    match kind {
        "oci" => Some(open(oci_layout, Holder::Directory)),
        "oci-archive" => Some(open(oci_layout, Holder::Tar)),
        "docker-archive" => Some(open(docker_save, Holder::Tar)),
        _ => None,
    }
}

/// Opens the image of a name in an OCI image layout.
///
/// # Errors
/// There is no such directory or name.
pub fn open_layout(path: &Path, name: &str) -> Result<Archive, ArchiveError> {
    let opened = Opened {
        path: path.to_owned(),
        files: Files::open(path, Holder::Directory)?,
    };
    let chosen = oci_layout(&opened, Some(name))?;
    let Opened { path, files } = opened;
    Ok(Archive {
        path,
        files,
        top: chosen.top,
        names: chosen.names,
        places: chosen.places,
    })
}

/// `PATH[:NAME]`; a path with a colon in it must exist.
fn split_name(text: &str) -> (PathBuf, Option<String>) {
    match text.split_once(':') {
        Some((path, name)) if !Path::new(text).exists() => (path.into(), Some(name.into())),
        _ => (text.into(), None),
    }
}

impl Archive {
    /// The document of the chosen image: a manifest or an index.
    pub fn top(&self) -> Result<Vec<u8>, ArchiveError> {
        Ok(self.top.clone())
    }

    /// A manifest, verified.
    pub fn document(&self, named: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
        read_document(&self.opened(), named)
    }

    /// A blob's bytes, not verified.
    pub fn blob<'a>(&'a self, blob: &Descriptor) -> Result<Box<dyn Read + Send + 'a>, ArchiveError> {
        let own = format!("blobs/sha256/{}", blob.digest.hex());
        let name = self.places.get(&blob.digest).unwrap_or(&own);
        Ok(Box::new(self.opened().read(name)?.0))
    }

    /// What the archive calls the image.
    pub fn names(&self) -> &[Reference] {
        &self.names
    }

    /// The file, for people.
    pub fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn opened(&self) -> Opened<&Files> {
        Opened {
            path: self.path.clone(),
            files: &self.files,
        }
    }
}

/// An archive before an image is chosen.
struct Opened<F = Files> {
    path: PathBuf,
    files: F,
}

/// What a layout finds.
struct Chosen {
    top: Vec<u8>,
    names: Vec<Reference>,
    places: HashMap<Digest, String>,
}

#[derive(Clone, Copy)]
enum Holder {
    Directory,
    Tar,
}

impl<F: std::borrow::Borrow<Files>> Opened<F> {
    fn format(&self, reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Format {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// A file's bytes and their number.
    fn read(&self, name: &str) -> Result<(FileOf, u64), ArchiveError> {
        let failed = |source| ArchiveError::Read {
            path: self.path.join(name),
            source,
        };
        match self.files.borrow() {
            Files::Directory => {
                let file = File::open(self.path.join(name)).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                Ok((
                    FileOf {
                        file: Arc::new(file),
                        at: 0,
                        end: size,
                    },
                    size,
                ))
            }
            Files::Tar { file, entries } => {
                let (offset, size) =
                    find(entries, name).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
                Ok((
                    FileOf {
                        file: file.clone(),
                        at: offset,
                        end: offset.saturating_add(size),
                    },
                    size,
                ))
            }
        }
    }

    /// A whole small file.
    fn read_small(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let (mut file, size) = self.read(name)?;
        if size > limit {
            let reason = format!("{name} of {size} bytes is larger than the {limit} that are accepted");
            return Err(self.format(reason));
        }
        let mut bytes = Vec::new();
        let read = file.read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::Read {
            path: self.path.join(name),
            source,
        })?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ArchiveError> {
        let bytes = self.read_small(name, MAX_MANIFEST)?;
        serde_json::from_slice(&bytes).map_err(|error| self.format(format!("{name} is not valid: {error}")))
    }

    fn choice(&self, reason: impl Into<String>, names: impl IntoIterator<Item = String>) -> ArchiveError {
        let names = printable(&names.into_iter().collect::<Vec<_>>().join(", "));
        ArchiveError::Choice {
            path: self.path.clone(),
            reason: reason.into(),
            names,
        }
    }
}

fn read_document<F: std::borrow::Borrow<Files>>(
    opened: &Opened<F>,
    named: &Descriptor,
) -> Result<Vec<u8>, ArchiveError> {
    let bytes = opened.read_small(&format!("blobs/sha256/{}", named.digest.hex()), MAX_MANIFEST)?;
    let found = Digest::of(&bytes);
    if found != named.digest {
        return Err(opened.format(format!(
            "manifest {} has another content: its digest is {found}",
            named.digest
        )));
    }
    Ok(bytes)
}

impl Files {
    fn open(path: &Path, holder: Holder) -> Result<Files, ArchiveError> {
        let failed = |source| ArchiveError::Read {
            path: path.into(),
            source,
        };
        match holder {
            Holder::Directory => {
                std::fs::read_dir(path).map_err(failed)?;
                Ok(Files::Directory)
            }
            Holder::Tar => {
                let file = File::open(path).map_err(failed)?;
                let entries = scan(&file).map_err(|reason| ArchiveError::Format {
                    path: path.into(),
                    reason,
                })?;
                Ok(Files::Tar {
                    file: Arc::new(file),
                    entries,
                })
            }
        }
    }
}

/// Notes where each file of a tar lies.
fn scan(file: &File) -> Result<HashMap<String, Entry>, String> {
    let text = |error: io::Error| format!("not a tar archive: {error}");
    let length = file.metadata().map_err(text)?.len();
    let mut magic = [0; 4];
    if file.read_at(&mut magic, 0).map_err(text)? == 4
        && matches!(magic, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd])
    {
        return Err("the archive is compressed as a whole: decompress it first".into());
    }
    let mut reader = file;
    reader.rewind().map_err(text)?;
    let mut archive = tar::Archive::new(reader);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek().map_err(text)? {
        let entry = entry.map_err(text)?;
        let Some(name) = entry.path().ok().and_then(|path| normal(path.to_str()?)) else {
            continue;
        };
        let kind = entry.header().entry_type();
        let found = if kind.is_file() {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(format!(
                    "it is truncated: {} reaches behind its end",
                    printable(&name)
                ));
            }
            Entry::File { offset, size }
        } else if kind.is_symlink() || kind.is_hard_link() {
            let Some(target) = entry.link_name().ok().flatten() else {
                continue;
            };
            let Some(target) = target.to_str() else { continue };
            // A symlink counts from its own directory, a hard link from the archive's root.
            let base = if kind.is_symlink() {
                name.rsplit_once('/').map_or("", |(folder, _)| folder)
            } else {
                ""
            };
            let Some(to) = normal(&format!("{base}/{target}")) else {
                continue;
            };
            Entry::Link { to }
        } else {
            continue;
        };
        entries.insert(name, found);
        if entries.len() > MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files"));
        }
    }
    Ok(entries)
}

/// A path within the archive without `.`, `..` and empty parts; `None` if it leads outside.
fn normal(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

fn find(entries: &HashMap<String, Entry>, name: &str) -> Option<(u64, u64)> {
    let mut name = normal(name)?;
    for _ in 0..MAX_LINKS {
        match entries.get(&name)? {
            Entry::File { offset, size } => return Some((*offset, *size)),
            Entry::Link { to } => name = to.clone(),
        }
    }
    None
}

/// A run of a file's bytes.
struct FileOf {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for FileOf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self
            .file
            .read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// OCI image spec, image-layout.md.
fn oci_layout(opened: &Opened, name: Option<&str>) -> Result<Chosen, ArchiveError> {
    const REF_NAME: &str = "org.opencontainers.image.ref.name";
    const CONTAINERD: &str = "io.containerd.image.name";
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Descriptor>,
    }
    let index: Index = opened.json("index.json")?;
    let called = |image: &Descriptor| -> Vec<String> {
        [CONTAINERD, REF_NAME]
            .iter()
            .filter_map(|key| image.annotations.get(*key).cloned())
            .collect()
    };
    let all_names = || index.manifests.iter().filter_map(|image| called(image).pop());
    let chosen = match name {
        Some(name) => {
            let found = index
                .manifests
                .iter()
                .find(|image| called(image).iter().any(|known| known == name));
            found.ok_or_else(|| {
                opened.choice(format!("no image \"{}\" in it", printable(name)), all_names())
            })?
        }
        None => match index.manifests.as_slice() {
            [only] => only,
            [] => return Err(opened.format("index.json lists no image")),
            _ => return Err(opened.choice("it has several images: add :NAME", all_names())),
        },
    };
    let names = called(chosen)
        .iter()
        .find_map(|known| layout_name(&opened.path, known));
    Ok(Chosen {
        top: read_document(opened, chosen)?,
        names: names.into_iter().collect(),
        places: HashMap::new(),
    })
}

/// The name of an image in a layout. A tag alone gets the file's name before it, on `localhost`, as podman has it.
fn layout_name(path: &Path, known: &str) -> Option<Reference> {
    if known.contains(['/', ':']) {
        return Reference::parse(known).ok().map(Reference::or_latest);
    }
    let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
    Reference::parse(&format!("localhost/{stem}:{known}")).ok()
}

/// `manifest.json` of `docker save`. The layers are hashed here, since it names none by digest.
fn docker_save(opened: &Opened, name: Option<&str>) -> Result<Chosen, ArchiveError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Saved {
        config: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    let saved: Vec<Saved> = opened.json("manifest.json")?;
    let tags = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
    let wanted = name.map(|name| {
        let parsed = Reference::parse(name).map(Reference::or_latest);
        parsed.map_err(|error| opened.format(format!("{error}: \"{}\"", printable(name))))
    });
    let wanted = wanted.transpose()?;
    let is_wanted = |tag: &String| Reference::parse(tag).ok() == wanted;
    let chosen = match (&wanted, saved.as_slice()) {
        (Some(wanted), _) => saved
            .iter()
            .find(|image| tags(image).iter().any(is_wanted))
            .ok_or_else(|| {
                opened.choice(
                    format!("no image \"{}\" in it", wanted.familiar()),
                    saved.iter().flat_map(tags),
                )
            })?,
        (None, [only]) => only,
        (None, []) => return Err(opened.format("manifest.json lists no image")),
        (None, _) => {
            return Err(opened.choice("it has several images: add :NAME", saved.iter().flat_map(tags)));
        }
    };
    let parsed = tags(chosen)
        .iter()
        .filter_map(|tag| Reference::parse(tag).ok())
        .collect::<Vec<_>>();
    let names = wanted.map_or(parsed, |wanted| vec![wanted]);
    let config = opened.read_small(&chosen.config, MAX_CONFIG)?;
    let mut places = HashMap::new();
    let config = Descriptor::new(
        "application/vnd.docker.container.image.v1+json",
        Digest::of(&config),
        config.len() as u64,
    );
    places.insert(config.digest, chosen.config.clone());
    let mut layers = Vec::new();
    for layer in &chosen.layers {
        let found = hash_layer(opened, layer)?;
        places.insert(found.digest, layer.clone());
        layers.push(found);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some("application/vnd.docker.distribution.manifest.v2+json".into()),
        config,
        layers,
    };
    let top = serde_json::to_vec_pretty(&manifest).map_err(|error| opened.format(error.to_string()))?;
    Ok(Chosen { top, names, places })
}

fn hash_layer(opened: &Opened, name: &str) -> Result<Descriptor, ArchiveError> {
    let failed = |source| ArchiveError::Read {
        path: opened.path.join(name),
        source,
    };
    let (mut file, size) = opened.read(name)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut media_type = "application/vnd.docker.image.rootfs.diff.tar";
    let mut first = true;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if first && bytes.starts_with(&[0x1f, 0x8b]) {
            media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        }
        first = false;
        if count == 0 {
            return Ok(Descriptor::new(
                media_type,
                Digest(hasher.finalize().into()),
                size,
            ));
        }
        hasher.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_an_archive_stay_inside() {
        assert_eq!(normal("./a//b/../c").as_deref(), Some("a/c"));
        assert_eq!(normal("/a").as_deref(), Some("a"));
        assert_eq!(normal("../a"), None);
        assert_eq!(normal("a/../../b"), None);
    }

    #[test]
    fn links_are_followed_within_the_archive_and_end() {
        let link = |to: &str| Entry::Link { to: to.into() };
        let entries = HashMap::from([
            ("a/layer.tar".to_owned(), Entry::File { offset: 512, size: 3 }),
            ("b/layer.tar".to_owned(), link("a/layer.tar")),
            ("x".to_owned(), link("y")),
            ("y".to_owned(), link("x")),
        ]);
        assert_eq!(find(&entries, "b/layer.tar"), Some((512, 3)));
        assert_eq!(find(&entries, "x"), None);
        assert_eq!(find(&entries, "../a/layer.tar"), None);
    }

    #[test]
    fn a_layout_names_images_as_podman_does() {
        let name = |path: &str, known: &str| layout_name(Path::new(path), known).map(|name| name.to_string());
        assert_eq!(name("/x/web.tar", "1.0").as_deref(), Some("localhost/web:1.0"));
        assert_eq!(
            name("/x/y", "docker.io/library/web:2").as_deref(),
            Some("docker.io/library/web:2")
        );
        assert_eq!(name("/x/ü", "1"), None);
    }

    #[test]
    fn texts_of_other_kinds_are_no_archives() {
        assert!(open("debian:12").is_none());
        assert!(open("docker://debian").is_none());
        assert!(
            open("oci:/nowhere:tag")
                .unwrap()
                .unwrap_err()
                .to_string()
                .contains("/nowhere")
        );
    }
}
