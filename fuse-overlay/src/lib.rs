//! A copy-on-write union filesystem.
