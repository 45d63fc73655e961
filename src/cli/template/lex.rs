//! Template text → tokens, by the rules of Go's `text/template/parse` (lex.go).

use super::Error;

/// A token and where it starts, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text between actions.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// A keyword or a function's name.
    Word(String),
    /// `.Name`; what follows without a space belongs to the same chain.
    Field(String),
    /// `.` alone.
    Dot,
    /// `$` or `$name`, without the dollar.
    Variable(String),
    Str(String),
    Int(i64),
    Float(f64),
    Pipe,
    Comma,
    Paren,
    /// `)`.
    CloseParen,
    Declare,
    Assign,
    /// White space, which separates arguments from field chains.
    Space,
}

/// Cuts the whole text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::new(),
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, at: self.at });
        self.at += length;
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::parse(self.text, self.at, message)
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut trim_left = false;
        loop {
            let rest = self.rest();
            let Some(open) = rest.find("{{") else {
                let text = if trim_left { rest.trim_start() } else { rest };
                self.text(text, rest.len());
                return Ok(());
            };
            let before = rest.get(..open).unwrap_or_default();
            let after = rest.get(open + 2..).unwrap_or_default();
            let trim_right =
                after.starts_with('-') && after[1..].starts_with(|c: char| c.is_ascii_whitespace());
            let mut text = if trim_left { before.trim_start() } else { before };
            if trim_right {
                text = text.trim_end();
            }
            self.text(text, open);
            trim_left = self.action(if trim_right { 3 } else { 2 })?;
        }
    }

    fn text(&mut self, text: &str, length: usize) {
        if !text.is_empty() {
            self.tokens.push(Token {
                kind: Kind::Text(text.to_owned()),
                at: self.at,
            });
        }
        self.at += length;
    }

    /// One action, from its `{{` on; true if the text after it is to be trimmed.
    fn action(&mut self, open: usize) -> Result<bool, Error> {
        let start = self.at;
        let inner = self.rest().get(open..).unwrap_or_default();
        let padding = inner.len() - inner.trim_start().len();
        if inner.trim_start().starts_with("/*") {
            return self.comment(open + padding);
        }
        self.push(Kind::Open, open);
        loop {
            let rest = self.rest();
            if rest.starts_with("}}") {
                self.push(Kind::Close, 2);
                return Ok(false);
            }
            let spaces = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
            if spaces > 0 && rest.get(spaces..).is_some_and(|rest| rest.starts_with("-}}")) {
                self.at += spaces;
                self.push(Kind::Close, 3);
                return Ok(true);
            }
            if spaces > 0 {
                self.push(Kind::Space, spaces);
                continue;
            }
            let Some(first) = rest.chars().next() else {
                return Err(Error::parse(self.text, start, "unclosed action"));
            };
            self.token(first, rest)?;
        }
    }

    fn comment(&mut self, open: usize) -> Result<bool, Error> {
        let rest = self.rest();
        let end = rest
            .get(open..)
            .and_then(|rest| rest.find("*/"))
            .ok_or_else(|| self.error("unclosed comment"))?;
        let after = rest.get(open + end + 2..).unwrap_or_default();
        let trimmed = after.trim_start();
        let (length, trim) = match (trimmed.starts_with("-}}"), after.starts_with("}}")) {
            (true, _) if trimmed.len() < after.len() => (after.len() - trimmed.len() + 3, true),
            (_, true) => (2, false),
            _ => return Err(self.error("comment ends before closing delimiter")),
        };
        self.at += open + end + 2 + length;
        Ok(trim)
    }

    fn token(&mut self, first: char, rest: &str) -> Result<(), Error> {
        let word = |from: usize| {
            let rest = rest.get(from..).unwrap_or_default();
            rest.find(|c: char| c != '_' && !c.is_alphanumeric())
                .unwrap_or(rest.len())
        };
        let cut = |from: usize, to: usize| rest.get(from..to).unwrap_or_default().to_owned();
        match first {
            '|' => self.push(Kind::Pipe, 1),
            ',' => self.push(Kind::Comma, 1),
            '(' => self.push(Kind::Paren, 1),
            ')' => self.push(Kind::CloseParen, 1),
            ':' if rest.starts_with(":=") => self.push(Kind::Declare, 2),
            '=' => self.push(Kind::Assign, 1),
            '"' => self.quoted(rest)?,
            '`' => {
                let end = rest[1..]
                    .find('`')
                    .ok_or_else(|| self.error("unterminated raw quoted string"))?;
                self.push(Kind::Str(cut(1, end + 1)), end + 2);
            }
            '\'' => {
                let (text, length) =
                    unquote(rest, '\'').ok_or_else(|| self.error("unterminated character constant"))?;
                let mut characters = text.chars();
                match (characters.next(), characters.next()) {
                    (Some(only), None) => self.push(Kind::Int(i64::from(u32::from(only))), length),
                    _ => return Err(self.error("malformed character constant")),
                }
            }
            '$' => self.push(Kind::Variable(cut(1, 1 + word(1))), 1 + word(1)),
            '.' if word(1) > 0 && !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.push(Kind::Field(cut(1, 1 + word(1))), 1 + word(1));
            }
            '.' if word(1) == 0 => self.push(Kind::Dot, 1),
            '0'..='9' | '+' | '-' | '.' => self.number(rest)?,
            _ if word(0) > 0 => self.push(Kind::Word(cut(0, word(0))), word(0)),
            _ => return Err(self.error(format!("unexpected {first:?} in action"))),
        }
        Ok(())
    }

    fn quoted(&mut self, rest: &str) -> Result<(), Error> {
        let (text, length) = unquote(rest, '"').ok_or_else(|| self.error("unterminated quoted string"))?;
        self.push(Kind::Str(text), length);
        Ok(())
    }

    fn number(&mut self, rest: &str) -> Result<(), Error> {
        let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let is_hex = digits.starts_with("0x") || digits.starts_with("0X");
        let mut length = rest.len() - digits.len();
        let mut previous = ' ';
        for c in digits.chars() {
            let exponent_sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !is_hex;
            if !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || exponent_sign) {
                break;
            }
            previous = c;
            length += 1;
        }
        let spelled = rest.get(..length).unwrap_or_default();
        let plain = spelled.replace('_', "");
        let kind = integer(&plain)
            .map(Kind::Int)
            .or_else(|| plain.parse().ok().map(Kind::Float));
        let kind = kind.ok_or_else(|| self.error(format!("bad number syntax: {spelled:?}")))?;
        self.push(kind, length);
        Ok(())
    }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(_) if lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit()) => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let value = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// A Go string or character literal that starts with `quote`: its value, and its length with the quotes.
fn unquote(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    loop {
        let (at, c) = characters.next()?;
        match c {
            '\n' => return None,
            c if c == quote => return Some((value, at + 1)),
            '\\' => {
                let (_, escape) = characters.next()?;
                let mut code = |count: usize, radix: u32| {
                    let first = Some(escape).filter(|_| radix == 8);
                    let digits = first
                        .into_iter()
                        .chain(characters.by_ref().take(count).map(|(_, c)| c));
                    u32::from_str_radix(&digits.collect::<String>(), radix)
                        .ok()
                        .and_then(char::from_u32)
                };
                match escape {
                    'a' => value.push('\x07'),
                    'b' => value.push('\x08'),
                    'f' => value.push('\x0c'),
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    't' => value.push('\t'),
                    'v' => value.push('\x0b'),
                    c @ ('\\' | '"' | '\'') => value.push(c),
                    'x' => value.push(code(2, 16)?),
                    'u' => value.push(code(4, 16)?),
                    'U' => value.push(code(8, 16)?),
                    '0'..='7' => value.push(code(2, 8)?),
                    _ => return None,
                }
            }
            c => value.push(c),
        }
    }
}
