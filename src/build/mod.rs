//! How does a Dockerfile become an image?

pub mod patterns;
