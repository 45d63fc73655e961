//! Stacks of layers for tests: tars written entry by entry, stored, merged, and asked by path.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test binary uses a part"
)]

use std::io::Read;

use fuse_overlay::index::merge::MergeError;
use fuse_overlay::index::{NodeId, View};
use fuse_overlay::layer::{self, LayerError};
use fuse_overlay::name::Name;
use tar::{Builder, EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// A file's bytes and how they stand in the tar.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Whole(Vec<u8>),
    /// Holes before each part, one at the end; the format is old GNU or PAX 0.0, 0.1, 1.0.
    Sparse {
        parts: Vec<(u64, Vec<u8>)>,
        tail: u64,
        format: u8,
    },
}

impl Data {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Data::Whole(bytes) => bytes.clone(),
            Data::Sparse { parts, tail, .. } => {
                let mut bytes = Vec::new();
                for (hole, part) in parts {
                    bytes.resize(bytes.len() + *hole as usize, 0);
                    bytes.extend_from_slice(part);
                }
                bytes.resize(bytes.len() + *tail as usize, 0);
                bytes
            }
        }
    }
}

/// A tar in the making. Files are 0644, directories 0755, owner 1:2, mtime 3.
pub struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(Builder::new(Vec::new()))
    }

    /// Adds an entry as it is: `edit` completes its GNU header, no rule of the `tar` crate applies to the path.
    pub fn entry(mut self, path: &[u8], data: &[u8], edit: impl FnOnce(&mut Header)) -> Tar {
        let mut header = Header::new_gnu();
        let name = &mut header.as_old_mut().name;
        assert!(
            path.len() <= name.len(),
            "a long path needs a `long_name` entry before"
        );
        name[..path.len()].copy_from_slice(path);
        header.set_entry_type(EntryType::Regular);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        edit(&mut header);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Tar {
        self.entry(path.as_bytes(), data, |_| {})
    }

    pub fn dir(self, path: &str) -> Tar {
        self.entry(path.as_bytes(), b"", |header| {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
        })
    }

    fn link(self, path: &str, target: &str, entry_type: EntryType) -> Tar {
        self.entry(path.as_bytes(), b"", |header| {
            header.set_entry_type(entry_type);
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.link(path, target, EntryType::Symlink)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.link(path, target, EntryType::Link)
    }

    /// PAX records for the next entry.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    /// PAX records for the next entry; none writes no header.
    pub fn pax_owned(self, records: Vec<(String, Vec<u8>)>) -> Tar {
        if records.is_empty() {
            return self;
        }
        let records: Vec<(&str, &[u8])> = records
            .iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .collect();
        self.pax(&records)
    }

    /// The bytes, end-of-archive marker included.
    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// The index of a tar.
pub fn index(mut tar: impl Read) -> Result<View, LayerError> {
    let mut bytes = Vec::new();
    layer::index(&mut tar, &mut bytes)?;
    Ok(View::from_bytes(bytes).unwrap())
}

/// Indexes tars, lowest first, and merges them.
pub fn merged(tars: impl IntoIterator<Item = Tar>) -> View {
    let layers: Vec<View> = tars
        .into_iter()
        .map(|tar| index(&tar.bytes()[..]).unwrap())
        .collect();
    layers.iter().for_each(|layer| layer.check().unwrap());
    merge(&layers)
}

pub fn merge(layers: &[View]) -> View {
    let mut bytes = Vec::new();
    fuse_overlay::index::merge::merge(layers, [7; 32], &mut bytes).unwrap();
    View::from_bytes(bytes).unwrap()
}

/// The node of a path; `""` is the root.
pub fn path(view: &View, path: &str) -> Option<NodeId> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .try_fold(NodeId::ROOT, |dir, part| {
            let entry = view.lookup(dir, Name::new(part.as_bytes()).unwrap()).unwrap()?;
            Some(entry.target?.0)
        })
}

/// The names in a directory.
pub fn names(view: &View, dir: &str) -> Vec<String> {
    let entries = view.entries(path(view, dir).unwrap()).unwrap();
    (0..entries.len())
        .map(|i| entries.get(i).unwrap().name.to_string())
        .collect()
}

/// A stored layer: its tar beside its index.
pub struct Layer {
    pub view: View,
    pub tar: Vec<u8>,
}

/// Merges stored layers.
pub fn try_merge(layers: &[Layer]) -> Result<View, MergeError> {
    let views: Vec<View> = layers
        .iter()
        .map(|layer| index(&layer.tar[..]).unwrap())
        .collect();
    let mut bytes = Vec::new();
    fuse_overlay::index::merge::merge(&views, [7; 32], &mut bytes)?;
    Ok(View::from_bytes(bytes).unwrap())
}

/// All paths of a tree, `""` for the root, and their nodes.
pub fn all_paths(view: &View) -> Vec<(String, NodeId)> {
    let mut found = vec![(String::new(), NodeId::ROOT)];
    let mut next = 0;
    while let Some((path, node)) = found.get(next).cloned() {
        next += 1;
        let Ok(entries) = view.entries(node) else { continue };
        for i in 0..entries.len() {
            let entry = entries.get(i).unwrap();
            let child = if path.is_empty() {
                entry.name.to_string()
            } else {
                format!("{path}/{}", entry.name)
            };
            found.extend(entry.target.map(|(node, _)| (child, node)));
        }
    }
    found
}

/// A file's bytes, read through its extents.
pub fn content(view: &View, layers: &[Layer], node: NodeId) -> Vec<u8> {
    let mut bytes = vec![0; view.attr(node).unwrap().size as usize];
    for i in 0..view.extent_count(node).unwrap() {
        let extent = view.extent(node, i).unwrap();
        let (to, from, length) = (
            extent.file_offset as usize,
            extent.tar_offset as usize,
            extent.length as usize,
        );
        bytes[to..to + length].copy_from_slice(&layers[extent.layer as usize].tar[from..from + length]);
    }
    bytes
}

/// Writes a regular file, sparse in one of the four formats if it is.
pub fn write_file(
    tar: Tar,
    path: &[u8],
    data: &Data,
    mut pax: Vec<(String, Vec<u8>)>,
    edit: impl FnOnce(&mut Header),
) -> Tar {
    let (parts, format) = match data {
        Data::Whole(bytes) => return tar.pax_owned(pax).entry(path, bytes, edit),
        Data::Sparse { parts, format, .. } => (parts, format),
    };
    let real_size = data.bytes().len() as u64;
    let mut at = 0;
    let mut map: Vec<(u64, u64)> = Vec::new();
    let mut stored = Vec::new();
    for (hole, bytes) in parts {
        at += hole;
        map.push((at, bytes.len() as u64));
        at += bytes.len() as u64;
        stored.extend_from_slice(bytes);
    }
    if map.is_empty() {
        // As GNU tar has it: where the file ends.
        map.push((real_size, 0));
    }
    if *format == 0 {
        return old_gnu_sparse(tar.pax_owned(pax), path, &map, real_size, &stored, edit);
    }
    let mut record = |key: &str, value: String| pax.push((format!("GNU.sparse.{key}"), value.into()));
    match format {
        1 | 2 => {
            record("size", real_size.to_string());
            record("numblocks", map.len().to_string());
        }
        _ => {
            record("major", "1".into());
            record("minor", "0".into());
            record("realsize", real_size.to_string());
        }
    }
    match format {
        1 => {
            for (offset, length) in &map {
                record("offset", offset.to_string());
                record("numbytes", length.to_string());
            }
        }
        2 => {
            let pairs: Vec<_> = map
                .iter()
                .map(|(offset, length)| format!("{offset},{length}"))
                .collect();
            record("map", pairs.join(","));
        }
        _ => {
            let numbers = map.iter().map(|(offset, length)| format!("{offset}\n{length}\n"));
            let mut text = format!("{}\n{}", map.len(), numbers.collect::<String>()).into_bytes();
            text.resize(text.len().next_multiple_of(512), 0);
            stored = [text, stored].concat();
        }
    }
    tar.pax_owned(pax).entry(path, &stored, edit)
}

fn old_gnu_sparse(
    tar: Tar,
    path: &[u8],
    map: &[(u64, u64)],
    real_size: u64,
    stored: &[u8],
    edit: impl FnOnce(&mut Header),
) -> Tar {
    let fill = |slots: &mut [GnuSparseHeader], map: &mut &[(u64, u64)]| {
        for slot in slots {
            if let Some(((offset, length), rest)) = map.split_first() {
                slot.set_offset(*offset);
                slot.set_length(*length);
                *map = rest;
            }
        }
    };
    let mut left = map;
    let mut extended = Vec::new();
    let mut header_slots = Header::new_gnu();
    let gnu = header_slots.as_gnu_mut().unwrap();
    fill(&mut gnu.sparse, &mut left);
    let is_extended = !left.is_empty();
    while !left.is_empty() {
        let mut block = GnuExtSparseHeader::new();
        fill(block.sparse_mut(), &mut left);
        block.set_is_extended(!left.is_empty());
        extended.extend_from_slice(block.as_bytes());
    }
    let slots = header_slots
        .as_gnu_mut()
        .unwrap()
        .sparse
        .each_ref()
        .map(|slot| (slot.offset, slot.numbytes));
    // The extended headers stand before the data but do not count in the size.
    let data = [&extended[..], stored].concat();
    tar.entry(path, &data, |header| {
        edit(header);
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(stored.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(real_size);
        gnu.set_is_extended(is_extended);
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(slots) {
            (slot.offset, slot.numbytes) = (offset, length);
        }
    })
}
