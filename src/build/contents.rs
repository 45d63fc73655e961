//! Where are the bytes of the files that a COPY makes? In its source, until the layer is written: they go from there into
//! the tar, with no stop in the tree, which knows only that there is a file of that size.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};

use fuse_overlay::attr::Ino;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::copy::{CopyError, Item, Order};
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
            sha256: Sha256::new(),
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
    open: Option<BufReader<Box<dyn Read + Send + 'a>>>,
    sha256: Sha256,
    left: u64,
}

impl Content<'_> {
    fn piece(&mut self, buffer: &mut [u8]) -> Result<usize, CopyError> {
        let Original { order, source, item } = self.original;
        let failed = |error| CopyError::Read(item.shown(), error);
        if self.open.is_none() {
            let content = order.content(source, item).map_err(failed)?;
            self.open = Some(BufReader::with_capacity(CHUNK, content));
        }
        let count = match &mut self.open {
            Some(open) => open.read(buffer).map_err(failed)?,
            None => 0,
        };
        self.sha256.update(buffer.get(..count).unwrap_or_default());
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| CopyError::Changed(item.shown()))?;
        if count == 0 && !buffer.is_empty() {
            // What decided whether the cache has it must be what is in the layer.
            let hash: [u8; 32] = self.sha256.finalize_reset().into();
            if self.left > 0 || item.hash.get().is_some_and(|planned| planned.sha256 != hash) {
                return Err(CopyError::Changed(item.shown()));
            }
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
