//! A copy-on-write union filesystem in user space: tar layers below, a writable layer above, FUSE in front.
//!
//! [`layer`] turns a tar stream into a stored tar and its [`index`]; [`index::merge`] resolves a stack of layer
//! indexes into one; [`upper`] keeps what a container changes; [`union::Tree`] is the filesystem, free of FUSE;
//! [`fuse`] serves it to the kernel. The formats on disk are described in the crate's `ARCHITECTURE.md`.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use fuse_overlay::fuse::{AtEnd, IdMap, mount, open_devices, serve};
//! use fuse_overlay::ledger::Ledger;
//! use fuse_overlay::stack;
//! use fuse_overlay::union::{Limits, Tree};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Tars and plain directories, lowest first; a directory where indexes are kept.
//! let lower = stack::open(&["base.tar".into(), "site".into()], Path::new("indexes"))?;
//! let tree = Tree::open(lower, Path::new("upper"), Limits::default())?;
//! // As root of a user namespace; elsewhere `mount_by_helper` gives the first device.
//! let devices = open_devices(2)?;
//! mount(std::os::fd::AsFd::as_fd(&devices[0]), Path::new("mnt"))?;
//! serve(tree, IdMap::of_process(std::process::id())?, devices, &Ledger::alone()?, AtEnd::Sync)?;
//! # Ok(())
//! # }
//! ```
//! What changed: [`union::Tree::differences`], or as a layer's tar [`union::Tree::write_layer`]. What is damaged:
//! [`index::View::check`], [`layer::verify`], [`layer::Directory::changed`], and opening a [`union::Tree`], which reads the
//! whole journal.

pub mod attr;
pub mod disk;
pub mod error;
pub mod index;
pub mod layer;
pub mod ledger;
pub mod name;
pub mod stack;
pub mod union;
pub mod upper;

pub mod fuse;
mod sys;
pub mod tar;
