//! Where in an archive lies which file? A tar is gone through once; its files are then read where they lie.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ArchiveError;
use crate::images::manifest::{MAX_MANIFEST, MAX_VALUES, printable, values};

/// The most files in an archive; `docker save` writes a few per layer.
const MAX_FILES: usize = 100_000;
/// Links that lead to links.
const MAX_LINKS: usize = 8;

/// Where an archive's files are.
#[derive(Debug, Clone)]
enum Files {
    Directory,
    Tar {
        file: Arc<File>,
        entries: Arc<HashMap<String, Entry>>,
    },
}

#[derive(Debug, Clone)]
enum Entry {
    File { offset: u64, size: u64 },
    Link { to: String },
}

/// An archive before an image is chosen.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) path: PathBuf,
    files: Files,
}

impl Opened {
    pub(super) fn directory(path: &Path) -> Result<Opened, ArchiveError> {
        std::fs::read_dir(path).map_err(unread(path))?;
        Ok(Opened {
            path: path.into(),
            files: Files::Directory,
        })
    }

    pub(super) fn file(path: &Path) -> Result<Opened, ArchiveError> {
        Opened::tar(File::open(path).map_err(unread(path))?, path)
    }

    /// An open tar, which messages call `path`.
    pub(super) fn tar(file: File, path: &Path) -> Result<Opened, ArchiveError> {
        let entries = scan(&file).map_err(|reason| ArchiveError::Format {
            path: path.into(),
            reason,
        })?;
        Ok(Opened {
            path: path.into(),
            files: Files::Tar {
                file: Arc::new(file),
                entries: Arc::new(entries),
            },
        })
    }

    /// Is there a file of this name?
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.files {
            Files::Directory => self.path.join(name).is_file(),
            Files::Tar { entries, .. } => find(entries, name).is_some(),
        }
    }

    pub(super) fn format(&self, reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Format {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// A file's bytes and their number.
    pub(super) fn read(&self, name: &str) -> Result<(FileOf, u64), ArchiveError> {
        let failed = |source| ArchiveError::Read {
            path: self.path.join(name),
            source,
        };
        match &self.files {
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
    pub(super) fn read_small(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
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

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ArchiveError> {
        let bytes = self.read_small(name, MAX_MANIFEST)?;
        if values(&bytes) > MAX_VALUES {
            return Err(self.format(format!(
                "{name} has more than the {MAX_VALUES} values that are accepted"
            )));
        }
        serde_json::from_slice(&bytes).map_err(|error| self.format(format!("{name} is not valid: {error}")))
    }

    pub(super) fn choice(
        &self,
        reason: impl Into<String>,
        names: impl IntoIterator<Item = String>,
    ) -> ArchiveError {
        let names = printable(&names.into_iter().collect::<Vec<_>>().join(", "));
        ArchiveError::Choice {
            path: self.path.clone(),
            reason: reason.into(),
            names,
        }
    }
}

fn unread(path: &Path) -> impl Fn(io::Error) -> ArchiveError + '_ {
    |source| ArchiveError::Read {
        path: path.into(),
        source,
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
pub(super) struct FileOf {
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
}
