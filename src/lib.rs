//! Pull, build and run OCI images as an ordinary user. `ARCHITECTURE.md` has the words and the arrows.

// It panics where nobody listens: `say!`.
#![warn(clippy::print_stderr)]

pub mod build;
pub mod cli;
pub mod containers;
pub mod host;
pub mod images;
mod label;
mod line;
mod moment;
pub mod net;
mod rooted;
mod stderr;
pub mod store;
mod sys;
mod truth;
