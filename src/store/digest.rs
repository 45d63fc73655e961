//! Names by content. Their grammar is checked before any path is made of them (CVE-2024-3727).

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use fuse_overlay::index::DiffId;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A sha256 digest in the OCI image spec's spelling, `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Hashes and counts what is written.
#[derive(Debug)]
pub struct Digesting<W> {
    inner: W,
    sha256: Sha256,
    size: u64,
}

impl<W: Write> Digesting<W> {
    /// Writes on to `inner`.
    pub fn new(inner: W) -> Digesting<W> {
        Digesting {
            inner,
            sha256: Sha256::new(),
            size: 0,
        }
    }

    /// The digest of all that was written, and its bytes.
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.sha256.finalize().into()), self.size)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.sha256.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Not a digest that Bryo can check.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a digest of the form sha256:<64 hex digits>")]
pub struct BadDigest(pub String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits alone: a file's name.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let bad = || BadDigest(text.chars().take(100).collect());
        let digits = text.strip_prefix("sha256:").ok_or_else(bad)?.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad());
        }
        let value = |digit: u8| {
            if digit <= b'9' {
                digit - b'0'
            } else {
                digit - b'a' + 10
            }
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0]) << 4 | value(pair[1]);
        }
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for DiffId {
    fn from(digest: Digest) -> DiffId {
        DiffId(digest.0)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Names a stack of layers (OCI image spec, config.md, "Layer ChainID").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChainId(pub [u8; 32]);

impl ChainId {
    /// The chain id of `layers`, lowest first; of no layers, all zeros.
    pub fn of(layers: &[DiffId]) -> ChainId {
        let mut layers = layers.iter();
        let first = layers.next().map_or([0; 32], |layer| layer.0);
        ChainId(layers.fold(first, |chain, layer| {
            Digest::of(format!("sha256:{} sha256:{layer}", hex(&chain)).as_bytes()).0
        }))
    }

    /// The 64 hex digits alone: a file's name.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_grammar_becomes_a_digest() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().map(|d| d.to_string()), Ok(good));
        for bad in ["", "sha256:", "sha256:../../etc/passwd", "md5:00", "sha512:00"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(format!("sha256:{}", "0A".repeat(32)).parse::<Digest>().is_err());
    }

    #[test]
    fn a_chain_of_one_is_its_layer() {
        assert_eq!(ChainId::of(&[DiffId([7; 32])]).0, [7; 32]);
        let two = ChainId::of(&[DiffId([1; 32]), DiffId([2; 32])]);
        let text = format!("sha256:{} sha256:{}", "01".repeat(32), "02".repeat(32));
        assert_eq!(two.0, Digest::of(text.as_bytes()).0);
    }
}
