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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let error = io::Error::other("a\u{1b}[2Jb\rc\nd\u{9b}e\u{7f}");
        assert_eq!(chain(&error), "a?[2Jb?c d?e?");
    }
}
