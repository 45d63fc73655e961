//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"): `length key=value\n` records, binary-safe.

use super::number;
use super::read::Fault;
use crate::attr::{MAX_XATTRS, Time, xattr_room};

/// Longest name of an extended attribute in bytes (`XATTR_NAME_MAX`, xattr(7)).
const MAX_XATTR_NAME: usize = 255;
/// Longest value of an extended attribute in bytes (`XATTR_SIZE_MAX`, xattr(7)).
const MAX_XATTR_VALUE: usize = 64 * 1024;

/// What the PAX records of one entry say; `None` leaves the header's value.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    /// By name; star's spelling wins over libarchive's.
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) sparse: SparseRecords,
}

/// An extended attribute: name and value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// The records `GNU.sparse.*`, uninterpreted.
#[derive(Debug, Default)]
pub(crate) struct SparseRecords {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// `size` (0.0, 0.1) or `realsize` (1.0).
    pub(crate) real_size: Option<u64>,
    pub(crate) block_count: Option<u64>,
    /// Offsets and lengths by turns, from either `map` or repeated `offset` and `numbytes`.
    pub(crate) map: Option<Vec<u64>>,
}

/// Reads the records of an `x` header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Pax, Fault> {
    let mut pax = Pax::default();
    let mut libarchive = Vec::new();
    for record in Records(bytes) {
        let (key, value) = record?;
        pax.take(key, value, &mut libarchive)?;
    }
    for (name, value) in libarchive {
        if !pax.xattrs.iter().any(|(known, _)| *known == name) {
            pax.xattrs.push((name, value));
        }
    }
    refuse_too_much(&pax.xattrs)?;
    Ok(pax)
}

/// Checks the records of a `g` header. Go's reader, hence podman and containerd, ignores them, and so do we; what moves
/// the borders of entries for readers that do not is refused.
pub(crate) fn check_global(bytes: &[u8]) -> Result<(), Fault> {
    for record in Records(bytes) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err("a global PAX header that renames or resizes files");
        }
    }
    Ok(())
}

impl Pax {
    fn take(&mut self, key: &[u8], value: &[u8], libarchive: &mut Vec<Xattr>) -> Result<(), Fault> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return put_xattr(&mut self.xattrs, name, value);
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let name = percent_decoded(name).ok_or("broken name of an extended attribute")?;
            let value = base64_decoded(value).ok_or("broken value of an extended attribute")?;
            return put_xattr(libarchive, &name, &value);
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(key, value);
        }
        // An empty value takes an earlier one back.
        let text = (!value.is_empty()).then_some(value);
        let number = || {
            text.map(|text| number::decimal(text).ok_or("a PAX number that is none"))
                .transpose()
        };
        match key {
            b"path" => self.path = text.map(<[u8]>::to_vec),
            b"linkpath" => self.linkpath = text.map(<[u8]>::to_vec),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => {
                self.mtime = text
                    .map(|text| number::time(text).ok_or("a PAX time that is none"))
                    .transpose()?;
            }
            // Not kept, but checked, as Go does.
            b"atime" | b"ctime" => {
                let time = text.map(|text| number::time(text).ok_or("a PAX time that is none"));
                time.transpose()?;
            }
            // Names of owners, comments and what other programs add.
            _ => {}
        }
        Ok(())
    }
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let number = || number::decimal(value).ok_or("a PAX number that is none");
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(number()?),
            b"numblocks" => self.block_count = Some(number()?),
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                if map.len() % 2 != usize::from(key == b"numbytes") {
                    return Err("sparse offsets and lengths that do not alternate");
                }
                map.push(number()?);
            }
            b"map" => {
                let numbers = value.split(|&byte| byte == b',').map(number::decimal);
                // Without a hole at all, GNU tar writes an empty map.
                let map = if value.is_empty() {
                    Some(Vec::new())
                } else {
                    numbers.collect()
                };
                self.map = Some(map.ok_or("a sparse map that is none")?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The file's name, if what is there of records is a format that is known: else Go does not look at it.
    pub(crate) fn name(&mut self) -> Option<Vec<u8>> {
        let known = match (self.major, self.minor) {
            (Some(0), Some(0 | 1)) | (Some(1), Some(0)) => true,
            (None, None) => self.map.as_ref().is_some_and(|map| !map.is_empty()),
            _ => false,
        };
        self.name.take().filter(|name| known && !name.is_empty())
    }

    /// The map that formats 0.0 and 0.1 have in their records.
    pub(crate) fn map_in_records(&self) -> Result<Vec<u64>, Fault> {
        if !matches!((self.major, self.minor), (None, None) | (Some(0), Some(0 | 1))) {
            return Err("a sparse format that is not known");
        }
        let map = self.map.clone().unwrap_or_default();
        match self.block_count {
            Some(count) if count.checked_mul(2) != Some(map.len() as u64) => {
                Err("a sparse map of another length than it says")
            }
            _ => Ok(map),
        }
    }

    /// Does any record say that the file is sparse?
    pub(crate) fn is_some(&self) -> bool {
        self.major.is_some() || self.minor.is_some() || self.map.is_some() || self.block_count.is_some()
    }
}

fn put_xattr(xattrs: &mut Vec<Xattr>, name: &[u8], value: &[u8]) -> Result<(), Fault> {
    if name.is_empty() || name.len() > MAX_XATTR_NAME || name.contains(&0) {
        return Err("name of an extended attribute: empty, over 255 bytes, or with a NUL");
    }
    if value.len() > MAX_XATTR_VALUE {
        return Err("extended attribute of more than 64 KiB");
    }
    // Of one name the last value counts.
    xattrs.retain(|(known, _)| **known != *name);
    xattrs.push((name.into(), value.into()));
    refuse_too_much(xattrs)
}

/// No more than a container could set.
fn refuse_too_much(xattrs: &[Xattr]) -> Result<(), Fault> {
    let room: usize = xattrs.iter().map(|(name, value)| xattr_room(name, value)).sum();
    if room > MAX_XATTRS {
        return Err("extended attributes of more than 64 KiB");
    }
    Ok(())
}

/// Splits a header into (key, value).
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or("broken PAX record"))
    }
}

