//! Which images does a `--filter` choose? Docker's filters: dangling, reference, label, before, since, until.

use std::collections::HashMap;

use super::names::{Record, References};
use super::reference::Reference;
use super::{Error, Image, glob};
use crate::store::Store;

/// Filters of one command. All must hold; several of `reference` are alternatives.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filters {
    dangling: Option<bool>,
    references: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    /// `label!`: what must not be there.
    not_labels: Vec<(String, Option<String>)>,
    /// Made before this second since 1970.
    before: Option<i64>,
    /// Made after this second.
    since: Option<i64>,
}

impl Filters {
    /// Reads `key=value` texts. `before` and `since` name images, `until` a time or an age before `now`.
    pub fn parse(texts: &[String], references: &References, now: i64) -> Result<Filters, Error> {
        let mut filters = Filters::default();
        for text in texts {
            let invalid = || Error::Filter(text.clone());
            let (key, value) = text.split_once('=').ok_or_else(invalid)?;
            let label = || match value.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (value.to_owned(), None),
            };
            let created = || {
                let found = references
                    .find(value)?
                    .ok_or_else(|| Error::NoSuchImage(value.into()))?;
                Ok::<_, Error>(found.created.unwrap_or(0))
            };
            match key {
                "dangling" => filters.dangling = Some(truth(value).ok_or_else(invalid)?),
                "reference" => filters.references.push(value.to_owned()),
                "label" => filters.labels.push(label()),
                "label!" => filters.not_labels.push(label()),
                "before" => filters.not_after(created()?),
                "since" => filters.not_before(created()?),
                "until" => filters.not_after(moment(value, now).ok_or_else(invalid)?),
                _ => return Err(invalid()),
            }
        }
        Ok(filters)
    }

    fn not_after(&mut self, moment: i64) {
        self.before = Some(self.before.map_or(moment, |before| before.min(moment)));
    }

    fn not_before(&mut self, moment: i64) {
        self.since = Some(self.since.map_or(moment, |since| since.max(moment)));
    }

    /// Adds a pattern that a name must match, as the argument of `images` is.
    pub fn also_reference(&mut self, pattern: String) {
        self.references.push(pattern);
    }

    /// Whether an image passes all but `reference`, which is about its names. Only labels open the image's config.
    pub fn accept(&self, store: &Store, record: &Record) -> Result<bool, Error> {
        let created = record.created.unwrap_or(0);
        let in_time = self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since);
        if !in_time
            || self
                .dangling
                .is_some_and(|dangling| dangling != record.is_dangling())
        {
            return Ok(false);
        }
        if self.labels.is_empty() && self.not_labels.is_empty() {
            return Ok(true);
        }
        // One damaged image neither hides the others nor is taken for what it may not be.
        let Some(labels) = labels(store, record)? else {
            return Ok(false);
        };
        let has = |(name, value): &(String, Option<String>)| {
            labels
                .get(name)
                .is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        Ok(self.labels.iter().all(has) && !self.not_labels.iter().any(has))
    }

    /// Whether a name passes the patterns: matched against `debian` and `debian:12`. No name passes only without any.
    pub fn accept_name(&self, name: Option<&Reference>) -> Result<bool, Error> {
        let mut accepted = self.references.is_empty();
        for pattern in &self.references {
            let invalid = || Error::Filter(format!("reference={pattern}"));
            // A pattern without wildcards may spell the registry out.
            let spelled = Reference::parse(pattern).ok();
            if let (Some(name), Some(spelled)) = (name, spelled) {
                let whole = spelled.tag().is_some() || spelled.digest().is_some();
                accepted |= spelled.repository() == name.repository() && (!whole || spelled == *name);
            }
            if let Some(name) = name {
                for spelling in [name.familiar(), name.familiar_repository()] {
                    accepted |=
                        glob::matches(pattern.as_bytes(), spelling.as_bytes()).map_err(|_| invalid())?;
                }
            }
        }
        Ok(accepted)
    }
}

/// The labels of an image's config. `None`, with a warning, if the config is lost or damaged: one such image does not
/// keep the others from being listed.
pub fn labels(store: &Store, record: &Record) -> Result<Option<HashMap<String, String>>, Error> {
    match Image::load(store, record) {
        Ok(image) => {
            let config = image.config.config().as_ref();
            let labels = config.and_then(|config| config.labels().clone());
            Ok(Some(labels.unwrap_or_default()))
        }
        Err(error @ (Error::Blob { .. } | Error::Config { .. } | Error::Layers { .. })) => {
            tracing::warn!(%error, id = %record.id, "the image's labels cannot be read");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Go's `strconv.ParseBool`.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A time as Docker's `until` takes it, in seconds since 1970: an age (`24h`, `1h30m`), a Unix time, or a date and time
/// of RFC 3339, its end (zone, time) left out or not.
pub fn moment(text: &str, now: i64) -> Option<i64> {
    if let Some(age) = age(text) {
        return now.checked_sub(age);
    }
    let whole = text.split('.').next().unwrap_or_default();
    if let Ok(seconds) = whole.parse() {
        return Some(seconds);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_second());
    }
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(
        local
            .to_zoned(jiff::tz::TimeZone::system())
            .ok()?
            .timestamp()
            .as_second(),
    )
}

/// Go's `time.ParseDuration`, in seconds: numbers with units, `1h30m`.
fn age(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match rest.get(..letters)? {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = rest.get(letters..)?;
    }
    (!text.is_empty()).then_some(seconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Result<Filters, Error> {
        let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
        Filters::parse(&texts, &References::default(), 1_000_000)
    }

    #[test]
    fn only_dockers_filters_are_taken() {
        for wrong in [
            "dangling",
            "dangling=maybe",
            "colour=red",
            "until=yesterday",
            "since=nothing",
        ] {
            assert!(filters(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_ages_or_dates() {
        let cases = [
            ("24h", 1_000_000 - 86_400),
            ("1h30m", 1_000_000 - 5400),
            ("500", 500),
            ("1970-01-01T00:01:00Z", 60),
            ("1970-01-01T01:01:00+01:00", 60),
        ];
        for (text, wanted) in cases {
            assert_eq!(moment(text, 1_000_000), Some(wanted), "{text}");
        }
        assert_eq!(moment("1h1", 0), None);
    }

    #[test]
    fn names_match_short_long_and_by_pattern() {
        let name = Reference::parse("debian:12").unwrap();
        for (pattern, wanted) in [
            ("debian", true),
            ("debian:12", true),
            ("debian:11", false),
            ("deb*", true),
            ("*:12", true),
            ("docker.io/library/debian", true),
            ("docker.io/library/debian:12", true),
            ("quay.io/debian", false),
        ] {
            let found = filters(&[&format!("reference={pattern}")])
                .unwrap()
                .accept_name(Some(&name))
                .unwrap();
            assert_eq!(found, wanted, "{pattern}");
        }
        assert!(
            filters(&["reference=["])
                .unwrap()
                .accept_name(Some(&name))
                .is_err()
        );
        assert!(!filters(&["reference=a"]).unwrap().accept_name(None).unwrap());
        assert!(Filters::default().accept_name(None).unwrap());
    }
}
