//! Build images from Dockerfiles.

pub mod dockerfile;
