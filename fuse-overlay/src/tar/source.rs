//! The stream: read in big chunks, shown whole to an observer before anything is parsed, handed out in blocks.

use std::io::{self, Read};

use super::BLOCK;

/// Bytes per read, write and hash: large enough that system calls do not count, small enough for the cache.
const CHUNK: usize = 512 * 1024;

/// Sees every byte of the stream, in chunks of which all but the last are a multiple of 64 KiB.
pub(crate) type Observer<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Why the stream gives no more bytes.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// Reading it failed.
    Read(io::Error),
    /// The observer failed.
    Write(io::Error),
    /// It ended where more must follow.
    Truncated,
}

/// A tar stream.
pub(crate) struct Source<'a> {
    stream: &'a mut dyn Read,
    observer: &'a mut Observer<'a>,
    chunk: Box<[u8]>,
    /// The unread part of `chunk`.
    start: usize,
    end: usize,
    /// Bytes handed out or skipped so far.
    offset: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(stream: &'a mut dyn Read, observer: &'a mut Observer<'a>) -> Source<'a> {
        Source {
            stream,
            observer,
            chunk: vec![0; CHUNK].into(),
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    /// Offset in the tar of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next 512 bytes; `None` if the stream ends before them.
    pub(crate) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, StreamError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let got = self.some(BLOCK - filled)?;
            match block.get_mut(filled..filled + got.len()) {
                Some(part) if !part.is_empty() => part.copy_from_slice(got),
                _ if filled == 0 => return Ok(None),
                _ => return Err(StreamError::Truncated),
            }
            filled += got.len();
        }
        Ok(Some(block))
    }

    /// The next `length` bytes and the padding to a whole block. `length` has been checked against a limit.
    pub(crate) fn padded(&mut self, length: u64) -> Result<Vec<u8>, StreamError> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let got = self.some((length - bytes.len() as u64).try_into().unwrap_or(CHUNK))?;
            if got.is_empty() {
                return Err(StreamError::Truncated);
            }
            bytes.extend_from_slice(got);
        }
        self.skip(padding(length))?;
        Ok(bytes)
    }

    /// Passes over `length` bytes, which must be there.
    pub(crate) fn skip(&mut self, length: u64) -> Result<(), StreamError> {
        let mut left = length;
        while left > 0 {
            let got = self.some(left.try_into().unwrap_or(CHUNK))?.len() as u64;
            if got == 0 {
                return Err(StreamError::Truncated);
            }
            left -= got;
        }
        Ok(())
    }

    /// Passes over all that is left.
    pub(crate) fn drain(&mut self) -> Result<(), StreamError> {
        while !self.some(CHUNK)?.is_empty() {}
        Ok(())
    }

    /// The next bytes, at most `limit`; none only at the stream's end.
    pub(crate) fn some(&mut self, limit: usize) -> Result<&[u8], StreamError> {
        if self.start == self.end {
            self.fill()?;
        }
        let take = limit.min(self.end - self.start);
        let got = self.start..self.start + take;
        self.start += take;
        self.offset += take as u64;
        Ok(self.chunk.get(got).unwrap_or_default())
    }

    /// Fills the chunk as far as the stream goes, so that the observer sees big pieces however small the stream's are.
    fn fill(&mut self) -> Result<(), StreamError> {
        let mut filled = 0;
        while let Some(rest) = self.chunk.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) => break,
                // A reader that claims more than it was given room for is broken; believe no more than the room.
                Ok(got) => filled += got.min(rest.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StreamError::Read(error)),
            }
        }
        (self.start, self.end) = (0, filled);
        match self.chunk.get(..filled) {
            Some(bytes) if !bytes.is_empty() => (self.observer)(bytes).map_err(StreamError::Write),
            _ => Ok(()),
        }
    }
}

/// Bytes from the end of `length` bytes to the next whole block.
pub(crate) fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let take = out.len().min(1);
            self.0.read(&mut out[..take])
        }
    }

    #[test]
    fn a_dripping_stream_is_observed_in_whole_chunks() {
        let bytes: Vec<u8> = (0..CHUNK + 700).map(|i| i as u8).collect();
        let mut seen = Vec::new();
        let mut observer = |chunk: &[u8]| {
            seen.push(chunk.len());
            Ok(())
        };
        let mut drip = Drip(&bytes);
        let mut source = Source::new(&mut drip, &mut observer);
        assert_eq!(source.block().unwrap().unwrap()[..], bytes[..512]);
        source.skip(CHUNK as u64 - 512).unwrap();
        assert_eq!(source.padded(3).unwrap(), &bytes[CHUNK..CHUNK + 3]);
        assert_eq!(source.offset(), CHUNK as u64 + 512);
        assert!(matches!(source.block(), Err(StreamError::Truncated)));
        assert!(matches!(source.block(), Ok(None)));
        assert_eq!(seen, [CHUNK, 700]);
    }

    #[test]
    fn a_claim_beyond_the_end_is_an_error_without_its_memory() {
        let mut observer = |_: &[u8]| Ok(());
        let mut stream = &[0u8; 1000][..];
        let mut source = Source::new(&mut stream, &mut observer);
        assert!(matches!(source.skip(10 << 30), Err(StreamError::Truncated)));
    }
}
