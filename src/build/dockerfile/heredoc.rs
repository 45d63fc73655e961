//! Which here-documents does a line announce?

use super::error::Fault;
use super::expand::{Quotes, raw_words, unset_words};

/// `<<NAME` and the lines up to one that is just NAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// Its name without quotes: the line that ends it, and the name of the file that it becomes.
    pub name: String,
    /// Its lines as they stand in the file, line ends included.
    pub content: String,
    /// No part of the name is quoted: COPY and ADD expand the content.
    pub expand: bool,
    /// `<<-`: tabs at the start of each line are not meant.
    pub chomp: bool,
}

impl Heredoc {
    /// The content, without the tabs if `<<-` says so.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }

    /// Reads `<<NAME`, `<<-NAME`, `3<<"NAME"`, `<< NAME`; None if the word is something else.
    pub(super) fn of_word(word: &str) -> Result<Option<Self>, Fault> {
        let behind_number = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(rest) = behind_number.strip_prefix("<<") else {
            return Ok(None);
        };
        let (chomp, name) = match rest.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, rest),
        };
        let name = name.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
        if name.is_empty() || name.contains('<') {
            return Ok(None);
        }
        let plain = unset_words(name, Quotes::Gone).map_err(Fault::HeredocName)?;
        let quoted = unset_words(name, Quotes::Kept).map_err(Fault::HeredocName)?;
        let ([plain], [quoted]) = (plain.as_slice(), quoted.as_slice()) else {
            return Ok(None);
        };
        let quotes = |text: &str| text.matches(['\'', '"']).count();
        Ok(Some(Self {
            name: plain.clone(),
            content: String::new(),
            expand: quotes(plain) == quotes(quoted),
            chomp,
        }))
    }

    /// Those of a whole line, in order, still without content. A line that no shell could read has none.
    pub(super) fn of_line(line: &str) -> Result<Vec<Self>, Fault> {
        if !line.contains("<<") {
            return Ok(Vec::new());
        }
        let words = raw_words(line).unwrap_or_default();
        words
            .iter()
            .filter_map(|word| Self::of_word(word).transpose())
            .collect()
    }
}

/// Is the text nothing but one here-document's announcement?
pub(super) fn is_one(text: &str) -> bool {
    matches!(Heredoc::of_word(text), Ok(Some(_)))
}
