//! How does a list of tars and directories become one image below? For programs that keep no store of their own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::index::View;
use crate::index::merge::{self, MergeError};
use crate::index::view::{Access, LoadError};
use crate::layer::{self, LayerError};
use crate::union::{LayerBytes, Lower, LowerLayer};

/// Why layers cannot be stacked.
#[derive(Debug, Error)]
pub enum StackError {
    /// A system call failed.
    #[error("{path}: {source}")]
    Io {
        /// On this file.
        path: PathBuf,
        /// How.
        #[source]
        source: io::Error,
    },
    /// A tar or a directory cannot be a layer.
    #[error("{path}: {source}")]
    Layer {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// An index that was just made, or made earlier, cannot be used.
    #[error("{path}: {source}")]
    Index {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The layers do not fit together.
    #[error("the layers cannot be merged: {0}")]
    Merge(#[from] MergeError),
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> StackError {
    move |source| StackError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Opens uncompressed tars and plain directories, lowest first, as one image. Told apart by what they are on disk.
///
/// `indexes` is a directory, made if it is missing, where the indexes of tars are kept, named by the tar's inode, size and
/// modification time, so that another opening need not read the tars. One that cannot be used, also one of another version,
/// is made again. Directories are scanned each time, and nothing is kept of them.
///
/// The image's name ([`View::source`]) is the sha256 of its layers' names, each of 32 bytes: a writable layer belongs to
/// these tars and to these directories as they are now.
///
/// # Errors
/// See [`StackError`].
pub fn open(layers: &[PathBuf], indexes: &Path) -> Result<Lower, StackError> {
    fs::create_dir_all(indexes).map_err(io_error(indexes))?;
    let mut opened = Vec::new();
    for path in layers {
        let meta = fs::metadata(path).map_err(io_error(path))?;
        opened.push(match meta.is_dir() {
            true => directory(path)?,
            false => tar(path, indexes)?,
        });
    }
    let mut chain = Sha256::new();
    opened.iter().for_each(|layer| chain.update(layer.index.source()));
    // Merging wants the views side by side.
    let (bytes, views): (Vec<LayerBytes>, Vec<View>) =
        opened.into_iter().map(|layer| (layer.bytes, layer.index)).unzip();
    let mut merged = Vec::new();
    merge::merge(&views, chain.finalize().into(), &mut merged)?;
    let pairs = bytes.into_iter().zip(views);
    Ok(Lower {
        view: in_memory(merged, Path::new("(the merged index)"))?,
        layers: pairs.map(|(bytes, index)| LowerLayer { bytes, index }).collect(),
    })
}

fn in_memory(bytes: Vec<u8>, path: &Path) -> Result<View, StackError> {
    View::from_bytes(bytes).map_err(|source| StackError::Index {
        path: path.to_owned(),
        source,
    })
}

fn directory(path: &Path) -> Result<LowerLayer, StackError> {
    let mut index = Vec::new();
    let scanned =
        layer::scan(path, &|uid, gid| (uid, gid), &mut index).map_err(|source| StackError::Layer {
            path: path.to_owned(),
            source,
        })?;
    Ok(LowerLayer {
        bytes: LayerBytes::Directory(scanned),
        index: in_memory(index, path)?,
    })
}

fn tar(path: &Path, indexes: &Path) -> Result<LowerLayer, StackError> {
    let tar = File::open(path).map_err(io_error(path))?;
    let meta = tar.metadata().map_err(io_error(path))?;
    let (inode, size) = (meta.ino(), meta.len());
    let name = format!(
        "{inode:x}-{size:x}-{:x}.{:x}.index",
        meta.mtime(),
        meta.mtime_nsec()
    );
    let at = indexes.join(name);
    let kept = File::open(&at)
        .ok()
        .and_then(|file| View::open(file, &at, Access::Read).ok());
    let index = match kept.filter(|view| view.is_layer() && view.tar_size() == size) {
        Some(view) => view,
        None => reindexed(&tar, path, &at)?,
    };
    Ok(LowerLayer::tar(tar, index))
}

/// Makes a tar's index, and keeps it.
fn reindexed(tar: &File, path: &Path, at: &Path) -> Result<View, StackError> {
    let mut index = Vec::new();
    layer::reindex(tar, &mut index).map_err(|source| StackError::Layer {
        path: path.to_owned(),
        source,
    })?;
    // Aside and renamed, so that whoever opens it meanwhile finds a whole one.
    let aside = at.with_extension(format!("{}.new", std::process::id()));
    fs::write(&aside, &index)
        .and_then(|()| fs::rename(&aside, at))
        .map_err(io_error(&aside))?;
    in_memory(index, at)
}
