//! A copy-on-write union filesystem in user space: tar layers below, a writable layer above, FUSE in front.
//!
//! [`layer`] turns a tar stream into a stored tar and its [`index`]; [`index::merge`] resolves a stack of layer
//! indexes into one; [`upper`] keeps what a container changes; [`union::Tree`] is the filesystem, free of FUSE;
//! [`fuse`] serves it to the kernel. The formats on disk are described in the repository's `ARCHITECTURE.md`.

pub mod attr;
pub mod disk;
pub mod error;
pub mod index;
pub mod layer;
pub mod ledger;
pub mod name;
pub mod union;
pub mod upper;

pub mod fuse;
mod sys;
mod tar;
