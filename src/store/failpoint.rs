//! Where can a step of the store fail, or its process be killed? Every write, sync, rename and unlink of the store passes
//! here, so that a test can do it at each of them in turn. Not in release builds.
//!
//! `BRYO_FAILPOINT=n` aborts before the n-th, `n:28` lets it fail with that errno instead, `n+:28` it and all that follow;
//! `n:short` writes half of what is given, `n:stop` stops the process there until somebody continues it. The file
//! `BRYO_FAILPOINT_MET` gets the pid of whom it happens to.

use std::fs::File;
use std::io::{self, Write};

/// A step of the store is about to happen, unless this fails.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn step() -> io::Result<()> {
    Ok(())
}

/// A step of the store is about to happen, unless this fails.
#[cfg(debug_assertions)]
pub(crate) fn step() -> io::Result<()> {
    match injected::next() {
        Some(injected::Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(injected::Fault::Short | injected::Fault::Stop) | None => Ok(()),
    }
}

/// How many of these bytes a write takes.
#[cfg(not(debug_assertions))]
#[inline(always)]
fn taken(bytes: &[u8]) -> io::Result<&[u8]> {
    Ok(bytes)
}

/// How many of these bytes a write takes.
#[cfg(debug_assertions)]
fn taken(bytes: &[u8]) -> io::Result<&[u8]> {
    match injected::next() {
        Some(injected::Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(injected::Fault::Short) => Ok(&bytes[..bytes.len().div_ceil(2)]),
        Some(injected::Fault::Stop) | None => Ok(bytes),
    }
}

/// A file of the store that is written as a stream: each write is a step.
pub(crate) struct Stepped<'a>(pub(crate) &'a File);

impl Write for Stepped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(taken(bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What a test asked for.
#[cfg(debug_assertions)]
mod injected {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    /// What befalls a step, if its process is not killed.
    #[derive(Clone, Copy)]
    pub(super) enum Fault {
        Errno(i32),
        Short,
        /// It has happened, and is over.
        Stop,
    }

    struct Asked {
        first: u64,
        lasting: bool,
        /// None: the process ends.
        fault: Option<Fault>,
    }

    impl Asked {
        fn parse(text: &str) -> Option<Asked> {
            let (step, fault) = match text.split_once(':') {
                None => (text, None),
                Some((step, "short")) => (step, Some(Fault::Short)),
                Some((step, "stop")) => (step, Some(Fault::Stop)),
                Some((step, errno)) => (step, Some(Fault::Errno(errno.parse().ok()?))),
            };
            let first = step.strip_suffix('+');
            Some(Asked {
                first: first.unwrap_or(step).parse().ok()?,
                lasting: first.is_some(),
                fault,
            })
        }
    }

    /// Counts a step, and says what befalls it.
    pub(super) fn next() -> Option<Fault> {
        static ASKED: LazyLock<Option<Asked>> =
            LazyLock::new(|| Asked::parse(&std::env::var("BRYO_FAILPOINT").ok()?));
        static STEPS: AtomicU64 = AtomicU64::new(0);
        let asked = ASKED.as_ref()?;
        let step = STEPS.fetch_add(1, Ordering::SeqCst) + 1;
        if step != asked.first && !(asked.lasting && step > asked.first) {
            return None;
        }
        if let Some(mark) = std::env::var_os("BRYO_FAILPOINT_MET") {
            // Only tests ask for it, and see that it is missing. A forked process counts on: two may meet it, at once.
            let file = OpenOptions::new().create(true).append(true).open(mark);
            let line = format!("{}\n", std::process::id());
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
        let fault = asked.fault.unwrap_or_else(|| std::process::abort());
        if matches!(fault, Fault::Stop) {
            // Fails for no process.
            let _ = raise(Signal::SIGSTOP);
        }
        Some(fault)
    }
}
