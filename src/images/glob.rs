//! Does a name match a pattern? Go's `path.Match` (on Unix `filepath.Match` is the same), which Docker uses for the
//! reference filter, for COPY's and ADD's wildcards and, with `**` added, in `.dockerignore`.
//!
//! `*` and `?` stop at `/`. A class `[a-z]` does not, and only `^` negates it. `\` takes what follows as it is.

/// A pattern that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad pattern '{pattern}': {fault}")]
pub struct BadPattern {
    pattern: String,
    fault: Fault,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("'[' begins a class as in [a-z], which must have members and end; \\[ is the character itself")]
    Class,
    #[error("its last \\ has nothing to escape; \\\\ is the character itself")]
    Escape,
    #[error("a range in [] runs backwards")]
    Backwards,
    #[error("after '!' a pattern must follow")]
    Exception,
}

impl BadPattern {
    pub(crate) fn new(pattern: &[u8], fault: Fault) -> Self {
        let pattern = String::from_utf8_lossy(pattern).into_owned();
        Self { pattern, fault }
    }
}

/// A character of a name, or a byte that is part of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rune {
    Char(char),
    Byte(u8),
}

impl Rune {
    pub(crate) const SLASH: Self = Self::Char('/');
}

/// The runes of a name.
pub(crate) fn runes(name: &[u8]) -> impl Iterator<Item = Rune> {
    name.utf8_chunks().flat_map(|chunk| {
        let chars = chunk.valid().chars().map(Rune::Char);
        chars.chain(chunk.invalid().iter().copied().map(Rune::Byte))
    })
}

/// A pattern is made of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Takes exactly one rune.
    One(One),
    /// `*`
    Star,
}

/// What takes exactly one rune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum One {
    Literal(Rune),
    /// `?`
    Any,
    Class {
        negated: bool,
        /// First and last of each range.
        ranges: Vec<(char, char)>,
    },
}

impl One {
    pub(crate) fn takes(&self, rune: Rune) -> bool {
        match self {
            Self::Literal(wanted) => *wanted == rune,
            Self::Any => rune != Rune::SLASH,
            Self::Class { negated, ranges } => {
                let within =
                    |&(low, high): &(char, char)| matches!(rune, Rune::Char(c) if (low..=high).contains(&c));
                ranges.iter().any(within) != *negated
            }
        }
    }
}

/// Whether all of `name` matches.
pub fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    let (pattern, name) = (parse(pattern)?, runes(name).collect::<Vec<_>>());
    Ok(run(&pattern, &name))
}

/// Whether the pattern can match other names than its own. What is escaped is no wildcard.
pub fn has_wildcard(pattern: &[u8]) -> bool {
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
    false
}

/// The pattern's parts, in their order.
pub(crate) fn parse(pattern: &[u8]) -> Result<Vec<Part>, BadPattern> {
    let all: Vec<Rune> = runes(pattern).collect();
    let bad = |fault| BadPattern::new(pattern, fault);
    let (mut parts, mut rest) = (Vec::new(), all.as_slice());
    while let [first, after @ ..] = rest {
        let (part, after) = match first {
            Rune::Char('*') => (Part::Star, after),
            Rune::Char('?') => (Part::One(One::Any), after),
            Rune::Char('[') => {
                let (class, after) = class(after).ok_or_else(|| bad(Fault::Class))?;
                (Part::One(class), after)
            }
            Rune::Char('\\') => {
                let (escaped, after) = after.split_first().ok_or_else(|| bad(Fault::Escape))?;
                (Part::One(One::Literal(*escaped)), after)
            }
            rune => (Part::One(One::Literal(*rune)), after),
        };
        parts.push(part);
        rest = after;
    }
    Ok(parts)
}

