//! Where can a process be killed? Every write, sync, rename and unlink of the store passes here, so that a test can
//! end the process at each of them in turn: `BRYO_FAILPOINT=n` aborts before the n-th. Not in release builds.

/// A step of the store is about to happen.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn step() {}

/// A step of the store is about to happen.
#[cfg(debug_assertions)]
pub(crate) fn step() {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static LAST: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var("BRYO_FAILPOINT").ok()?.parse().ok());
    static STEPS: AtomicU64 = AtomicU64::new(0);
    if let Some(last) = *LAST
        && STEPS.fetch_add(1, Ordering::SeqCst) + 1 == last
    {
        std::process::abort();
    }
}

/// A file of the store that is written as a stream: each write is a step.
pub(crate) struct Stepped<'a>(pub(crate) &'a std::fs::File);

impl std::io::Write for Stepped<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        step();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
