//! What does systemd need to know to keep a container running? The text of a unit, systemd.service(5); `generate systemd`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How a container was made: the words of the command line before the image, and where it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Flags and their values.
    pub flags: Vec<String>,
    /// The words behind the image.
    pub command: Vec<String>,
    /// What relative paths among them begin at.
    pub directory: PathBuf,
}

/// Who tells systemd that the container runs, and which process it is to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The command itself stays, and is watched.
    Stays,
    /// The supervisor tells of itself, sd_notify(3).
    Notifies,
}

/// A unit.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its name, without `.service`.
    pub name: String,
    /// Lines of `[Unit]`: name and value.
    pub relations: Vec<(&'static str, String)>,
    /// Lines of `[Service]` before the commands.
    pub settings: Vec<(&'static str, String)>,
    /// `ExecStartPre` and the like with the words of the command; `-` before one whose failure does not count.
    pub commands: Vec<(&'static str, Vec<String>)>,
    /// How it starts.
    pub start: Start,
}

impl Unit {
    /// The text, after this header.
    pub fn text(&self, header: &str) -> String {
        let mut text = format!("{header}[Unit]\nDescription=Bryo {}.service\n", self.name);
        let line = |text: &mut String, name: &str, value: &str| text.push_str(&format!("{name}={value}\n"));
        for (name, value) in &self.relations {
            line(&mut text, name, value);
        }
        text.push_str("\n[Service]\n");
        for (name, value) in &self.settings {
            line(&mut text, name, value);
        }
        for (name, words) in &self.commands {
            // In the program's own path a dollar means nothing.
            let program = words.iter().take(1).map(|word| value(word));
            let words: Vec<String> = program
                .chain(words.iter().skip(1).map(|word| quoted(word)))
                .collect();
            line(&mut text, name, &words.join(" "));
        }
        match self.start {
            Start::Stays => text.push_str("Type=exec\n"),
            Start::Notifies => text.push_str("Type=notify\nNotifyAccess=all\n"),
        }
        text + "\n[Install]\nWantedBy=default.target\n"
    }
}

/// A word of a command as systemd.service(5) reads it: no specifier, no variable, one word.
pub fn quoted(word: &str) -> String {
    let escaped: String = word
        .chars()
        .map(|letter| match letter {
            '%' => "%%".into(),
            '$' => "$$".into(),
            '\\' => "\\\\".into(),
            '"' => "\\\"".into(),
            // Some end the line, even within quotes.
            letter if letter.is_ascii_control() => format!("\\x{:02x}", u32::from(letter)),
            letter => letter.to_string(),
        })
        .collect();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@+%$".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => escaped,
        false => format!("\"{escaped}\""),
    }
}

/// A value of a setting that is read as words (`Environment`).
pub fn value(text: &str) -> String {
    // There a dollar means nothing.
    quoted(text).replace("$$", "$")
}

/// A path as a value of its own, in which only `%` means something. `None`: no line of a unit can say it.
pub fn path(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control))?;
    let kept = text.trim() == text && !text.ends_with('\\');
    kept.then(|| text.replace('%', "%%"))
}

/// A path as one of a list (`RequiresMountsFor`). `None`: no line of a unit can say it.
pub fn listed(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control))?;
    Some(value(text))
}

/// May a unit's name be, or begin, like this? As systemd.unit(5) says.
pub fn is_name(text: &str) -> bool {
    let known = |letter: char| letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter);
    text.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_word_each() {
        for (word, text) in [
            ("run", "run"),
            ("a=b:/c", "a=b:/c"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("100%", "100%%"),
            ("$HOME", "$$HOME"),
            ("say \"x\"\\", "\"say \\\"x\\\"\\\\\""),
            ("a;b", "\"a;b\""),
            ("'", "\"'\""),
            ("two\nlines", "\"two\\x0alines\""),
            ("A=x\rExecStartPre=y", "\"A=x\\x0dExecStartPre=y\""),
        ] {
            assert_eq!(quoted(word), text);
        }
    }

    #[test]
    fn paths_stay_on_their_line() {
        let said = |text: &str| [path(Path::new(text)), listed(Path::new(text))];
        let both = |one: &str, two: &str| [Some(one.to_owned()), Some(two.to_owned())];
        assert_eq!(said("/a/100%"), both("/a/100%%", "/a/100%%"));
        assert_eq!(said("/a $b"), both("/a $b", "\"/a $b\""));
        assert_eq!(said("/a\\"), [None, Some("\"/a\\\\\"".into())]);
        assert_eq!(said("/a ")[0], None);
        assert_eq!(said("/a\rExecStart=/b"), [None, None]);
        assert_eq!(said("/a\nExecStart=/b"), [None, None]);
    }

    #[test]
    fn the_program_may_have_a_dollar_in_its_path() {
        let unit = Unit {
            name: "one".into(),
            relations: Vec::new(),
            settings: Vec::new(),
            commands: vec![("ExecStart", vec!["/a$b/bryo".into(), "$c".into()])],
            start: Start::Stays,
        };
        assert!(unit.text("").contains("\nExecStart=/a$b/bryo $$c\n"));
    }
}
