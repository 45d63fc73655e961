//! How does one layer enter the store? In one pass: source → digest → inflate → tar, index and diff id, each stage on
//! its own thread. Nothing has its name before all of it is verified and on the disk.

use std::fs;
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fuse_overlay::index::DiffId;
use fuse_overlay::layer;

use super::content::{ContentError, Verified, decompressed};
use super::{LayerEvent, Progress, PullError};
use crate::images::manifest::Descriptor;
use crate::images::pipe::pipe;
use crate::images::{forms, layers};
use crate::store::failpoint::Stepped;
use crate::store::{Durability, Lock, Mode, Steady, Store};

/// How often it is looked whether another process is done with a layer.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// A layer on its way.
pub(super) struct Incoming<'a> {
    pub(super) store: &'a Store,
    pub(super) progress: &'a dyn Progress,
    pub(super) diff_id: DiffId,
    pub(super) blob: &'a Descriptor,
    /// In words, for [`forms::Form::sources`].
    pub(super) source: &'a str,
    /// Another layer failed: this one is of no use any more.
    pub(super) stopped: &'a AtomicBool,
}

impl Incoming<'_> {
    /// Stores the layer, unless it is there. A second process that wants the same one waits here, and then finds it.
    pub(super) fn store<'s>(
        &self,
        open: impl FnOnce() -> Result<Box<dyn Read + Send + 's>, PullError>,
    ) -> Result<(), PullError> {
        let lock = self.lock()?;
        if layers::is_stored(self.store, &self.diff_id) {
            self.tell(LayerEvent::AlreadyExists);
            let (blob, source) = (&self.blob.digest, self.source);
            return Ok(forms::note_source(self.store, &self.diff_id, blob, source)?);
        }
        self.tell(LayerEvent::Downloading { size: self.blob.size });
        let (tar, index) = (self.store.aside()?, self.store.aside()?);
        let stream = Counted {
            inner: open()?,
            of: self,
        };
        let stored = self.run(Verified::new(stream, self.blob), tar.file(), index.file());
        let stored = stored.map_err(|source| PullError::Layer {
            blob: self.blob.digest,
            source,
        })?;
        if stored.diff_id != self.diff_id {
            return Err(PullError::DiffId {
                blob: self.blob.digest,
                expected: self.diff_id,
                found: stored.diff_id,
            });
        }
        // The tar last: a layer is there when its tar is.
        index.commit(&self.store.layer_index(&self.diff_id), Durability::Whole)?;
        tar.commit(&self.store.layer_tar(&self.diff_id), Durability::Durable)?;
        forms::note(self.store, &self.diff_id, self.blob, self.source)?;
        // A stage's worker may have to wait to be heard by a builder that waits for this lock.
        drop(lock);
        self.tell(LayerEvent::Complete);
        Ok(())
    }

    /// The layer's lock. Another process that has it may be at it for hours: this pull may have failed meanwhile.
    fn lock(&self) -> Result<Lock, PullError> {
        let object = format!("layer-{}", self.diff_id);
        loop {
            if let Some(lock) = self.store.try_lock(&object, Mode::Exclusive)? {
                return Ok(lock);
            }
            if self.stopped.load(Ordering::Relaxed) {
                return Err(PullError::Layer {
                    blob: self.blob.digest,
                    source: layer::LayerError::Read(io::Error::other(ContentError::Stopped)),
                });
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    fn tell(&self, event: LayerEvent) {
        self.progress.layer(&self.blob.digest, event);
    }

    /// The three stages, side by side.
    fn run(
        &self,
        source: impl Read + Send,
        tar: &fs::File,
        index: &fs::File,
    ) -> Result<layer::Stored, layer::LayerError> {
        let (to_inflate, compressed) = pipe();
        let (to_store, mut plain) = pipe();
        std::thread::scope(|stages| {
            stages.spawn(move || to_inflate.fill(source));
            stages.spawn(move || to_store.fill(Inflated::Waiting(compressed)));
            let stored = layer::store(&mut plain, &mut Steady::new(tar), &mut Stepped(index));
            // Dropped before the scope waits: the stages before then find nobody to fill for, and end.
            drop(plain);
            stored
        })
    }
}

/// Tells how much has arrived.
struct Counted<'a, R> {
    inner: R,
    of: &'a Incoming<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.of.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other(ContentError::Stopped));
        }
        let count = self.inner.read(buffer)?;
        self.of.tell(LayerEvent::Advanced { bytes: count as u64 });
        Ok(count)
    }
}

/// A compressed stream whose kind is known only when its first bytes are there.
enum Inflated<'a, R> {
    Waiting(R),
    Running(Box<dyn Read + Send + 'a>),
    Failed,
}

impl<'a, R: BufRead + Send + 'a> Read for Inflated<'a, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Inflated::Running(tar) = self {
            return tar.read(buffer);
        }
        match std::mem::replace(self, Inflated::Failed) {
            Inflated::Waiting(stream) => {
                let mut tar = decompressed(stream)?;
                let count = tar.read(buffer);
                *self = Inflated::Running(tar);
                count
            }
            _ => Err(io::Error::other("the stream failed before")),
        }
    }
}
