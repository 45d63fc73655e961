//! Where does an instruction begin and end? Text → lines joined by continuation, without comments.
//!
//! As BuildKit's `frontend/dockerfile/parser` (parser.go): the escape character before a line's end, spaces and tabs
//! between allowed, continues the line; comment lines and empty lines between continued ones are left out. White
//! space before an instruction goes away, that of continuations stays.

use super::error::{Fault, ParseError};
use super::{Directives, Heredoc, Place};

/// How long a Dockerfile may be, in bytes. People write kilobytes; here-documents may make it more.
pub const MAX_TEXT: usize = 16 << 20;

/// An instruction's text, without its here-documents.
pub(super) struct Line {
    pub(super) first: u32,
    pub(super) text: String,
    /// The comments before it, without their `#`: all since the last instruction, or since an empty comment.
    pub(super) comments: Vec<String>,
}

/// Reads a Dockerfile's lines.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    /// How many lines were read: the last one's number.
    line: u32,
    directives: Directives,
    /// The place for parser directives is over.
    past_directives: bool,
    /// The first line was `#!…`: what comes behind it can no longer set the escape character, as in BuildKit.
    shebang: bool,
    escape_seen: bool,
    /// The last lines of instructions with empty lines between continued ones.
    empty_continuations: Vec<u32>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT {
            let place = Place { first: 1, last: 1 };
            return Err(ParseError::new(place, Fault::TooLong { bytes: text.len() }));
        }
        Ok(Self {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            line: 0,
            directives: Directives {
                syntax: None,
                escape: '\\',
                check: None,
            },
            past_directives: false,
            shebang: false,
            escape_seen: false,
            empty_continuations: Vec::new(),
        })
    }

    /// The directives; all are known once an instruction was read.
    pub(super) fn directives(&self) -> &Directives {
        &self.directives
    }

    /// See [`Dockerfile`](super::Dockerfile).
    pub(super) fn empty_continuations(&self) -> &[u32] {
        &self.empty_continuations
    }

    /// The number of the last line read.
    pub(super) fn last(&self) -> u32 {
        self.line
    }

    /// The next instruction's text, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Line>, ParseError> {
        let mut comments = Vec::new();
        while let Some(raw) = self.raw_line() {
            let line = without_end(raw).trim_start();
            let is_directive = self.directive(line)?;
            match line.strip_prefix('#').map(str::trim) {
                Some("") => comments.clear(),
                Some(comment) if !is_directive => comments.push(comment.to_owned()),
                _ => {}
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let first = self.line;
            let text = match continued(line, self.directives.escape) {
                Some(start) => self.continuation(start),
                None => line.to_owned(),
            };
            return Ok(Some(Line {
                first,
                text,
                comments,
            }));
        }
        Ok(None)
    }

    fn continuation(&mut self, start: &str) -> String {
        let mut text = start.to_owned();
        let mut has_empty = false;
        while let Some(raw) = self.raw_line() {
            let line = without_end(raw);
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                has_empty |= trimmed.is_empty();
                continue;
            }
            match continued(line, self.directives.escape) {
                Some(more) => text.push_str(more),
                None => {
                    text.push_str(line);
                    break;
                }
            }
        }
        if has_empty {
            self.empty_continuations.push(self.line);
        }
        text
    }

    /// Reads a here-document's content up to its end; false if it has none.
    pub(super) fn heredoc(&mut self, heredoc: &mut Heredoc) -> bool {
        while let Some(raw) = self.raw_line() {
            let line = without_end(raw);
            let end = if heredoc.chomp {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if end == heredoc.name {
                return true;
            }
            heredoc.content.push_str(raw);
        }
        false
    }

    /// The next line with its end.
    fn raw_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.line += 1;
        Some(line)
    }

    /// Takes a `# name=value` line at the start of the file. Was it one?
    fn directive(&mut self, line: &str) -> Result<bool, ParseError> {
        if self.past_directives {
            return Ok(false);
        }
        if self.line == 1 && line.starts_with("#!") {
            self.shebang = true;
            return Ok(false);
        }
        let place = Place {
            first: self.line,
            last: self.line,
        };
        let refused = |fault| ParseError::new(place, fault);
        let parsed = directive(line);
        let (name, value) = match &parsed {
            Some((name, value)) => (name.as_str(), *value),
            None => ("", ""),
        };
        let twice = match name {
            "syntax" => self.directives.syntax.replace(value.to_owned()).is_some(),
            "check" => self.directives.check.replace(value.to_owned()).is_some(),
            "escape" if self.shebang => false,
            "escape" => {
                self.directives.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => return Err(refused(Fault::BadEscape(other.to_owned()))),
                };
                std::mem::replace(&mut self.escape_seen, true)
            }
            _ => {
                self.past_directives = true;
                false
            }
        };
        match twice {
            true => Err(refused(Fault::DirectiveTwice {
                name: name.to_owned(),
            })),
            false => Ok(!self.past_directives),
        }
    }
}

/// `# name = value`: the name in lower case, and the value.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
        && !value.is_empty();
    plain.then(|| (name.to_ascii_lowercase(), value))
}

fn without_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// What stands before the escape character at the line's end, if one continues the line. Two of them do not.
fn continued(line: &str, escape: char) -> Option<&str> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}
