//! What did a container change in its tree? Read from its writable layer, while it runs too.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use fuse_overlay::union::{Difference, Limits, OpenError, Tree};
use fuse_overlay::upper::Storage;

use super::record::Record;
use super::{Error, life};
use crate::store::Store;

/// Looks at a journal that is being written, when its end does not make sense.
const LOOKS: u32 = 10;

/// All paths at which a container's tree differs from its image's, each below its directory, by name. The root is not told
/// of, as Docker has it.
///
/// # Errors
/// The image is gone, or the writable layer cannot be read.
pub fn changes(store: &Store, record: &Record) -> Result<Vec<(Difference, PathBuf)>, Error> {
    let tree = open(store, record)?;
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
fn open(store: &Store, record: &Record) -> Result<Tree, Error> {
    let upper = store.container(&record.id).join("upper");
    let image = life::image_of(store, record)?;
    let mut looks = 1..;
    loop {
        let tree = Storage::snapshot(&upper).and_then(|storage| {
            let lower = image
                .lower(store)
                .map_err(|error| OpenError::Lower(error.to_string()))?;
            Tree::open_on(lower, storage, Limits::default())
        });
        match tree {
            // A record that was half written when it was read, and others behind it that were written since.
            Err(OpenError::Damaged { .. }) if looks.next() < Some(LOOKS) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            tree => return tree.map_err(Error::Upper),
        }
    }
}
