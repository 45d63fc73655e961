//! The writable layer: an inode table in memory, a journal that makes it again, and data segments.

pub mod journal;
