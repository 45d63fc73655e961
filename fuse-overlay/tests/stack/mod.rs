//! Stacks of layers for tests: tars written entry by entry, stored, merged, and asked by path.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test binary uses a part"
)]

use std::io::Read;

use fuse_overlay::index::{NodeId, View};
use fuse_overlay::layer::{self, LayerError};
use fuse_overlay::name::Name;
use tar::{Builder, EntryType, Header};

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
