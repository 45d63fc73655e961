//! What did a container change in its tree? Read from its writable layer, while it runs too.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use fuse_overlay::union::{Difference, Tree};

use super::record::Record;
use super::{Error, life};
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
