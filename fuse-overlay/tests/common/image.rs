//! Layers made of nothing but calls, stored as the tool stores them.

use std::fs::File;
use std::path::Path;

use fuse_overlay::index::view::Access;
use fuse_overlay::index::{View, merge};
use fuse_overlay::layer;
use fuse_overlay::union::{Lower, LowerLayer};
use tar::{Builder, EntryType, Header};

/// A layer's tar, built entry by entry.
pub struct Layer(Builder<Vec<u8>>);

/// Owner and mode of an entry.
#[derive(Clone, Copy)]
pub struct Meta {
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
}

impl Meta {
    /// root's, with this mode.
    pub fn mode(mode: u32) -> Meta {
        Meta { mode, uid: 0, gid: 0 }
    }
}

/// When every entry was changed last.
pub const MTIME: u64 = 1_700_000_000;

impl Layer {
    pub fn new() -> Layer {
        Layer(Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, path: &str, meta: Meta, target: &str, data: &[u8]) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(meta.mode);
        header.set_uid(meta.uid);
        header.set_gid(meta.gid);
        header.set_mtime(MTIME);
        header.set_size(data.len() as u64);
        if target.is_empty() {
            self.0.append_data(&mut header, path, data).unwrap();
        } else {
            self.0.append_link(&mut header, path, target).unwrap();
        }
        self
    }

    pub fn file(self, path: &str, data: impl AsRef<[u8]>) -> Layer {
        self.owned(path, Meta::mode(0o644), data)
    }

    pub fn owned(self, path: &str, meta: Meta, data: impl AsRef<[u8]>) -> Layer {
        self.entry(EntryType::Regular, path, meta, "", data.as_ref())
    }

    pub fn dir(self, path: &str) -> Layer {
        self.entry(EntryType::Directory, path, Meta::mode(0o755), "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Symlink, path, Meta::mode(0o777), target, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Link, path, Meta::mode(0o644), target, b"")
    }

    pub fn fifo(self, path: &str) -> Layer {
        self.entry(EntryType::Fifo, path, Meta::mode(0o600), "", b"")
    }

    /// An extended attribute of the next entry.
    pub fn xattr(mut self, name: &str, value: &[u8]) -> Layer {
        let key = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(key.as_str(), value)]).unwrap();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        // Two blocks of zeros end an archive.
        [self.0.get_ref().as_slice(), &[0; 1024]].concat()
    }
}

/// Stores `layers`, lowest first, in `dir`.
pub fn store(layers: &[Layer], dir: &Path) {
    let mut views = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let index = dir.join(format!("{number}.index"));
        let tar = File::create(dir.join(format!("{number}.tar"))).unwrap();
        layer::store(
            &mut layer.bytes().as_slice(),
            &mut &tar,
            &mut File::create(&index).unwrap(),
        )
        .unwrap();
        views.push(view(&index));
    }
    merge::merge(
        &views,
        [0; 32],
        &mut File::create(dir.join("merged.index")).unwrap(),
    )
    .unwrap();
}

/// What [`store`] stored.
pub fn load(dir: &Path) -> Lower {
    let layer = |number: usize| {
        let tar = File::open(dir.join(format!("{number}.tar"))).ok()?;
        Some(LowerLayer::tar(tar, view(&dir.join(format!("{number}.index")))))
    };
    Lower {
        view: view(&dir.join("merged.index")),
        layers: (0..).map_while(layer).collect(),
    }
}

fn view(path: &Path) -> View {
    View::open(File::open(path).unwrap(), path, Access::Map).unwrap()
}
