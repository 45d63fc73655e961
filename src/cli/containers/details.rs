//! What does `logs --details` show with each line? What Docker's driver json-file keeps with it: labels and variables that
//! `--log-opt` names, and a tag. They are the same for all lines of a container, so nothing of them is in its log.

use std::collections::BTreeMap;

use oci_spec::runtime::{Process, Spec};
use regex_lite::Regex;
use serde_json::json;

use super::super::report::Failure;
use super::super::template::{Template, urlquery};
use crate::containers::log::ATTRIBUTES;
use crate::containers::record::Record;

/// What of `--log-opt` is about it.
///
/// # Errors
/// A tag that is no template, or a pattern that is no regular expression.
pub(super) fn options(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pairs = given.iter().filter_map(|text| text.split_once('='));
    let mut options = BTreeMap::new();
    for (key, value) in pairs.filter(|(key, _)| ATTRIBUTES.contains(key)) {
        let wrong = |why: String| Failure::new(format!("invalid --log-opt {key}={value}: {why}"));
        match key {
            "tag" => drop(Template::parse(value).map_err(|error| wrong(error.to_string()))?),
            "labels-regex" | "env-regex" => {
                drop(Regex::new(value).map_err(|error| wrong(error.to_string()))?)
            }
            _ => {}
        }
        options.insert(key.into(), value.into());
    }
    Ok(options)
}

/// What stands before each line, without the blank: in Docker's order and spelling.
///
/// # Errors
/// The tag asks for what is not there.
pub(super) fn shown(record: &Record, spec: &Spec) -> Result<String, Failure> {
    let mut found = labels(record);
    found.extend(variables(record, spec));
    if let Some(tag) = option(record, "tag") {
        let template = if tag.is_empty() { "{{.ID}}" } else { tag };
        let template = Template::parse(template).map_err(|error| Failure::of(&error))?;
        let tag = template
            .render(&about(record))
            .map_err(|error| Failure::of(&error))?;
        found.insert("tag".into(), tag);
    }
    let pairs = found
        .iter()
        .map(|(name, value)| format!("{}={}", urlquery(name), urlquery(value)));
    Ok(pairs.collect::<Vec<_>>().join(","))
}

fn option<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.settings.asked.log_options.get(name).map(String::as_str)
}

fn labels(record: &Record) -> BTreeMap<String, String> {
    let all = &record.settings.labels;
    chosen(
        record,
        ["labels", "labels-regex"],
        all.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    )
}

fn variables(record: &Record, spec: &Spec) -> BTreeMap<String, String> {
    let all = spec
        .process()
        .as_ref()
        .and_then(|process: &Process| process.env().as_ref());
    let pairs = all.into_iter().flatten().filter_map(|text| text.split_once('='));
    chosen(record, ["env", "env-regex"], pairs)
}

/// Those that the options name, or that match.
fn chosen<'a>(
    record: &Record,
    [names, pattern]: [&str; 2],
    all: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, String> {
    let named: Vec<&str> = option(record, names).map_or(Vec::new(), |list| list.split(',').collect());
    // It was read when the container was made.
    let pattern = option(record, pattern).and_then(|text| Regex::new(text).ok());
    let pattern = pattern.filter(|pattern| !pattern.as_str().is_empty());
    let matches = |name: &str| pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
    all.filter(|(name, _)| named.contains(name) || matches(name))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// What a tag may ask for (docs.docker.com/engine/logging/log_tags).
fn about(record: &Record) -> serde_json::Value {
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    let image = record.base.image().map(ToString::to_string).unwrap_or_default();
    let digits = image
        .rsplit_once(':')
        .map_or(image.as_str(), |(_, digits)| digits);
    json!({
        "ID": short(&record.id),
        "FullID": record.id,
        "Name": record.name,
        "ImageID": short(digits),
        "ImageFullID": image,
        "ImageName": record.image_name,
        "DaemonName": "bryo",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused_at_once() {
        let options = |text: &str| options(&[text.to_owned()]);
        assert_eq!(options("max-size=3").unwrap().len(), 0);
        assert_eq!(options("tag={{.Name}}/x=y").unwrap()["tag"], "{{.Name}}/x=y");
        assert_eq!(options("labels=a,b").unwrap()["labels"], "a,b");
        for text in ["tag={{.Name", "env-regex=(", "labels-regex=["] {
            assert!(options(text).is_err(), "{text}");
        }
    }
}
