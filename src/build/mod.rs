//! How does a Dockerfile become an image?

pub mod dockerfile;
pub mod patterns;
