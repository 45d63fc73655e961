//! What lies where on disk, and how is a file locked and replaced?

pub mod changes;
pub mod digest;
mod error;
pub mod events;
pub(crate) mod failpoint;
pub mod given;
pub mod lease;
pub mod lock;
mod medium;
pub mod root;
pub mod seal;
pub mod wipe;
pub mod write;

pub use changes::{Changes, Which};
pub use digest::{ChainId, Digest, Digesting};
pub use error::{Error, more_space};
pub use given::Given;
pub use lock::{Lock, Mode};
pub use medium::Medium;
pub use root::Store;
pub use write::{Aside, Durability, Steady};

/// A new store in a directory that goes with the returned guard.
#[cfg(test)]
pub(crate) fn scratch() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let below = |name| dir.path().join(name);
    let store = Store::at(below("root"), below("state"), below("run"));
    store.prepare().expect("a new store");
    (dir, store)
}
