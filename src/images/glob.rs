//! Does a name match a pattern? Go's `path.Match`, which Docker's reference filter uses: `*` and `?` stop at `/`.

/// Whether all of `name` matches; `None` for a pattern that is malformed.
pub(super) fn matches(pattern: &str, name: &str) -> Option<bool> {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    is_well_formed(&pattern).then(|| run(&pattern, &name))
}

fn is_well_formed(pattern: &[char]) -> bool {
    let mut rest = pattern;
    while let [first, tail @ ..] = rest {
        rest = match first {
            '[' => match class(tail, ' ') {
                Some((_, after)) => after,
                None => return false,
            },
            '\\' => match tail {
                [_, after @ ..] => after,
                [] => return false,
            },
            _ => tail,
        };
    }
    true
}

fn run(pattern: &[char], name: &[char]) -> bool {
    // The last star and where its match ends: on a mismatch it takes one character more.
    let (mut p, mut n) = (pattern, name);
    let mut retry: Option<(&[char], &[char])> = None;
    loop {
        let step = match (p, n) {
            ([], []) => return true,
            (['*', after @ ..], _) => {
                retry = Some((after, n));
                Some((after, n))
            }
            (['?', after @ ..], [c, rest @ ..]) if *c != '/' => Some((after, rest)),
            (['[', after @ ..], [c, rest @ ..]) => match class(after, *c) {
                Some((true, after)) if *c != '/' => Some((after, rest)),
                _ => None,
            },
            (['\\', wanted, after @ ..], [c, rest @ ..]) if wanted == c => Some((after, rest)),
            (['?' | '[' | '\\', ..], _) => None,
            ([wanted, after @ ..], [c, rest @ ..]) if wanted == c => Some((after, rest)),
            _ => None,
        };
        (p, n) = match (step, retry) {
            (Some(next), _) => next,
            (None, Some((after, [c, rest @ ..]))) if *c != '/' => {
                retry = Some((after, rest));
                (after, rest)
            }
            _ => return false,
        };
    }
}

/// What follows `[`: whether `c` is in the class, and the pattern after it.
fn class(mut pattern: &[char], c: char) -> Option<(bool, &[char])> {
    let negated = pattern.first() == Some(&'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut found = false;
    let mut first = true;
    loop {
        if let (false, [']', after @ ..]) = (first, pattern) {
            return Some((found != negated, after));
        }
        first = false;
        let (low, rest) = literal(pattern)?;
        let (high, rest) = match rest {
            ['-', rest @ ..] => literal(rest)?,
            _ => (low, rest),
        };
        found |= (low..=high).contains(&c);
        pattern = rest;
    }
}

fn literal(pattern: &[char]) -> Option<(char, &[char])> {
    match pattern {
        ['\\', c, rest @ ..] => Some((*c, rest)),
        ['\\' | '-' | ']', ..] | [] => None,
        [c, rest @ ..] => Some((*c, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stop_at_slashes_and_classes_work() {
        let cases = [
            ("debian", "debian", true),
            ("deb*", "debian", true),
            ("*", "a/b", false),
            ("*/*:la*", "a/b:latest", true),
            ("d?bian:1[0-2]", "debian:12", true),
            ("d?bian:1[^0-2]", "debian:12", false),
            ("*n*n", "debian-nn", true),
            ("a\\*", "a*", true),
            ("", "", true),
            ("a*b*c", "axxbyy", false),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(matches(pattern, name), Some(wanted), "{pattern} {name}");
        }
        for malformed in ["[", "a[b", "a\\", "[]"] {
            assert_eq!(matches(malformed, "a"), None, "{malformed}");
        }
    }
}
