//! Where can a server die? At any of the points that a request passes, so that a test can kill it at each of them:
//! `FUSE_OVERLAY_KILL=point:n` at the n-th request that reaches that point (`read`, `happened`, `saved`, `sent`), or at the
//! n-th part of a checkpoint (`checkpoint`), or where it is about to make the list at its end (`list`);
//! `FUSE_OVERLAY_ABORT=name` at every request that has that name in it, as a bug would, and `done:name` each time that one
//! has been carried out; `FUSE_OVERLAY_PANIC=name` makes each of the former panic instead; and with `FUSE_OVERLAY_HURRY=1` it
//! makes one checkpoint after the other. Not in release builds.

/// A point on the way of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(debug_assertions), allow(dead_code))]
pub(super) enum Point {
    /// It is in hand, nothing was done.
    Read,
    /// It has just been carried out, rather than answered from the journal.
    Done,
    /// Its work is done, its answer not yet saved.
    Happened,
    /// The answer is saved and not yet sent.
    Saved,
    /// It is sent; the slot still holds the request.
    Sent,
    /// No request's: a part of a checkpoint is about to be written.
    Checkpoint,
    /// Nor this one: the connection has ended, all is synced, the list is about to be made.
    List,
}

/// Is a checkpoint to be made, due or not, as soon as something has changed?
pub(super) fn hurries() -> bool {
    cfg!(debug_assertions) && std::env::var_os("FUSE_OVERLAY_HURRY").is_some()
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) fn may_panic(_message: &[u8]) {}

/// Called where a bug in a request's work would panic.
#[cfg(debug_assertions)]
pub(super) fn may_panic(message: &[u8]) {
    use std::sync::LazyLock;

    static PANIC: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FUSE_OVERLAY_PANIC").ok());
    if let Some(name) = &*PANIC {
        assert!(!holds(message, name), "as a test wants it: {name}");
    }
}

/// Has the request that name in it?
#[cfg(debug_assertions)]
fn holds(message: &[u8], name: &str) -> bool {
    message.windows(name.len()).any(|part| part == name.as_bytes())
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) fn pass(_point: Point, _message: &[u8]) {}

#[cfg(debug_assertions)]
pub(super) fn pass(point: Point, message: &[u8]) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static KILL: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let value = std::env::var("FUSE_OVERLAY_KILL").ok()?;
        let (point, count) = value.split_once(':')?;
        Some((point.to_owned(), count.parse().ok()?))
    });
    static ABORT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FUSE_OVERLAY_ABORT").ok());
    static PASSED: AtomicU64 = AtomicU64::new(0);

    if let Some((wanted, count)) = &*KILL
        && format!("{point:?}").eq_ignore_ascii_case(wanted)
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        if hurries() {
            // A checkpoint, or several, after the work that is not answered yet.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // The process cannot outlive this.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
    if let Some(name) = &*ABORT {
        let (at, name) = match name.strip_prefix("done:") {
            Some(name) => (Point::Done, name),
            None => (Point::Read, name.as_str()),
        };
        if point == at && holds(message, name) {
            std::process::abort();
        }
    }
}
