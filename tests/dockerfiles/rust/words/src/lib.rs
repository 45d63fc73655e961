//! What `count` depends on.

/// How many words a text has.
pub fn count(text: &str) -> usize {
    text.split_whitespace().count()
}
