//! How is a build shown? BuildKit's plain lines, on standard error: `#3 [2/4] RUN make`, `#3 0.214 output`, `#3 DONE 0.3s`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Clock, lines, show};
use crate::build::Progress;

/// Plain lines.
pub(super) struct Lines {
    /// Steps that have begun, here and beside.
    count: Arc<AtomicUsize>,
    now: Mutex<Now>,
}

/// The step that is shown.
struct Now {
    number: usize,
    clock: Clock,
    began: Timestamp,
    /// What a command wrote of a line that has no end yet.
    unfinished: Vec<u8>,
}

impl Lines {
    pub(super) fn new(clock: Clock) -> Lines {
        Lines::after(Arc::default(), clock)
    }

    fn after(count: Arc<AtomicUsize>, clock: Clock) -> Lines {
        let now = Now {
            number: 0,
            began: clock.now(),
            clock,
            unfinished: Vec::new(),
        };
        Lines {
            count,
            now: Mutex::new(now),
        }
    }
}

/// What a command wrote last may have no end, and a failed one is not told to be done.
impl Drop for Now {
    fn drop(&mut self) {
        self.finish_line();
    }
}

impl Now {
    fn line(&mut self, text: &[u8]) {
        let head = format!("#{} {:.3} ", self.number, self.clock.seconds_since(self.began));
        show(&[head.as_bytes(), text, b"\n"].concat());
    }

    fn finish_line(&mut self) {
        if !self.unfinished.is_empty() {
            let rest = std::mem::take(&mut self.unfinished);
            self.line(&rest);
        }
    }
}

impl Progress for Lines {
    fn begins(&self, title: &str) {
        let mut now = self.now.lock();
        now.number = 1 + self.count.fetch_add(1, Ordering::Relaxed);
        now.began = now.clock.now();
        show(format!("#{} {title}\n", now.number).as_bytes());
    }

    fn cached(&self) {
        show(format!("#{} CACHED\n\n", self.now.lock().number).as_bytes());
    }

    fn output(&self, bytes: &[u8]) {
        let mut now = self.now.lock();
        for line in lines(&mut now.unfinished, bytes) {
            now.line(&line);
        }
    }

    fn done(&self) {
        let mut now = self.now.lock();
        now.finish_line();
        show(
            format!(
                "#{} DONE {:.1}s\n\n",
                now.number,
                now.clock.seconds_since(now.began)
            )
            .as_bytes(),
        );
    }

    fn fails(&self) {
        self.now.lock().finish_line();
    }

    fn warning(&self, text: &str) {
        let mut now = self.now.lock();
        now.finish_line();
        show(format!("bryo: {text}\n").as_bytes());
    }

    fn beside(&self) -> Box<dyn Progress + '_> {
        let clock = self.now.lock().clock.clone();
        Box::new(Lines::after(Arc::clone(&self.count), clock))
    }
}
