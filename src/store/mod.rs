//! What lies where on disk, and how is a file locked and replaced?

pub mod digest;
pub mod root;
pub mod write;

pub use digest::{ChainId, Digest};
pub use root::Store;
