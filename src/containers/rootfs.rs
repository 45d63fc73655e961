//! What lies below a container of `--rootfs`? A directory of the host, scanned once, when the container is made. The scan
//! stays with the container, so that each start, `diff` and every server go by the same: a file that has changed since is
//! EIO, one that was added is not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fuse_overlay::index::View;
use fuse_overlay::index::merge::{self, MergeError};
use fuse_overlay::index::view::{Access, LoadError};
use fuse_overlay::layer::{self, Directory, LayerError};
use fuse_overlay::union::{Lower, LowerLayer};

use crate::host::IdMaps;
use crate::store::failpoint::Stepped;
use crate::store::write::Aside;
use crate::store::{self, Durability, Medium};

/// The directory's index, the index of it as a stack of one layer, and the list of its files, beside the writable layer.
const INDEX: &str = "rootfs.index";
const MERGED: &str = "rootfs.merged";
const FILES: &str = "rootfs.files";

/// Why a directory cannot be what a container stands on.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// It, or something of the scan, cannot be opened.
    #[error("{}", path.display())]
    Open {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in it cannot be read, or shown.
    #[error("rootfs {}", path.display())]
    Scan {
        /// The directory.
        path: PathBuf,
        /// What, and why not.
        source: LayerError,
    },
    /// The index of it cannot be made.
    #[error("rootfs {}", path.display())]
    Merge {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: MergeError,
    },
    /// The scan was lost or damaged.
    #[error("{}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// How.
        source: LoadError,
    },
    /// Its files cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The directory that `text` of `--rootfs` names, whole; `DIR:O`, podman's word for changes that go elsewhere, is the
/// same: here they always do.
///
/// # Errors
/// It is none.
pub fn directory(text: &str) -> Result<PathBuf, RootfsError> {
    let path = Path::new(text.strip_suffix(":O").unwrap_or(text));
    let failed = |source| RootfsError::Open {
        path: path.to_owned(),
        source,
    };
    let whole = fs::canonicalize(path).map_err(failed)?;
    match whole.is_dir() {
        true => Ok(whole),
        false => Err(failed(io::ErrorKind::NotADirectory.into())),
    }
}

/// Scans `root` for a new container whose files lie in `container`. Who owns a file is told as the container's maps have
/// it; whom they do not have is nobody.
pub(super) fn scan(
    root: &Path,
    container: &Path,
    ids: &IdMaps,
    durability: Durability,
) -> Result<(), RootfsError> {
    let path = || root.to_owned();
    let aside = || Aside::create(container);
    let (index, merged, files) = (aside()?, aside()?, aside()?);
    let shown = |uid, gid| ids.shown(uid, gid);
    let scanned = layer::scan(root, &shown, &mut Stepped(index.file()))
        .map_err(|source| RootfsError::Scan { path: path(), source })?;
    scanned
        .write_list(&mut Stepped(files.file()))
        .map_err(store::Error::io("write", files.path()))?;
    let view = File::open(index.path()).map_err(store::Error::io("open", index.path()))?;
    let view = View::open(view, index.path(), Access::Read).map_err(|source| RootfsError::Index {
        path: index.path().to_owned(),
        source,
    })?;
    let name = view.source();
    let mut out = BufWriter::with_capacity(1 << 20, Stepped(merged.file()));
    merge::merge(&[view], name, &mut out).map_err(|source| RootfsError::Merge { path: path(), source })?;
    out.flush().map_err(store::Error::io("write", merged.path()))?;
    drop(out);
    for (file, name) in [(index, INDEX), (merged, MERGED), (files, FILES)] {
        file.commit(&container.join(name), durability)?;
    }
    Ok(())
}

/// Opens what [`scan`] left in `container`.
pub(super) fn open(root: &Path, container: &Path) -> Result<Lower, RootfsError> {
    let medium = Medium::of(container)?;
    let file = |path: &Path| {
        File::open(path).map_err(|source| RootfsError::Open {
            path: path.to_owned(),
            source,
        })
    };
    let view = |name| {
        let path = container.join(name);
        let file = file(&path)?;
        let access = medium.access(&file);
        View::open(file, &path, access).map_err(|source| RootfsError::Index { path, source })
    };
    let list = container.join(FILES);
    let directory = Directory::listed(OwnedFd::from(file(root)?), file(&list)?)
        .map_err(|source| RootfsError::Open { path: list, source })?;
    Ok(Lower {
        view: view(MERGED)?,
        layers: vec![LowerLayer::directory(directory, view(INDEX)?)],
    })
}
