//! The bytes of a stored tar, each 64 KiB checked against its CRC32C when first touched.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use zerocopy::FromZeros;

use super::below::split;
use crate::disk::uninterrupted;
use crate::error::{Error, Result};
use crate::index::format::BLOCK;
use crate::index::{DiffId, View};

/// A layer's tar.
#[derive(Debug)]
pub(super) struct Tar {
    file: File,
    /// Holds its checksums.
    index: View,
    /// A bit for each block that was found good.
    good: Box<[AtomicU64]>,
}

thread_local! {
    /// Room for one block of a tar.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Tar {
    pub(super) fn new(file: File, index: View) -> std::io::Result<Tar> {
        let blocks = file.metadata()?.len().div_ceil(BLOCK);
        let words = usize::try_from(blocks.div_ceil(64)).unwrap_or(0);
        let good = <[AtomicU64]>::new_box_zeroed_with_elems(words)
            .unwrap_or_else(|_| (0..words).map(|_| AtomicU64::new(0)).collect());
        Ok(Tar { file, index, good })
    }

    fn is_good(&self, block: u64) -> bool {
        self.good
            .get((block / 64) as usize)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (block % 64)) != 0)
    }

    /// Reads all of `out`. Blocks seen before are read straight; another is read whole, and checked.
    pub(super) fn read(&self, mut offset: u64, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            let mut block = offset / BLOCK;
            let end = offset + out.len() as u64;
            if self.is_good(block) {
                while block * BLOCK < end && self.is_good(block) {
                    block += 1;
                }
                let (piece, rest) = split(out, block * BLOCK - offset);
                self.read_exactly(offset, piece)?;
                offset += piece.len() as u64;
                out = rest;
                continue;
            }
            let inside = offset % BLOCK;
            let (piece, rest) = split(out, BLOCK - inside);
            if inside == 0 && piece.len() as u64 == BLOCK {
                let n = self.read_some(offset, piece)?;
                self.check(block, piece.get(..n).unwrap_or_default())?;
            } else {
                SCRATCH.with_borrow_mut(|scratch| -> Result<()> {
                    scratch.resize(BLOCK as usize, 0);
                    let n = self.read_some(block * BLOCK, scratch)?;
                    let bytes = scratch.get(..n).unwrap_or_default();
                    self.check(block, bytes)?;
                    let wanted = bytes.get(inside as usize..inside as usize + piece.len());
                    piece.copy_from_slice(wanted.ok_or_else(|| self.damaged(offset))?);
                    Ok(())
                })?;
            }
            offset += piece.len() as u64;
            out = rest;
        }
        Ok(())
    }

    /// Compares a block with its checksum.
    fn check(&self, block: u64, bytes: &[u8]) -> Result<()> {
        if crc32c::crc32c(bytes) != self.index.tar_sum(block)? {
            return Err(self.damaged(block * BLOCK));
        }
        if let Some(word) = self.good.get((block / 64) as usize) {
            word.fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    fn damaged(&self, offset: u64) -> Error {
        let layer = DiffId(self.index.source());
        tracing::error!(%layer, offset, "the stored layer is damaged here: pull the image again");
        Error(Errno::EIO)
    }

    fn read_exactly(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let n = self.read_some(offset, out)?;
        if n == out.len() {
            Ok(())
        } else {
            Err(self.damaged(offset + n as u64))
        }
    }

    /// Reads until `out` is full or the tar ends.
    fn read_some(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match uninterrupted(|| self.file.read_at(rest, offset + done as u64)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) => {
                    let layer = DiffId(self.index.source());
                    tracing::error!(%layer, offset, %error, "the stored layer cannot be read");
                    // Whatever the host calls it: who reads the file knows of no connection, handle or permission.
                    return Err(Error(Errno::EIO));
                }
            }
        }
        Ok(done)
    }
}
