//! Is the Dockerfile language read as its reference and BuildKit's own tests say?
//!
//! Each table names its source: the reference is `frontend/dockerfile/docs/reference.md` of moby/buildkit, other names
//! are files below its `frontend/dockerfile/`. Nothing is expected because this program does it.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod expansion;
mod heredocs;
mod instructions;
mod limits;
mod lines;
mod mounts;
mod refused;

use bryo::build::dockerfile::{Instruction, Step, parse};

/// The steps behind `FROM scratch`.
fn steps(text: &str) -> Vec<Step> {
    let whole = format!("FROM scratch\n{text}");
    match parse(&whole) {
        Ok(mut file) => file.stages.remove(0).steps,
        Err(error) => panic!("{text:?}: {error}"),
    }
}

/// The only step.
fn step(text: &str) -> Instruction {
    let mut steps = steps(text);
    assert_eq!(steps.len(), 1, "{text:?}");
    steps.remove(0).instruction
}

/// Texts as strings.
fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}
