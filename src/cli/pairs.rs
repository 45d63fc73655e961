//! Flags of the form `KEY[=VALUE]`, given several times.

use std::collections::BTreeMap;

/// The last of a key counts.
pub(super) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    texts.iter().map(|text| pair(text)).collect()
}

/// One.
pub(super) fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_string(), value.to_string())
}
