//! The files of a scanned directory, in memory and in a file: who takes over from a process, or opens a container again,
//! goes by the same scan.
//!
//! ```text
//! 0   magic "BRYOSCN1", number of files u64
//! 16  each: number of its first byte u64, inode u64, size u64, mtime (seconds i64, nanoseconds u32), length of its
//!     path u32, path beneath the root; sorted by the first
//! …   CRC32C of all before
//! ```

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::attr::Time;

const MAGIC: &[u8; 8] = b"BRYOSCN1";

/// A file as the scan saw it.
#[derive(Debug, PartialEq)]
pub(super) struct Scanned {
    /// The number of its first byte.
    pub(super) start: u64,
    pub(super) path: Box<Path>,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime: Time,
}

impl Scanned {
    pub(super) fn is_as_it_was(&self, file: &File) -> io::Result<bool> {
        let now = file.metadata()?;
        let mtime = (now.mtime(), now.mtime_nsec());
        Ok(now.is_file()
            && (now.ino(), now.size()) == (self.inode, self.size)
            && mtime == (self.mtime.sec, i64::from(self.mtime.nsec)))
    }
}

/// Writes all of them.
pub(super) fn write(files: &[Scanned], out: &mut dyn Write) -> io::Result<()> {
    let mut bytes = [&MAGIC[..], &(files.len() as u64).to_le_bytes()].concat();
    for file in files {
        let path = file.path.as_os_str().as_bytes();
        let length = u32::try_from(path.len()).map_err(io::Error::other)?;
        for number in [file.start, file.inode, file.size] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(file.mtime.sec.to_le_bytes());
        bytes.extend(file.mtime.nsec.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(path);
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend(sum.to_le_bytes());
    out.write_all(&bytes)
}

/// Reads what [`write`] wrote.
pub(super) fn read(file: &File) -> io::Result<Vec<Scanned>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    // From the start, wherever another owner of the same open file has left off.
    file.read_exact_at(&mut bytes, 0)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "damaged, or of another version"))
}

fn parse(bytes: &[u8]) -> Option<Vec<Scanned>> {
    let (mut rest, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*sum) || take::<8>(&mut rest)? != *MAGIC {
        return None;
    }
    let count = u64::from_le_bytes(take(&mut rest)?);
    let mut files: Vec<Scanned> = Vec::new();
    for _ in 0..count {
        let [start, inode, size] =
            [take(&mut rest)?, take(&mut rest)?, take(&mut rest)?].map(u64::from_le_bytes);
        let sec = i64::from_le_bytes(take(&mut rest)?);
        let [nsec, length] = [take(&mut rest)?, take(&mut rest)?].map(u32::from_le_bytes);
        let (path, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = behind;
        if files.last().is_some_and(|before| before.start >= start) {
            return None;
        }
        let path = Path::new(OsStr::from_bytes(path)).into();
        files.push(Scanned {
            start,
            path,
            inode,
            size,
            mtime: Time { sec, nsec },
        });
    }
    rest.is_empty().then_some(files)
}

/// Cuts the first bytes off.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_told() {
        let file = |start, path: &str| Scanned {
            start,
            path: Path::new(path).into(),
            inode: 7,
            size: 3,
            mtime: Time { sec: -1, nsec: 5 },
        };
        let files = vec![file(0, "a"), file(3, "b/c")];
        let mut bytes = Vec::new();
        write(&files, &mut bytes).unwrap();
        assert_eq!(&bytes[..16], b"BRYOSCN1\x02\0\0\0\0\0\0\0");
        assert_eq!(parse(&bytes), Some(files));
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), None);
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert_eq!(parse(&bytes), None);
        }
        // Well summed nonsense.
        let mut bytes = Vec::new();
        write(&[file(3, "b"), file(3, "a")], &mut bytes).unwrap();
        assert_eq!(parse(&bytes), None);
    }
}
