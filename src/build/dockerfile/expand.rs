//! What does a word become when its variables are replaced?
//!
//! As BuildKit's `frontend/dockerfile/shell` (lex.go): `$name`, `${name}`, and
//!
//! | form | gives |
//! | --- | --- |
//! | `${x-w}`, `${x:-w}` | w if x is unset; with the colon, or empty |
//! | `${x+w}`, `${x:+w}` | w if x is set; with the colon, and not empty; else nothing |
//! | `${x?w}`, `${x:?w}` | an error with w if x is unset; with the colon, or empty |
//! | `${x#p}`, `${x##p}` | x without the shortest, longest match of p at its start |
//! | `${x%p}`, `${x%%p}` | the same at its end |
//! | `${x/p/w}`, `${x//p/w}` | x with the first match, every match of p replaced by w |
//!
//! w and p may have variables themselves. A name that is not set is empty. Single quotes keep everything, double
//! quotes all but `$` and the escape character before `"`, `$` or itself; both go away.

use std::iter::Peekable;
use std::str::Chars;

use super::error::clean;
use super::pattern::{Pattern, Reach, Work};

/// How much a word may become, in bytes: as much as a whole Dockerfile. `ENV a=$a$a`, repeated, would fill any memory.
pub const MAX_EXPANDED: usize = super::MAX_TEXT;

/// How deep `${a:-${b:-…}}` may go. Each level takes room on the stack; nobody writes more than three.
pub const MAX_NESTING: usize = 64;

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each says itself.
pub enum ExpandError {
    #[error("a ' has no end")]
    SingleQuote,
    #[error("a \" has no end")]
    DoubleQuote,
    #[error("${{ has no }}")]
    Brace,
    #[error("${{name/pattern/replacement}} lacks its second /")]
    Slash,
    #[error("${{ needs a name behind it")]
    NoName,
    #[error("${{{}{}…}}: there is no such modifier", clean(name), clean(modifier))]
    Modifier { name: String, modifier: String },
    /// `${x?message}`.
    #[error("{}: {}", clean(.name), clean(.message))]
    Missing { name: String, message: String },
    #[error("pattern {}: \\ stands only before * ? \\ / and }}", clean(.0))]
    Escape(String),
    #[error("${{…}} is nested deeper than {MAX_NESTING}")]
    TooDeep,
    #[error("the value becomes larger than {MAX_EXPANDED} bytes")]
    TooLarge,
    #[error("its patterns would take too long to match")]
    TooMuchWork,
}

/// The word with its variables replaced, without its quotes and escapes.
pub fn expand(word: &str, escape: char, get: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let style = Style {
        escape,
        ..Style::WORD
    };
    Ok(Lexer::new(word, style, get).until(None, false)?.text)
}

/// The same as several words: split at white space that is neither quoted nor escaped. What variables hold is split
/// too.
pub fn expand_words(
    word: &str,
    escape: char,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ExpandError> {
    let style = Style {
        escape,
        ..Style::WORD
    };
    Ok(Lexer::new(word, style, get).until(None, false)?.words())
}

/// A here-document's content with its variables replaced: quotes are text like any other, and the escape character
/// is `\` whatever the file says.
pub fn expand_text(text: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let style = Style {
        quotes: Quotes::Text,
        ..Style::WORD
    };
    Ok(Lexer::new(text, style, get).until(None, false)?.text)
}

/// The words of a line as the shell would see them, with all their quotes and escapes, and variables as they are.
pub(super) fn raw_words(line: &str) -> Result<Vec<String>, ExpandError> {
    let style = Style {
        quotes: Quotes::Kept,
        keep_escapes: true,
        keep_unset: true,
        heredocs: true,
        ..Style::WORD
    };
    Ok(Lexer::new(line, style, &|_| None).until(None, true)?.words())
}

/// The words without their quotes, or with them; variables as they are.
pub(super) fn unset_words(text: &str, quotes: Quotes) -> Result<Vec<String>, ExpandError> {
    let style = Style {
        quotes,
        keep_unset: true,
        ..Style::WORD
    };
    Ok(Lexer::new(text, style, &|_| None).until(None, false)?.words())
}

/// What quotes are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quotes {
    /// They quote and go away.
    Gone,
    /// They quote and stay.
    Kept,
    /// They are text.
    Text,
}

