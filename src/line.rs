//! How does an error, or what others wrote, become one line?

use std::error::Error;
use std::fmt::Arguments;
use std::io::{self, Write as _};

/// An error and its causes, outermost first. Some crates' messages end with their cause: it is not said twice.
/// What others wrote into it cannot steer the terminal.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    printable_line(&line)
}

/// `eprintln!` for whoever may have nobody listening: that panics where standard error is a closed pipe or a full disk.
macro_rules! say {
    ($($text:tt)*) => { $crate::line::tell(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use say;

/// Writes to standard error, if it can be.
pub(crate) fn tell(text: Arguments<'_>) {
    // What cannot be said cannot be complained of either.
    let _ = io::stderr().lock().write_fmt(text);
}

/// The text as one line without control characters.
pub(crate) fn printable_line(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The text as Go's `strconv.Quote` has it: in quotes, and what does not print in escapes.
pub(crate) fn quoted(text: &str) -> String {
    let escaped: String = text.chars().map(escaped).collect();
    format!("\"{escaped}\"")
}

fn escaped(character: char) -> String {
    match character {
        '"' | '\\' => format!("\\{character}"),
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\u{b}' => "\\v".into(),
        '\u{c}' => "\\f".into(),
        '\r' => "\\r".into(),
        control if control.is_ascii_control() => format!("\\x{:02x}", u32::from(control)),
        shown if shown.is_ascii() || is_printed(shown) => shown.into(),
        hidden if u32::from(hidden) < 0x10000 => format!("\\u{:04x}", u32::from(hidden)),
        hidden => format!("\\U{:08x}", u32::from(hidden)),
    }
}

/// Letters, marks, numbers, punctuation and symbols, as Go's `unicode.IsPrint`: not what is beyond ASCII and only moves others.
fn is_printed(character: char) -> bool {
    // Rust escapes the same, but marks that nothing stands before.
    let text = String::from_iter(['a', character]);
    text.escape_debug().eq(text.chars())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let error = io::Error::other("a\u{1b}[2Jb\rc\nd\u{9b}e\u{7f}");
        assert_eq!(chain(&error), "a?[2Jb?c d?e?");
    }

    #[test]
    fn words_are_quoted_as_in_go() {
        let cases = [
            ("a b", r#""a b""#),
            ("\"q\" \\", r#""\"q\" \\""#),
            ("\t\n\u{1}\u{7f}\u{85}", r#""\t\n\x01\x7f\u0085""#),
            ("ä'e\u{301} \u{1f600}", "\"ä'e\u{301} \u{1f600}\""),
            (
                "\u{202e}\u{200b}\u{a0}\u{e0001}",
                r#""\u202e\u200b\u00a0\U000e0001""#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected);
        }
    }
}
