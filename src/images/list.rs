//! Which images does a `--filter` choose? Docker's filters: dangling, reference, label, before, since, until.

use std::collections::HashMap;

use super::names::{Record, References};
use super::reference::Reference;
use super::{Error, Image, glob};
use crate::label::Label;
use crate::store::Store;
use crate::truth::truth;

/// Filters of one command. All must hold; several of `reference` are alternatives.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filters {
    dangling: Option<bool>,
    references: Vec<String>,
    labels: Vec<Label>,
    /// `label!`: what must not be there.
    not_labels: Vec<Label>,
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
            let created = || {
                let found = references
                    .find(value)?
                    .ok_or_else(|| Error::NoSuchImage(value.into()))?;
                Ok::<_, Error>(found.created.unwrap_or(0))
            };
            match key {
                "dangling" => filters.dangling = Some(truth(value).ok_or_else(invalid)?),
                "reference" => filters.references.push(value.to_owned()),
                "label" => filters.labels.push(Label::new(value)),
                "label!" => filters.not_labels.push(Label::new(value)),
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
        let has = |label: &Label| label.is_among(|name| labels.get(name));
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

/// A time as Docker's `until` takes it, in seconds since 1970.
pub fn moment(text: &str, now: i64) -> Option<i64> {
    let now = jiff::Timestamp::from_second(now).ok()?;
    Some(crate::moment::moment(text, now)?.as_second())
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