impl<'a> Records<'a> {
    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let space = self.0.iter().position(|&byte| byte == b' ')?;
        let length = usize::try_from(number::decimal(self.0.get(..space)?)?).ok()?;
        let record = self.0.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
        // Go's reader refuses these too; a NUL would end the name early for others.
        let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if key.is_empty() || key.contains(&0) || (is_text && value.contains(&0)) {
            return None;
        }
        self.0 = self.0.get(length..)?;
        Some((key, value))
    }
}

/// libarchive writes names of attributes as in URLs.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut out = Vec::new();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            _ => byte,
        });
    }
    Some(out)
}

/// libarchive writes values of attributes in base 64, with or without padding.
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let mut text = text;
    while let Some(rest) = text.strip_suffix(b"=") {
        text = rest;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let bits = group
            .iter()
            .try_fold(0u32, |bits, &byte| Some(bits << 6 | u32::from(digit(byte)?)))?;
        let [_, bytes @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        out.extend_from_slice(bytes.get(..group.len() - 1)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let length = (1..)
            .map(|digits| rest + digits)
            .find(|l| l.to_string().len() + rest == *l)
            .unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn binary_values_with_newlines_are_whole() {
        let bytes = [
            record("SCHILY.xattr.security.capability", b"\x01\n\0=\n"),
            record("path", b"a"),
        ]
        .concat();
        let pax = parse(&bytes).unwrap();
        assert_eq!(
            pax.xattrs,
            [(b"security.capability"[..].into(), b"\x01\n\0=\n"[..].into())]
        );
        assert_eq!(pax.path.unwrap(), b"a");
    }

    #[test]
    fn star_wins_over_libarchive() {
        let bytes = [
            record("LIBARCHIVE.xattr.user.a%20b", b"aGVsbG8"),
            record("LIBARCHIVE.xattr.user.c", b"eA=="),
            record("SCHILY.xattr.user.c", b"y"),
        ]
        .concat();
        let pax = parse(&bytes).unwrap();
        assert_eq!(pax.xattrs[0], (b"user.c"[..].into(), b"y"[..].into()));
        assert_eq!(pax.xattrs[1], (b"user.a b"[..].into(), b"hello"[..].into()));
        assert_eq!(pax.xattrs.len(), 2);
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in [
            &b"5 a=b"[..],
            b"99 path=a\n",
            b"0 path=a\n",
            b"x path=a\n",
            b"9 path=a",
            b"5 ab\n\n",
            b"10 path=a\0\n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(parse(&record("size", b"-1")).is_err());
        assert!(parse(&record("SCHILY.xattr.user.x", &[0; MAX_XATTR_VALUE + 1])).is_err());
    }

    #[test]
    fn an_empty_value_takes_back() {
        let pax = parse(&[record("path", b"a"), record("path", b"")].concat()).unwrap();
        assert_eq!(pax.path, None);
    }

    #[test]
    fn global_headers_may_not_resize() {
        assert!(check_global(&record("comment", b"a commit")).is_ok());
        assert!(check_global(&record("size", b"1")).is_err());
    }
}
