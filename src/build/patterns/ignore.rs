//! Which files of a context does `.dockerignore` keep out? Docker's rules: the last line that matches a path, or a
//! directory above it, decides. `COPY --exclude` has the same patterns.

use super::clean::clean;
use super::pattern::Pattern;
use crate::images::glob::{BadPattern, Fault};

/// The rules, in their order.
#[derive(Debug, Default, Clone)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// `!` takes back what a rule before it excluded.
    exception: bool,
}

/// What the rules say of a path. Whoever walks a tree gives a directory's to [`Ignore::judge`] for what is in it; the
/// root's is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many rules come up to and with the one that decided. Below, only those after it can change anything.
    decided: usize,
    excluded: bool,
}

impl Verdict {
    /// Whether the path is left out.
    pub fn excluded(self) -> bool {
        self.excluded
    }
}

impl Ignore {
    /// The text of a `.dockerignore`.
    pub fn parse(text: &[u8]) -> Result<Self, BadPattern> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|&byte| byte == b'\n');
        Self::new(lines.filter(|line| !line.starts_with(b"#")).filter_map(from_line))
    }

    /// Patterns as `COPY --exclude` has them: a leading `/` is no more than that, and matches nothing.
    pub fn new(patterns: impl IntoIterator<Item: AsRef<[u8]>>) -> Result<Self, BadPattern> {
        let mut rules = Vec::new();
        for pattern in patterns {
            let pattern = trim(pattern.as_ref());
            if pattern.is_empty() {
                continue;
            }
            let pattern = clean(pattern);
            let (text, exception) = match pattern.strip_prefix(b"!") {
                Some(b"") => return Err(BadPattern::new(b"!", Fault::Exception)),
                Some(text) => (text, true),
                None => (pattern.as_slice(), false),
            };
            let pattern = Pattern::parse(text)?;
            rules.push(Rule { pattern, exception });
        }
        Ok(Self { rules })
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path is left out. It is relative and clean; the root, `.` or empty, never is.
    pub fn excludes(&self, path: &[u8]) -> bool {
        self.verdict(path).excluded
    }

    /// Whether a directory is left out with all that is below it: it need not be looked into.
    pub fn excludes_all(&self, dir: &[u8]) -> bool {
        let verdict = self.verdict(dir);
        verdict.excluded && !self.may_reinclude_below(dir, verdict)
    }

    fn verdict(&self, path: &[u8]) -> Verdict {
        if path == b"." || path.is_empty() {
            return Verdict::default();
        }
        let slashes = path
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'/')
            .map(|(at, _)| at);
        let along = slashes
            .chain([path.len()])
            .map(|end| path.get(..end).unwrap_or_default());
        along.fold(Verdict::default(), |above, path| self.judge(path, above))
    }

    /// What holds for a path, given what holds for the directory it is in.
    pub fn judge(&self, path: &[u8], above: Verdict) -> Verdict {
        let later = self.rules.iter().enumerate().skip(above.decided);
        match later.rev().find(|(_, rule)| rule.pattern.matches(path)) {
            Some((at, rule)) => Verdict {
                decided: at + 1,
                excluded: !rule.exception,
            },
            None => above,
        }
    }

    /// Whether an excluded directory must be walked, since an exception may match something below it.
    ///
    /// BuildKit walks all of them once an exception has a wildcard before its last part. Looking closer saves the walk
    /// of a `node_modules`, and finds what BuildKit misses: below `*`, `!a/*/**` brings back `a/b/c`.
    pub fn may_reinclude_below(&self, dir: &[u8], verdict: Verdict) -> bool {
        let mut later = self.rules.iter().skip(verdict.decided);
        later.any(|rule| rule.exception && rule.pattern.may_match_below(dir))
    }
}

/// A line's pattern: what begins with `/` is meant from the context's root, as everything is.
fn from_line(line: &[u8]) -> Option<Vec<u8>> {
    let line = trim(line);
    let (sign, pattern): (&[u8], _) = match line.strip_prefix(b"!") {
        Some(pattern) => (b"!", trim(pattern)),
        None => (b"", line),
    };
    if pattern.is_empty() {
        return (!sign.is_empty()).then(|| sign.to_vec());
    }
    let pattern = clean(pattern);
    let pattern = match pattern.as_slice() {
        [b'/', rest @ ..] if !rest.is_empty() => rest,
        pattern => pattern,
    };
    Some([sign, pattern].concat())
}

/// Without the white space around it: Unicode's, as in Go, if the text is Unicode.
fn trim(text: &[u8]) -> &[u8] {
    match str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}
