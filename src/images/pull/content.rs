//! Is this what its name says? Digest and size are checked as the bytes pass; and which compression are they in?

use std::io::{self, BufRead, Read};

use sha2::{Digest as _, Sha256};

use crate::images::manifest::Descriptor;
use crate::images::registry::RegistryError;
use crate::store::Digest;

/// Why a stream is not what it should be. It travels within an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("blob {0} is larger than the manifest says")]
    TooLarge(Digest),
    #[error("blob {blob} ends {missing} bytes before the size that the manifest says")]
    TooShort { blob: Digest, missing: u64 },
    #[error("blob {blob} has another content: its digest is {found}")]
    Digest { blob: Digest, found: Digest },
    #[error("the {0} data is truncated")]
    Truncated(&'static str),
    #[error("the {name} data is damaged ({source})")]
    Damaged { name: &'static str, source: io::Error },
    #[error("the {0} data needs more memory than {most} MiB to be unpacked", most = MOST_XZ_MEMORY_KIB >> 10)]
    Memory(&'static str),
    #[error("another layer failed")]
    Stopped,
}

impl ContentError {
    /// What would help, where something is known to. Damage may show before the digest does, so it may be anybody's fault.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            ContentError::TooLarge(_)
            | ContentError::TooShort { .. }
            | ContentError::Digest { .. }
            | ContentError::Truncated(_)
            | ContentError::Damaged { .. } => Some(
                "nothing of it was kept; pull it again, from elsewhere if that fails: a proxy, a mirror or whoever made it is at fault",
            ),
            ContentError::Memory(_) | ContentError::Stopped => None,
        }
    }
}

/// Passes bytes on and fails at their end, if they are not those of a descriptor.
pub(super) struct Verified<R> {
    inner: R,
    hasher: Sha256,
    expected: Digest,
    left: u64,
}

impl<R: Read> Verified<R> {
    pub(super) fn new(inner: R, blob: &Descriptor) -> Verified<R> {
        Verified {
            inner,
            hasher: Sha256::new(),
            expected: blob.digest,
            left: blob.size,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        let blob = self.expected;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| io::Error::other(ContentError::TooLarge(blob)))?;
        if count > 0 {
            self.hasher.update(buffer.get(..count).unwrap_or_default());
            return Ok(count);
        }
        if self.left > 0 {
            return Err(io::Error::other(ContentError::TooShort {
                blob,
                missing: self.left,
            }));
        }
        let found = Digest(std::mem::take(&mut self.hasher).finalize().into());
        if found != blob {
            return Err(io::Error::other(ContentError::Digest { blob, found }));
        }
        // A further read at the end must succeed again.
        self.expected = Digest::of(b"");
        Ok(0)
    }
}

/// How a layer's tar was made small. Told by its first bytes, as Docker does: media types are often wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    Plain,
}

impl Compression {
    pub(super) fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame (RFC 8878, section 3.1.1), or a skippable one before it, as eStargz's successor writes.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            // The first block, or the end of an empty stream.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Compression::Bzip2,
            _ => Compression::Plain,
        }
    }
}

/// Is it one that [`decompressed`] makes larger? By its first six bytes.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    Compression::of(start) != Compression::Plain
}

/// Memory that unpacking xz may need: four times what `xz -9` makes one need. A header could claim 4 GiB.
const MOST_XZ_MEMORY_KIB: u32 = 256 << 10;

/// The tar within a compressed stream. Several gzip members, zstd frames, xz or bzip2 streams are one; anything else
/// behind is an error.
pub(crate) fn decompressed<'a>(
    mut stream: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let compression = Compression::of(stream.fill_buf()?);
    Ok(match compression {
        Compression::Gzip => Box::new(Named {
            inner: flate2::bufread::MultiGzDecoder::new(stream),
            name: "gzip",
        }),
        Compression::Zstd => Box::new(Named {
            inner: zstd::stream::read::Decoder::with_buffer(stream)?,
            name: "zstd",
        }),
        Compression::Xz => Box::new(Named {
            inner: lzma_rust2::XzReader::new_mem_limit(stream, true, MOST_XZ_MEMORY_KIB),
            name: "xz",
        }),
        Compression::Bzip2 => Box::new(Named {
            inner: bzip2::bufread::MultiBzDecoder::new(stream),
            name: "bzip2",
        }),
        Compression::Plain => Box::new(stream),
    })
}

