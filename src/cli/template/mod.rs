//! `--format`: Go's text/template over JSON, as Docker's users write it.
//!
//! Own code, since the one crate for it (gtmpl 0.7) lacks much of the language. [`lex`] and [`parse`] follow the
//! grammar of Go's package, [`eval`] and [`functions`] its semantics, which the tests compare with Go programs'
//! answers. Differences: a structure prints as a map, and numbers of all types compare.

mod eval;
mod functions;
mod lex;
mod parse;
mod printf;
mod value;

use serde_json::Value;

pub(crate) use functions::{Functions, urlquery};

/// A template that parsed.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
    tree: parse::Tree,
}

/// Why a template could not be used. The wording is close to Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// It breaks the grammar.
    #[error("template parsing error: template: :{line}: {message}")]
    Parse {
        /// Counted from 1.
        line: usize,
        message: String,
    },
    /// It asks the data for something that it does not have, or a function for something that it cannot do.
    #[error("template: :{line}:{column}: executing \"\" at <{action}>: {message}")]
    Execute {
        /// Counted from 1.
        line: usize,
        /// In bytes from 0.
        column: usize,
        action: String,
        message: String,
    },
}

impl Error {
    fn parse(text: &str, at: usize, message: impl Into<String>) -> Error {
        Error::Parse {
            line: place(text, at).0,
            message: message.into(),
        }
    }

    fn execute(text: &str, at: usize, message: impl Into<String>) -> Error {
        let (line, column) = place(text, at);
        let rest = text.get(at..).unwrap_or_default();
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '}' | ')' | '|'))
            .unwrap_or(rest.len());
        let action = rest.get(..end).unwrap_or_default().to_owned();
        Error::Execute {
            line,
            column,
            action,
            message: message.into(),
        }
    }
}

/// Line from 1, column from 0.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before.len() - line_start)
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Template, Error> {
        let tree = parse::parse(text, &functions::is_function)?;
        Ok(Template {
            text: text.to_owned(),
            tree,
        })
    }

    /// Fills it in with `data`, which has no methods.
    pub(crate) fn render(&self, data: &Value) -> Result<String, Error> {
        self.render_with(
            data,
            &Functions {
                method: &|_, _| None,
                is_header: false,
            },
        )
    }

    /// Fills it in with `data` and what `functions` adds.
    pub(crate) fn render_with(&self, data: &Value, functions: &Functions) -> Result<String, Error> {
        let mut run = eval::Run {
            text: &self.text,
            tree: &self.tree,
            functions,
            out: String::new(),
        };
        run.run(data)?;
        Ok(run.out)
    }
}

#[cfg(test)]
mod tests;
