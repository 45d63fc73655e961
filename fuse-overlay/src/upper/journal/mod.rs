//! The journal: what makes the inode table again after the server ended, however it ended.

pub(crate) mod format;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod reader;
pub(crate) mod replay;
pub(crate) mod start;

pub use log::Durable;
