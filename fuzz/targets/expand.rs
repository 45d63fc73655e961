//! A word, a value and an escape character: refused in one short line, or as long as the limit allows; words are the
//! value's own characters, none of them empty.
#![no_main]

use bryo::build::dockerfile::{MAX_EXPANDED, expand, expand_text, expand_words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, bool)| {
    let (word, value, backtick) = input;
    let escape = if backtick { '`' } else { '\\' };
    let get = |name: &str| match name.len() % 3 {
        0 => None,
        1 => Some(value.to_owned()),
        _ => Some(String::new()),
    };
    match (expand(word, escape, &get), expand_words(word, escape, &get)) {
        (Ok(text), Ok(words)) => {
            assert!(text.len() <= MAX_EXPANDED);
            let dense = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(dense(&words.concat()), dense(&text));
            assert!(words.iter().all(|word| !word.is_empty()));
        }
        (Err(error), Err(same)) => {
            assert_eq!(error, same);
            assert!(error.to_string().chars().count() < 1000);
        }
        (one, other) => panic!("{one:?} but {other:?}"),
    }
    let _ = expand_text(word, &get);
    // A word without anything special is itself.
    if !word.contains(['$', '\'', '"', escape]) {
        assert_eq!(expand(word, escape, &get).as_deref(), Ok(word));
    }
});
