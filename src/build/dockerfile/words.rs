//! Which words does an instruction consist of? Quotes and escapes still stand in them.

use super::error::Fault;

/// What separates the words that no quote holds together. Not every Unicode space does, as in BuildKit.
fn separates(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// The words between white space, whatever is quoted.
pub(super) fn fields(text: &str) -> Vec<String> {
    text.split(separates)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The first word, and what follows the white space behind it.
pub(super) fn cut(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once(separates)?;
    Some((first, rest.trim_start_matches(separates)))
}

/// The words between white space that is neither quoted nor escaped.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        // An escape character at the very end goes away.
        let escaped = if c == escape && quote != Some('\'') {
            let Some(next) = chars.next() else { break };
            Some(next)
        } else {
            None
        };
        match quote {
            None if escaped.is_none() && matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if escaped.is_none() && open == c => quote = None,
            _ => {}
        }
        let word = word.get_or_insert_default();
        word.push(c);
        word.extend(escaped);
    }
    words.extend(word);
    words
}

/// A JSON array of strings; None if the text is no JSON array, and so another form.
pub(super) fn json(text: &str) -> Result<Option<Vec<String>>, Fault> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let text = text.trim();
    if let Ok(strings) = serde_json::from_str(text) {
        return Ok(Some(strings));
    }
    // Nothing is kept of an array that is refused: it may be large.
    match serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text) {
        Ok(_) => Err(Fault::NotStrings),
        Err(_) => Ok(None),
    }
}
