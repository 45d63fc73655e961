//! The tool's only unsafe code: each function a safe face over one thing that Rust cannot check.
#![allow(unsafe_code)]
