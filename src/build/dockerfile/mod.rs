//! What does a Dockerfile say? Text → typed instructions with their places; words with variables → words.
//!
//! The language is that of BuildKit's frontend (`docker/dockerfile:1`, stable channel). Everything here is pure: no
//! file is read, no process started. What an instruction does is the engine's affair; `instruction` says which fields
//! it must expand, with which values, before it uses them.

mod copy;
mod duration;
mod error;
mod expand;
mod flags;
mod heredoc;
mod instruction;
mod lex;
mod mount;
mod parse;
mod pattern;
mod words;

pub use error::{Fault, ParseError, Place};
pub use expand::{ExpandError, MAX_EXPANDED, MAX_NESTING, expand, expand_text, expand_words};
pub use heredoc::Heredoc;
pub use instruction::{
    Add, Arg, Command, Copy, Directives, Dockerfile, From, Healthcheck, Instruction, Run, Source, Stage, Step,
};
pub use lex::MAX_TEXT;
pub use mount::{Mount, MountError, MountFlag, MountKind, Sharing};
pub use parse::{parse, parse_trigger};
