//! What is put where, and called what? Docker's rules of `cp`: what the source is, whether its path ends with `/.`, and what
//! is at the destination decide.

use serde::{Deserialize, Serialize};

/// What is copied, as its reader tells it before its tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Top {
    /// Is it a directory?
    pub(super) is_directory: bool,
    /// The name that all paths in the tar begin with; of a directory whose content is meant, none.
    pub(super) name: Option<Vec<u8>>,
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Nothing,
    Directory,
    Other,
}

/// Where the copy comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landing {
    /// Into the directory that is there, under its own name if it has one.
    Within,
    /// To the destination itself, under the name that was asked for.
    Instead,
}

/// Why it comes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("no such directory")]
    NoDirectory,
    #[error("it is a file, and a directory cannot be copied over it")]
    DirectoryToFile,
    #[error("not a directory")]
    NotDirectory,
}

/// The rules. `slash`: the destination's path says that it is a directory.
pub(super) fn landing(top: &Top, there: There, slash: bool) -> Result<Landing, Refused> {
    match (there, top.is_directory, slash) {
        (There::Directory, ..) => Ok(Landing::Within),
        (There::Nothing, true, _) | (_, false, false) => Ok(Landing::Instead),
        (There::Nothing, false, true) => Err(Refused::NoDirectory),
        (There::Other, true, _) => Err(Refused::DirectoryToFile),
        (There::Other, false, true) => Err(Refused::NotDirectory),
    }
}

/// A path as a user gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Without slashes at its end; `/` alone stays.
    pub(super) path: Vec<u8>,
    /// Does it say that it is a directory: a slash or a dot at its end?
    pub(super) slash: bool,
    /// Is the content meant, not the directory: `DIR/.`?
    pub(super) content: bool,
}

impl Asked {
    pub(super) fn new(path: &[u8]) -> Asked {
        let trimmed = path
            .iter()
            .rposition(|byte| *byte != b'/')
            .and_then(|last| path.get(..=last));
        let is_root = trimmed.is_none();
        let trimmed = trimmed.unwrap_or(b"/");
        let last = last(trimmed);
        let dots = last == b"." || last == b"..";
        Asked {
            slash: is_root || dots || path.ends_with(b"/"),
            content: is_root || dots,
            path: trimmed.to_vec(),
        }
    }

    /// The last name; of a path whose content is meant, none.
    pub(super) fn name(&self) -> Option<&[u8]> {
        (!self.content).then(|| last(&self.path))
    }
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The names of a member's path, none of which leads out of where it is unpacked.
pub(super) fn names(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let parts = path.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    match parts.iter().any(|part| *part == b"..") {
        true => Err("its path has \"..\", which would lead out of the place it is copied to"),
        false => Ok(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_decides() {
        use Landing::{Instead, Within};
        let top = |is_directory| Top {
            is_directory,
            name: None,
        };
        let cases = [
            // A file …
            (false, There::Nothing, false, Ok(Instead)),
            (false, There::Nothing, true, Err(Refused::NoDirectory)),
            (false, There::Other, false, Ok(Instead)),
            (false, There::Other, true, Err(Refused::NotDirectory)),
            (false, There::Directory, false, Ok(Within)),
            // … and a directory.
            (true, There::Nothing, false, Ok(Instead)),
            (true, There::Nothing, true, Ok(Instead)),
            (true, There::Other, false, Err(Refused::DirectoryToFile)),
            (true, There::Directory, true, Ok(Within)),
        ];
        for (directory, there, slash, expected) in cases {
            let found = landing(&top(directory), there, slash);
            assert_eq!(found, expected, "{directory} {there:?} {slash}");
        }
    }

    #[test]
    fn the_end_of_a_path_has_meaning() {
        let read = |text: &str| {
            let asked = Asked::new(text.as_bytes());
            let name = asked
                .name()
                .map(|name| String::from_utf8_lossy(name).into_owned());
            (String::from_utf8(asked.path.clone()).unwrap(), asked.slash, name)
        };
        assert_eq!(read("a/b"), ("a/b".into(), false, Some("b".into())));
        assert_eq!(read("/a/b//"), ("/a/b".into(), true, Some("b".into())));
        assert_eq!(read("a/."), ("a/.".into(), true, None));
        assert_eq!(read("."), (".".into(), true, None));
        assert_eq!(read("a/../"), ("a/..".into(), true, None));
        assert_eq!(read("/"), ("/".into(), true, None));
        assert_eq!(read("///"), ("/".into(), true, None));
    }

    #[test]
    fn members_stay_below() {
        assert_eq!(names(b"./a//b/").unwrap(), [b"a", b"b"]);
        assert_eq!(names(b"/a").unwrap(), [b"a"]);
        assert!(names(b"a/../../b").is_err());
        assert!(names(b"./").unwrap().is_empty());
    }
}
