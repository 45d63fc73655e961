//! What did a container change in its tree? Read from its writable layer, while it runs too.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use fuse_overlay::attr::Kind;
use fuse_overlay::union::{Difference, Tree};

use super::record::Record;
use super::{Error, flush, life};
use crate::images::names::References;
use crate::store::Store;

/// All paths at which a container's tree differs from its image's, each below its directory, by name. The root is not told
/// of, as Docker has it.
///
/// # Errors
/// Image or directory is gone, or the writable layer cannot be read.
pub fn changes(store: &Store, record: &Record) -> Result<Vec<(Difference, PathBuf)>, Error> {
    let tree = tree(store, record)?;
    let mut changes = Vec::new();
    let mut each = |differing: fuse_overlay::union::Differing<'_>| {
        if !differing.path.is_empty() {
            let path = [b"/", differing.path].concat();
            changes.push((differing.how, OsString::from_vec(path).into()));
        }
        Ok(())
    };
    tree.differences(&mut each).map_err(|error| Error::Io {
        action: "compare with its image what is in",
        path: store.container(&record.id),
        source: error.0.into(),
    })?;
    Ok(changes)
}

/// The container's tree as it is now.
///
/// # Errors
/// As for [`changes`].
pub fn tree(store: &Store, record: &Record) -> Result<Tree, Error> {
    let upper = store.container(&record.id).join("upper");
    Tree::snapshot(&upper, || life::lower(store, record))
}

/// The same with all that was written to a running container's open files, as long as it is kept: whatever is written meanwhile,
/// each file stays as it is now.
///
/// # Errors
/// As for [`changes`].
pub fn frozen(store: &Store, record: &Record) -> Result<Tree, Error> {
    flush::flush(record);
    let upper = store.container(&record.id).join("upper");
    Tree::frozen(&upper, || life::lower(store, record))
}

/// Bytes of a container's files: those that differ from its image's, and all of its tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of added files, and of changed ones, each as long as it is now.
    pub changed: u64,
    /// The same with the image's size; of a directory (`--rootfs`), which has none that is known, alone.
    pub whole: u64,
}

/// What a container's files come to.
///
/// # Errors
/// As for [`changes`].
pub fn sizes(store: &Store, record: &Record) -> Result<Sizes, Error> {
    let tree = tree(store, record)?;
    let mut seen = HashSet::new();
    let mut changed = 0;
    let told = tree.differences(&mut |differing| {
        if let Some((ino, Kind::Regular)) = differing.now
            && seen.insert(ino.0)
        {
            changed += tree.getattr(ino)?.size;
        }
        Ok(())
    });
    told.map_err(|error| Error::Io {
        action: "measure what is in",
        path: store.container(&record.id),
        source: error.0.into(),
    })?;
    let listed = References::load(store)?;
    let image = record.base.image().and_then(|id| listed.by_id(id));
    Ok(Sizes {
        changed,
        whole: changed + image.map_or(0, |image| image.size),
    })
}
