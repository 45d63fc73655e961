//! How are bytes made small? In parts of a fixed size, each by itself, so that several cores do it side by side and the
//! result is the same however many there are. Of gzip the parts are blocks of one member (RFC 1952), each after a flush that
//! ends at a byte, as pigz writes it; of zstd they are frames (RFC 8878), which readers take as one.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::{Compress, Compression, Crc, FlushCompress};
use parking_lot::Mutex;

/// Bytes of a part. Larger ones would compress better by less than a hundredth.
const PART: usize = 1 << 20;
/// More threads than this would hold more memory than a slow network has use for.
const MOST_THREADS: usize = 8;

/// How a layer's tar is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Small {
    /// What everybody reads.
    #[default]
    Gzip,
    /// OCI's alone.
    Zstd,
    /// Not at all.
    Plain,
}

/// What is wanted of layers that leave the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packing {
    /// The form of those that have none yet.
    pub small: Small,
    /// Of gzip 0 to 9, of zstd 1 to 22.
    pub level: Option<u32>,
    /// Of those too that have another form where they go.
    pub force: bool,
}

impl Packing {
    /// Why it means nothing, if it does not.
    pub fn wrong(&self) -> Option<&'static str> {
        match (self.small, self.level) {
            (_, None) => None,
            (Small::Gzip, Some(level)) => (level > 9).then_some("levels of gzip are 0 to 9"),
            (Small::Zstd, Some(level)) => (level > 22).then_some("levels of zstd are 0 to 22"),
            (Small::Plain, Some(_)) => Some("what is not compressed has no level"),
        }
    }

    /// Passes bytes on, made small.
    pub(super) fn pack(&self, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
        match self.small {
            Small::Plain => io::copy(from, to).map(drop),
            Small::Gzip => {
                let level = self.level.map_or_else(Compression::default, Compression::new);
                gzip(from, to, level, threads)
            }
            Small::Zstd => {
                // zstd's own word for its default.
                let level = self.level.and_then(|level| level.try_into().ok()).unwrap_or(0);
                let frame = |part: &[u8]| zstd::bulk::compress(part, level);
                let mut is_empty = true;
                in_parts(from, threads, &frame, &mut |small| {
                    is_empty = false;
                    to.write_all(&small)
                })?;
                match is_empty {
                    true => to.write_all(&frame(&[])?),
                    false => Ok(()),
                }
            }
        }
    }
}

/// No name, no time, an unknown system: nothing of the machine.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block, which is empty: no part needs to know that it is the last.
const LAST: [u8; 2] = [3, 0];

fn gzip(from: &mut dyn Read, to: &mut dyn Write, level: Compression, threads: usize) -> io::Result<()> {
    to.write_all(&HEAD)?;
    let mut whole = Crc::new();
    let block = |part: &[u8]| {
        let mut crc = Crc::new();
        crc.update(part);
        Ok((deflated(part, level)?, crc))
    };
    in_parts(from, threads, &block, &mut |(small, crc): (Vec<u8>, Crc)| {
        whole.combine(&crc);
        to.write_all(&small)
    })?;
    to.write_all(&LAST)?;
    to.write_all(&whole.sum().to_le_bytes())?;
    // Modulo 2^32, as the format has it.
    to.write_all(&whole.amount().to_le_bytes())
}

/// Blocks of deflate that end at a byte, and not the stream.
fn deflated(part: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut deflate = Compress::new(level, false);
    // Room for all at once: how stored blocks are cut depends on it.
    let mut small = Vec::with_capacity(part.len() + part.len() / 256 + 1024);
    loop {
        let done = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let left = part.get(done..).unwrap_or_default();
        deflate.compress_vec(left, &mut small, FlushCompress::Sync)?;
        // Room that is left says that the flush is complete.
        if deflate.total_in() == part.len() as u64 && small.len() < small.capacity() {
            return Ok(small);
        }
        small.reserve(64 << 10);
    }
}

/// What becomes of one part.
type Made<T> = io::Result<T>;

/// Hands each part of `from` to `make`, on so many threads, and what comes of it to `put`, in order. Few parts are held at
/// once.
fn in_parts<T: Send>(
    from: &mut dyn Read,
    threads: usize,
    make: &(dyn Fn(&[u8]) -> Made<T> + Sync),
    put: &mut dyn FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let (give, take) = sync_channel::<(Vec<u8>, SyncSender<Made<T>>)>(threads);
    let take = Mutex::new(take);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Ok((part, done)) = take.lock().recv() else {
                        return;
                    };
                    // Nobody waits for it after a failure.
                    let _ = done.send(make(&part));
                }
            });
        }
        // It goes with this, and the threads with it.
        let give = give;
        let mut waiting: VecDeque<Receiver<Made<T>>> = VecDeque::new();
        let mut put_first = |waiting: &mut VecDeque<Receiver<Made<T>>>| {
            let Some(first) = waiting.pop_front() else {
                return Ok(());
            };
            let made = first
                .recv()
                .map_err(|_| io::Error::other("a bug ended a compression"))?;
            put(made?)
        };
        loop {
            let mut part = Vec::with_capacity(PART);
            from.take(PART as u64).read_to_end(&mut part)?;
            if part.is_empty() {
                break;
            }
            let (done, made) = sync_channel(1);
            give.send((part, done))
                .map_err(|_| io::Error::other("a bug ended a compression"))?;
            waiting.push_back(made);
            if waiting.len() > 2 * threads {
                put_first(&mut waiting)?;
            }
        }
        while !waiting.is_empty() {
            put_first(&mut waiting)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    /// Bytes that compress by about a half.
    fn bytes(count: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    fn zipped(bytes: &[u8], level: u32, threads: usize) -> Vec<u8> {
        let mut out = Vec::new();
        gzip(&mut &bytes[..], &mut out, Compression::new(level), threads).unwrap();
        out
    }

    #[test]
    fn gzip_is_one_member_and_the_same_by_any_number_of_threads() {
        for count in [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7] {
            for level in [0, 6, 9] {
                let bytes = bytes(count);
                let one = zipped(&bytes, level, 1);
                // Not the decoder of several members.
                let mut read = Vec::new();
                GzDecoder::new(&one[..]).read_to_end(&mut read).unwrap();
                assert!(read == bytes, "{count} at {level}");
                for threads in [2, 3, 7] {
                    assert!(zipped(&bytes, level, threads) == one, "{count} by {threads}");
                }
            }
        }
        assert!(zipped(&bytes(PART), 6, 2).len() < PART * 3 / 4);
    }

    #[test]
    fn zstd_is_read_as_one() {
        for count in [0, 1, PART, 2 * PART + 5] {
            for level in [None, Some(1), Some(19)] {
                let packing = Packing {
                    small: Small::Zstd,
                    level,
                    force: false,
                };
                let mut out = Vec::new();
                packing.pack(&mut &bytes(count)[..], &mut out).unwrap();
                assert!(
                    zstd::decode_all(&out[..]).unwrap() == bytes(count),
                    "{count} at {level:?}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_read_or_written_ends_it() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
                buffer.fill(7);
                Ok(buffer.len())
            }
        }
        let failed = gzip(&mut Broken(300), &mut io::sink(), Compression::default(), 3).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::InvalidData);
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let endless = &mut io::repeat(1);
        let failed = Packing::default().pack(endless, &mut Full).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        let endless = &mut io::repeat(1);
        let mut room = 9;
        let failed = in_parts(endless, 2, &|part| Ok(part.len()), &mut |_| {
            room -= 1;
            match room {
                0 => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(()),
            }
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
