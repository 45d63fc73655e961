//! Which labels does a filter ask for? Docker's `label=KEY` and `label=KEY=VALUE`.

/// A label of any value, or of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    name: String,
    value: Option<String>,
}

impl Label {
    /// `KEY` or `KEY=VALUE`.
    pub fn new(text: &str) -> Label {
        match text.split_once('=') {
            Some((name, value)) => Label {
                name: name.into(),
                value: Some(value.into()),
            },
            None => Label {
                name: text.into(),
                value: None,
            },
        }
    }

    /// Is it there? `find` gives a label's value.
    pub fn is_among<'a>(&self, find: impl FnOnce(&str) -> Option<&'a String>) -> bool {
        let found = find(&self.name);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_label_is_of_any_value_or_of_one() {
        let labels: BTreeMap<String, String> = [("a".into(), "1=2".into())].into();
        for (text, among) in [
            ("a", true),
            ("a=1=2", true),
            ("a=1", false),
            ("a=", false),
            ("b", false),
        ] {
            assert_eq!(
                Label::new(text).is_among(|name| labels.get(name)),
                among,
                "{text}"
            );
        }
    }
}
