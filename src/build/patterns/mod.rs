//! Which names does a build take? COPY's wildcards, `.dockerignore`, `COPY --exclude`. Names are bytes.

pub mod clean;
pub mod ignore;
mod pattern;

pub use crate::images::glob;
