//! Which keys leave a container's terminal, and when have they been typed? Docker's `--detach-keys`.

use std::str::FromStr;

/// A sequence of keys; an empty one is never typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

/// A sequence that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid detach keys ({text}): unknown key \"{part}\": characters and ctrl-X are known, with commas between"
)]
pub struct BadKeys {
    text: String,
    part: String,
}

impl Default for Keys {
    /// ctrl-p,ctrl-q
    fn default() -> Keys {
        Keys(vec![16, 17])
    }
}

impl FromStr for Keys {
    type Err = BadKeys;

    fn from_str(text: &str) -> Result<Keys, BadKeys> {
        if text.is_empty() {
            return Ok(Keys(Vec::new()));
        }
        let keys = text.split(',').map(|part| {
            key(part).ok_or_else(|| BadKeys {
                text: text.into(),
                part: part.into(),
            })
        });
        keys.collect::<Result<Vec<u8>, BadKeys>>().map(Keys)
    }
}

/// Docker's names of keys: a character, or `ctrl-` and one that a control character has.
fn key(part: &str) -> Option<u8> {
    match (part.as_bytes(), part.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([one], _) if one.is_ascii() => Some(*one),
        (_, Some([letter @ b'a'..=b'z'])) => Some(letter - b'a' + 1),
        (_, Some(b"@")) => Some(0),
        (_, Some([sign @ (b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(sign - b'@'),
        _ => None,
    }
}

/// What is typed, watched.
#[derive(Debug)]
pub(in crate::containers) struct Watch {
    keys: Keys,
    /// How many of the keys were typed last.
    seen: usize,
}

/// What becomes of what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::containers) enum Typed {
    /// This is for the container; what may begin the sequence is held back.
    Pass(Vec<u8>),
    /// This was, and then the sequence came.
    Leave(Vec<u8>),
}

impl Watch {
    pub(in crate::containers) fn new(keys: Keys) -> Watch {
        Watch { keys, seen: 0 }
    }

    pub(in crate::containers) fn typed(&mut self, bytes: &[u8]) -> Typed {
        let keys = &self.keys.0;
        let mut passed = Vec::with_capacity(bytes.len() + self.seen);
        for byte in bytes {
            // Of what is held back, the longest end that may still begin the sequence stays.
            while self.seen > 0 && keys.get(self.seen) != Some(byte) {
                let shorter = (0..self.seen)
                    .rev()
                    .find(|length| keys.get(..*length) == keys.get(self.seen - length..self.seen));
                let shorter = shorter.unwrap_or(0);
                passed.extend_from_slice(keys.get(..self.seen - shorter).unwrap_or_default());
                self.seen = shorter;
            }
            if keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == keys.len() {
                    return Typed::Leave(passed);
                }
            } else {
                passed.push(*byte);
            }
        }
        Typed::Pass(passed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_have_dockers_names() {
        let read = |text: &str| text.parse::<Keys>().map(|keys| keys.0);
        assert_eq!(read("ctrl-p,ctrl-q").unwrap(), Keys::default().0);
        assert_eq!(
            read("a,ctrl-@,ctrl-[,ctrl-_,ctrl-z").unwrap(),
            [97, 0, 27, 31, 26]
        );
        assert!(read("").unwrap().is_empty());
        for bad in ["ctrl-", "ab", "ctrl-A", "ctrl-1", "a,,b", "ä"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    fn all(keys: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watch = Watch::new(Keys(keys.to_vec()));
        let mut passed = Vec::new();
        for piece in pieces {
            match watch.typed(piece) {
                Typed::Pass(bytes) => passed.extend(bytes),
                Typed::Leave(bytes) => {
                    passed.extend(bytes);
                    return (passed, true);
                }
            }
        }
        (passed, false)
    }

    #[test]
    fn a_sequence_leaves_and_its_beginning_is_held_back() {
        assert_eq!(all(b"xy", &[b"abx", b"y"]), (b"ab".to_vec(), true));
        assert_eq!(all(b"xy", &[b"x"]), (vec![], false));
        assert_eq!(all(b"xy", &[b"x", b"xz"]), (b"xxz".to_vec(), false));
        assert_eq!(all(b"xxy", &[b"xx", b"xy"]), (b"x".to_vec(), true));
        assert_eq!(all(b"", &[b"anything"]), (b"anything".to_vec(), false));
        assert_eq!(all(b"q", &[b"q"]), (vec![], true));
    }

    proptest! {
        /// However it is cut, it leaves where the sequence first is, and loses nothing before that.
        #[test]
        fn cuts_change_nothing(keys in "[ab]{1,4}", text in "[abc]{0,24}", cut in 0usize..24) {
            let (keys, text) = (keys.as_bytes(), text.as_bytes());
            let cut = cut.min(text.len());
            let (passed, left) = all(keys, &[&text[..cut], &text[cut..]]);
            match text.windows(keys.len()).position(|window| window == keys) {
                Some(at) => {
                    prop_assert!(left);
                    prop_assert_eq!(&passed[..], &text[..at]);
                }
                None => {
                    prop_assert!(!left);
                    prop_assert!(text.starts_with(&passed));
                    prop_assert!(text.len() - passed.len() < keys.len());
                }
            }
        }
    }
}
