//! Where do two builders' images differ, and which of it is meant?

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

use serde_json::Value;

/// One place where they differ.
#[derive(Debug)]
pub(super) struct Difference {
    /// `tree /a/b`, `config Env`, `history 2 created_by`, `fails`.
    pub(super) place: String,
    theirs: Value,
    ours: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\n    theirs: {}\n    ours:   {}",
            self.place, self.theirs, self.ours
        )
    }
}

/// All places, in order. Of two failures the words are not compared.
pub(super) fn differences(theirs: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    if theirs["fails"].is_null() || ours["fails"].is_null() {
        compare("", theirs, ours, 0, &mut found);
    }
    found
}

/// Down to `history 2 created_by`, no deeper.
fn compare(place: &str, theirs: &Value, ours: &Value, depth: usize, found: &mut Vec<Difference>) {
    let inside = |value: &Value, key: &str| match value {
        Value::Array(list) => key.parse().ok().and_then(|index: usize| list.get(index)).cloned(),
        value => value.get(key).cloned(),
    };
    let keys = |value: &Value| -> Vec<String> {
        match value {
            Value::Object(fields) => fields.keys().cloned().collect(),
            Value::Array(list) => (0..list.len()).map(|index| index.to_string()).collect(),
            _ => Vec::new(),
        }
    };
    let deeper = depth == 0 || depth == 1 || (depth == 2 && place.starts_with("history"));
    let all: BTreeSet<String> = keys(theirs).into_iter().chain(keys(ours)).collect();
    if theirs == ours {
        return;
    }
    if !deeper || all.is_empty() || theirs.is_null() || ours.is_null() {
        found.push(Difference {
            place: place.to_owned(),
            theirs: theirs.clone(),
            ours: ours.clone(),
        });
        return;
    }
    for key in all {
        let (theirs, ours) = (inside(theirs, &key), inside(ours, &key));
        let (theirs, ours) = (theirs.unwrap_or_default(), ours.unwrap_or_default());
        compare(
            format!("{place} {key}").trim_start(),
            &theirs,
            &ours,
            depth + 1,
            found,
        );
    }
}

/// `meant.txt`: `case place: reason`, one a line; the case and the end of the place may be `*`.
pub(super) struct Meant(Vec<String>);

impl Meant {
    pub(super) fn read() -> Meant {
        let text = fs::read_to_string(super::case::directory().join("meant.txt")).expect("meant.txt");
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Meant(lines.map(String::from).collect())
    }

    /// The line that a difference is meant by.
    pub(super) fn of(&self, case: &str, difference: &Difference) -> Option<&str> {
        let lines = self.0.iter().map(String::as_str);
        let mut meant = lines.filter(|line| {
            let (what, _) = line.split_once(": ").expect("a reason");
            let (of, place) = what.split_once(' ').expect("a case and a place");
            matches(of, case) && matches(place, &difference.place)
        });
        meant.next()
    }

    /// Lines that name one of these cases, and whose difference is gone.
    pub(super) fn idle(&self, built: &[String], used: &BTreeSet<&str>) -> String {
        let idle = self.0.iter().filter(|line| {
            let named = built.iter().any(|case| line.split(' ').next() == Some(case));
            named && !used.contains(line.as_str())
        });
        idle.map(|line| format!("no difference any more: {line}\n"))
            .collect()
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => text.starts_with(begin),
        None => pattern == text,
    }
}
