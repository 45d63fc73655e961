//! How is a tar written that says all there is of a file? Names, targets and times that a plain header cannot hold, and
//! extended attributes, go into PAX records (POSIX pax, "ustar" headers).

use std::io::{self, Read, Write};

use ::tar::{Builder, EntryType, Header};

use crate::attr::{Attr, Kind, Time};

/// An extended attribute: its name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// A tar under way.
pub struct Writer<W: Write> {
    tar: Builder<W>,
}

/// One entry.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its path, as it is to stand in the tar. A directory's is given its slash.
    pub path: &'a [u8],
    /// Of a symlink where it leads, of one more name of a file the first.
    pub target: &'a [u8],
    /// Kind, owner, times and size.
    pub attr: &'a Attr,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
}

impl<W: Write> Writer<W> {
    /// An empty one.
    pub fn new(out: W) -> Writer<W> {
        Writer {
            tar: Builder::new(out),
        }
    }

    /// Ends it, and gives `out` back.
    ///
    /// # Errors
    /// `out` fails.
    pub fn end(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    /// Writes an entry; of a regular file `content` gives as many bytes as its size says.
    ///
    /// # Errors
    /// `out` or `content` fails.
    pub fn add(&mut self, entry: Entry<'_>, content: impl Read) -> io::Result<()> {
        let (header, records) = (header(entry.attr), described(entry.attr, entry.xattrs));
        // As tar programs write directories, the root included, which has no name.
        let path = match entry.attr.kind {
            Kind::Directory if entry.path.is_empty() => b"./".to_vec(),
            Kind::Directory => [entry.path, b"/"].concat(),
            _ => entry.path.to_vec(),
        };
        self.append(header, &path, entry.target, records, content)
    }

    /// Writes one more name of a file; its first is the target.
    ///
    /// # Errors
    /// `out` fails.
    pub fn link(&mut self, entry: Entry<'_>) -> io::Result<()> {
        let mut header = header(entry.attr);
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        // With all metadata, for who reads it takes it from the last entry of a file.
        let records = described(entry.attr, entry.xattrs);
        self.append(header, entry.path, entry.target, records, io::empty())
    }

    /// Writes an empty regular file of no owner, mode and time.
    ///
    /// # Errors
    /// `out` fails.
    pub(crate) fn mark(&mut self, path: &[u8]) -> io::Result<()> {
        // All fields are said: an empty one is no number for some readers.
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(0);
        self.append(header, path, &[], Vec::new(), io::empty())
    }

    /// Writes one entry, after a PAX header if `path`, `target` or `records` need one.
    fn append(
        &mut self,
        mut header: Header,
        path: &[u8],
        target: &[u8],
        mut records: Vec<(Vec<u8>, Vec<u8>)>,
        content: impl Read,
    ) -> io::Result<()> {
        let plain = |bytes: &[u8], room: usize| bytes.len() <= room && bytes.is_ascii();
        let old = header.as_old_mut();
        for (bytes, key, room) in [
            (path, "path", &mut old.name),
            (target, "linkpath", &mut old.linkname),
        ] {
            if !plain(bytes, room.len()) {
                records.push((key.as_bytes().to_vec(), bytes.to_vec()));
            }
            let length = bytes.len().min(room.len());
            if let (Some(room), Some(bytes)) = (room.get_mut(..length), bytes.get(..length)) {
                room.copy_from_slice(bytes);
            }
        }
        if !records.is_empty() {
            let body: Vec<u8> = records
                .iter()
                .flat_map(|(key, value)| record(key, value))
                .collect();
            let mut pax = Header::new_ustar();
            pax.set_entry_type(EntryType::XHeader);
            pax.set_size(body.len() as u64);
            pax.set_cksum();
            self.tar.append(&pax, &*body)?;
        }
        header.set_cksum();
        self.tar.append(&header, content)
    }
}

/// All PAX records of an entry.
fn described(attr: &Attr, xattrs: Vec<Xattr>) -> Vec<Xattr> {
    let mut records = records(attr);
    for (name, value) in xattrs {
        records.push(([&b"SCHILY.xattr."[..], &name].concat(), value));
    }
    records
}

/// The header without name and target.
fn header(attr: &Attr) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(attr.perm.into());
    header.set_uid(attr.uid.into());
    header.set_gid(attr.gid.into());
    header.set_size(if attr.kind == Kind::Regular { attr.size } else { 0 });
    header.set_mtime(u64::try_from(attr.mtime.sec).unwrap_or(0));
    header.set_entry_type(match attr.kind {
        Kind::Regular | Kind::Socket => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::Fifo => EntryType::Fifo,
        Kind::CharDevice => EntryType::Char,
        Kind::BlockDevice => EntryType::Block,
    });
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(libc::major(attr.rdev.into()));
        ustar.set_device_minor(libc::minor(attr.rdev.into()));
    }
    header
}

/// What a plain header cannot say of an inode.
fn records(attr: &Attr) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Time { sec, nsec } = attr.mtime;
    if nsec == 0 && sec >= 0 {
        return Vec::new();
    }
    // A fraction counts away from zero in a decimal number, and up in ours.
    let text = match (sec < 0, nsec) {
        (true, 1..) => format!("-{}.{:09}", -(sec + 1), 1_000_000_000 - nsec),
        _ => format!("{sec}.{nsec:09}"),
    };
    vec![(b"mtime".to_vec(), text.into_bytes())]
}

/// One PAX record: its own length in decimal, the key, the value.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    // A space, an equals sign and a line's end.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for size in [
            1, 5, 85, 86, 87, 88, 89, 90, 980, 990, 991, 992, 993, 994, 995, 9990,
        ] {
            let record = record(b"key", &vec![b'x'; size]);
            let text = String::from_utf8(record).unwrap();
            let (length, rest) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), text.len());
            assert!(rest.starts_with("key=x") && rest.ends_with("x\n"));
        }
    }
}
