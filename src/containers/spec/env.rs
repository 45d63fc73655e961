//! Which environment does the command get? Docker's order and rules: what the tool sets, then `-e`, then the image.

use std::ffi::OsStr;

use super::SpecError;

/// Docker's search path for images that set none.
pub(super) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name in `NAME=value` or `NAME`.
fn name(assignment: &str) -> &str {
    assignment.split_once('=').map_or(assignment, |(name, _)| name)
}

/// Merges the three sources; a later one wins over an earlier of the same name and takes its place. `asked` entries
/// without `=` remove the variable.
pub(in crate::containers) fn merge(own: &[String], image: &[String], asked: &[String]) -> Vec<String> {
    let mut merged: Vec<String> = own.to_vec();
    let unasked = image.iter().filter(|i| !asked.iter().any(|a| name(a) == name(i)));
    for entry in asked.iter().chain(unasked) {
        let place = merged.iter().position(|m| name(m) == name(entry));
        match (place, entry.contains('=')) {
            (Some(at), true) => merged[at].clone_from(entry),
            (Some(at), false) => drop(merged.remove(at)),
            (None, true) => merged.push(entry.clone()),
            (None, false) => {}
        }
    }
    merged
}

/// Is the variable set?
pub(super) fn has(env: &[String], variable: &str) -> bool {
    env.iter().any(|entry| name(entry) == variable)
}

/// What `-e` means: `NAME=value` as it is; `NAME` takes the host's value, or unsets when the host has none.
///
/// # Errors
/// Refuses an empty name, as Docker does.
pub fn argument<V: AsRef<OsStr>>(
    argument: &str,
    host: impl Fn(&str) -> Option<V>,
) -> Result<String, SpecError> {
    if name(argument).is_empty() {
        return Err(SpecError::Environment(argument.into()));
    }
    if argument.contains('=') {
        return Ok(argument.into());
    }
    Ok(match host(argument) {
        Some(value) => format!("{argument}={}", value.as_ref().to_string_lossy()),
        None => argument.into(),
    })
}

/// The lines of an `--env-file`: `#` comments and blank lines are skipped; a bare name takes the host's value or is
/// left out; nothing is unquoted.
///
/// # Errors
/// Refuses names with blanks in them and lines without a name, as Docker does.
pub fn file<V: AsRef<OsStr>>(text: &str, host: impl Fn(&str) -> Option<V>) -> Result<Vec<String>, SpecError> {
    let mut entries = Vec::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable = name(line);
        if variable.is_empty() || variable.contains(char::is_whitespace) {
            return Err(SpecError::Environment(line.into()));
        }
        let entry = argument(line, &host)?;
        if entry.contains('=') {
            entries.push(entry);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }
    fn host(name: &str) -> Option<&'static str> {
        (name == "SET").then_some("from host")
    }

    #[test]
    fn asked_wins_over_image_and_image_over_own() {
        let merged = merge(
            &strings(&["PATH=/bin", "HOSTNAME=h"]),
            &strings(&["PATH=/image", "A=image", "B=image"]),
            &strings(&["A=asked", "C=asked"]),
        );
        assert_eq!(
            merged,
            ["PATH=/image", "HOSTNAME=h", "A=asked", "C=asked", "B=image"]
        );
    }

    #[test]
    fn a_name_alone_unsets() {
        let merged = merge(
            &strings(&["PATH=/bin"]),
            &strings(&["A=1"]),
            &strings(&["PATH", "A"]),
        );
        assert!(merged.is_empty(), "{merged:?}");
    }

    #[test]
    fn the_last_of_several_wins() {
        assert_eq!(merge(&[], &[], &strings(&["A=1", "A=2"])), ["A=2"]);
    }

    #[test]
    fn an_argument_takes_the_hosts_value_or_unsets() {
        assert_eq!(argument("SET", host).ok().as_deref(), Some("SET=from host"));
        assert_eq!(argument("UNSET", host).ok().as_deref(), Some("UNSET"));
        assert_eq!(argument("A=b=c", host).ok().as_deref(), Some("A=b=c"));
        assert!(argument("=x", host).is_err() && argument("", host).is_err());
    }

    #[test]
    fn a_file_is_read_as_docker_does() {
        let text = "# comment\n\n  A=1\nB=\"quoted\" \nSET\nUNSET\nC=\n";
        let entries = file(text, host).unwrap_or_default();
        assert_eq!(entries, ["A=1", "B=\"quoted\" ", "SET=from host", "C="]);
        assert!(file("A B=1", host).is_err());
        assert!(file("=1", host).is_err());
    }
}
