//! How do two stages of a layer's way into the store work side by side? A bounded queue of buffers, which go round: one
//! thread fills, the other reads; an error travels with the bytes.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

/// Bytes of one buffer.
const BUFFER: usize = 256 << 10;
/// Buffers that may wait. With those being filled and read, a pipe needs 1.5 MiB.
const WAITING: usize = 4;

/// What travels: some bytes, the end (no bytes), or a failure.
type Parcel = io::Result<Vec<u8>>;

/// The end that is filled.
pub(super) struct Filler {
    full: SyncSender<Parcel>,
    empty: Receiver<Vec<u8>>,
}

/// The end that is read.
pub(super) struct Drawn {
    full: Receiver<Parcel>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

/// A new pipe.
pub(super) fn pipe() -> (Filler, Drawn) {
    let (full, drawn) = mpsc::sync_channel(WAITING);
    let (used, empty) = mpsc::channel();
    (
        Filler { full, empty },
        Drawn {
            full: drawn,
            empty: used,
            buffer: Vec::new(),
            at: 0,
            ended: false,
        },
    )
}

impl Filler {
    /// Reads `source` to its end into the pipe. Stops early when nobody reads any more: the reader knows why.
    pub(super) fn fill(self, mut source: impl Read) {
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            let parcel = fill_one(&mut source, &mut buffer).map(|()| buffer);
            let last = parcel.as_ref().map_or(true, Vec::is_empty);
            if self.full.send(parcel).is_err() || last {
                return;
            }
        }
    }
}

/// The end that is filled, as a writer: what it is given goes into `kept` first.
pub(super) struct Pouring<W> {
    to: Filler,
    kept: W,
    buffer: Vec<u8>,
}

impl<W: Write> Pouring<W> {
    pub(super) fn new(to: Filler, kept: W) -> Pouring<W> {
        Pouring {
            to,
            kept,
            buffer: Vec::new(),
        }
    }

    /// Says that this was all. Without it, the reader takes what came for broken.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.pass_on()?;
        self.to.full.send(Ok(Vec::new())).map_err(|_| unread())
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.kept.write_all(&self.buffer)?;
        let mut next = self.to.empty.try_recv().unwrap_or_default();
        next.clear();
        let full = std::mem::replace(&mut self.buffer, next);
        self.to.full.send(Ok(full)).map_err(|_| unread())
    }
}

impl<W: Write> Write for Pouring<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()
    }
}

/// Nobody reads any more: the reader knows why.
fn unread() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Fills a buffer as far as `source` reaches.
fn fill_one(source: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(BUFFER, 0);
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What came before a failure is of no use: nothing unfinished is kept.
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(())
}

impl BufRead for Drawn {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() && !self.ended {
            let next = self
                .full
                .recv()
                .map_err(|_| io::Error::other("the stage before ended without a word"))?;
            let next = match next {
                Ok(next) => next,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            };
            self.ended = next.is_empty();
            let used = std::mem::replace(&mut self.buffer, next);
            self.at = 0;
            // The filler may be gone already; then the buffer is, too.
            let _ = self.empty.send(used);
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.buffer.len());
    }
}

impl Read for Drawn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_whole_and_in_order() {
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let (filler, mut drawn) = pipe();
        let mut got = Vec::new();
        std::thread::scope(|threads| {
            threads.spawn(|| filler.fill(sent.as_slice()));
            drawn.read_to_end(&mut got).unwrap();
        });
        assert!(got == sent);
    }

    #[test]
    fn an_error_is_never_taken_for_the_end() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = buffer.len().min(self.0);
                self.0 -= count;
                if count == 0 {
                    Err(io::Error::other("broken"))
                } else {
                    Ok(count)
                }
            }
        }
        let (filler, mut drawn) = pipe();
        std::thread::spawn(|| filler.fill(Breaks(1_000_000)));
        assert_eq!(
            io::copy(&mut drawn, &mut io::sink()).unwrap_err().to_string(),
            "broken"
        );
        let (filler, mut drawn) = pipe();
        drop(filler);
        assert!(drawn.read(&mut [0]).is_err());
        let (filler, drawn) = pipe();
        drop(drawn);
        filler.fill(io::repeat(0));
    }

    #[test]
    fn what_is_poured_is_kept_and_arrives() {
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let (filler, mut drawn) = pipe();
        let (mut kept, mut got) = (Vec::new(), Vec::new());
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut pouring = Pouring::new(filler, &mut kept);
                sent.chunks(7001)
                    .for_each(|chunk| pouring.write_all(chunk).unwrap());
                pouring.end().unwrap();
            });
            drawn.read_to_end(&mut got).unwrap();
        });
        assert!(got == sent && kept == sent);
    }

    #[test]
    fn what_was_not_ended_is_broken() {
        let (filler, mut drawn) = pipe();
        let mut pouring = Pouring::new(filler, io::sink());
        pouring.write_all(b"half").unwrap();
        pouring.flush().unwrap();
        drop(pouring);
        assert!(drawn.read_to_end(&mut Vec::new()).is_err());
        let (filler, drawn) = pipe();
        drop(drawn);
        let mut pouring = Pouring::new(filler, io::sink());
        assert_eq!(
            pouring.write_all(&[0; BUFFER]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
