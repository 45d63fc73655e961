//! The FUSE front: messages of the kernel to calls on [`crate::union::Tree`].
//!
//! [`mount()`] or [`mount_by_helper`] puts a connection in place, [`serve()`] answers it. On the way of a request: `serve` reads the bytes,
//! `request` decodes them, `adapter` calls the tree, `reply` lays out the answer; `wire` are the protocol's structs and
//! `negotiate` its features.

mod adapter;
mod crash;
mod fusermount;
mod grown;
mod ids;
mod listings;
mod loose;
mod mount;
mod negotiate;
pub mod owners;
mod patience;
mod refused;
mod reply;
mod request;
mod serve;
mod sync;
pub mod touched;
mod unlinked;
mod wire;

pub use fusermount::{mount_by_helper, unmount_by_helper};
pub use ids::IdMap;
#[doc(hidden)]
pub use loose::Loose;
pub use mount::{Reach, mount, open_devices};
pub use serve::{AtEnd, serve, serve_noting};
