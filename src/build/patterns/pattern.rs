//! Which paths does one pattern with `**` match? The rules of <https://github.com/moby/patternmatcher>, of which no
//! text says all:
//! - `**` and `**/` match any directories, also none: nothing, or what ends in `/`. At the end they match all.
//! - A `**` at the start, without `/` and with nothing but plain text behind it, matches all: `**go` matches `a.go`.
//!   With a wildcard behind it, the first rule holds: `**g?` does not match `a.go`.
//! - All else is [`glob`]'s.
//!
//! That program translates into a regular expression, where a few signs change their meaning: an escaped letter
//! (`\d`), `^`, `|` and `{2}` beside a wildcard, `[[:alpha:]]`, a wildcard in a class. Here they have the one that
//! Docker's documentation gives them, Go's `filepath.Match`'s. A range that runs backwards is refused here as there.

use crate::images::glob::{self, BadPattern, Fault, One, Part, Rune};

/// A pattern, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// The plain text it begins with.
    head: Vec<u8>,
    /// What follows.
    steps: Vec<Step>,
    /// The plain text that `steps` ends with: most paths fail here, and cheaply.
    tail: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    One(One),
    /// Anything without `/`, also nothing.
    Star,
    /// Nothing, or anything that ends in `/`.
    Dirs,
    /// Anything, also nothing.
    All,
}

impl Pattern {
    /// `text` is cleaned and without the `!` of an exception.
    pub(super) fn parse(text: &[u8]) -> Result<Self, BadPattern> {
        let mut steps = Vec::new();
        let parts = glob::parse(text)?;
        let mut rest = parts.as_slice();
        while let [part, after @ ..] = rest {
            rest = after;
            let step = match part {
                Part::One(One::Class { ranges, .. }) if ranges.iter().any(|(low, high)| low > high) => {
                    return Err(BadPattern::new(text, Fault::Backwards));
                }
                Part::One(one) => Step::One(one.clone()),
                Part::Star => match after {
                    [Part::Star, after @ ..] => {
                        rest = match after {
                            [Part::One(One::Literal(Rune::SLASH)), after @ ..] => after,
                            after => after,
                        };
                        if rest.is_empty() { Step::All } else { Step::Dirs }
                    }
                    _ => Step::Star,
                },
            };
            // Directories twice are directories once.
            if step != Step::Dirs || steps.last() != Some(&Step::Dirs) {
                steps.push(step);
            }
        }
        if let (Some(first), true) = (steps.first_mut(), is_any_start_of_plain_text(text)) {
            *first = Step::All;
        }
        let head = steps.iter().map_while(plain).collect::<String>();
        let tail = steps.iter().rev().map_while(plain).collect::<String>();
        steps.drain(..head.chars().count());
        Ok(Self {
            head: head.into_bytes(),
            steps,
            tail: tail.chars().rev().collect::<String>().into_bytes(),
        })
    }

    /// Whether all of `path` matches.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(self.head.as_slice()) else {
            return false;
        };
        match self.steps.len() {
            0 => rest.is_empty(),
            end => rest.ends_with(&self.tail) && self.reached(rest)[end],
        }
    }

    /// Whether it may match a path below the directory.
    pub(super) fn may_match_below(&self, dir: &[u8]) -> bool {
        let dir = [dir, b"/"].concat();
        match dir.strip_prefix(self.head.as_slice()) {
            Some(rest) => self.reached(rest)[..self.steps.len()].contains(&true),
            None => self.head.starts_with(&dir),
        }
    }

    /// Before which steps, or at the end, one may be after `text`: all ways are gone at once, so that no pattern takes
    /// long.
    fn reached(&self, text: &[u8]) -> Vec<bool> {
        let mut here = vec![false; self.steps.len() + 1];
        let mut next = here.clone();
        self.enter(0, &mut here);
        for rune in glob::runes(text) {
            next.fill(false);
            for (at, step) in self.steps.iter().enumerate().filter(|(at, _)| here[*at]) {
                match step {
                    Step::One(one) if one.takes(rune) => self.enter(at + 1, &mut next),
                    Step::Star if rune != Rune::SLASH => self.enter(at, &mut next),
                    Step::All => self.enter(at, &mut next),
                    Step::Dirs => {
                        next[at] = true;
                        if rune == Rune::SLASH {
                            self.enter(at + 1, &mut next);
                        }
                    }
                    Step::One(_) | Step::Star => {}
                }
            }
            std::mem::swap(&mut here, &mut next);
        }
        here
    }

    /// Reaches a step, and those behind it that are reached with nothing.
    fn enter(&self, mut at: usize, reached: &mut [bool]) {
        reached[at] = true;
        while let Some(Step::Star | Step::Dirs | Step::All) = self.steps.get(at) {
            at += 1;
            reached[at] = true;
        }
    }
}

fn plain(step: &Step) -> Option<char> {
    match step {
        Step::One(One::Literal(Rune::Char(c))) => Some(*c),
        _ => None,
    }
}

/// `**go`
fn is_any_start_of_plain_text(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"**") else {
        return false;
    };
    !rest.starts_with(b"/") && !rest.iter().any(|byte| b"*?[]\\".contains(byte))
}
