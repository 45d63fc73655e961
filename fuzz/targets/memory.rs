//! A disk for the writable layers that are fuzzed.

use std::io;
use std::sync::{Arc, Mutex};

use fuse_overlay::disk::Disk;

/// A file in memory, of at most 16 MiB.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Memory {
        Memory(Arc::new(Mutex::new(bytes)))
    }
}

impl Memory {
    pub fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl Disk for Memory {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|bytes| {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(out.len());
            out[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        let end = offset as usize + data.len();
        if end > 16 << 20 {
            return Err(io::Error::from_raw_os_error(28));
        }
        self.with(|bytes| {
            bytes.resize(bytes.len().max(end), 0);
            bytes[offset as usize..end].copy_from_slice(data);
        });
        Ok(data.len())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn start_writeback(&self, _offset: u64, _length: u64) {}
    fn size(&self) -> io::Result<u64> {
        self.with(|bytes| Ok(bytes.len() as u64))
    }
    fn allocate(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.with(|bytes| {
            let size = bytes.len() as u64;
            let range = offset.min(size) as usize..offset.saturating_add(length).min(size) as usize;
            bytes[range].fill(0);
        });
        Ok(())
    }
    fn shorten(&self, size: u64) -> io::Result<()> {
        self.with(|bytes| bytes.truncate(size as usize));
        Ok(())
    }
    fn space(&self) -> io::Result<[u64; 3]> {
        Ok([4096; 3])
    }
}
