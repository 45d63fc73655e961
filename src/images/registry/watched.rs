//! How long is a server waited for that sends its answer drop by drop? Each answer's body is read through here: a byte now
//! and then is as good as none.

use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

use ureq::{Body, BodyReader};

/// Slower than this, in bytes per second over the whole of the client's patience, is as good as silent.
const SLOWEST: u64 = 256;

/// The body of an answer. A read fails when the server was too slow for as long as a silent one is waited for.
pub(super) struct Watched {
    body: BodyReader<'static>,
    content_length: Option<u64>,
    patience: Duration,
    watch: Watch,
}

/// How fast do bytes come, counting only the time spent waiting for them?
#[derive(Default)]
struct Watch {
    waited: Duration,
    bytes: u64,
}

impl Watched {
    pub(super) fn new(body: Body, patience: Duration) -> Watched {
        Watched {
            content_length: body.content_length(),
            body: body.into_reader(),
            patience,
            watch: Watch::default(),
        }
    }

    /// How many bytes it has, if its head says so.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let count = self.body.read(buffer)?;
        let is_slow = self.watch.is_slow(start.elapsed(), count as u64, self.patience);
        match is_slow && count > 0 {
            true => Err(io::Error::new(ErrorKind::TimedOut, "the server is too slow")),
            false => Ok(count),
        }
    }
}

impl Watch {
    fn is_slow(&mut self, waited: Duration, bytes: u64, patience: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < patience {
            return false;
        }
        let slow = self.bytes < SLOWEST.saturating_mul(patience.as_secs());
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        slow
    }
}
