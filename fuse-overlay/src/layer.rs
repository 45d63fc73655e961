//! One pass over a layer's tar stream: bytes → stored tar, index, diff id, checksums.

mod directory;
mod scanned;
mod tree;
mod walk;

pub use self::directory::{Directory, scan};

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use thiserror::Error;

use self::tree::Tree;
use crate::error;
use crate::index::build::{self, BlockSums, BuildError};
use crate::index::{DiffId, View};
use crate::tar::{ReadError, Reader, Source, StreamError, printable};

/// What storing a layer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// sha256 of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Number of files of all kinds in it.
    pub nodes: u32,
}

/// Why a layer was refused or could not be stored.
#[derive(Debug, Error)]
pub enum LayerError {
    /// Reading the stream failed (network, inflate, digest).
    #[error("reading the layer: {0}")]
    Read(#[source] io::Error),
    /// Writing the tar or the index failed.
    #[error("writing the layer: {0}")]
    Write(#[source] io::Error),
    /// The tar breaks a rule; the entry's path says where.
    #[error("tar entry \"{path}\": {reason}")]
    Entry {
        /// The entry's path as the tar spells it, or the place of its header.
        path: String,
        /// The rule it breaks.
        reason: &'static str,
    },
}

impl From<StreamError> for LayerError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Read(error) => LayerError::Read(error),
            StreamError::Write(error) => LayerError::Write(error),
            StreamError::Truncated => LayerError::Read(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl From<ReadError> for LayerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Stream(error) => error.into(),
            ReadError::Fault { place, reason } => LayerError::Entry { path: place, reason },
        }
    }
}

impl From<BuildError> for LayerError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Io(error) => LayerError::Write(error),
            other => LayerError::Write(io::Error::other(other)),
        }
    }
}

/// Held by who has a large tree in memory. Several layers may be on their way at once, and each tree be as large as one may be
/// at all: those come one after the other.
static LARGE: Mutex<()> = Mutex::new(());

/// Reads a whole uncompressed tar from `stream`, writes its bytes to `tar` as they are and its layer index to `index`.
///
/// Memory stays within what the entries' metadata needs, 1 GiB at most; of several calls at once, all but one wait when they
/// need much. Bytes after the end-of-archive marker belong to the diff id
/// and are stored too. Nothing is synced: the caller decides about durability.
pub fn store(
    stream: &mut dyn Read,
    tar: &mut dyn Write,
    index: &mut dyn Write,
) -> Result<Stored, LayerError> {
    pass(
        stream,
        &mut |chunk| tar.write_all(chunk),
        &mut BufWriter::new(index),
    )
}

/// Builds the index of a tar that is already stored, and its diff id: how lost or old indexes come back.
pub fn reindex(tar: &File, index: &mut dyn Write) -> Result<Stored, LayerError> {
    self::index(&mut FromStart::of(tar), &mut BufWriter::new(index))
}

/// Reads a whole uncompressed tar and writes its layer index to `out`; the tar's bytes are kept nowhere.
pub fn index(stream: &mut dyn Read, out: &mut dyn Write) -> Result<Stored, LayerError> {
    pass(stream, &mut |_| Ok(()), out)
}

/// Why a stored tar is not what its names say.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error("reading the tar: {0}")]
    Read(#[from] io::Error),
    /// It has another sha256.
    #[error("the tar's content is sha256:{0}")]
    DiffId(DiffId),
    /// The index's checksums belong to other bytes: build it again.
    #[error("the index has another checksum for the tar's bytes from {0} on")]
    Sum(u64),
    /// The index cannot be read: build it again.
    #[error("the tar's index: {0}")]
    Index(error::Error),
}

/// Reads a stored tar whole and compares it with its diff id, and its blocks with the checksums in its index.
pub fn verify(tar: &File, diff_id: DiffId, index: Option<&View>) -> Result<(), VerifyError> {
    let mut sums = Sums::default();
    let mut observer = |chunk: &[u8]| {
        sums.update(chunk);
        Ok(())
    };
    let mut from_start = FromStart::of(tar);
    match Source::new(&mut from_start, &mut observer).drain() {
        Err(StreamError::Read(error) | StreamError::Write(error)) => return Err(error.into()),
        Err(StreamError::Truncated) | Ok(()) => {}
    }
    let (found, blocks) = sums.finish();
    if found != diff_id {
        return Err(VerifyError::DiffId(found));
    }
    let Some(index) = index else { return Ok(()) };
    for (block, sum) in (0..).zip(blocks) {
        if index.tar_sum(block).map_err(VerifyError::Index)? != sum {
            return Err(VerifyError::Sum(block * crate::index::format::BLOCK));
        }
    }
    Ok(())
}

/// The one pass: each chunk of the stream is kept by `keep` and hashed before its entries are read.
fn pass(
    stream: &mut dyn Read,
    keep: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    index: &mut dyn Write,
) -> Result<Stored, LayerError> {
    let mut sums = Sums::default();
    let mut tar_size = 0;
    let mut observer = |chunk: &[u8]| {
        keep(chunk)?;
        tar_size += chunk.len() as u64;
        sums.update(chunk);
        Ok(())
    };
    let (tree, _turn) = read_tree(Reader::new(Source::new(stream, &mut observer)))?;
    let (diff_id, tar_sums) = sums.finish();
    let builder = tree.build()?;
    drop(tree);
    let nodes = builder.len();
    builder.finish(
        build::Source::Layer {
            diff_id,
            tar_size,
            tar_sums: &tar_sums,
        },
        index,
    )?;
    Ok(Stored {
        diff_id,
        tar_size,
        nodes,
    })
}

/// The tree, and the lock on being large if it is.
fn read_tree(mut reader: Reader<'_>) -> Result<(Tree, Option<MutexGuard<'static, ()>>), LayerError> {
    let (mut tree, mut turn) = (Tree::new(), None);
    while let Some(member) = reader.next()? {
        let path = member.path.clone();
        tree.apply(member).map_err(|reason| LayerError::Entry {
            path: printable(&path),
            reason,
        })?;
        if turn.is_none() && tree.is_large() {
            turn = Some(LARGE.lock());
        }
    }
    Ok((tree, turn))
}

/// The checksums of a tar, as its bytes come.
#[derive(Default)]
struct Sums {
    whole: Sha256,
    blocks: BlockSums,
}

impl Sums {
    fn update(&mut self, chunk: &[u8]) {
        self.whole.update(chunk);
        self.blocks.update(chunk);
    }

    /// The diff id and the CRC32C of each 64 KiB.
    fn finish(self) -> (DiffId, Vec<u32>) {
        (DiffId(self.whole.finalize().into()), self.blocks.finish())
    }
}

/// Reads a file from its start, whatever its descriptor's position is.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl FromStart<'_> {
    fn of(file: &File) -> FromStart<'_> {
        FromStart { file, offset: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(out, self.offset)?;
        self.offset += got as u64;
        Ok(got)
    }
}
