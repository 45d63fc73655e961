//! When does ADD unpack? When a local file's first bytes, or what they become by decompression, are a tar's header, as
//! BuildKit asks. It is unpacked as a layer is read: into a tree, from which the copy takes its files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuse_overlay::stack::{self, StackError};
use fuse_overlay::union::Lower;

use super::workspace::io_error;
use super::{Error, Workspace};
use crate::images::pull::decompressed;

/// Bytes of a tar's header.
const HEADER: usize = 512;

/// Where the header's checksum stands, for which its own bytes count as spaces.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Is it an archive that ADD unpacks, and that can be a context?
///
/// # Errors
/// It cannot be read.
pub(super) fn is_archive(file: Box<dyn Read + Send + '_>) -> io::Result<bool> {
    let mut stream = BufReader::with_capacity(1 << 16, file);
    // A file that cannot be read is not one without a header.
    std::io::BufRead::fill_buf(&mut stream)?;
    let Ok(stream) = decompressed(stream) else {
        return Ok(false);
    };
    let mut header = Vec::with_capacity(HEADER);
    match stream.take(HEADER as u64).read_to_end(&mut header) {
        Ok(_) => Ok(is_header(&header)),
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Err(error),
        // What cannot be decompressed is a file like any other.
        Err(_) => Ok(false),
    }
}

/// Do these first 512 bytes begin an archive, compressed or not?
pub fn begins_archive(head: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"];
    magics.iter().any(|magic| head.starts_with(magic)) || is_header(head)
}

fn is_header(header: &[u8]) -> bool {
    let Some(field) = header.get(CHECKSUM).filter(|_| header.len() == HEADER) else {
        return false;
    };
    let digits = String::from_utf8_lossy(field);
    let said = u64::from_str_radix(digits.trim_matches([' ', '\0']), 8);
    let sum: u64 = (0..)
        .zip(header)
        .map(|(at, byte)| {
            if CHECKSUM.contains(&at) {
                32
            } else {
                u64::from(*byte)
            }
        })
        .sum();
    said == Ok(sum)
}

/// So many bytes may come out of an archive, whatever it is; above that, so many for each of its own. Files that people
/// pack become a tenth; those that are made to fill a disk, a thousandth or less. So it is with the holes of its files, which
/// fill no disk, but are read.
const FREE: u64 = 4 << 30;
const MOST_TIMES: u64 = 500;

/// Are these bytes too many for an archive of so many? Some are free.
fn is_absurd(bytes: u64, read: u64, free: u64) -> bool {
    bytes > free && bytes / MOST_TIMES > read
}

/// Counts what is read.
struct Counted<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What comes out of a compressed stream, unless that is absurdly much.
struct Bounded<R> {
    plain: R,
    /// Of the compressed stream.
    read: Arc<AtomicU64>,
    given: u64,
    free: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.plain.read(buffer)?;
        self.given += count as u64;
        let read = self.read.load(Ordering::Relaxed);
        if is_absurd(self.given, read, self.free) {
            let why = format!(
                "{read} bytes of it became more than {MOST_TIMES} times as many: such an archive fills the disk (a RUN can unpack it)"
            );
            return Err(io::Error::other(why));
        }
        Ok(count)
    }
}

/// The archive's tree, unpacked in a workspace.
pub(super) fn unpack(
    file: Box<dyn Read + Send + '_>,
    name: &str,
    workspace: &Workspace,
) -> Result<Lower, Error> {
    let tar = workspace.path().join("archive.tar");
    let read = Arc::new(AtomicU64::new(0));
    let copied = File::create_new(&tar).and_then(|mut out| {
        let packed = Counted(file, Arc::clone(&read));
        let plain = decompressed(BufReader::with_capacity(1 << 16, packed))?;
        let mut plain = Bounded {
            plain,
            read: Arc::clone(&read),
            given: 0,
            free: FREE,
        };
        io::copy(&mut plain, &mut out)
    });
    copied.map_err(io_error("decompress", Path::new(name)))?;
    let lower = stack::open(&[tar], &workspace.path().join("indexes")).map_err(|source| match source {
        StackError::Layer { source, .. } => Error::Archive {
            name: name.into(),
            source,
        },
        source => io_error("unpack", Path::new(name))(io::Error::other(source)),
    })?;
    let (size, read) = (lower.view.content_size(), read.load(Ordering::Relaxed));
    if is_absurd(size, read, FREE) {
        let why = format!(
            "its files have {size} bytes with their holes, more than {MOST_TIMES} times its own {read} (a RUN can unpack it)"
        );
        return Err(io_error("unpack", Path::new(name))(io::Error::other(why)));
    }
    Ok(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        tar.append_data(&mut header, "a", &b"hi"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    fn told(bytes: &[u8]) -> bool {
        is_archive(Box::new(bytes)).unwrap()
    }

    #[test]
    fn a_tar_is_told_by_its_header() {
        let tar = tar();
        assert!(told(&tar));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, &tar).unwrap();
        let gzip = gzip.finish().unwrap();
        assert!(told(&gzip));
        let mut damaged = tar.clone();
        damaged[0] = b'b';
        assert!(!told(&damaged), "another checksum");
        assert!(!told(b""));
        assert!(!told(&[0; 1024]));
        assert!(!told(b"\x1f\x8bno gzip"));
        let mut text = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut text, b"a text").unwrap();
        assert!(!told(&text.finish().unwrap()), "gzip of something else");
    }

    #[test]
    fn an_archive_that_becomes_absurdly_much_is_refused() {
        let unpacked = |bytes: Vec<u8>, free: u64| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            io::Write::write_all(&mut gzip, &bytes).unwrap();
            let read = Arc::new(AtomicU64::new(0));
            let packed = Counted(io::Cursor::new(gzip.finish().unwrap()), Arc::clone(&read));
            let mut plain = Bounded {
                plain: decompressed(BufReader::with_capacity(1 << 10, packed)).unwrap(),
                read,
                given: 0,
                free,
            };
            io::copy(&mut plain, &mut io::sink())
        };
        let zeros = || vec![0; 8 << 20];
        let told = unpacked(zeros(), 1 << 20).unwrap_err().to_string();
        assert!(told.contains("500 times as many"), "{told}");
        assert_eq!(
            unpacked(zeros(), 16 << 20).unwrap(),
            8 << 20,
            "less than anybody minds"
        );
        let text: Vec<u8> = (0..8 << 20).map(|at: u32| (at / 1000) as u8).collect();
        assert_eq!(
            unpacked(text, 1 << 20).unwrap(),
            8 << 20,
            "packed well, and no bomb"
        );
    }
}