#[derive(Clone, Copy)]
struct Style {
    escape: char,
    quotes: Quotes,
    keep_escapes: bool,
    /// `$x` stays as it is if x is not set.
    keep_unset: bool,
    /// `<<` and the blanks behind it belong to one word.
    heredocs: bool,
}

impl Style {
    const WORD: Self = Self {
        escape: '\\',
        quotes: Quotes::Gone,
        keep_escapes: false,
        keep_unset: false,
        heredocs: false,
    };
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    style: Style,
    get: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
    work: Work,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, style: Style, get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            rest: text.chars().peekable(),
            style,
            get,
            depth: 0,
            work: Work::new(),
        }
    }

    /// Reads up to `end`, or up to the end of the text.
    fn until(&mut self, end: Option<char>, keep_escapes: bool) -> Result<Built, ExpandError> {
        let outside = std::mem::replace(&mut self.style.keep_escapes, keep_escapes);
        let built = self.build(end);
        self.style.keep_escapes = outside;
        built
    }

    fn build(&mut self, end: Option<char>) -> Result<Built, ExpandError> {
        let mut built = Built::default();
        while let Some(&c) = self.rest.peek() {
            if Some(c) == end {
                self.rest.next();
                return Ok(built);
            }
            match c {
                '$' => built.push_value(&self.dollar()?)?,
                '\'' if self.style.quotes != Quotes::Text => built.push_quoted(&self.single_quoted()?)?,
                '"' if self.style.quotes != Quotes::Text => built.push_quoted(&self.double_quoted()?)?,
                '<' if self.style.heredocs => built.push_quoted(&self.angles())?,
                _ => self.plain(&mut built)?,
            }
        }
        match end {
            // BuildKit says which brace or slash: the caller knows.
            Some('/') => Err(ExpandError::Slash),
            Some(_) => Err(ExpandError::Brace),
            None => Ok(built),
        }
    }

    /// One character that is not special, or an escaped one.
    fn plain(&mut self, built: &mut Built) -> Result<(), ExpandError> {
        let Some(c) = self.rest.next() else { return Ok(()) };
        if c != self.style.escape {
            return built.push(c);
        }
        if self.style.keep_escapes {
            built.push_quoted(c.encode_utf8(&mut [0; 4]))?;
        }
        match self.rest.next() {
            Some(c) => built.push_quoted(c.encode_utf8(&mut [0; 4])),
            None => Ok(()),
        }
    }

    /// `<`, or `<<` with the blanks behind it.
    fn angles(&mut self) -> String {
        let mut text = String::new();
        text.extend(self.rest.next());
        if let Some(second) = self.rest.next_if_eq(&'<') {
            text.push(second);
            while let Some(blank) = self.rest.next_if(|c| matches!(c, ' ' | '\t')) {
                text.push(blank);
            }
        }
        text
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let kept = self.style.quotes == Quotes::Kept;
        text.extend(self.rest.next().filter(|_| kept));
        loop {
            match self.rest.next() {
                None => return Err(ExpandError::SingleQuote),
                Some('\'') => {
                    text.extend(kept.then_some('\''));
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let kept = self.style.quotes == Quotes::Kept;
        text.extend(self.rest.next().filter(|_| kept));
        loop {
            match self.rest.peek() {
                None => return Err(ExpandError::DoubleQuote),
                Some('"') => {
                    self.rest.next();
                    text.extend(kept.then_some('"'));
                    return Ok(text);
                }
                Some('$') => grow(&mut text, &self.dollar()?)?,
                Some(_) => self.double_quoted_char(&mut text),
            }
        }
    }

    fn double_quoted_char(&mut self, text: &mut String) {
        let Some(c) = self.rest.next() else { return };
        let escape = self.style.escape;
        if c != escape {
            return text.push(c);
        }
        text.extend(self.style.keep_escapes.then_some(c));
        match self.rest.peek() {
            // The quote has no end: that is the error.
            None => {}
            Some(&next) if next == '"' || next == '$' || next == escape => {
                self.rest.next();
                text.push(next);
            }
            Some(_) => text.push(c),
        }
    }

    /// `$` and what belongs to it.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.rest.next();
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            return Ok(match self.value(&name) {
                _ if name.is_empty() => "$".to_owned(),
                Some(value) => value,
                None if self.style.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }
        self.rest.next();
        if self.depth == MAX_NESTING {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let value = self.braces();
        self.depth -= 1;
        value
    }

    /// What stands in `${…}`.
    fn braces(&mut self) -> Result<String, ExpandError> {
        match self.rest.peek() {
            None => return Err(ExpandError::Brace),
            Some('{' | '}' | ':') => return Err(ExpandError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            None => Err(ExpandError::Brace),
            Some('}') => Ok(match self.value(&name) {
                None if self.style.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.substitute(&name),
            Some(':') => {
                let modifier = self.rest.next().ok_or(ExpandError::Brace)?;
                self.modified(&name, true, modifier)
            }
            Some(modifier) => self.modified(&name, false, modifier),
        }
    }

    fn modified(&mut self, name: &str, colon: bool, modifier: char) -> Result<String, ExpandError> {
        let sign = format!("{}{modifier}", if colon { ":" } else { "" });
        let no_such = || ExpandError::Modifier {
            name: name.to_owned(),
            modifier: sign.clone(),
        };
        if !matches!(modifier, '-' | '+' | '?' | '#' | '%') {
            return Err(no_such());
        }
        let word = self.until(Some('}'), matches!(modifier, '#' | '%'))?.text;
        let value = self.value(name);
        if self.style.keep_unset && value.is_none() {
            return Ok(format!("${{{name}{sign}{word}}}"));
        }
        let there = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        match modifier {
            '-' if there => Ok(value.unwrap_or_default()),
            '-' => Ok(word),
            '+' if there => Ok(word),
            '+' => Ok(String::new()),
            '?' if there => Ok(value.unwrap_or_default()),
            '?' => {
                let why = if value.is_some() {
                    "is not allowed to be empty"
                } else {
                    "is not allowed to be unset"
                };
                let message = if word.is_empty() { why.to_owned() } else { word };
                Err(ExpandError::Missing {
                    name: name.to_owned(),
                    message,
                })
            }
            _ => self.trimmed(&word, &value.unwrap_or_default(), modifier),
        }
    }

    /// `#`, `##`, `%`, `%%`.
    fn trimmed(&mut self, word: &str, value: &str, modifier: char) -> Result<String, ExpandError> {
        let (pattern, reach) = match word.strip_prefix(modifier) {
            Some(pattern) => (pattern, Reach::Longest),
            None => (word, Reach::Shortest),
        };
        let pattern = Pattern::parse(pattern)?;
        if modifier == '%' {
            pattern.without_suffix(value, reach, &mut self.work)
        } else {
            pattern.without_prefix(value, reach, &mut self.work)
        }
    }

    /// `${name/pattern/with}`, behind the first slash.
    fn substitute(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.until(Some('/'), true)?.text;
        let with = self.until(Some('}'), true)?.text;
        match self.value(name) {
            None if self.style.keep_unset => Ok(format!("${{{name}/{pattern}/{with}}}")),
            value => {
                Pattern::parse(&pattern)?.replace(&value.unwrap_or_default(), &with, all, &mut self.work)
            }
        }
    }

    /// A variable's name, a positional parameter's number, or a special parameter's sign; empty if there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        if let Some(sign) = self
            .rest
            .next_if(|c| matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!'))
        {
            return sign.into();
        }
        let number = self.rest.peek().is_some_and(|c| c.is_ascii_digit());
        let belongs = |c: &char| {
            if number {
                c.is_ascii_digit()
            } else {
                c.is_alphanumeric() || *c == '_'
            }
        };
        while let Some(c) = self.rest.next_if(belongs) {
            name.push(c);
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.get)(name)
    }
}

fn grow(text: &mut String, by: &str) -> Result<(), ExpandError> {
    if text.len() + by.len() > MAX_EXPANDED {
        return Err(ExpandError::TooLarge);
    }
    text.push_str(by);
    Ok(())
}

/// A text, and the same text as words.
#[derive(Default)]
struct Built {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Built {
    fn push(&mut self, c: char) -> Result<(), ExpandError> {
        grow(&mut self.text, c.encode_utf8(&mut [0; 4]))?;
        self.split(c);
        Ok(())
    }

    /// What a variable held.
    fn push_value(&mut self, value: &str) -> Result<(), ExpandError> {
        grow(&mut self.text, value)?;
        value.chars().for_each(|c| self.split(c));
        Ok(())
    }

    /// What is not split.
    fn push_quoted(&mut self, text: &str) -> Result<(), ExpandError> {
        grow(&mut self.text, text)?;
        self.word.push_str(text);
        Ok(())
    }

    fn split(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}
