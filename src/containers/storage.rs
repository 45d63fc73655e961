//! How much may a container write? `--storage-opt`, in Docker's and podman's words.

use fuse_overlay::union::Limits;
use serde::{Deserialize, Serialize};

use super::spec::{SpecError, mounts};

/// The limits of a writable layer; `None`: what the disk has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Bytes of data and journal.
    pub size: Option<u64>,
    /// Inodes made.
    pub inodes: Option<u64>,
}

impl Storage {
    /// Takes in one `--storage-opt`: `size=BYTES`, with a unit if wanted, or `inodes=NUMBER`. The last of a kind counts.
    ///
    /// # Errors
    /// Another option, or no number above 0.
    pub fn option(&mut self, text: &str) -> Result<(), SpecError> {
        let unknown = || SpecError::StorageOpt(text.into());
        let (key, value) = text.split_once('=').ok_or_else(unknown)?;
        let (place, number) = match key {
            "size" => (&mut self.size, mounts::bytes(value)),
            "inodes" => (&mut self.inodes, value.parse().ok()),
            _ => return Err(unknown()),
        };
        let number = number.filter(|number| *number > 0);
        *place = Some(number.ok_or_else(|| SpecError::StorageNumber(text.into()))?);
        Ok(())
    }

    pub(super) fn limits(self) -> Limits {
        Limits {
            bytes: self.size,
            inodes: self.inodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_are_taken_and_all_else_is_refused() {
        let mut storage = Storage::default();
        for text in ["size=10G", "inodes=7", "size=5m"] {
            storage.option(text).unwrap();
        }
        let expected = Storage {
            size: Some(5 << 20),
            inodes: Some(7),
        };
        assert_eq!(storage, expected);
        for text in [
            "size",
            "size=",
            "size=0",
            "size=x",
            "size=-1",
            "inodes=0",
            "inodes=1k",
            "quota=1",
            "overlay.size=1G",
        ] {
            assert!(storage.option(text).is_err(), "{text}");
        }
        assert_eq!(storage, expected);
    }
}
