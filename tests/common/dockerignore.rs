//! Docker's rules for `.dockerignore` once more, to compare with: as moby/patternmatcher has them, by regular
//! expressions, kinds of patterns and one rule after the other. Where its translation slips (see
//! `src/build/patterns/pattern.rs`), this one does not. Shared with `fuzz/`.

use regex::Regex;

/// The rules of a `.dockerignore`.
pub(crate) struct Peer {
    rules: Vec<(bool, Kind)>,
}

enum Kind {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Expression(Regex),
}

impl Peer {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut line = line.trim().to_owned();
            if line.is_empty() {
                continue;
            }
            let invert = line.starts_with('!');
            if invert {
                line = line[1..].trim().to_owned();
            }
            if !line.is_empty() {
                line = clean(&line);
                if line.len() > 1 {
                    line = line.strip_prefix('/').unwrap_or(&line).to_owned();
                }
            }
            if invert {
                line.insert(0, '!');
            }
            // What follows, patternmatcher does with each pattern, wherever it comes from.
            let line = clean(line.trim());
            let pattern = line.strip_prefix('!').unwrap_or(&line);
            if pattern.is_empty() {
                return None;
            }
            rules.push((pattern.len() < line.len(), Kind::of(pattern)?));
        }
        Some(Self { rules })
    }

    pub(crate) fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for (exception, kind) in &self.rules {
            if *exception != excluded {
                continue;
            }
            let parts: Vec<&str> = path.split('/').collect();
            if (1..=parts.len()).any(|count| kind.matches(&parts[..count].join("/"))) {
                excluded = !exception;
            }
        }
        excluded
    }
}

impl Kind {
    fn of(pattern: &str) -> Option<Self> {
        let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        if !special(pattern) {
            return Some(Self::Exact(pattern.to_owned()));
        }
        if let Some(end) = pattern.strip_prefix("**").filter(|end| !special(end)) {
            return Some(Self::Suffix(end.to_owned()));
        }
        if let Some(start) = pattern.strip_suffix("**").filter(|start| !special(start)) {
            return Some(Self::Prefix(start.to_owned()));
        }
        let expression = format!("(?s)^{}$", expression(pattern)?);
        // A range that runs backwards is what it refuses here.
        Regex::new(&expression).ok().map(Self::Expression)
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(whole) => path == whole,
            Self::Prefix(start) => path.starts_with(start.as_str()),
            Self::Suffix(end) => path.ends_with(end.as_str()) || end.strip_prefix('/') == Some(path),
            Self::Expression(expression) => expression.is_match(path),
        }
    }
}

fn expression(pattern: &str) -> Option<String> {
    let mut made = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                // The slash may be escaped; that changes nothing.
                let mut ahead = chars.clone();
                let slash = ahead.next_if_eq(&'\\').is_some() & (ahead.next_if_eq(&'/').is_some());
                if slash {
                    chars = ahead;
                } else {
                    chars.next_if_eq(&'/');
                }
                let end = chars.peek().is_none();
                made.push_str(if end { ".*" } else { "(.*/)?" });
            }
            '*' => made.push_str("[^/]*"),
            '?' => made.push_str("[^/]"),
            '[' => {
                made.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    made.push('^');
                }
                let mut empty = true;
                while empty || chars.next_if_eq(&']').is_none() {
                    empty = false;
                    made.push_str(&member(&mut chars)?);
                    if chars.next_if_eq(&'-').is_some() {
                        made.push('-');
                        made.push_str(&member(&mut chars)?);
                    }
                }
                made.push(']');
            }
            '\\' => made.push_str(&regex::escape(&chars.next()?.to_string())),
            c => made.push_str(&regex::escape(&c.to_string())),
        }
    }
    Some(made)
}

fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let c = match chars.next()? {
        '-' | ']' => return None,
        '\\' => chars.next()?,
        c => c,
    };
    Some(format!("\\x{{{:x}}}", u32::from(c)))
}

fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, kept.last()) {
            ("..", None) if rooted => {}
            ("..", Some(last)) if *last != ".." => _ = kept.pop(),
            _ => kept.push(part),
        }
    }
    let joined = format!("{}{}", if rooted { "/" } else { "" }, kept.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}
