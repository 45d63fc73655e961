//! Which flags does an instruction have, and which may it?
//!
//! Flags are words that start with `--`, directly behind the instruction's name. Their quotes and backslashes go away
//! here; `--` alone ends them.

use super::error::{Fault, nearest};

/// What a flag holds.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// `--flag`, `--flag=true`, `--flag=false`.
    Switch,
    /// `--flag=text`, once.
    Text,
    /// `--flag=text`, as often as one likes.
    Texts,
}

/// The flags of one instruction.
pub(super) struct Flags {
    given: Vec<(&'static str, String)>,
}

/// The flags at the start of an instruction's arguments, unquoted, and what follows them.
pub(super) fn split(line: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (word, behind) = unquoted(rest);
        rest = behind.trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest.trim_end())
}

/// The first word without quotes and backslashes, and what follows it.
fn unquoted(line: &str) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = line.chars();
    loop {
        let before = chars.as_str();
        match (quote, chars.next()) {
            (_, None) => return (word, ""),
            (_, Some('\\')) => word.extend(chars.next()),
            (None, Some(c)) if c.is_whitespace() => return (word, before),
            (None, Some(c @ ('\'' | '"'))) => quote = Some(c),
            (Some(open), Some(c)) if open == c => quote = None,
            (_, Some(c)) => word.push(c),
        }
    }
}

impl Flags {
    /// Checks the words against what the instruction knows.
    pub(super) fn parse(
        instruction: &'static str,
        words: &[String],
        known: &[(&'static str, Kind)],
    ) -> Result<Self, Fault> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for word in words {
            let word = word.strip_prefix("--").unwrap_or(word);
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let Some(&(flag, kind)) = known.iter().find(|(flag, _)| *flag == name) else {
                let names: Vec<_> = known.iter().map(|(flag, _)| *flag).collect();
                let near = nearest(name, &names);
                return Err(Fault::UnknownFlag {
                    instruction,
                    flag: name.to_owned(),
                    near,
                });
            };
            if kind != Kind::Texts && given.iter().any(|(other, _)| *other == flag) {
                return Err(Fault::FlagTwice { instruction, flag });
            }
            given.push((flag, checked(instruction, flag, kind, value)?));
        }
        Ok(Self { given })
    }

    /// A text's value.
    pub(super) fn text(&self, flag: &str) -> Option<String> {
        self.given
            .iter()
            .find(|(name, _)| *name == flag)
            .map(|(_, value)| value.clone())
    }

    /// A text's value if it is not empty.
    pub(super) fn filled(&self, flag: &str) -> Option<String> {
        self.text(flag).filter(|value| !value.is_empty())
    }

    /// All values of a flag that may come often.
    pub(super) fn texts(&self, flag: &str) -> Vec<String> {
        self.given
            .iter()
            .filter(|(name, _)| *name == flag)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// A switch, if it is given.
    pub(super) fn switch(&self, flag: &str) -> Option<bool> {
        self.text(flag).map(|value| value == "true")
    }
}

fn checked(
    instruction: &'static str,
    flag: &'static str,
    kind: Kind,
    value: Option<&str>,
) -> Result<String, Fault> {
    let missing = || Fault::FlagWithoutValue { instruction, flag };
    match (kind, value) {
        (Kind::Switch, None) => Ok("true".to_owned()),
        (Kind::Switch, Some("")) => Err(missing()),
        (Kind::Switch, Some(value)) => match value.to_ascii_lowercase().as_str() {
            lower @ ("true" | "false") => Ok(lower.to_owned()),
            _ => Err(Fault::FlagNotBool {
                instruction,
                flag,
                value: value.to_owned(),
            }),
        },
        (Kind::Text | Kind::Texts, None) => Err(missing()),
        (Kind::Text | Kind::Texts, Some(value)) => Ok(value.to_owned()),
    }
}
