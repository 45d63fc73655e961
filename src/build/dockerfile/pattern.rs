//! Where does a shell pattern match? For `${x#p}`, `${x%p}` and `${x/p/r}`.
//!
//! `*` is any text, `?` any character, neither a line's end; `\` makes `*`, `?`, `\`, `/` and `}` stand for
//! themselves. There are no brackets.

use super::ExpandError;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token {
    Just(char),
    One,
    Any,
}

/// A pattern.
pub(super) struct Pattern(Vec<Token>);

/// Which of several matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reach {
    Shortest,
    Longest,
}

/// How many characters may still be compared. A hostile word could ask for hours otherwise.
pub(super) struct Work(u64);

impl Work {
    /// About a second. Real patterns need thousands.
    const MOST: u64 = 100_000_000;

    pub(super) fn new() -> Self {
        Self(Self::MOST)
    }

    fn spend(&mut self, steps: usize) -> Result<(), ExpandError> {
        self.0 = self.0.checked_sub(steps as u64).ok_or(ExpandError::TooMuchWork)?;
        Ok(())
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                // Escaped for the sake of the braces around the pattern.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => Token::Just(c),
                    _ => return Err(ExpandError::Escape(text.to_owned())),
                },
                c => Token::Just(c),
            });
        }
        Ok(Self(tokens))
    }

    /// What remains of the text without the match at its start.
    pub(super) fn without_prefix(
        &self,
        text: &str,
        reach: Reach,
        work: &mut Work,
    ) -> Result<String, ExpandError> {
        let chars: Vec<char> = text.chars().collect();
        let end = prefix(&self.0, &chars, reach, work)?.unwrap_or(0);
        Ok(chars.get(end..).unwrap_or_default().iter().collect())
    }

    /// What remains of the text without the match at its end.
    pub(super) fn without_suffix(
        &self,
        text: &str,
        reach: Reach,
        work: &mut Work,
    ) -> Result<String, ExpandError> {
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let chars: Vec<char> = text.chars().rev().collect();
        let end = prefix(&tokens, &chars, reach, work)?.unwrap_or(0);
        Ok(chars.get(end..).unwrap_or_default().iter().rev().collect())
    }

    /// The text with the first match, or all that do not overlap, replaced: leftmost, longest.
    pub(super) fn replace(
        &self,
        text: &str,
        with: &str,
        all: bool,
        work: &mut Work,
    ) -> Result<String, ExpandError> {
        let chars: Vec<char> = text.chars().collect();
        let mut replaced = String::new();
        let mut at = 0;
        // Nothing matches empty right behind a match.
        let mut behind_match = false;
        while let Some(rest) = chars.get(at..) {
            let found = match prefix(&self.0, rest, Reach::Longest, work)? {
                Some(0) if behind_match => None,
                found => found,
            };
            if found.is_some() {
                if replaced.len() + with.len() > super::MAX_EXPANDED {
                    return Err(ExpandError::TooLarge);
                }
                replaced.push_str(with);
            }
            let length = found.unwrap_or(0);
            if length == 0 {
                replaced.extend(rest.first());
            }
            at += length.max(1);
            behind_match = length > 0;
            if found.is_some() && !all {
                break;
            }
        }
        replaced.extend(chars.get(at..).unwrap_or_default());
        Ok(replaced)
    }
}

/// How many characters the tokens match from the start: all their states are followed at once.
fn prefix(
    tokens: &[Token],
    chars: &[char],
    reach: Reach,
    work: &mut Work,
) -> Result<Option<usize>, ExpandError> {
    let mut states = vec![false; tokens.len() + 1];
    enter(tokens, &mut states, 0);
    let mut found = None;
    for at in 0..=chars.len() {
        if states.last() == Some(&true) {
            found = Some(at);
            if reach == Reach::Shortest {
                break;
            }
        }
        let Some(&c) = chars.get(at) else { break };
        work.spend(tokens.len() + 1)?;
        let mut next = vec![false; tokens.len() + 1];
        for (state, token) in tokens.iter().enumerate().filter(|(state, _)| states[*state]) {
            match token {
                Token::Just(just) if *just == c => enter(tokens, &mut next, state + 1),
                Token::One if c != '\n' => enter(tokens, &mut next, state + 1),
                Token::Any if c != '\n' => enter(tokens, &mut next, state),
                _ => {}
            }
        }
        if !next.contains(&true) {
            break;
        }
        states = next;
    }
    Ok(found)
}

/// Marks a state, and those behind it that need no character.
fn enter(tokens: &[Token], states: &mut [bool], mut state: usize) {
    states[state] = true;
    while tokens.get(state) == Some(&Token::Any) {
        state += 1;
        if states[state] {
            break;
        }
        states[state] = true;
    }
}
