//! What the container changed, as a layer's tar (OCI image spec, layer.md): a changed file whole, a removed name as a
//! whiteout. Laid over the image, it makes the same tree.
//!
//! Names, targets, owners and times that a plain header cannot hold, and extended attributes, go into PAX records. The
//! order is that of [`Tree::differences`], so the same tree gives the same bytes.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use ::tar::{Builder, EntryType, Header};
use nix::errno::Errno;

use super::below::ino;
use super::{Difference, Differing, Tree};
use crate::attr::{Attr, Ino, Kind, Time};
use crate::error::{Error, Result};
use crate::index::NodeId;
use crate::name::Name;

/// What a whiteout's name begins with.
const WHITEOUT: &[u8] = b".wh.";

/// The bytes of a file that are not in the tree.
pub type Elsewhere<'a> = dyn Fn(Ino) -> Option<Box<dyn Read + 'a>> + 'a;

impl Tree {
    /// Writes all differences as an uncompressed tar, and gives `out` back. Sockets are left out: no tar holds them.
    ///
    /// # Errors
    /// Reading fails, or `out` does; EINVAL for a name that begins with `.wh.`, which a layer cannot hold.
    pub fn write_layer<W: Write>(&self, out: W) -> io::Result<W> {
        self.write_layer_with(out, &|_ino| None)
    }

