//! Where are the bytes of the files that a COPY makes? In its source, until the layer is written: they go from there into
//! the tar, with no stop in the tree, which knows only that there is a file of that size.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};

use fuse_overlay::attr::Ino;
use parking_lot::Mutex;
use rustix::fs::fstat;
use sha2::{Digest as _, Sha256};

use super::copy::{CopyError, From, Hash, Item, Order};
use super::hashes::FileId;
use super::source::Source;

/// Bytes read at once.
const CHUNK: usize = 1 << 16;

/// The files that a step has made, and what each is a copy of.
#[derive(Default)]
pub(super) struct Contents<'a> {
    files: HashMap<Ino, Original<'a>>,
    /// Why a file could not be read, which the writer of the layer cannot say.
    failed: Mutex<Option<CopyError>>,
}

#[derive(Clone, Copy)]
struct Original<'a> {
    order: &'a Order,
    source: &'a dyn Source,
    item: &'a Item,
}

impl<'a> Contents<'a> {
    /// A file of the tree has the content of `item`.
    pub(super) fn promise(&mut self, file: Ino, order: &'a Order, source: &'a dyn Source, item: &'a Item) {
        self.files.insert(file, Original { order, source, item });
    }

    /// The content of a file that was promised one.
    pub(super) fn of(&self, file: Ino) -> Option<Box<dyn Read + '_>> {
        let original = *self.files.get(&file)?;
        Some(Box::new(Content {
            original,
            failed: &self.failed,
            open: None,
            left: original.item.size(),
        }))
    }

    /// What went wrong.
    pub(super) fn failure(&self) -> Option<CopyError> {
        self.failed.lock().take()
    }
}

/// Reads a file that is the same as when it was planned, or fails.
struct Content<'a> {
    original: Original<'a>,
    failed: &'a Mutex<Option<CopyError>>,
    open: Option<Open<'a>>,
    left: u64,
}

/// An original that is being read, and how it is known that it is still the same.
enum Open<'a> {
    /// By its times, as [`Hashes`](super::hashes::Hashes) knows files.
    File(BufReader<File>, FileId),
    /// By its content.
    Hashed(BufReader<Box<dyn Read + Send + 'a>>, Sha256),
}

impl<'a> Open<'a> {
    fn new(Original { order, source, item }: Original<'a>) -> io::Result<Open<'a>> {
        if let (Some(Hash { of: Some(id), .. }), From::Path(path)) = (item.hash.get(), &item.from)
            && let Some(file) = source.open_file(path)?
            && FileId::of(&fstat(&file)?) == *id
        {
            return Ok(Open::File(BufReader::with_capacity(CHUNK, file), *id));
        }
        let content = BufReader::with_capacity(CHUNK, order.content(source, item)?);
        Ok(Open::Hashed(content, Sha256::new()))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Open::File(file, _) => file.read(buffer),
            Open::Hashed(content, sha256) => {
                let count = content.read(buffer)?;
                sha256.update(buffer.get(..count).unwrap_or_default());
                Ok(count)
            }
        }
    }

    /// Asked at its end: was it what was planned?
    fn is_as_planned(&mut self, planned: Option<&Hash>) -> io::Result<bool> {
        Ok(match self {
            Open::File(file, id) => FileId::of(&fstat(file.get_ref())?) == *id,
            Open::Hashed(_, sha256) => {
                let found: [u8; 32] = sha256.finalize_reset().into();
                planned.is_none_or(|planned| planned.sha256 == found)
            }
        })
    }
}

impl Content<'_> {
    fn piece(&mut self, buffer: &mut [u8]) -> Result<usize, CopyError> {
        let item = self.original.item;
        let failed = |error| CopyError::Read(item.shown(), error);
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::new(self.original).map_err(failed)?),
        };
        let count = open.read(buffer).map_err(failed)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| CopyError::Changed(item.shown()))?;
        // What decided whether the cache has it must be what is in the layer.
        let ended = count == 0 && !buffer.is_empty();
        if ended && (self.left > 0 || !open.is_as_planned(item.hash.get()).map_err(failed)?) {
            return Err(CopyError::Changed(item.shown()));
        }
        Ok(count)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.piece(buffer).map_err(|error| match error {
            CopyError::Read(_, error) if error.kind() == io::ErrorKind::Interrupted => error,
            error => {
                *self.failed.lock() = Some(error);
                io::Error::other("a source of a copy")
            }
        })
    }
}