/// Says of a decoder's own errors whose they are; those of the stream below pass unchanged.
struct Named<R> {
    inner: R,
    name: &'static str,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other(ContentError::Truncated(self.name)),
            _ if is_from_below(&error) => error,
            kind @ io::ErrorKind::OutOfMemory => io::Error::new(kind, ContentError::Memory(self.name)),
            _ => io::Error::other(ContentError::Damaged {
                name: self.name,
                source: error,
            }),
        })
    }
}

/// Whether an error is the source's: the system's, or one of ours.
fn is_from_below(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
        || error
            .get_ref()
            .is_some_and(|inner| inner.is::<RegistryError>() || inner.is::<ContentError>())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8], preset: u32) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(preset);
        let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(stream: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut tar = decompressed(stream).map_err(|error| error.to_string())?;
        tar.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    #[test]
    fn all_forms_are_read_by_their_magic() {
        let text = b"a tar".repeat(1000);
        assert_eq!(read(&text).unwrap(), text);
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(&gzip(&text)).unwrap(), text);
        assert_eq!(
            read(&zstd::encode_all(text.as_slice(), 3).unwrap()).unwrap(),
            text
        );
        let members = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(read(&members).unwrap(), b"onetwo");
        let mut frames = vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        frames.extend(zstd::encode_all(&b"one"[..], 3).unwrap());
        frames.extend(zstd::encode_all(&b"two"[..], 3).unwrap());
        assert_eq!(read(&frames).unwrap(), b"onetwo");
        assert_eq!(read(&xz(&text, 6)).unwrap(), text);
        assert_eq!(read(&bzip2(&text)).unwrap(), text);
        assert_eq!(read(&bzip2(b"")).unwrap(), b"");
        for pack in [bzip2, |bytes: &[u8]| xz(bytes, 0)] {
            assert_eq!(read(&[pack(b"one"), pack(b"two")].concat()).unwrap(), b"onetwo");
        }
        assert_eq!(read(b"BZh is a text").unwrap(), b"BZh is a text");
    }

    #[test]
    fn a_header_that_asks_for_much_memory_is_refused() {
        let mut options = lzma_rust2::XzOptions::with_preset(0);
        options.lzma_options.dict_size = 1 << 29;
        let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        writer.write_all(b"little").unwrap();
        let why = read(&writer.finish().unwrap()).unwrap_err();
        assert_eq!(why, "the xz data needs more memory than 256 MiB to be unpacked");
    }

    #[test]
    fn cut_and_damaged_streams_say_so() {
        let text = b"text ".repeat(5000);
        for (name, whole) in [
            ("gzip", gzip(&text)),
            ("zstd", zstd::encode_all(text.as_slice(), 3).unwrap()),
            ("xz", xz(&text, 6)),
            ("bzip2", bzip2(&text)),
        ] {
            for cut in [7, whole.len() / 2, whole.len() - 1] {
                assert_eq!(
                    read(&whole[..cut]),
                    Err(format!("the {name} data is truncated")),
                    "at {cut}"
                );
            }
            let garbage = [whole.as_slice(), b"garbage behind it"].concat();
            assert!(
                read(&garbage)
                    .unwrap_err()
                    .starts_with(&format!("the {name} data is damaged"))
            );
        }
    }

    #[test]
    fn content_must_be_what_its_name_says() {
        let blob = Descriptor {
            media_type: String::new(),
            digest: Digest::of(b"right"),
            size: 5,
            platform: None,
            annotations: Default::default(),
        };
        let read = |bytes: &[u8]| {
            let mut out = Vec::new();
            Verified::new(bytes, &blob)
                .read_to_end(&mut out)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(b"right"), Ok(5));
        assert!(read(b"wrong").unwrap_err().contains("another content"));
        assert!(read(b"righ").unwrap_err().contains("1 bytes before"));
        assert!(read(b"right!").unwrap_err().contains("larger"));
    }
}