/// What follows `[`: the class, and the pattern after it.
fn class(mut pattern: &[Rune]) -> Option<(One, &[Rune])> {
    let negated = pattern.first() == Some(&Rune::Char('^'));
    if negated {
        pattern = &pattern[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if let (false, [Rune::Char(']'), after @ ..]) = (ranges.is_empty(), pattern) {
            return Some((One::Class { negated, ranges }, after));
        }
        let (low, rest) = member(pattern)?;
        let (high, rest) = match rest {
            [Rune::Char('-'), rest @ ..] => member(rest)?,
            _ => (low, rest),
        };
        ranges.push((low, high));
        pattern = rest;
    }
}

fn member(pattern: &[Rune]) -> Option<(char, &[Rune])> {
    match pattern {
        [Rune::Char('\\'), Rune::Char(c), rest @ ..] => Some((*c, rest)),
        [Rune::Char('\\' | '-' | ']'), ..] => None,
        [Rune::Char(c), rest @ ..] => Some((*c, rest)),
        _ => None,
    }
}

/// As Go does it, only the last star is tried again, which matters where a class takes a `/`.
fn run(pattern: &[Part], name: &[Rune]) -> bool {
    let (mut p, mut n) = (pattern, name);
    // What follows the last star, and where its match ends: on a mismatch it takes one rune more.
    let mut retry: Option<(&[Part], &[Rune])> = None;
    loop {
        (p, n) = match (p, n) {
            ([], []) => return true,
            ([Part::Star, after @ ..], _) => {
                retry = Some((after, n));
                (after, n)
            }
            ([Part::One(one), after @ ..], [rune, rest @ ..]) if one.takes(*rune) => (after, rest),
            _ => match retry {
                Some((after, [rune, rest @ ..])) if *rune != Rune::SLASH => {
                    retry = Some((after, rest));
                    (after, rest)
                }
                _ => return false,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Go's own `path/match_test.go`, but for `false` where it says ErrBadPattern: those are below.
    #[test]
    fn go_agrees() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "x", true),
            ("[\\-x]", "-", true),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                Ok(wanted),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn what_go_calls_malformed_is_refused_whatever_the_name() {
        let classes = [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "[]", "a[\\", "*[",
        ];
        for pattern in classes {
            let refused = BadPattern::new(pattern.as_bytes(), Fault::Class);
            for name in ["", "a", "ab", "x", "-"] {
                assert_eq!(
                    matches(pattern.as_bytes(), name.as_bytes()),
                    Err(refused.clone()),
                    "{pattern}"
                );
            }
        }
        assert_eq!(matches(b"a\\", b"b"), Err(BadPattern::new(b"a\\", Fault::Escape)));
        assert_eq!(
            matches(b"[\xff]", b"b"),
            Err(BadPattern::new(b"[\xff]", Fault::Class))
        );
    }

    #[test]
    fn names_of_images_and_of_files() {
        let cases: [(&[u8], &[u8], bool); 14] = [
            (b"*/*:la*", b"a/b:latest", true),
            (b"d?bian:1[^0-2]", b"debian:12", false),
            (b"*n*n", b"debian-nn", true),
            (b"", b"", true),
            (b"", b"a", false),
            (b"a*b*c", b"axxbyy", false),
            // `!` and reversed ranges are nothing special.
            (b"[!a]", b"!", true),
            (b"[!a]", b"b", false),
            (b"[z-a]", b"m", false),
            // Go's classes take slashes.
            (b"a[^b]c", b"a/c", true),
            // Each byte that is no character counts as one.
            (b"a?", b"a\xff", true),
            (b"a[^b]\xfe", b"a\xff\xfe", true),
            (b"a?\xfe", b"a\xff\xff", false),
            (b"*\xff", b"\xc3\xa9\xff", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(matches(pattern, name), Ok(wanted), "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn an_escaped_wildcard_is_none() {
        for pattern in ["*", "a?", "[a]", "\\\\*", "a/b*/c"] {
            assert!(has_wildcard(pattern.as_bytes()), "{pattern}");
        }
        for pattern in ["", "a]", "\\*", "a\\?\\[b", "a\\"] {
            assert!(!has_wildcard(pattern.as_bytes()), "{pattern}");
        }
    }
}