    /// The same, with files whose bytes are elsewhere: whoever made them gave them a size, and no data. `elsewhere` gives
    /// as many bytes as that size says, or an error; `None` if they are in the tree.
    ///
    /// # Errors
    /// As for [`Tree::write_layer`].
    pub fn write_layer_with<'a, W: Write>(&'a self, out: W, elsewhere: &'a Elsewhere<'a>) -> io::Result<W> {
        let mut layer = Layer {
            tree: self,
            elsewhere,
            tar: Builder::new(out),
            written: HashMap::new(),
        };
        // The walk knows errnos alone; what the writer said is kept beside.
        let mut failed = None;
        let walked = self.differences(&mut |differing| {
            layer.add(&differing).map_err(|error| {
                failed = Some(error);
                Error(Errno::EIO)
            })
        });
        match (walked, failed) {
            (Ok(()), _) => layer.tar.into_inner(),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(error.0.into()),
        }
    }

    /// A path at which the image has a file and the tree still shows it, unchanged.
    fn path_below(&self, file: Ino) -> Result<Option<Vec<u8>>> {
        let Ok(node) = self.below.node(file) else {
            return Ok(None);
        };
        if self.differs(file)? {
            return Ok(None);
        }
        let view = self.below.view();
        // The index says where the first name is; the others may be anywhere.
        let first = view.parent(node)?;
        let others = (0..view.node_count()).map(NodeId).filter(|dir| *dir != first);
        for dir in std::iter::once(first).chain(others) {
            if view.kind(dir)? != Kind::Directory {
                continue;
            }
            for name in self.names_below(dir, node)? {
                let Some(mut names) = self.way_below(dir)? else {
                    break;
                };
                names.push(name);
                if self.walk(&names)? == Some(file) {
                    let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
                    return Ok(Some(names.join(&b'/')));
                }
            }
        }
        Ok(None)
    }

    /// The names that the image's directory has for a node.
    fn names_below(&self, dir: NodeId, node: NodeId) -> Result<Vec<&Name>> {
        let entries = self.below.view().entries(dir)?;
        let mut names = Vec::new();
        for place in 0..entries.len() {
            let entry = entries.get(place)?;
            if entry.target.is_some_and(|(target, _)| target == node) {
                names.push(entry.name);
            }
        }
        Ok(names)
    }

    /// The names from the root to a directory of the image.
    fn way_below(&self, mut dir: NodeId) -> Result<Option<Vec<&Name>>> {
        let mut names = Vec::new();
        while dir != NodeId(0) {
            let parent = self.below.view().parent(dir)?;
            let Some(name) = self.names_below(parent, dir)?.first().copied() else {
                return Ok(None);
            };
            names.push(name);
            dir = parent;
        }
        names.reverse();
        Ok(Some(names))
    }

    /// The inode at a path, through no symlink.
    fn walk(&self, names: &[&Name]) -> Result<Option<Ino>> {
        let mut at = ino(NodeId(0));
        for name in names {
            let found = match self.upper.find(at) {
                Some(dir) => match dir.state.read().directory() {
                    Ok(directory) => self.find_name(directory, name)?.target,
                    Err(_) => None,
                },
                None => {
                    let entry = self.below.view().lookup(self.below.node(at)?, name)?;
                    entry
                        .and_then(|entry| entry.target)
                        .map(|(node, kind)| (ino(node), kind))
                }
            };
            match found {
                Some((next, _)) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

/// A layer under way.
struct Layer<'a, W: Write> {
    tree: &'a Tree,
    elsewhere: &'a Elsewhere<'a>,
    tar: Builder<W>,
    /// Files with several names, and the first path of each.
    written: HashMap<Ino, Vec<u8>>,
}

impl<W: Write> Layer<'_, W> {
    fn add(&mut self, differing: &Differing<'_>) -> io::Result<()> {
        let path = differing.path;
        let cut = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let (above, name) = path.split_at(cut);
        match differing.now {
            None => {
                debug_assert_eq!(differing.how, Difference::Deleted);
                // All fields are said: an empty one is no number for some readers.
                let mut header = Header::new_ustar();
                header.set_entry_type(EntryType::Regular);
                header.set_mode(0);
                header.set_uid(0);
                header.set_gid(0);
                header.set_size(0);
                header.set_mtime(0);
                self.append(
                    header,
                    &[above, WHITEOUT, name].concat(),
                    &[],
                    Vec::new(),
                    io::empty(),
                )
            }
            Some(_) if name.starts_with(WHITEOUT) => {
                let what = format!(
                    "/{}: a layer cannot hold this name",
                    String::from_utf8_lossy(path)
                );
                Err(io::Error::new(io::ErrorKind::InvalidInput, what))
            }
            Some((_, Kind::Socket)) => Ok(()),
            Some((ino, _)) => self.add_inode(path, ino),
        }
    }

    fn add_inode(&mut self, path: &[u8], ino: Ino) -> io::Result<()> {
        let failed = |error: Error| io::Error::from(error.0);
        let attr = self.tree.getattr(ino).map_err(failed)?;
        let mut records = records(&attr);
        for name in self.tree.listxattr(ino).map_err(failed)? {
            let value = self.tree.getxattr(ino, &name).map_err(failed)?;
            records.push(([&b"SCHILY.xattr."[..], &name].concat(), value));
        }
        let several = attr.kind != Kind::Directory && attr.nlink > 1;
        if several {
            let first = match self.written.get(&ino) {
                Some(first) => Some(first.clone()),
                None => self.tree.path_below(ino).map_err(failed)?,
            };
            match first {
                Some(first) => {
                    let mut header = header(&attr);
                    header.set_entry_type(EntryType::Link);
                    header.set_size(0);
                    // With all metadata, for who reads it takes it from the last entry of a file.
                    return self.append(header, path, &first, records, io::empty());
                }
                None => drop(self.written.insert(ino, path.to_vec())),
            }
        }
        let target = match attr.kind {
            Kind::Symlink => self.tree.readlink(ino).map_err(failed)?,
            _ => Vec::new(),
        };
        // As tar programs write directories, the root included, which has no name.
        let path = match attr.kind {
            Kind::Directory if path.is_empty() => b"./".to_vec(),
            Kind::Directory => [path, b"/"].concat(),
            _ => path.to_vec(),
        };
        if attr.kind == Kind::Regular
            && let Some(content) = (self.elsewhere)(ino)
        {
            return self.append(header(&attr), &path, &target, records, content);
        }
        let content = Content {
            tree: self.tree,
            ino,
            offset: 0,
            size: if attr.kind == Kind::Regular { attr.size } else { 0 },
        };
        self.append(header(&attr), &path, &target, records, content)
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

/// A file's bytes.
struct Content<'a> {
    tree: &'a Tree,
    ino: Ino,
    offset: u64,
    size: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let length = out.len().min(left);
        let out = out.get_mut(..length).unwrap_or_default();
        if out.is_empty() {
            return Ok(0);
        }
        let read = self
            .tree
            .read(self.ino, self.offset, out)
            .map_err(|error| io::Error::from(error.0))?;
        if read == 0 {
            // Cut meanwhile; the header has promised more.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        Ok(read)
    }
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
