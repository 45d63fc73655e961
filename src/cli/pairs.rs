//! Flags of the form `KEY[=VALUE]`, given several times.

use std::collections::BTreeMap;

/// The last of a key counts.
pub(super) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_string(), value.to_string())
    };
    texts.iter().map(pair).collect()
}
