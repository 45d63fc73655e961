//! Which names may enter? A [`Name`] is checked once, at the border, and believed afterwards.

use std::fmt;

use ref_cast::RefCast;
use thiserror::Error;

/// The longest name of a directory entry in bytes, as Linux has it (`NAME_MAX`).
pub const MAX_LEN: usize = 255;

/// The name of a directory entry: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`. Not always UTF-8.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash, RefCast)]
#[repr(transparent)]
pub struct Name([u8]);

/// Why some bytes are no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("empty name")]
    Empty,
    /// More than [`MAX_LEN`] bytes.
    #[error("name of more than 255 bytes")]
    TooLong,
    /// `.` or `..`.
    #[error("\".\" or \"..\" as a name")]
    Dots,
    /// A byte that separates or ends paths.
    #[error("name with a \"/\" or a NUL byte")]
    Separator,
}

impl Name {
    /// Checks `bytes` and views them as a name.
    pub fn new(bytes: &[u8]) -> Result<&Name, NameError> {
        match bytes {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            _ if bytes.len() > MAX_LEN => Err(NameError::TooLong),
            _ if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(NameError::Separator),
            _ => Ok(Name::ref_cast(bytes)),
        }
    }

    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// An owned copy.
    pub fn to_boxed(&self) -> Box<Name> {
        // `Box<[u8]>` and `Box<Name>` differ only in the transparent wrapper.
        Name::ref_cast_box(self.0.into())
    }
}

impl Name {
    fn ref_cast_box(bytes: Box<[u8]>) -> Box<Name> {
        crate::sys::boxed_name(bytes)
    }
}

impl Clone for Box<Name> {
    fn clone(&self) -> Self {
        self.to_boxed()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_linux_accepts() {
        for good in [&b"a"[..], b"...", b".wh.x", b"\xff\xfe", &[b'n'; 255]] {
            assert_eq!(Name::new(good).map(Name::as_bytes), Ok(good));
        }
    }

    #[test]
    fn refuses_what_could_leave_a_directory() {
        assert_eq!(Name::new(b""), Err(NameError::Empty));
        assert_eq!(Name::new(b"."), Err(NameError::Dots));
        assert_eq!(Name::new(b".."), Err(NameError::Dots));
        assert_eq!(Name::new(b"a/b"), Err(NameError::Separator));
        assert_eq!(Name::new(b"a\0"), Err(NameError::Separator));
        assert_eq!(Name::new(&[b'n'; 256]), Err(NameError::TooLong));
    }
}
